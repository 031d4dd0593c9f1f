"""The kill-switch on the admin listener, for whoever may not log in where the command line is."""

import json
import re
from functools import partial
from typing import Literal

import msgspec
from aiohttp import web

from gateway.audit.log import JournalError
from gateway.bodies import read_at_most
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.grants.answers import answer, problem
from gateway.grants.switch import Overtaken, Switch
from gateway.stores.store import Client, KillSwitch, StoreError
from policy.unique import unique

ROLE = "kill_switch"
_MOST_BODY_BYTES = 16 * 1024
_MOST_REASON = 1000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class _Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a PUT."""

    kill_switch: Literal["on", "off"]
    by: str
    reason: str = ""


class SwitchApi:
    """`GET` and `PUT /api/v1/kill-switch`, for clients with the role `kill_switch` and no others."""

    def __init__(self, switch: Switch, clients: ClientAuthenticator) -> None:
        self._switch = switch
        self._clients = clients

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        path = "/api/v1/kill-switch"
        return [web.get(path, self.show, allow_head=False), web.put(path, self.change)]

    async def show(self, request: web.Request) -> web.Response:
        """Return whether it is on, since when, by whom and why."""
        return await self._answer(request, change=False)

    async def change(self, request: web.Request) -> web.Response:
        """Turn it on or off, and return what it is then."""
        return await self._answer(request, change=True)

    async def _answer(self, request: web.Request, *, change: bool) -> web.Response:
        try:
            client = await self._clients.authenticate(request.headers.getall("Authorization", []), ROLE)
            if client is None:
                return _problem(401, "unauthenticated", f"authenticate with HTTP Basic as a client with role `{ROLE}`")
            return await self._change(request, client) if change else _json(await self._switch.find())
        except StoreError:
            return _problem(503, "store_unavailable", "the kill-switch cannot be had or set now: try again in a moment")
        except JournalError:
            return _problem(503, "journal_unavailable", "this could not be recorded, so nothing was changed")
        except Overtaken:
            return _problem(
                409, "overtaken", "somebody has set it meanwhile, and that stands: ask for it, and decide anew"
            )

    async def _change(self, request: web.Request, client: Client) -> web.Response:
        body = await read_at_most(request.content, _MOST_BODY_BYTES)
        if body is None:
            return _problem(413, "malformed", f"the body is longer than {_MOST_BODY_BYTES} bytes")
        try:
            wish = msgspec.json.decode(body, type=_Wish)
            json.loads(body, object_pairs_hook=unique)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            return _problem(400, "malformed", f"the body does not fit: {exc}")
        turns_on = wish.kill_switch == "on"
        if not wish.by or (turns_on and not wish.reason) or len(wish.by + wish.reason) > _MOST_REASON:
            return _problem(400, "malformed", f"say `by` whom, and the `reason`; both within {_MOST_REASON} characters")
        if _CONTROL.search(wish.by + wish.reason):
            return _problem(400, "malformed", "write `by` and `reason` in one line, without control characters")
        turn = self._switch.turn_on if turns_on else self._switch.turn_off
        return _json(await turn(by=wish.by, reason=wish.reason, client=client.id, caller=Caller.direct(request)))


_problem = partial(problem, "kill_switch")


def _json(switch: KillSwitch) -> web.Response:
    return answer(
        {
            "kill_switch": "on" if switch.on else "off",
            "by": switch.by or None,
            "reason": switch.reason or None,
            "since": switch.at.strftime("%Y-%m-%dT%H:%M:%SZ") if switch.at else None,
        }
    )

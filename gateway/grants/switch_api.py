"""The kill-switch on the admin listener, for whoever may not log in where the command line is."""

import re
from functools import partial
from typing import Final, Literal

import msgspec
from aiohttp import web

from gateway.audit.log import JournalError
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.grants.admitting import Faults, Handler, Work, admitting
from gateway.grants.answers import answer, problem
from gateway.grants.switch import Overtaken, Switch
from gateway.grants.wishes import read_body
from gateway.stores.store import Client, KillSwitch, StoreError

ROLE = "kill_switch"
_MOST_REASON = 1000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_FAULTS: Final[Faults] = {
    Overtaken: (409, "overtaken", "somebody has set it meanwhile, and that stands: ask for it, and decide anew"),
    StoreError: (503, "store_unavailable", "the kill-switch cannot be had or set now: try again in a moment"),
    JournalError: (503, "journal_unavailable", "this could not be recorded, so nothing was changed"),
}


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
        return [
            web.get(path, self._admitting(self._show), allow_head=False),
            web.put(path, self._admitting(self._change)),
        ]

    def _admitting(self, work: Work) -> Handler:
        return admitting(work, clients=self._clients, role=ROLE, problem=_problem, faults=_FAULTS)

    async def _show(self, _request: web.Request, _client: Client) -> web.Response:
        """Return whether it is on, since when, by whom and why."""
        return _json(await self._switch.find())

    async def _change(self, request: web.Request, client: Client) -> web.Response:
        """Turn it on or off, and return what it is then."""
        wish = await read_body(request, _Wish, refuse=_problem)
        if isinstance(wish, web.Response):
            return wish
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

"""The grants API's part about what staff ask for: the app's own back end lists and answers it for an administrator."""

from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.audit.log import JournalError
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.grants.admitting import GRANTS_ROLE, UNKNOWN_ACCOUNT, Faults, Handler, Work, admitting
from gateway.grants.answers import answer, problem
from gateway.grants.asking import Answerer, Approval, GrantRequests
from gateway.grants.certain import Uncertain
from gateway.grants.request_refusals import SAID, status_of
from gateway.grants.service import GrantService, UnknownAccount
from gateway.grants.wishes import Who, read_wish
from gateway.stores.store import Client, StoreError
from policy.asking import GrantRequest, GrantRequestId, RequestRefusal
from policy.grants import Administrator
from policy.model import AccountId, Duration, Permission

PATH: Final = "/api/v1/accounts/{account}/assumption/requests"
KEEP: Final = "keep"
"""In place of a duration: the grant, which has to be on, ends when it would have."""

_FAULTS: Final[Faults] = {
    UnknownAccount: UNKNOWN_ACCOUNT,
    Uncertain: (503, "unknown", "it is not known whether that was done: read the requests again"),
    StoreError: (503, "store_unavailable", "requests cannot be read or answered now: try again in a moment"),
    JournalError: (503, "journal_unavailable", "this could not be recorded, so nothing was done"),
}


class _Decline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that declines."""

    administrator: Who


class _Approve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that approves: all that is given has to be there, because nothing is given that nobody chose."""

    administrator: Who
    assumption_duration: str
    permissions: tuple[str, ...]
    epoch: int | None = None
    """The account's, as it was when the administrator decided."""
    shorten: bool = False
    """Whether the grant may end earlier than it does."""


class RequestsApi:
    """What waits for an account's answer, and the two answers."""

    def __init__(self, requests: GrantRequests, grants: GrantService, clients: ClientAuthenticator) -> None:
        self._requests = requests
        self._grants = grants
        self._clients = clients

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [
            web.get(PATH, self._admitting(self._list), allow_head=False),
            web.post(f"{PATH}/{{request}}/approve", self._admitting(self._approve)),
            web.post(f"{PATH}/{{request}}/decline", self._admitting(self._decline)),
        ]

    def _admitting(self, work: Work) -> Handler:
        return admitting(work, clients=self._clients, role=GRANTS_ROLE, problem=_problem, faults=_FAULTS)

    async def _list(self, request: web.Request, _client: Client) -> web.Response:
        account = (await self._grants.find(_account(request))).account
        waiting = await self._requests.waiting(account.id)
        locked = await self._requests.locked_out(waiting)
        views = [_view(one, locked_out=one.actor in locked) for one in waiting]
        return answer({"account": account.id, "epoch": account.epoch, "requests": views})

    async def _decline(self, request: web.Request, client: Client) -> web.Response:
        body = await read_wish(request, _Decline, refuse=_problem, does="answers")
        if isinstance(body, web.Response):
            return body
        outcome = await self._requests.decline(_named(request), _answerer(request, body.administrator, client))
        if isinstance(outcome, RequestRefusal):
            return _refusal(outcome)
        return answer({"id": outcome.id, "answer": str(outcome.answer)})

    async def _approve(self, request: web.Request, client: Client) -> web.Response:
        body = await read_wish(request, _Approve, refuse=_problem, does="answers")
        if isinstance(body, web.Response):
            return body
        if body.assumption_duration not in {*Duration, KEEP} - {Duration.OFF}:
            return _refusal(RequestRefusal.UNKNOWN_DURATION)
        if not body.permissions or not set(body.permissions) <= set(Permission):
            return _problem(422, "unknown_permission", f"`permissions` must be some of {', '.join(Permission)}")
        keeps_end = body.assumption_duration == KEEP
        approval = Approval(
            duration=Duration.ALWAYS if keeps_end else Duration(body.assumption_duration),
            permissions=frozenset(map(Permission, body.permissions)),
            known_epoch=body.epoch,
            keeps_end=keeps_end,
            shortens=body.shorten,
        )
        answerer = _answerer(request, body.administrator, client)
        outcome = await self._requests.approve(_named(request), approval, answerer)
        if isinstance(outcome, RequestRefusal):
            return _refusal(outcome)
        return answer(
            {
                "id": _named(request),
                "answer": "approved",
                "change": str(outcome.change),
                "epoch": outcome.account.epoch,
            }
        )


def _account(request: web.Request) -> AccountId:
    return AccountId(request.match_info["account"])


def _named(request: web.Request) -> GrantRequestId:
    return GrantRequestId(request.match_info["request"])


def _answerer(request: web.Request, who: Who, client: Client) -> Answerer:
    return Answerer(
        account=_account(request),
        administrator=Administrator(id=who.id, roles=who.roles, is_acting_staff=who.assumed),
        caller=Caller.direct(request),
        client=client.id,
    )


def _view(request: GrantRequest, *, locked_out: bool) -> dict[str, Any]:
    return {
        "id": request.id,
        "actor": {"issuer": request.actor.issuer, "subject": request.actor.subject, "name": request.name},
        "permissions": sorted(request.permissions),
        "assumption_duration": str(request.duration),
        "ticket": request.ticket,
        "reason": request.reason,
        # The vendor has locked out whoever asked: it can be declined and nothing else.
        "locked_out": locked_out,
        "asked_at": _time(request.asked_at),
        "expires_at": _time(request.expires_at),
    }


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _refusal(refusal: RequestRefusal) -> web.Response:
    return _problem(status_of(refusal), str(refusal), SAID[refusal])


_problem = partial(problem, "grant")

"""Asking an account's administrators with the browser: the form, the two that it sends, and what became of each."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from markupsafe import Markup

from gateway.assumptions.handing import BROWSER
from gateway.assumptions.mending import Wrong, mend, mend_request, too_often
from gateway.assumptions.stand_in import StandIn
from gateway.assumptions.standing import Standing
from gateway.assumptions.typed import Typed
from gateway.audit.log import JournalError
from gateway.bodies import FormError, read_form, read_one
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.grants.asking import GrantRequests
from gateway.grants.request_refusals import SAID
from gateway.pages.render import Pages
from gateway.pages.words import DURATIONS, PERMISSIONS
from gateway.proxy.cookies import OurCookies
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.stores.store import StoreError
from policy.asking import (
    MOST_WAITING,
    GrantRequest,
    GrantRequestId,
    RequestRefusal,
    RequestState,
    read_wish,
    state_of,
)
from policy.exchange import ExchangeError
from policy.model import Deny, DenyReason, Permission

ASK: Final = "/.locum/requests"
WITHDRAW: Final = "/.locum/requests/withdraw"
_MOST_FORM_BYTES = 16 * 1024
_FIELDS = ("account", "ticket", "reason", "duration")
_LATELY = timedelta(days=7)
_MOST_OVER = 5
_WORDS: Final[Mapping[RequestState, str]] = {
    RequestState.WAITING: "Waiting for an answer",
    RequestState.APPROVED: "Approved by the customer",
    RequestState.DECLINED: "Declined by the customer",
    RequestState.WITHDRAWN: "Withdrawn by you",
    RequestState.EXPIRED: "Over: nobody answered",
}


class AskForm:
    """What can be asked of the account that the page shows, and what waits there."""

    def __init__(self, requests: GrantRequests, pages: Pages, *, required: Mapping[str, bool], clock: Clock) -> None:
        """`required` are the fields that cannot be left out."""
        self._requests = requests
        self._pages = pages
        self._required = required
        self._clock = clock

    async def show(
        self, visitor: Visitor, standing: Standing, typed: Typed, *, wanted: bool, wrong: Wrong | None
    ) -> Markup:
        """Return it, empty where nobody could answer; raises StoreError."""
        if not standing.can_be_asked:
            return Markup("")
        now = self._clock()
        asked = await self._requests.asked_by(visitor.signed_in.staff.id)
        here = [(one, state_of(one, now)) for one in asked if one.account == standing.account]
        waiting = [one for one, state in here if state is RequestState.WAITING]
        # Only if nothing came after it: an older no is not what the customer says now.
        newest = here[0] if here and now - _end_of(here[0][0]) < _LATELY else None
        held = frozenset(map(str, standing.held))
        # What was sent with a form never stands in an address.
        linked = typed if wrong is None else Typed()
        return self._pages.part(
            "ask.html",
            ask=ASK,
            withdraw=WITHDRAW,
            visitor=visitor,
            standing=standing,
            typed=typed,
            wrong=wrong,
            waiting=waiting,
            declined=newest[0] if newest is not None and newest[1] is RequestState.DECLINED else None,
            is_shown=wanted or not (standing.is_open or waiting),
            link=linked.link(standing.account, ask="1"),
            back=linked.link(standing.account),
            chosen=held if typed.permissions is None else typed.permissions,
            permissions={each: said for each, said in PERMISSIONS.items() if each is not Permission.READ},
            all_permissions=PERMISSIONS,
            durations=DURATIONS,
            required=self._required,
            waits_days=MOST_WAITING.days,
        )


class AskedRequests:
    """A part of the home page: what waits for an answer, and what was answered lately."""

    def __init__(self, requests: GrantRequests, pages: Pages, *, clock: Clock) -> None:
        self._requests = requests
        self._pages = pages
        self._clock = clock

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:  # noqa: ARG002 - see HomePart
        """Return the list, empty if there is none; raises StoreError."""
        now = self._clock()
        asked = [(one, state_of(one, now)) for one in await self._requests.asked_by(visitor.signed_in.staff.id)]
        waiting = [each for each in asked if each[1] is RequestState.WAITING]
        over = [each for each in asked if each[1] is not RequestState.WAITING and now - _end_of(each[0]) < _LATELY]
        return self._pages.part(
            "asked.html",
            withdraw=WITHDRAW,
            visitor=visitor,
            waiting=[one for one, _ in waiting],
            over=[(one, state, _end_of(one), _link_for(one)) for one, state in over[:_MOST_OVER]],
            words=_WORDS,
            durations=DURATIONS,
            permissions=PERMISSIONS,
        )


class AskEndpoint:
    """Asks an account for whoever is signed in, and takes that back."""

    def __init__(
        self, *, visitors: Visitors, stand_in: StandIn, requests: GrantRequests, pages: Pages, cookies: OurCookies
    ) -> None:
        self._visitors = visitors
        self._stand_in = stand_in
        self._requests = requests
        self._pages = pages
        self._cookies = cookies

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(ASK, self.ask), web.post(WITHDRAW, self.withdraw)]

    async def ask(self, request: web.Request) -> web.Response:
        """Have the account asked, and lead back to the page that says so; or to the form, as it was filled in."""
        author = await self._author(request)
        if isinstance(author, web.Response):
            return author
        visitor, fields = author
        try:
            typed = _read(fields)
        except FormError as exc:
            return self._refuse(Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc)))
        caller = Caller.through_front(request)
        wrong = await self._ask(visitor, typed, caller)
        if wrong is None:
            place = f"{HOME}?{urlencode({'account': typed.account})}#asked"
            return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})
        try:
            return await self._stand_in.again(request, visitor, typed, wrong, asks=True)
        except StoreError:
            return self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), caller)

    async def withdraw(self, request: web.Request) -> web.Response:
        """Take one back; what was answered before stays so, and that is said."""
        author = await self._author(request)
        if isinstance(author, web.Response):
            return author
        visitor, fields = author
        named = [GrantRequestId(value) for name, value in fields if name == "request"]
        caller = Caller.through_front(request)
        try:
            # Of somebody else's not even that it is there.
            outcome: GrantRequest | RequestRefusal = RequestRefusal.REQUEST_UNKNOWN
            if len(named) == 1:
                outcome = await self._requests.withdraw(named[0], visitor.signed_in, caller=caller, client=BROWSER)
        except StoreError:
            return self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), caller)
        except JournalError:
            return self._refuse(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), caller)
        if isinstance(outcome, RequestRefusal):
            said = SAID[outcome]
            code = f"{outcome} · {caller.request_id}"
            title = f"{said[:1].upper()}{said[1:]}."
            return self._pages.message("Not withdrawn", title, status=409, again=HOME, code=code)
        return web.Response(status=303, headers={"Location": f"{HOME}#requests", "Cache-Control": "no-store"})

    async def _author(self, request: web.Request) -> tuple[Visitor, Sequence[tuple[str, str]]] | web.Response:
        """Return who has sent the form from our page, and its fields; or the answer to anybody else."""
        if not self._visitors.is_on or not self._visitors.is_here(request):
            return self._pages.message("Not here", "No account is asked at this address.", status=404)
        try:
            fields = await read_form(request, _MOST_FORM_BYTES)
            visitor = await self._visitors.author(request, fields, self._cookies)
        except FormError as exc:
            return self._refuse(Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc)))
        except StoreError:
            return self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE))
        return self._refuse(visitor) if isinstance(visitor, Deny) else (visitor, fields)

    async def _ask(self, visitor: Visitor, typed: Typed, caller: Caller) -> Wrong | None:
        try:
            if not await self._stand_in.may_ask(visitor):
                # An answer tells as much of an account as a look at it.
                return too_often(request_id=caller.request_id)
            wish = read_wish(
                account=typed.account,
                permissions=typed.permissions or (),
                duration=typed.duration,
                ticket=typed.ticket,
                reason=typed.reason,
            )
            outcome = await self._requests.ask(wish, visitor.signed_in, caller=caller, client=BROWSER)
        except ExchangeError as exc:
            deny = Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc))
            return mend(deny, request_id=caller.request_id)
        except StoreError:
            return mend(Deny(reason=DenyReason.STORE_UNAVAILABLE), request_id=caller.request_id)
        except JournalError:
            return mend(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), request_id=caller.request_id)
        return mend_request(outcome, request_id=caller.request_id) if isinstance(outcome, RequestRefusal) else None

    def _refuse(self, deny: Deny, caller: Caller | None = None) -> web.Response:
        return self._pages.refusal(deny, again=HOME, request_id="" if caller is None else caller.request_id)


def _read(fields: Sequence[tuple[str, str]]) -> Typed:
    """Return what the form holds; raises FormError for a field that is missing or there twice."""
    form = {name: read_one(fields, name).strip() for name in _FIELDS}
    return Typed(
        account=form["account"],
        ticket=form["ticket"],
        reason=form["reason"],
        duration=form["duration"],
        permissions=frozenset(value for name, value in fields if name == "permission"),
    )


def _end_of(request: GrantRequest) -> datetime:
    return request.answered_at or request.expires_at


def _link_for(request: GrantRequest) -> str:
    return Typed(ticket=request.ticket).link(request.account)

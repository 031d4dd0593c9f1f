"""Beginning in the browser: `POST /.locum/assumptions`, from the form on the staff origin's home page."""

from collections.abc import Sequence

from aiohttp import web

from gateway.assumptions.handing import BROWSER, HandOvers
from gateway.assumptions.mending import mend
from gateway.assumptions.stand_in import BEGIN, FIELDS, StandIn
from gateway.assumptions.typed import Typed
from gateway.bodies import FormError, read_form, read_one
from gateway.caller import Caller
from gateway.pages.render import Pages
from gateway.places import Places
from gateway.proxy.cookies import OurCookies
from gateway.proxy.triage import is_account_name
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.stores.store import StoreError
from gateway.tokens.starting import Attempt, Starter
from policy.exchange import ExchangeError, Issue, request_of_form
from policy.model import AccountId, Deny, DenyReason

_MOST_FORM_BYTES = 16 * 1024


class BeginEndpoint:
    """Begins an assumption for whoever is signed in, and hands it over to the account's host."""

    def __init__(
        self,
        *,
        visitors: Visitors,
        stand_in: StandIn,
        starter: Starter,
        hand_overs: HandOvers,
        pages: Pages,
        places: Places,
        cookies: OurCookies,
    ) -> None:
        self._visitors = visitors
        self._stand_in = stand_in
        self._starter = starter
        self._hand_overs = hand_overs
        self._pages = pages
        self._places = places
        self._cookies = cookies

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(BEGIN, self.begin)]

    async def begin(self, request: web.Request) -> web.Response:
        """Answer the form: who asks, what they ask for, whether they may, and then where to go on."""
        if not self._visitors.is_on or not self._visitors.is_here(request):
            return self._pages.message("Not here", "No assumption begins at this address.", status=404)
        attempt = Attempt(caller=Caller.through_front(request), client=BROWSER)
        try:
            fields = await read_form(request, _MOST_FORM_BYTES)
            visitor = await self._visitors.author(request, fields, self._cookies)
            if isinstance(visitor, Deny):
                return await self._refuse(visitor, attempt)
            return await self._begin(request, attempt, visitor, _read(fields))
        except FormError as exc:
            return await self._refuse(Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc)), attempt)
        except StoreError:
            return await self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), attempt)

    async def _begin(self, request: web.Request, attempt: Attempt, visitor: Visitor, typed: Typed) -> web.Response:
        begun = await self._start(attempt, visitor, typed)
        request_id = attempt.caller.request_id
        if isinstance(begun, Issue):
            return await self._hand_over(begun, attempt.caller)
        return await self._stand_in.again(request, visitor, typed, mend(begun, request_id=request_id))

    async def _start(self, attempt: Attempt, visitor: Visitor, typed: Typed) -> Issue | Deny:
        """Return what has begun, or why nothing has, on the record."""
        if not is_account_name(typed.account):
            return await self._starter.refuse(Deny(reason=DenyReason.UNKNOWN_ACCOUNT), attempt)
        account = AccountId(typed.account)
        try:
            wanted = request_of_form(
                account=account,
                subject=typed.agent,
                audience=self._places.host_of(account),
                ticket=typed.ticket,
                reason=typed.reason,
                scopes=typed.scopes or (),
            )
        except ExchangeError as exc:
            return await self._starter.refuse(Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc)), attempt)
        expect = self._hand_overs.expect
        return await self._starter.start(attempt, wanted, visitor.signed_in, client=BROWSER, before=expect)

    async def _hand_over(self, issue: Issue, caller: Caller) -> web.Response:
        """Return the page whose form takes a code to the account's host; it says what was granted."""
        origin = self._places.of_account(issue.assumption.account)
        return self._pages.page(
            "hand_over.html",
            form_action=(origin,),
            action=f"{origin}/.locum/enter",
            code=await self._hand_overs.offer(issue, caller),
            assumption=issue.assumption,
            scopes=sorted(map(str, issue.assumption.scopes)),
            seconds=int(self._hand_overs.seconds),
        )

    async def _refuse(self, deny: Deny, attempt: Attempt) -> web.Response:
        recorded = await self._starter.refuse(deny, attempt)
        return self._pages.refusal(recorded, again=HOME, request_id=attempt.caller.request_id)


def _read(fields: Sequence[tuple[str, str]]) -> Typed:
    """Return what the form holds; raises FormError for a field that is missing or there twice."""
    form = {name: read_one(fields, name).strip() for name in FIELDS}
    return Typed(
        account=form["account"],
        agent=form["agent"],
        ticket=form["ticket"],
        reason=form["reason"],
        scopes=frozenset(value for name, value in fields if name == "scope"),
    )

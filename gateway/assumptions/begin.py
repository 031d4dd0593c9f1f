"""Beginning in the browser: the form on the staff origin's home page, and `POST /.locum/assumptions`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from markupsafe import Markup

from gateway.assumptions.handing import BROWSER, HandOvers
from gateway.bodies import FormError, read_form
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
from policy.routes import Profile

PATH: Final = "/.locum/assumptions"
_MOST_FORM_BYTES = 16 * 1024
_FIELDS = ("account", "agent", "ticket", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the form holds; each field is there once."""

    account: str
    agent: str
    ticket: str
    reason: str
    scopes: Sequence[str]


class BeginForm:
    """The part of the home page where an assumption begins; a link may fill it in."""

    def __init__(self, pages: Pages, profile: Profile, *, require_ticket: bool, require_reason: bool) -> None:
        self._pages = pages
        self._scopes = profile.scopes
        self._required = {"ticket": require_ticket, "reason": require_reason}

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:
        """Return the form; nothing is begun before it is sent."""
        filled = {name: request.query.get(name, "") for name in _FIELDS}
        scopes = [(str(scope), words, not scope.write) for scope, words in self._scopes.items()]
        return self._pages.part(
            "begin.html", action=PATH, visitor=visitor, filled=filled, scopes=scopes, required=self._required
        )


class BeginEndpoint:
    """Begins an assumption for whoever is signed in, and hands it over to the account's host."""

    def __init__(
        self,
        *,
        visitors: Visitors,
        starter: Starter,
        hand_overs: HandOvers,
        pages: Pages,
        places: Places,
        cookies: OurCookies,
    ) -> None:
        self._visitors = visitors
        self._starter = starter
        self._hand_overs = hand_overs
        self._pages = pages
        self._places = places
        self._cookies = cookies

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.begin)]

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
            return await self._begin(attempt, visitor, _read(fields))
        except (FormError, ExchangeError) as exc:
            return await self._refuse(Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc)), attempt)
        except StoreError:
            return await self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), attempt)

    async def _begin(self, attempt: Attempt, visitor: Visitor, asked: _Asked) -> web.Response:
        if not is_account_name(asked.account):
            return await self._refuse(Deny(reason=DenyReason.UNKNOWN_ACCOUNT), attempt)
        account = AccountId(asked.account)
        wanted = request_of_form(
            account=account,
            subject=asked.agent,
            audience=self._places.host_of(account),
            ticket=asked.ticket,
            reason=asked.reason,
            scopes=asked.scopes,
        )
        expect = self._hand_overs.expect
        issue = await self._starter.start(attempt, wanted, visitor.signed_in, client=BROWSER, before=expect)
        if isinstance(issue, Deny):
            return self._pages.refusal(issue, again=HOME, request_id=attempt.caller.request_id)
        return await self._hand_over(issue, attempt.caller)

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


def _read(fields: Sequence[tuple[str, str]]) -> _Asked:
    """Return what the form holds; raises FormError for a field that is missing or there twice."""
    for name in _FIELDS:
        if sum(key == name for key, _ in fields) != 1:
            raise FormError(f"`{name}` must be there once")
    form = {name: value.strip() for name, value in fields if name in _FIELDS}
    return _Asked(**form, scopes=[value for name, value in fields if name == "scope"])

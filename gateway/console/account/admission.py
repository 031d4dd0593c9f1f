"""Who may use an account's page: its own administrators, by the app's word or their provider's, and never staff."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway.audit.log import JournalError
from gateway.audit.record import Record
from gateway.audit.writing.strangers import Persons, Strangers
from gateway.caller import ACCOUNT_HEADER, ASSUMED_HEADER, Caller
from gateway.console.account.customer_sign_in import SIGN_OUT, CustomerSignIn, CustomerSignIns
from gateway.console.account.customer_sign_in_page import read_return, sign_in_page
from gateway.console.account.door import PATH, WHY
from gateway.console.account.who import Nobody, WhoAmI
from gateway.forms import NOT_A_PERSON, TOO_OLD, FormTokens, check_sender, holds_token
from gateway.origin import is_page_load
from gateway.pages.render import Pages
from gateway.proxy.cookies import OurCookies
from gateway.stores.store import StoreError
from policy.administrators import Person
from policy.grants import Administrator, GrantRefusal
from policy.model import AccountId, ClientId, Deny, DenyReason
from policy.provider_administrators import NoAdministrator

log = logging.getLogger(__name__)

CONSOLE: Final = ClientId("console")
"""What stands in the record in place of a program that asks on an administrator's behalf."""
_STAFFS = Deny(reason=DenyReason.NEVER_ALLOWED, rule="locum.account", detail=WHY)
_BY_ITSELF: Final = frozenset({"refresh", "live"})
"""Each a parameter by which a page of ours asks for itself anew, which is no use of a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """How somebody signs out whose session is ours."""

    form_token: str
    path: str = SIGN_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """An administrator of the account whose host was asked."""

    account: AccountId
    person: Person
    caller: Caller
    leaving: Leaving | None = None
    """None where it is the app's sign-in that counts."""
    until: datetime | None = None
    """Where it is a session of ours: when that ends if it is not used again."""

    @property
    def administrator(self) -> Administrator:
        """Who they are, as the grant knows them."""
        return self.person.administrator


class Admission:
    """Looks at each request before anything is shown or done; what it refuses is answered here."""

    def __init__(
        self,
        who: WhoAmI | None,
        *,
        sign_ins: CustomerSignIns,
        cookies: OurCookies,
        tokens: FormTokens,
        accepted_roles: frozenset[str],
        scheme: str,
        persons: Persons,
        strangers: Strangers,
        pages: Pages,
    ) -> None:
        """Ask `who`, but for accounts that `sign_ins` has, at the customer's provider: there the app is not believed.

        Without either there is no page; the hosts of accounts are reached by `scheme`.

        What is refused is recorded by `persons` of whom the app knows, by `strangers` of anybody else.
        """
        self._who = who
        self._sign_ins = sign_ins
        self._cookies = cookies
        self._tokens = tokens
        self._accepted = accepted_roles
        self._scheme = scheme
        self._persons = persons
        self._strangers = strangers
        self._pages = pages

    async def for_page(self, request: web.Request) -> Visit | web.Response:
        """Return who wants to see the page, or the answer to somebody who may not."""
        caller = Caller.through_front(request)
        refused = await self._refuse_outright(request, caller)
        if refused is not None:
            return refused
        if not is_page_load(request.raw_headers):
            # Who can read the page has its form's token.
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=NOT_A_PERSON), again=PATH)
        return await self._admit(request, caller, counts=_BY_ITSELF.isdisjoint(request.query))

    async def for_stream(self, request: web.Request) -> Visit | web.Response:
        """Return whose page goes on being looked at, or the answer to a stream that is nobody's; it is no use."""
        caller = Caller.through_front(request)
        refused = await self._refuse_outright(request, caller)
        if refused is not None:
            return refused
        if request.headers.getall("Sec-Fetch-Site", ["same-origin"]) != ["same-origin"]:
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE), again=PATH)
        return await self._admit(request, caller, counts=False)

    async def still(self, request: web.Request, visit: Visit) -> Visit | None:
        """Return how somebody stands now to whom a stream is open, None if they are no administrator any more.

        It is no use, and nothing is recorded of it. Raises StoreError where that cannot be told.
        """
        found = await self._identify(request, visit.caller, fresh=False, counts=False)
        if isinstance(found, web.Response):
            if found.status == HTTPStatus.SERVICE_UNAVAILABLE:
                raise StoreError("who reads an open page of an account's cannot be told now")
            return None
        person = found.administrator
        is_same = person.id == visit.administrator.id and not person.is_acting_staff
        return found if is_same and self.is_administrator(found) else None

    async def for_form(self, request: web.Request, fields: Sequence[tuple[str, str]]) -> Visit | web.Response:
        """Return who has sent a form of the page, with whatever role; the app is asked anew."""
        caller = Caller.through_front(request)
        refused = await self._refuse_outright(request, caller)
        if refused is not None:
            return refused
        hosts = request.headers.getall("Host", [])
        origin = f"{self._scheme}://{hosts[0].lower()}" if len(hosts) == 1 else ""
        wrong = check_sender(request, origin)
        found = await self._identify(request, caller, fresh=wrong is None, counts=wrong is None)
        if isinstance(found, web.Response):
            # Not on the record: anybody can send a form as nobody, as often as they like.
            deny = Deny(reason=DenyReason.CROSS_SITE, detail=wrong or "")
            return self._pages.refusal(deny, again=PATH, request_id=caller.request_id) if wrong else found
        if wrong is not None:
            return await self.refuse(Deny(reason=DenyReason.CROSS_SITE, detail=wrong), request, caller, by=found)
        if not holds_token(fields, self._good_tokens(found)):
            return await self.refuse(Deny(reason=DenyReason.CROSS_SITE, detail=TOO_OLD), request, caller, by=found)
        if found.administrator.is_acting_staff:
            return await self.refuse(_STAFFS, request, caller, by=found)
        return found

    def form_token(self, visit: Visit) -> str:
        """Return what every form of the page has to hold for them; raises StoreError."""
        return self._tokens.make(*_purpose(visit)) if visit.leaving is None else visit.leaving.form_token

    def may_record(self, visit: Visit) -> bool:
        """Tell whether what changes nothing is to be recorded once more of them; their share is as large as that."""
        return self._persons.may_record(_name(visit), account=visit.account)

    def is_administrator(self, visit: Visit) -> bool:
        """Tell whether a role of theirs, in any product, is an accepted one."""
        return visit.administrator.may_change(self._accepted)

    async def refuse(
        self, deny: Deny, request: web.Request, caller: Caller, *, by: Visit | None = None, reason: str | None = None
    ) -> web.Response:
        """Return the answer to a refusal; `reason` is what stands on the record for another word.

        Each of a few of one person is on the record; of more, how many there were.
        """
        record = Record(
            kind="decision",
            decision="deny",
            reason=reason or str(deny.reason),
            rule=deny.rule,
            account=by.account if by else _account(request),
            by=by.administrator.id if by else None,
            method=request.method,
            path=PATH,
            client_id=CONSOLE,
            client_ip=caller.client_ip,
            user_agent=caller.user_agent,
            request_id=caller.request_id,
        )
        try:
            if by is None:
                await self._strangers.append(record)
            else:
                await self._persons.append_of(_name(by), record, account=by.account)
        except JournalError:
            log.exception("a refusal at the account's page could not be recorded")
            deny = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        return self._pages.refusal(deny, again=PATH, request_id=caller.request_id)

    async def refuse_role(self, visit: Visit, request: web.Request) -> web.Response:
        """Refuse somebody who is no administrator what only one may do."""
        deny = Deny(reason=DenyReason.NEVER_ALLOWED, detail="only an administrator of the account may do this")
        return await self.refuse(deny, request, visit.caller, by=visit, reason=str(GrantRefusal.NOT_ADMINISTRATOR))

    async def find_sign_in(self, request: web.Request, caller: Caller) -> CustomerSignIn | web.Response:
        """Return how administrators of the account that is asked for sign in here, or the answer if they do not."""
        refused = await self._refuse_outright(request, caller)
        if refused is not None:
            return refused
        sign_in = self._sign_in_of(request)
        if sign_in is None:
            said = "Administrators of this account are known by the app: sign in there."
            return self._pages.message("Not here", said, status=404, again=PATH)
        return sign_in

    async def _refuse_outright(self, request: web.Request, caller: Caller) -> web.Response | None:
        if self._who is None and not self._sign_ins:
            said = "Accounts are not looked after at this page, because the gateway has no [console.account]."
            return self._pages.message("Not here", said, status=404)
        # The front has refused these already, where it knew this place by its spelling; what it says counts in any.
        found, sign_in = self._cookies.find(request.raw_headers), self._sign_in_of(request)
        is_assumed = ASSUMED_HEADER in request.headers or (found is not None and found.assumption is not None)
        staffs = None if sign_in is None else sign_in.staffs(request)
        if is_assumed or isinstance(staffs, str):
            return await self.refuse(_STAFFS, request, caller)
        if staffs is not None:
            return self._pages.refusal(staffs, again=PATH)
        return self._turn_away(request, sign_in)

    def _turn_away(self, request: web.Request, sign_in: CustomerSignIn | None) -> web.Response | None:
        """Return the answer to what is asked for at no place of ours, None if it is one."""
        if _account(request) is None:
            return self._pages.message("Not here", "No account is looked after at this address.", status=404)
        if sign_in is None and self._who is None:
            said = "This account is not looked after at this page. Ask the vendor to connect your identity provider."
            return self._pages.message("Not here", said, status=404)
        if sign_in is not None and not sign_in.is_here(request):
            said = f"Administrators of this account sign in at {sign_in.origin.text}{PATH} alone."
            return self._pages.message("Not here", said, status=404)
        return None

    async def _admit(self, request: web.Request, caller: Caller, *, counts: bool) -> Visit | web.Response:
        """Return the administrator who wants to see something, or the answer to somebody who is none."""
        found = await self._identify(request, caller, fresh=False, counts=counts)
        if isinstance(found, web.Response):
            return found
        if found.administrator.is_acting_staff:
            return await self.refuse(_STAFFS, request, caller, by=found)
        return found if self.is_administrator(found) else self._no_administrator(found)

    async def _identify(
        self, request: web.Request, caller: Caller, *, fresh: bool, counts: bool
    ) -> Visit | web.Response:
        """Return who is there: with `fresh` the app is asked anew; `counts` says that this is a use of a session."""
        account, sign_in = _account(request), self._sign_in_of(request)
        if sign_in is not None:
            return await self._by_provider(sign_in, request, caller, counts=counts)
        if self._who is None or account is None:
            raise web.HTTPNotFound
        found = self._cookies.find(request.raw_headers)
        lines = request.raw_headers if found is None else found.headers
        person = await self._who.ask(account, lines, client_ip=caller.client_ip, fresh=fresh)
        if person is Nobody.SIGNED_OUT:
            return self._pages.page("account_sign_in.html", status=403, account=account, here=PATH)
        if person is Nobody.UNKNOWN:
            said = "The app could not be asked who you are, so nothing is shown and nothing was done."
            return self._pages.message("Try again in a moment", said, status=503, again=PATH)
        return Visit(account=account, person=person, caller=caller)

    async def _by_provider(
        self, sign_in: CustomerSignIn, request: web.Request, caller: Caller, *, counts: bool
    ) -> Visit | web.Response:
        try:
            found = await sign_in.who(request, counts=counts)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
        if isinstance(found, Deny):
            return self._pages.refusal(found, again=PATH)
        if found is None or isinstance(found, NoAdministrator):
            is_form = request.method != "GET"
            note = "Nobody is signed in here any more, so nothing was done." if is_form else ""
            # A form is led back to no page of its own: there is none for it.
            back = PATH if is_form else read_return(request.path_qs)
            return sign_in_page(self._pages, sign_in, return_to=back, barred=found, note=note)
        leaving = Leaving(form_token=found.form_token)
        return Visit(account=sign_in.account, person=found.person, caller=caller, leaving=leaving, until=found.until)

    def _sign_in_of(self, request: web.Request) -> CustomerSignIn | None:
        account = _account(request)
        return None if account is None else self._sign_ins.of(account)

    def _no_administrator(self, visit: Visit) -> web.Response:
        return self._pages.page(
            "account_barred.html", status=403, visit=visit, roles=sorted(self._accepted), account=visit.account
        )

    def _good_tokens(self, visit: Visit) -> Sequence[str]:
        if visit.leaving is not None:
            return [visit.leaving.form_token]
        return self._tokens.good(*_purpose(visit))


def _purpose(visit: Visit) -> tuple[str, ...]:
    return "account", visit.account, visit.administrator.id


def _name(visit: Visit) -> str:
    return f"{visit.account}\0{visit.administrator.id}"


def _account(request: web.Request) -> AccountId | None:
    said = request.headers.getall(ACCOUNT_HEADER, [])
    return AccountId(said[0]) if len(said) == 1 else None

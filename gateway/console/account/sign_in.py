"""Signing in to an account's page at the customer's own provider, and out again; each time on the record."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway import cookie_names
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.strangers import Persons, Strangers
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.console.account.admission import CONSOLE, Admission
from gateway.console.account.customer_sign_in import CALLBACK, LOGOUT, SIGN_IN, SIGN_OUT, CustomerSignIn
from gateway.console.account.customer_sign_in_page import read_return, sign_in_page
from gateway.console.account.door import PATH
from gateway.console.account.form_shares import FormShares
from gateway.console.sign_out_record import record_sign_out
from gateway.forms import TOO_OLD, check_sender, holds_token
from gateway.grants.source import AccountSource
from gateway.pages.render import Pages
from gateway.rarely import Rarely
from gateway.staff.issuer import IssuerError
from gateway.staff.logout import LogoutEndpoint
from gateway.staff.sign_in.answers import describe_error
from gateway.staff.sign_in.attempt import LIFETIME, Attempt
from gateway.staff.sign_in.fitting import Unfit, match
from gateway.staff.sign_in.provider import CodeRefused
from gateway.staff.sign_in.setting import CookieSetter
from gateway.stores.once import Redeeming
from gateway.stores.store import StoreConflict, StoreError
from policy.model import Deny, DenyReason
from policy.provider_administrators import Barred, NoAdministrator, name_person
from policy.staff import signed_in_at

log = logging.getLogger(__name__)
_away = Rarely(log)

_MOST_FORM_BYTES = 4096
# Longer than any code and any ID token of the same sign-in counts.
_MARK_LIFETIME = timedelta(hours=1)
_TITLE: Final = "Not signed in"
_USED: Final = "This answer was used before. Begin again."
_TOO_MANY: Final = "Somebody at your address has tried too often. Wait some minutes, then try again."
_TOO_MANY_HERE: Final = "You, or others of your account, have signed in very often just now. Try again in a minute."
_Answer = Callable[[web.Request, CustomerSignIn, Caller], Awaitable[web.Response]]


class SignInPages:
    """Leads an administrator in, at the account's own host alone, and out again."""

    def __init__(
        self,
        *,
        admission: Admission,
        accounts: AccountSource,
        store: Redeeming,
        journal: AuditLog,
        persons: Persons,
        strangers: Strangers,
        shares: FormShares,
        pages: Pages,
        clock: Clock,
    ) -> None:
        """Record in `journal` who is let in, by `persons` and `strangers` who is not.

        `shares` says how often somebody is let in, for each time is a record and a session on the disk.
        """
        self._admission = admission
        self._accounts = accounts
        self._store = store
        self._journal = journal
        self._persons = persons
        self._strangers = strangers
        self._shares = shares
        self._pages = pages
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves, whether anybody signs in here or not."""
        # Not for HEAD, by which a code would be used up and a session begun that nobody has.
        return [
            web.get(SIGN_IN, partial(self._serve, self._begin), allow_head=False),
            web.get(CALLBACK, partial(self._serve, self._finish), allow_head=False),
            web.post(SIGN_OUT, partial(self._serve, self._leave)),
            web.post(LOGOUT, partial(self._serve, self._hear)),
        ]

    async def _serve(self, answer: _Answer, request: web.Request) -> web.Response:
        """Answer for an account that has a provider of its own, at its own host, and say what went wrong."""
        caller = Caller.through_front(request)
        try:
            found = await self._admission.find_sign_in(request, caller)
            if isinstance(found, web.Response):
                return found
            # Where one provider is for all the others, any name may be asked for.
            if request.method == "GET" and await self._accounts.find_account(found.account) is None:
                return self._pages.message("Not here", "Locum does not know this account.", status=404)
            return await answer(request, found, caller)
        except FormError as exc:
            return self._pages.message("Nothing was done", f"This is no form of ours: {exc}.", status=400, again=PATH)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
        except JournalError:
            return self._pages.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), again=PATH)

    async def _begin(self, request: web.Request, sign_in: CustomerSignIn, _caller: Caller) -> web.Response:
        """Send the browser to the provider, with a cookie that ties what comes back to it."""
        return_to = read_return(request.query.get("return", ""))
        if request.headers.getall("Sec-Fetch-Site", ["none"]) not in (["none"], ["same-origin"]):
            # Another site's page may lead here, but it is the person who begins.
            return _lead(return_to)
        attempt = Attempt.begin(return_to, now=self._clock(), place=sign_in.place)
        try:
            address = await sign_in.provider.question(attempt, fresh=request.query.get("fresh") == "1")
        except IssuerError as exc:
            return self._unavailable(sign_in, exc)
        response = _lead(address)
        seconds = int(LIFETIME.total_seconds())
        _cookies(sign_in).put(response, cookie_names.ARRIVAL, attempt.value, seconds=seconds)
        return response

    async def _finish(self, request: web.Request, sign_in: CustomerSignIn, caller: Caller) -> web.Response:
        """Begin a session for whoever comes back with a code that is worth an ID token of an administrator's."""
        try:
            cookie = sign_in.cookie(request, cookie_names.ARRIVAL)
            answer, attempt = await match(
                request, sign_in.provider, cookie, now=self._clock(), leads=read_return, place=sign_in.place
            )
        except Unfit as exc:
            # The cookie stays: nobody else's link may undo a sign-in that is under way.
            return self._pages.message(_TITLE, str(exc), status=400, again=PATH)
        except IssuerError as exc:
            return self._unavailable(sign_in, exc)
        if answer.code is None:
            log.info("the provider of %s answered a sign-in with an error: %r", sign_in.account, answer.error)
            said, code = describe_error(answer.error)
            response = self._pages.message(_TITLE, said, status=403, again=PATH, code=code)
        else:
            taken = await self._take_turn(sign_in, caller, attempt)
            if taken is not None:
                return taken
            response = await self._redeem(request, sign_in, caller, answer.code, attempt)
        # The attempt has come to its end, whichever.
        _cookies(sign_in).drop(response, cookie_names.ARRIVAL)
        return response

    async def _take_turn(self, sign_in: CustomerSignIn, caller: Caller, attempt: Attempt) -> web.Response | None:
        """Have one code of this attempt redeemed, and no other; return the answer where none may be.

        Each code is a question to the provider, and its refusal a record, whoever has made it up. An attempt that was
        used takes nobody's turn.
        """
        now = self._clock()
        if await self._store.find_one_time(attempt.mark, now=now) is not None:
            return self._pages.message(_TITLE, _USED, status=400, again=PATH)
        if not await sign_in.codes.take(caller.client_ip):
            return self._pages.message(_TITLE, _TOO_MANY, status=429, again=PATH)
        try:
            await self._store.add_one_time(attempt.mark, "", expires_at=now + _MARK_LIFETIME, now=now)
        except StoreConflict:
            return self._pages.message(_TITLE, _USED, status=400, again=PATH)
        return None

    async def _redeem(
        self, request: web.Request, sign_in: CustomerSignIn, caller: Caller, code: str, attempt: Attempt
    ) -> web.Response:
        try:
            claims = await sign_in.provider.redeem(code, attempt)
        except CodeRefused as exc:
            log.info("a sign-in to the page of %s was refused: %s", sign_in.account, exc)
            await self._strangers.append(_record(sign_in, caller, reason="code_refused"))
            said = "What your identity provider answered does not fit this sign-in. Begin again."
            return self._pages.message(_TITLE, said, status=400, again=PATH)
        except IssuerError as exc:
            return self._unavailable(sign_in, exc)
        kept = sign_in.worth_keeping(claims)
        who = sign_in.judge(kept)
        if isinstance(who, NoAdministrator):
            by = None if who.why == Barred.SUBJECT_ODD else name_person(str(kept["iss"]), str(kept["sub"]))
            # One share for all of the account: whom its provider knows, it may have made up.
            record = _record(sign_in, caller, reason=str(who.why), by=by)
            await self._persons.append_of(sign_in.account, record, account=sign_in.account)
            return sign_in_page(self._pages, sign_in, return_to=attempt.return_to, barred=who)
        await sign_in.codes.forgive(caller.client_ip)
        if not self._shares.take_of(sign_in.account, who.administrator.id):
            return self._pages.message(_TITLE, _TOO_MANY_HERE, status=429, again=PATH)
        # If this cannot be recorded, nobody is let in.
        record = _record(sign_in, caller, reason="signed_in", by=who.administrator.id, allowed=True)
        await self._journal.append(record, durable=True)
        response = _lead(attempt.return_to)
        await self._let_in(request, response, sign_in, kept)
        return response

    async def _let_in(
        self, request: web.Request, response: web.Response, sign_in: CustomerSignIn, kept: dict[str, Any]
    ) -> None:
        """Begin a session, whatever the browser brought (no fixation), and end what it had, which nobody would end."""
        value = await sign_in.sessions.begin(
            str(kept["sub"]), "openid", issuer=str(kept["iss"]), claims=kept, signed_in_at=signed_in_at(kept)
        )
        former = sign_in.cookie(request, cookie_names.ADMINISTRATOR)
        if isinstance(former, str):
            await self._end(sign_in, Caller.through_front(request), former)
        seconds = int(sign_in.sessions.longest.total_seconds())
        _cookies(sign_in).put(response, cookie_names.ADMINISTRATOR, value, seconds=seconds)

    async def _leave(self, request: web.Request, sign_in: CustomerSignIn, caller: Caller) -> web.Response:
        """End the session; the browser forgets its cookie only once that is stored."""
        value = sign_in.cookie(request, cookie_names.ADMINISTRATOR)
        # The sender first: a browser sends no cookie of ours with another site's form, which must drop none, either.
        wrong = check_sender(request, sign_in.origin.text)
        fields = [] if wrong is not None else await read_form(request, _MOST_FORM_BYTES)
        if wrong is None and isinstance(value, str) and not holds_token(fields, [sign_in.form_token(value)]):
            wrong = TOO_OLD
        if wrong is not None:
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=wrong), again=PATH)
        if isinstance(value, Deny):
            return self._pages.refusal(value, again=PATH)
        was_in = isinstance(value, str) and await self._end(sign_in, caller, value)
        farewell = await self._farewell(sign_in) if was_in else None
        note = "You are signed out." if was_in else "Nobody was signed in here any more."
        response = sign_in_page(self._pages, sign_in, note=note, farewell=farewell, status=200)
        _cookies(sign_in).drop(response, cookie_names.ADMINISTRATOR, cookie_names.ARRIVAL)
        return response

    async def _hear(self, request: web.Request, sign_in: CustomerSignIn, _caller: Caller) -> web.Response:
        """Take what the provider itself tells of a sign-out: see `gateway.staff.logout`."""
        return await LogoutEndpoint(sign_in.notices, sign_in.sign_outs).logout(request)

    async def _end(self, sign_in: CustomerSignIn, caller: Caller, value: str) -> bool:
        """End a session; it only takes power away, so it is done even if it cannot be recorded."""
        ended = await sign_in.sessions.end(value)
        if ended is None:
            return False
        await sign_in.ends.tell()
        by = name_person(ended.issuer, ended.who)
        await record_sign_out(self._journal, caller, by=by, client=CONSOLE, account=sign_in.account)
        return True

    async def _farewell(self, sign_in: CustomerSignIn) -> str | None:
        """Return where a person signs out at the provider as well, if it has such a place."""
        try:
            return await sign_in.provider.farewell()
        except IssuerError as exc:
            log.info("where people of %s sign out at their provider is not known: %s", sign_in.account, exc)
            return None

    def _unavailable(self, sign_in: CustomerSignIn, exc: IssuerError) -> web.Response:
        _away.warning("nobody of %s can sign in to its page at their provider: %s", sign_in.account, exc)
        said = (
            f"Your identity provider, {sign_in.provider_name}, cannot be asked now. Nothing was changed.",
            "Try again in a moment. If that stays so, ask whoever looks after it.",
        )
        return self._pages.message(_TITLE, *said, status=503, again=PATH)


def _record(
    sign_in: CustomerSignIn, caller: Caller, *, reason: str, by: str | None = None, allowed: bool = False
) -> Record:
    return Record(
        kind="audit",
        decision="allow" if allowed else "deny",
        reason=reason,
        account=sign_in.account,
        by=by,
        client_id=CONSOLE,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


def _cookies(sign_in: CustomerSignIn) -> CookieSetter:
    return CookieSetter(secure=sign_in.origin.secure)


def _lead(address: str) -> web.Response:
    """Send the browser elsewhere, with nothing kept of the address it came by."""
    headers = {"Location": address, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)

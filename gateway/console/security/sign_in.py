"""Signing in to the security team's console with a browser: at the identity provider, or with a client's secret."""

import logging
import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from gateway import cookie_names
from gateway.audit.log import AuditLog
from gateway.audit.record import Record
from gateway.bodies import read_form, read_one
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.clock import Clock
from gateway.console.security.admission import Admission, lead
from gateway.console.security.frame import Frame
from gateway.console.security.people import People, Standing, proof_of
from gateway.console.security.place import Place
from gateway.console.security.sessions import Sessions
from gateway.console.security.visit import PATH, SIGN_IN, SIGN_OUT
from gateway.console.sessions import Kept
from gateway.console.sign_out_record import record_sign_out
from gateway.devices.guesses import NetworkTries
from gateway.pages.render import Pages
from gateway.staff.issuer import IssuerError
from gateway.staff.sign_in.answers import ProviderAnswer, describe_error
from gateway.staff.sign_in.attempt import LIFETIME, Attempt
from gateway.staff.sign_in.fitting import Unfit, match
from gateway.staff.sign_in.provider import CodeRefused, Provider
from gateway.staff.sign_in.setting import CookieSetter
from gateway.stores.store import Store, StoreConflict
from policy.model import ClientId, Deny, DenyReason
from policy.staff import signed_in_at

log = logging.getLogger(__name__)

BEGIN: Final = f"{SIGN_IN}/begin"
CALLBACK: Final = f"{SIGN_IN}/callback"
WITH_SECRET: Final = f"{SIGN_IN}/client"
_MOST_FORM_BYTES = 8 * 1024
# Longer than any code and any ID token of the same sign-in counts.
_MARK_LIFETIME = timedelta(hours=1)
_LONGEST_RETURN = 500
# A page of ours, in letters that every parser reads alike: no empty segment, none of dots alone, nothing escaped but in
# the query.
_RETURN = re.compile(r"/console(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?", re.ASCII)
_KEPT = ("iss", "sub", "name", "acr", "amr", "auth_time", "iat", "act", "may_act")
_WRONG = "The id or the secret is wrong, or the client has neither the role audit nor operate."
_USED = "This answer was used before. Begin again."
_TOO_MANY = "Somebody at your address has tried too often. Wait some minutes, then try again."


def read_return(text: str) -> str:
    """Return the address, byte for byte, if it is a page of the console that a sign-in may lead back to."""
    if len(text) > _LONGEST_RETURN or _RETURN.fullmatch(text) is None or text.startswith((SIGN_IN, SIGN_OUT)):
        return PATH
    return text


class SignInPages:
    """Leads somebody in, and out again; each time on the record."""

    def __init__(
        self,
        *,
        admission: Admission,
        frame: Frame,
        place: Place | None,
        sessions: Sessions,
        people: People,
        provider: Provider | None,
        clients: ClientAuthenticator,
        whose: Callable[[web.Request], str],
        roles_claim: str,
        tries: NetworkTries,
        codes: NetworkTries,
        store: Store,
        journal: AuditLog,
        pages: Pages,
        clock: Clock,
    ) -> None:
        """Without a provider, clients' secrets are the only way in.

        Wrong ones are `tries`, wrong codes `codes`, each counted by the address `whose` request it is.
        """
        self._admission = admission
        self._frame = frame
        self._sessions = sessions
        self._people = people
        self._provider = provider
        self._clients = clients
        self._whose = whose
        self._kept = (*_KEPT, roles_claim)
        self._tries = tries
        self._codes = codes
        self._store = store
        self._journal = journal
        self._pages = pages
        self._clock = clock
        self._cookies = CookieSetter(secure=place is not None and place.secure)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        guarded = self._frame.guarded
        return [
            web.get(SIGN_IN, guarded(self.show), allow_head=False),
            web.get(BEGIN, guarded(self.begin), allow_head=False),
            web.get(CALLBACK, guarded(self.finish), allow_head=False),
            web.post(WITH_SECRET, guarded(self.with_secret, again=SIGN_IN)),
            web.post(SIGN_OUT, guarded(self.leave)),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the page on which people choose how to sign in."""
        refused = self._admission.refuse_outright(request)
        return refused or self._page(read_return(request.query.get("return", "")))

    async def begin(self, request: web.Request) -> web.Response:
        """Send the browser to the provider, with a cookie that ties what comes back to it."""
        refused = self._admission.refuse_outright(request)
        if refused is not None:
            return refused
        return_to = read_return(request.query.get("return", ""))
        if self._provider is None or request.headers.getall("Sec-Fetch-Site", ["none"]) not in (
            ["none"],
            ["same-origin"],
        ):
            # Another site's page may lead here, but it is the person who begins.
            return lead(_sign_in_link(SIGN_IN, return_to))
        attempt = Attempt.begin(return_to, now=self._clock())
        try:
            address = await self._provider.question(attempt, fresh=request.query.get("fresh") == "1")
        except IssuerError as exc:
            return self._unavailable(exc)
        response = lead(address)
        self._cookies.put(response, cookie_names.ENTRY, attempt.value, seconds=int(LIFETIME.total_seconds()))
        return response

    async def finish(self, request: web.Request) -> web.Response:
        """Begin a session for whoever comes back with a code that is worth an ID token of theirs."""
        refused = self._admission.refuse_outright(request)
        provider = self._provider
        if refused is not None:
            return refused
        if provider is None:
            return self._pages.message("Not here", "Nobody comes back here from a provider.", status=404)
        try:
            cookie = self._admission.cookie(request, cookie_names.ENTRY)
            answer, attempt = await match(request, provider, cookie, now=self._clock(), leads=read_return)
        except Unfit as exc:
            # The cookie stays: nobody else's link may undo a sign-in that is under way.
            return self._pages.message("Not signed in", str(exc), status=400, again=PATH)
        except IssuerError as exc:
            return self._unavailable(exc)
        if answer.code is not None:
            taken = await self._take_turn(request, attempt)
            if taken is not None:
                return taken
        response = await self._conclude(request, provider, answer, attempt)
        # The attempt has come to its end, whichever.
        self._cookies.drop(response, cookie_names.ENTRY)
        return response

    async def _take_turn(self, request: web.Request, attempt: Attempt) -> web.Response | None:
        """Have one code of this attempt redeemed, and no other; return the answer where none may be.

        Each code is a question to the provider, and its refusal a record, whoever has made it up. An attempt that was
        used takes nobody's turn: one that somebody has begun is not good for any number of codes.
        """
        now = self._clock()
        if await self._store.find_one_time(attempt.mark, now=now) is not None:
            return await self._refuse_used(request, attempt)
        if not await self._codes.take(self._whose(request)):
            return self._pages.message("Not signed in", _TOO_MANY, status=429, again=PATH)
        try:
            await self._store.add_one_time(attempt.mark, "", expires_at=now + _MARK_LIFETIME, now=now)
        except StoreConflict:
            return await self._refuse_used(request, attempt)
        return None

    async def _refuse_used(self, request: web.Request, attempt: Attempt) -> web.Response:
        """Refuse what comes again, on the record once for each attempt, as many of which as there are turns."""
        now, again = self._clock(), sha256(attempt.mark + b"again").digest()
        try:
            await self._store.add_one_time(again, "", expires_at=now + _MARK_LIFETIME, now=now)
        except StoreConflict:
            log.info("an answer to a sign-in to the console came yet again")
        else:
            await self._note(Caller.direct(request), reason="answer_used")
        return self._pages.message("Not signed in", _USED, status=400, again=PATH)

    async def with_secret(self, request: web.Request) -> web.Response:
        """Begin a session for whoever knows a client's secret; how often somebody may try is counted in the store."""
        refused = self._admission.refuse_outright(request)
        if refused is not None:
            return refused
        # The sender first: without it, a page of elsewhere could sign a browser in as somebody else.
        wrong = self._admission.check_sender(request)
        if wrong is not None:
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=wrong), again=SIGN_IN)
        fields = await read_form(request, _MOST_FORM_BYTES)
        name, secret = read_one(fields, "client_id"), read_one(fields, "client_secret")
        return_to = read_return(dict(fields).get("return", ""))
        caller = Caller.direct(request)
        # Of 256 random bits nobody guesses any, so whoever knows them is not kept out by what others have tried.
        client = await self._clients.prove(name, secret)
        standing = None if client is None else self._people.of_client(client)
        is_good = standing is not None and bool(standing.roles)
        if not is_good and not await self._tries.take(self._whose(request)):
            return self._page(return_to, wrong=_TOO_MANY, status=429)
        if client is None or standing is None or not standing.roles:
            known = client.id if client is not None else None
            await self._note(caller, reason="wrong_secret" if client is None else "no_role", client=known)
            return self._page(return_to, wrong=_WRONG, status=403)
        await self._note(caller, reason="signed_in", by=client.id, client=client.id)
        value = await self._sessions.begin(client.id, "client", signed_in_at=self._clock(), proof=proof_of(client))
        return await self._let_in(request, value, return_to)

    async def leave(self, request: web.Request) -> web.Response:
        """End the session; the browser forgets its cookie only once that is stored."""
        refused = self._admission.refuse_outright(request)
        if refused is not None:
            return refused
        cross = self._admission.check_sender(request)
        if cross is not None:
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=cross), again=PATH)
        fields = await read_form(request, _MOST_FORM_BYTES)
        wrong = self._admission.check_leaving(request, fields)
        if wrong is not None:
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=wrong), again=PATH)
        ended = await self._end(request)
        farewell = await self._farewell() if ended is not None and ended.how == "openid" else None
        response = self._page(PATH, note="You are signed out.", farewell=farewell)
        self._cookies.drop(response, cookie_names.SECURITY, cookie_names.ENTRY)
        return response

    async def _conclude(
        self, request: web.Request, provider: Provider, answer: ProviderAnswer, attempt: Attempt
    ) -> web.Response:
        if answer.code is None:
            log.info("the identity provider answered a sign-in to the console with an error: %r", answer.error)
            said, code = describe_error(answer.error)
            return self._pages.message("Not signed in", said, status=403, again=PATH, code=code)
        caller = Caller.direct(request)
        try:
            claims = await provider.redeem(answer.code, attempt)
        except CodeRefused as exc:
            log.info("a sign-in to the console was refused: %s", exc)
            await self._note(caller, reason="code_refused")
            said = "What the identity provider answered does not fit this sign-in. Begin again."
            return self._pages.message("Not signed in", said, status=400, again=PATH)
        except IssuerError as exc:
            return self._unavailable(exc)
        await self._codes.forgive(self._whose(request))
        kept = {name: claims[name] for name in self._kept if name in claims}
        standing = self._people.of_claims(kept)
        if not standing.roles:
            return await self._bar(standing, caller, str(claims["sub"]))
        return await self._admit(request, kept, attempt.return_to, caller)

    async def _admit(self, request: web.Request, kept: dict[str, Any], return_to: str, caller: Caller) -> web.Response:
        who = str(kept["sub"])
        await self._note(caller, reason="signed_in", by=who)
        value = await self._sessions.begin(
            who, "openid", issuer=str(kept["iss"]), claims=kept, signed_in_at=signed_in_at(kept)
        )
        return await self._let_in(request, value, return_to)

    async def _let_in(self, request: web.Request, value: str, return_to: str) -> web.Response:
        """Give the browser its cookie, and end the session that it had, which nobody would end any more."""
        await self._end(request)
        response = lead(return_to)
        seconds = int(self._sessions.longest.total_seconds())
        self._cookies.put(response, cookie_names.SECURITY, value, seconds=seconds)
        return response

    async def _end(self, request: web.Request) -> Kept | None:
        """End the session that the browser has, and return it as it was; None if there is none."""
        value = self._admission.cookie(request, cookie_names.SECURITY)
        ended = await self._sessions.end(value) if isinstance(value, str) else None
        if ended is not None:
            client = ClientId(ended.who) if ended.how == "client" else None
            await record_sign_out(self._journal, Caller.direct(request), by=ended.who, client=client)
        return ended

    async def _bar(self, standing: Standing, caller: Caller, who: str) -> web.Response:
        await self._note(caller, reason="no_role", by=who)
        said = (f"You are known there as {standing.name}.", standing.why)
        return self._pages.message("This console is not for you", *said, status=403, again=PATH)

    async def _note(
        self, caller: Caller, *, reason: str, by: str | None = None, client: ClientId | None = None
    ) -> None:
        """Put an attempt on the record; raises JournalError, and then nobody is let in."""
        record = Record(
            kind="audit",
            decision="allow" if reason == "signed_in" else "deny",
            reason=reason,
            by=by,
            client_id=client,
            client_ip=caller.client_ip,
            user_agent=caller.user_agent,
            request_id=caller.request_id,
        )
        await self._journal.append(record, durable=reason == "signed_in")

    async def _farewell(self) -> str | None:
        """Return where a person signs out at the provider as well, if it has such a place."""
        try:
            return None if self._provider is None else await self._provider.farewell()
        except IssuerError as exc:
            log.info("where people sign out at the provider is not known: %s", exc)
            return None

    def _page(
        self, return_to: str, *, wrong: str = "", note: str = "", farewell: str | None = None, status: int = 200
    ) -> web.Response:
        provider = urlsplit(self._provider.issuer).hostname if self._provider is not None else None
        return self._pages.page(
            "security_sign_in.html",
            status=status,
            headers={"Retry-After": "60"} if status == 429 else None,
            provider=provider,
            begin=_sign_in_link(BEGIN, return_to),
            action=WITH_SECRET,
            return_to=return_to,
            wrong=wrong,
            note=note,
            farewell=farewell,
        )

    def _unavailable(self, exc: Exception) -> web.Response:
        log.warning("nobody can sign in to the console at the identity provider: %s", exc)
        said = "The identity provider cannot be asked now. Try again in a moment, or use a client’s secret."
        return self._pages.message("Not signed in", said, status=503, again=SIGN_IN)


def _sign_in_link(path: str, return_to: str) -> str:
    return path if return_to == PATH else f"{path}?{urlencode({'return': return_to})}"

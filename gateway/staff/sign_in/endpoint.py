"""Signing in with a browser: `GET /.locum/sign-in`, and `GET /.locum/sign-in/callback`, where the provider sends back.

OpenID Connect Core 1.0 section 3.1, PKCE (RFC 7636), the issuer's name in the answer (RFC 9207), RFC 9700 section 2.1.
"""

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from aiohttp import web

from gateway import cookie_names
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, name_actor
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.config.model import SignIn
from gateway.pages.render import Pages
from gateway.staff.issuer import IssuerError
from gateway.staff.sign_in.answers import ProviderAnswer, describe_error
from gateway.staff.sign_in.attempt import LIFETIME, Attempt
from gateway.staff.sign_in.fitting import Unfit, match
from gateway.staff.sign_in.home import SIGN_IN, sign_in_link
from gateway.staff.sign_in.provider import CodeRefused, Provider
from gateway.staff.sign_in.returning import HOME, read_return
from gateway.staff.sign_in.setting import CookieSetter
from gateway.staff.sign_in.visitors import Visitors
from gateway.staff.sign_outs import SignOuts
from gateway.staff.verify import SignedIn, StaffVerifier
from gateway.stores.store import StaffSession, Store, StoreConflict, StoreError
from policy.model import ActorId, Deny, DenyReason

log = logging.getLogger(__name__)

CALLBACK = f"{SIGN_IN}/callback"
# Longer than any code and any ID token of the same sign-in counts.
_MARK_LIFETIME = timedelta(hours=1)
_NOT_KEPT = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Whoever a code has proved to be there, before anything is decided."""

    attempt: Attempt
    claims: Mapping[str, Any]
    caller: Caller


class SignInEndpoint:
    """Leads a browser to the provider, and begins a session when it comes back with a code."""

    def __init__(
        self,
        *,
        visitors: Visitors,
        pages: Pages,
        provider: Provider | None,
        section: SignIn | None,
        staff: StaffVerifier,
        store: Store,
        journal: AuditLog,
        sign_outs: SignOuts,
        clock: Clock,
    ) -> None:
        """Without a provider there is nothing here."""
        self._visitors = visitors
        self._pages = pages
        self._provider = provider
        self._section = section
        self._staff = staff
        self._store = store
        self._journal = journal
        self._sign_outs = sign_outs
        self._clock = clock
        self._cookies = CookieSetter(secure=visitors.secure)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        # Not for HEAD, by which a code would be used up and a session begun that nobody has.
        return [web.get(SIGN_IN, self.begin, allow_head=False), web.get(CALLBACK, self.finish, allow_head=False)]

    async def begin(self, request: web.Request) -> web.Response:
        """Send the browser to the provider, with a cookie that ties what comes back to it."""
        if self._provider is None or not self._visitors.is_here(request):
            return _see(HOME)
        return_to = read_return(request.query.get("return", ""))
        if request.headers.getall("Sec-Fetch-Site", ["none"]) not in (["none"], ["same-origin"]):
            # Another site's page may lead here, but it is the person who begins.
            return _see(HOME if return_to == HOME else f"{HOME}?{sign_in_link(return_to).partition('?')[2]}")
        attempt = Attempt.begin(return_to, now=self._clock())
        try:
            address = await self._provider.question(attempt, fresh=request.query.get("fresh") == "1")
        except IssuerError as exc:
            return self._unavailable(DenyReason.ISSUER_UNAVAILABLE, exc, again=sign_in_link(return_to))
        response = _see(address)
        self._cookies.put(response, cookie_names.SIGN_IN, attempt.value, seconds=int(LIFETIME.total_seconds()))
        return response

    async def finish(self, request: web.Request) -> web.Response:
        """Begin a session for whoever comes back with a code that is worth an ID token of theirs."""
        provider = self._provider
        if provider is None or not self._visitors.is_here(request):
            return self._pages.message("Not here", "Nobody signs in at this address.", status=404)
        try:
            value = self._visitors.cookie(request, cookie_names.SIGN_IN)
            answer, attempt = await match(request, provider, value, now=self._clock())
        except Unfit as exc:
            # The cookie stays: nobody else's link may undo a sign-in that is under way.
            return self._pages.message("Not signed in", str(exc), status=400, again=HOME)
        except IssuerError as exc:
            return self._unavailable(DenyReason.ISSUER_UNAVAILABLE, exc)
        response = await self._conclude(request, provider, answer, attempt)
        # The attempt has come to its end, whichever.
        self._cookies.drop(response, cookie_names.SIGN_IN)
        return response

    async def _conclude(
        self, request: web.Request, provider: Provider, answer: ProviderAnswer, attempt: Attempt
    ) -> web.Response:
        if answer.code is None:
            return self._declined(answer)
        caller = Caller.through_front(request)
        try:
            try:
                claims = await provider.redeem(answer.code, attempt)
            except CodeRefused as exc:
                log.info("a sign-in was refused: %s", exc)
                await self._journal.append(_record_nobody("code_refused", caller))
                said = "What the identity provider answered does not fit this sign-in. Begin again."
                return self._pages.message("Not signed in", said, status=400, again=HOME)
            return await self._admit(request, Newcomer(attempt=attempt, claims=claims, caller=caller))
        except IssuerError as exc:
            return self._unavailable(DenyReason.ISSUER_UNAVAILABLE, exc)
        except StoreError as exc:
            return self._unavailable(DenyReason.STORE_UNAVAILABLE, exc)
        except JournalError as exc:
            return self._unavailable(DenyReason.JOURNAL_UNAVAILABLE, exc)

    def _declined(self, answer: ProviderAnswer) -> web.Response:
        log.info("the identity provider answered a sign-in with an error: %r", answer.error)
        said, code = describe_error(answer.error)
        return self._pages.message("Not signed in", said, status=403, again=HOME, code=code)

    async def _admit(self, request: web.Request, newcomer: Newcomer) -> web.Response:
        signed_in = await self._staff.judge(newcomer.claims)
        if isinstance(signed_in, Deny):
            return await self._refuse(signed_in, newcomer)
        now = self._clock()
        try:
            await self._store.add_one_time(newcomer.attempt.mark, "", expires_at=now + _MARK_LIFETIME, now=now)
        except StoreConflict:
            await self._journal.append(_record(newcomer, allowed=False, reason="answer_used"))
            return self._pages.message(
                "Not signed in", "This answer was used before. Begin again.", status=400, again=HOME
            )
        await self._journal.append(_record(newcomer, allowed=True), durable=True)
        value = await self._begin_session(signed_in, newcomer)
        if isinstance(value, Deny):
            return await self._refuse(value, newcomer)
        await self._end_former(request, signed_in.staff.id, newcomer.caller)
        response = _see(newcomer.attempt.return_to)
        self._cookies.put(response, cookie_names.STAFF, value, seconds=self._absolute_seconds)
        return response

    async def _begin_session(self, signed_in: SignedIn, newcomer: Newcomer) -> str | Deny:
        """Return the cookie's value of a session that begins now, whatever the browser brought (no fixation)."""
        now = self._clock()
        value = secrets.token_urlsafe(32)
        kept = {name: claim for name, claim in newcomer.claims.items() if name not in _NOT_KEPT}
        session = StaffSession(
            digest=sha256(value.encode("ascii")).digest(),
            actor=signed_in.staff.id,
            claims=json.dumps(kept, ensure_ascii=False),
            signed_in_at=signed_in.at,
            seen_at=now,
            ends_at=now + timedelta(seconds=self._absolute_seconds),
        )
        try:
            await self._store.begin_session(session, signed_in.staff, at=now)
        except StoreConflict:
            known = await self._store.find_staff(signed_in.staff.id)
            locked = known is not None and known.disabled
            return Deny(reason=DenyReason.STAFF_DISABLED if locked else DenyReason.STAFF_SIGNED_OUT)
        return value

    async def _end_former(self, request: web.Request, now_in: ActorId, caller: Caller) -> None:
        """End the session that this browser had, which nobody would end any more.

        If it was somebody else's, this is their signing out.
        """
        former = self._visitors.cookie(request, cookie_names.STAFF)
        if not isinstance(former, str):
            return
        ended = await self._store.end_session(sha256(former.encode("ascii")).digest())
        if ended is not None:
            await self._visitors.ends.tell()
        if ended is not None and ended.actor != now_in:
            await self._sign_outs.leave(ended.actor, caller, by=now_in.subject)

    async def _refuse(self, deny: Deny, newcomer: Newcomer) -> web.Response:
        await self._journal.append(_record(newcomer, allowed=False, reason=str(deny.reason)))
        # What was too weak, or is over, is no better when the provider says it again.
        again = sign_in_link(newcomer.attempt.return_to, fresh=True)
        return self._pages.refusal(deny, again=again, request_id=newcomer.caller.request_id)

    def _unavailable(self, reason: DenyReason, exc: Exception, *, again: str = HOME) -> web.Response:
        log.warning("nobody can sign in: %s", exc)
        return self._pages.refusal(Deny(reason=reason), again=again)

    @property
    def _absolute_seconds(self) -> int:
        return 0 if self._section is None else self._section.absolute_seconds


def _record(newcomer: Newcomer, *, allowed: bool, reason: str = "signed_in") -> Record:
    claims, caller = newcomer.claims, newcomer.caller
    name = claims.get("name")
    actor = ActorId(issuer=str(claims["iss"]), subject=str(claims["sub"]))
    return Record(
        kind="staff",
        decision="allow" if allowed else "deny",
        reason=reason,
        actor=name_actor(actor, name if isinstance(name, str) else None),
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


def _record_nobody(reason: str, caller: Caller) -> Record:
    """Return the record of an answer that proves nobody to be there."""
    return Record(
        kind="staff",
        decision="deny",
        reason=reason,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


def _see(address: str) -> web.Response:
    """Send the browser elsewhere, with nothing kept of the address it came by."""
    headers = {"Location": address, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)

"""Who is signed in with a browser: reads the session's cookie, and checks that a form comes from a page of ours."""

import asyncio
import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from aiohttp import web

from gateway import cookie_names
from gateway.clock import Clock
from gateway.config.model import Config
from gateway.forms import TOO_OLD, check_sender, holds_token
from gateway.grants.patience import FACTS_SECONDS
from gateway.origin import Origin
from gateway.proxy.cookies import OurCookies, digest_of
from gateway.session_ends import SessionEnds
from gateway.staff.sign_in.setting import read_cookie
from gateway.staff.verify import SignedIn, StaffVerifier
from gateway.stores.store import StaffSession, Store, StoreError
from policy.model import Deny, DenyReason

_TOUCHES = 20  # so often at the most in an idle time: each is a write


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A staff member whose browser is signed in, and who may stand in by the rules of now."""

    signed_in: SignedIn
    form_token: str
    """What every form of ours has to hold for them, in the field `form_token`."""
    ends_at: datetime
    """When the session ends, however it is used."""
    claims: Mapping[str, Any]
    """What the ID token said."""


class Visitors:
    """Knows the sessions of one configuration."""

    def __init__(
        self,
        config: Config,
        store: Store,
        staff: StaffVerifier,
        clock: Clock,
        *,
        patience_seconds: float = FACTS_SECONDS,
    ) -> None:
        """Wait `patience_seconds` at the most for who somebody is."""
        section = config.staff.sign_in
        self._origin = Origin.of(config.server.issuer)
        self._issuer = config.staff.issuer
        self._idle = None if section is None else timedelta(seconds=section.idle_seconds)
        self._store = store
        self._staff = staff
        self._clock = clock
        self._patience = patience_seconds
        self.ends = SessionEnds(store, clock, of="staff")
        """Told by whoever ends a session."""

    @property
    def is_on(self) -> bool:
        """Whether staff may sign in with a browser at all."""
        return self._idle is not None

    @property
    def origin(self) -> str:
        """The staff origin, the only one where staff sign in, such as `https://assume.vendor.example`."""
        return self._origin.text

    @property
    def secure(self) -> bool:
        """Whether our cookies are `Secure` and have the prefix; they are not on loopback alone."""
        return self._origin.secure

    def is_here(self, request: web.Request) -> bool:
        """Tell whether a request is for the staff origin, by its `Host`."""
        return self._origin.is_named_by(request.headers.getall("Host", []))

    async def who(self, request: web.Request) -> Visitor | Deny | None:
        """Return who is signed in; None: nobody, also on any other host; Deny: somebody who may not stand in (now).

        Two cookies of our name are nobody's: whoever tosses one in gets us both refused. Raises StoreError.
        """
        value = self.cookie(request, cookie_names.STAFF)
        if value is None or isinstance(value, Deny):
            return value
        try:
            async with asyncio.timeout(self._patience):
                return await self._judge(value)
        except TimeoutError as exc:
            raise StoreError("who is signed in could not be told in time") from exc

    async def _judge(self, value: str) -> Visitor | Deny | None:
        session = await self._find(value)
        if session is None:
            return None
        claims = json.loads(session.claims)
        signed_in = await self._staff.judge(claims)
        if isinstance(signed_in, Deny):
            return signed_in
        return Visitor(signed_in=signed_in, form_token=_derive(value), ends_at=session.ends_at, claims=claims)

    def session_of(self, request: web.Request) -> bytes:
        """Return the digest of the session that a request comes with, live or not; empty if it is none."""
        value = self.cookie(request, cookie_names.STAFF)
        return sha256(value.encode("ascii")).digest() if isinstance(value, str) else b""

    async def still(self, session: bytes) -> SignedIn | Deny:
        """Return who is signed in by the session of this digest, or why nobody may stand in by it; raises StoreError.

        It does not count as a use.
        """
        found = await self.find(session)
        if found is None:
            return Deny(
                reason=DenyReason.STAFF_SIGNED_OUT, detail="the browser session in which it was approved is over"
            )
        return await self.judge(found)

    async def find(self, session: bytes) -> StaffSession | None:
        """Return the session of this digest if it is live; raises StoreError. It does not count as a use."""
        found = await self._store.find_session(session)
        return found if found is not None and self.is_live(found) else None

    async def judge(self, session: StaffSession) -> SignedIn | Deny:
        """Return who has a session, or why they may not stand in (now); raises StoreError."""
        return await self._staff.judge(json.loads(session.claims))

    def form_token(self, request: web.Request) -> str:
        """Return what a form has to hold for whoever sends the request, may they stand in or not."""
        value = self.cookie(request, cookie_names.STAFF)
        return _derive(value) if isinstance(value, str) else ""

    def check_sender(self, request: web.Request) -> str | None:
        """Return why a form, whosever it is, is not from a page of this origin that a person has sent; None if it is.

        The origin by itself would do for today's browsers.
        """
        return check_sender(request, self.origin)

    async def author(
        self, request: web.Request, fields: Sequence[tuple[str, str]], cookies: OurCookies
    ) -> Visitor | Deny:
        """Return who has sent the form from our page, or why nobody may be taken to have; raises StoreError."""
        visitor = await self.who(request)
        if visitor is None:
            return Deny(reason=DenyReason.STAFF_SIGNED_OUT, detail="nobody is signed in here any more")
        if isinstance(visitor, Deny):
            return visitor
        wrong = self.check_form(request, fields, visitor)
        if wrong is not None:
            return Deny(reason=DenyReason.CROSS_SITE, detail=wrong)
        found = cookies.find(request.raw_headers)
        if found is not None and found.assumption is not None:
            # Where one host is both, the browser is still within another assumption.
            within = "this browser stands in for somebody already: end that first"
            return Deny(reason=DenyReason.EXCHANGE_CHAINED, detail=within)
        return visitor

    def check_form(
        self, request: web.Request, fields: Sequence[tuple[str, str]], form_token: str | Visitor
    ) -> str | None:
        """Return why a form is not from a page of ours that we gave to this session; None if it is.

        Either check, of its sender and of its token, by itself would do for today's browsers.
        """
        wrong = self.check_sender(request)
        if wrong is not None:
            return wrong
        expected = form_token.form_token if isinstance(form_token, Visitor) else form_token
        return None if holds_token(fields, [expected]) else TOO_OLD

    def cookie(self, request: web.Request, name: str) -> str | Deny | None:
        """Return the value of our cookie of this name; Deny if there are two, or what may be read as one."""
        if not self.is_on or not self.is_here(request):
            return None
        return read_cookie(request, name, secure=self.secure)

    def is_live(self, session: StaffSession) -> bool:
        """Tell whether a session's time is not over, and it is of the provider that counts now."""
        now = self._clock()
        idle = self._idle is not None and now - session.seen_at < self._idle
        return idle and now < session.ends_at and session.actor.issuer == self._issuer

    async def _find(self, value: str) -> StaffSession | None:
        digest = digest_of(value.encode("ascii"))
        session = None if digest is None else await self._store.find_session(digest)
        if session is None or not self.is_live(session):
            return None
        now = self._clock()
        if self._idle is not None and now - session.seen_at >= self._idle / _TOUCHES:
            await self._store.touch_session(session.digest, at=now)
        return session


def _derive(value: str) -> str:
    """Return the form token of a session's cookie: nobody without the cookie can make it, and it is not the cookie."""
    return base64.urlsafe_b64encode(hmac.digest(value.encode("ascii"), b"form", "sha256")).rstrip(b"=").decode("ascii")

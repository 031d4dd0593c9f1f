"""Sessions of people at our consoles: kept in the store as values that end, each known by a digest of its own."""

import base64
import hmac
import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal

import msgspec

from gateway.clock import Clock
from gateway.proxy.cookies import digest_of
from gateway.stores.once import Redeeming

How = Literal["openid", "client"]
"""By what somebody has signed in: at an identity provider, or with a client's secret."""
_TOUCHES = 20  # so often at the most in an idle time: each is a write


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a session: who it is, and by what they are judged anew at each request."""

    who: str
    how: How
    issuer: str = ""
    """Of a person."""
    claims: dict[str, Any] = {}
    """What the ID token said of a person."""
    proof: str = ""
    """Of a client: a digest of what is stored of its secret, so that another secret ends it."""
    signed_in_at: datetime
    """When they signed in at the provider."""
    begun_at: datetime
    seen_at: datetime


class Sessions:
    """Begins, finds and ends those of one place; every call raises StoreError when the store cannot answer.

    No cookie of staff's, and none of another place, is ever one of these: their digests are made differently.
    """

    def __init__(self, store: Redeeming, clock: Clock, *, place: bytes, idle: timedelta, absolute: timedelta) -> None:
        """Know those of `place`; end a session that is not used for `idle`, and any after `absolute`."""
        self._store = store
        self._clock = clock
        self._place = place
        self._idle = idle
        self._absolute = absolute

    @property
    def longest(self) -> timedelta:
        """How long a session lasts at the most."""
        return self._absolute

    def end_of(self, kept: Kept) -> datetime:
        """Return when a session ends, however it is used."""
        return kept.begun_at + self._absolute

    def due_of(self, kept: Kept) -> datetime:
        """Return when a session ends that is not used again."""
        return min(kept.seen_at + self._idle, self.end_of(kept))

    async def begin(
        self,
        who: str,
        how: How,
        *,
        signed_in_at: datetime,
        issuer: str = "",
        claims: dict[str, Any] | None = None,
        proof: str = "",
    ) -> str:
        """Return the cookie's value of a session that begins now."""
        value, now = secrets.token_urlsafe(32), self._clock()
        kept = Kept(
            who=who,
            how=how,
            issuer=issuer,
            claims=claims or {},
            proof=proof,
            signed_in_at=signed_in_at,
            begun_at=now,
            seen_at=now,
        )
        session = session_of(value, self._place)
        await self._store.add_one_time(session, _write(kept), expires_at=self.end_of(kept), now=now)
        return value

    async def find(self, value: str, *, counts: bool) -> Kept | None:
        """Return the session of a cookie's value, None if it is over or never was; `counts` says that this is a use."""
        return await self.find_by(session_of(value, self._place), counts=counts)

    async def find_by(self, session: bytes, *, counts: bool) -> Kept | None:
        """Return the session of this digest; likewise."""
        now = self._clock()
        payload = await self._store.find_one_time(session, now=now) if session else None
        kept = None if payload is None else _read(payload)
        if kept is None or payload is None:
            return None
        # The store forgets it when it was to end as it began; the configuration of now may say earlier.
        if now - kept.seen_at >= self._idle or now >= self.end_of(kept):
            return None
        if counts and now - kept.seen_at >= self._idle / _TOUCHES:
            seen = msgspec.structs.replace(kept, seen_at=now)
            # If it is another by now, somebody else has done the same, or has ended it.
            await self._store.swap_one_time(session, _write(seen), known=payload, now=now)
        return kept

    async def end(self, value: str) -> Kept | None:
        """End a session; returns it as it was, None if there was none."""
        digest = session_of(value, self._place)
        payload = await self._store.redeem(digest, now=self._clock()) if digest else None
        return None if payload is None else _read(payload)


def session_of(value: str, place: bytes) -> bytes:
    """Return by what the store knows the session of a cookie's value; empty for what we never make."""
    if not value.isascii() or digest_of(value.encode("ascii")) is None:
        return b""
    return sha256(place + b" session\0" + value.encode("ascii")).digest()


def form_token_of(value: str, place: bytes) -> str:
    """Return the form token of a session's cookie: nobody without the cookie can make it, and it is not the cookie."""
    token = hmac.digest(value.encode("ascii"), place + b" form", "sha256")
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode("ascii")


def _write(kept: Kept) -> str:
    return msgspec.json.encode(kept).decode()


def _read(payload: str) -> Kept | None:
    try:
        return msgspec.json.decode(payload, type=Kept)
    except msgspec.DecodeError:
        return None  # a value of another kind: no digest of ours, by any chance that there is

"""The issuer's signed notices about its people: opened, checked, and believed once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

from cachetools import TTLCache

from gateway.clock import Clock, Ticks
from gateway.staff.issuer import Issuer
from gateway.tokens.compact import CompactError, UnverifiedToken, read_compact
from gateway.tokens.signing import TokenRefused, open_foreign
from policy.events import Notice, NoticeError, NoticeTerms
from policy.times import LEEWAY

MOST_REMEMBERED = 4096


class UnderWay(Exception):
    """Ours: the same notice is being acted on just now, and it is not known yet how that comes out."""


class Reader(Protocol):
    """Reads one kind of notice: `policy.events.read_logout` or `read_event`."""

    def __call__(
        self, header: Mapping[str, Any], claims: Mapping[str, Any], terms: NoticeTerms, *, now: datetime
    ) -> Notice:
        """Return what the claims say, or raise NoticeError."""


class Notices:
    """Believes one kind of notice, each once while it could be sent again, as far as memory goes.

    Other processes remember their own; what is done about a notice must do no harm when it is done twice.
    """

    def __init__(self, issuer: Issuer, terms: NoticeTerms, read: Reader, *, clock: Clock, ticks: Ticks) -> None:
        self._issuer = issuer
        self._terms = terms
        self._read = read
        self._clock = clock
        # One that may be five seconds early is too old after its age and five seconds.
        kept = (terms.max_age + LEEWAY).total_seconds()
        self._seen: TTLCache[bytes, None] = TTLCache(MOST_REMEMBERED, kept, timer=ticks)
        self._under_way: set[bytes] = set()

    async def open(self, text: str) -> Notice:
        """Return what a token says; raises NoticeError, and IssuerError when nobody can tell now whose it is.

        The issuer is asked for its keys no more than strangers may have it asked.
        """
        try:
            token = read_compact(text)
        except CompactError as exc:
            raise NoticeError(str(exc)) from exc
        if token.payload.get("iss") != self._terms.issuer:
            # Nobody's keys are asked for a token that says itself that it does not count here.
            raise NoticeError("it is from another issuer", code="invalid_issuer")
        return self._read(token.header, await self._claims(token), self._terms, now=self._clock())

    @contextmanager
    def once(self, notice: Notice) -> Iterator[bool]:
        """Yield whether the notice is new, and remember it unless the block raises; raises UnderWay."""
        key = sha256(notice.id.encode("utf-8")).digest()
        if key in self._under_way:
            raise UnderWay
        self._under_way.add(key)
        try:
            yield key not in self._seen
            self._seen[key] = None
        finally:
            self._under_way.discard(key)

    async def _claims(self, token: UnverifiedToken) -> Mapping[str, Any]:
        keys = await self._issuer.keys_for(token, stranger=True)
        try:
            return open_foreign(token, keys)
        except TokenRefused as exc:
            raise NoticeError(str(exc), code="invalid_key") from exc

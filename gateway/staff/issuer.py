"""The vendor's OpenID provider: its discovery document and its keys, fetched, checked and kept."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
import yarl

from gateway.bodies import read_at_most
from gateway.clock import Ticks
from gateway.origin import Origin
from gateway.tokens.compact import UnverifiedToken
from gateway.tokens.signing import ForeignKey, KeyRefused, read_jwks

log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024
_TIMEOUT_SECONDS = 5.0
_REFETCH_SECONDS = 60.0
_FRESH_SECONDS = 3600.0
_PAUSE_SECONDS = 10.0


class IssuerError(Exception):
    """The issuer's fault: it cannot be asked, or what it says cannot be used."""


def may_lead_to(issuer: str, url: str) -> bool:
    """Tell whether an issuer may have us ask at a URL: over TLS, or on loopback if it is there itself, without TLS.

    Or whoever writes the documents of an issuer elsewhere chooses what we ask of this machine. Raises ValueError.
    """
    place, own = Origin.of(url), Origin.of(issuer)
    return place.secure or (place.scheme == "http" and place.is_safe and not own.secure and own.is_safe)


class Issuer:
    """Knows the issuer's keys; asks again for an unknown key, at most once a minute, and each hour.

    While the issuer is away, the keys known last go on counting.

    A stranger is whoever has not authenticated, and may send any number of tokens with keys that nobody knows. On their
    account the issuer is not asked within ten seconds of an attempt, however that came out, and for an unknown key at
    most once a minute, which uses up nobody else's minute.

    A token that the issuer itself has handed to us has no key that somebody made up: it is asked at once for an unknown
    one, whenever it was asked before, or whoever signs in behind a change of its keys would be refused for a minute.
    """

    def __init__(self, issuer: str, *, http: aiohttp.ClientSession, ticks: Ticks) -> None:
        self.issuer = issuer
        self._http = http
        self._ticks = ticks
        self._keys: tuple[ForeignKey, ...] = ()
        self._metadata: Mapping[str, Any] | None = None
        self._asked_at: float | None = None
        """When an attempt began that left us with keys."""
        self._vouched_at: float | None = None
        """The same, of those that were neither for a stranger nor for a token of the issuer's own answer."""
        self._tried_at: float | None = None
        self._asking = asyncio.Lock()
        self._attempts = 0

    async def keys_for(
        self, token: UnverifiedToken, *, stranger: bool = False, direct: bool = False
    ) -> tuple[ForeignKey, ...]:
        """Return the issuer's keys, fetched anew if none of them has the token's `kid`.

        `stranger`: nobody knows who has sent the token. `direct`: it is the issuer's own answer to a question of ours.
        Raises IssuerError when no key is known and the issuer cannot be asked; for a stranger also when the token's key
        is unknown and may not be asked for now, so that nobody can say yet whose it is.
        """
        attempts = self._attempts
        # Who comes while they are asked for the first time has nothing else to go by.
        if self._is_due(token, stranger=stranger, direct=direct) or (not self._keys and self._asking.locked()):
            async with self._asking:
                # Whoever waited for an attempt shares how it came out; a silent issuer is not asked once by each.
                if self._attempts == attempts and self._is_due(token, stranger=stranger, direct=direct):
                    await self._ask(vouched=not stranger and not direct)
        if not self._keys:
            raise IssuerError("the issuer's keys are not known")
        if stranger and self._attempts == attempts and not self._knows(token):
            raise IssuerError("the token's key is not known, and the issuer was asked a moment ago")
        return self._keys

    async def metadata(self) -> Mapping[str, Any]:
        """Return the discovery document (OpenID Connect Discovery 1.0 section 3), an hour old or so at the most.

        It is asked for on behalf of strangers, as everybody is before they sign in; while the issuer is away, the one
        known last goes on counting. Raises IssuerError when none is known.
        """
        attempts = self._attempts
        # Who comes while it is asked for the first time has nothing else to go by.
        if self._is_old() or (self._metadata is None and self._asking.locked()):
            async with self._asking:
                if self._attempts == attempts and self._is_old():
                    await self._ask(vouched=False)
        if self._metadata is None:
            raise IssuerError("the issuer's discovery document is not known")
        return self._metadata

    def _is_old(self) -> bool:
        now = self._ticks()
        if self._tried_at is not None and now - self._tried_at < _PAUSE_SECONDS:
            return False
        return self._asked_at is None or now - self._asked_at >= _FRESH_SECONDS

    def _is_due(self, token: UnverifiedToken, *, stranger: bool, direct: bool) -> bool:
        now = self._ticks()
        if stranger and self._tried_at is not None and now - self._tried_at < _PAUSE_SECONDS:
            return False
        if self._asked_at is None:
            return True
        if self._knows(token):
            return now - self._asked_at >= _FRESH_SECONDS
        if direct:
            return True
        last = self._asked_at if stranger else self._vouched_at
        return last is None or now - last >= _REFETCH_SECONDS

    def _knows(self, token: UnverifiedToken) -> bool:
        return any(key.id == token.header.get("kid") for key in self._keys)

    async def _ask(self, *, vouched: bool) -> None:
        started = self._tried_at = self._ticks()
        self._attempts += 1
        try:
            # An issuer that ends in a slash is asked without it (OpenID Connect Discovery 1.0 section 4.1).
            document = await self._fetch(f"{self.issuer.removesuffix('/')}/.well-known/openid-configuration")
            self._keys = read_jwks(await self._fetch(self._keys_address(document)))
            self._metadata = document
        except (IssuerError, KeyRefused) as exc:
            log.warning("the keys of the issuer %s could not be fetched: %s", self.issuer, exc)
            if not self._keys:
                # Nothing is lost by asking again for the next token.
                raise IssuerError(str(exc)) from exc
        self._asked_at = started
        if vouched:
            self._vouched_at = started

    def _keys_address(self, document: dict[str, Any]) -> str:
        """Return `jwks_uri` of a discovery document (OpenID Connect Discovery 1.0 section 4.3)."""
        address = document.get("jwks_uri")
        if document.get("issuer") != self.issuer or not isinstance(address, str):
            raise IssuerError("the discovery document is another issuer's, or names no keys")
        return address

    async def _fetch(self, url: str) -> dict[str, Any]:
        try:
            address = yarl.URL(url)
            if not may_lead_to(self.issuer, str(address)):
                raise IssuerError("the issuer must be asked over https")
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
            async with self._http.get(address, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    raise IssuerError(f"the issuer answered {response.status}")
                body = await read_at_most(response.content, _MOST_BYTES)
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise IssuerError(f"the issuer cannot be asked: {type(exc).__name__}") from exc
        if body is None:
            raise IssuerError(f"the issuer's answer is longer than {_MOST_BYTES} bytes")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise IssuerError("the issuer's answer is not a JSON object") from exc

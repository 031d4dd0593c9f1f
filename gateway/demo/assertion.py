"""How an app checks `X-Locum-Assertion` without a JWT library: one algorithm, one issuer, one audience."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import ClientError, ClientSession
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER = "X-Locum-Assertion"
TYPE = "locum-assertion+jwt"
MAX_LIFETIME_SECONDS = 60
CLOCK_SKEW_SECONDS = 5
"""How far the gateway's clock may run ahead of the app's; nothing excuses an expired assertion."""
REFETCH_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """Who is there: the actor really acts, in the place of the subject, an agent of the account."""

    account: str
    subject: str
    actor: str
    actor_issuer: str
    sid: str
    grant_id: str
    scope: frozenset[str]


class UntrustedAssertionError(Exception):
    """The assertion proves nothing; the message says why."""


class AssertionVerifier:
    """Checks assertions of one gateway for one app."""

    def __init__(self, *, keys: "KeySet", issuer: str, audience: str, clock: Callable[[], datetime]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    async def verify(self, assertion: str, *, account: str) -> Assertion:
        """Return what a genuine assertion for `account` says, or raise UntrustedAssertionError."""
        signed, _, signature_part = assertion.rpartition(".")
        header_part, _, claims_part = signed.partition(".")
        try:
            header, signature = _read_object(header_part), _decode(signature_part)
        except ValueError as exc:
            raise UntrustedAssertionError("not a signed JWT in compact form") from exc
        kid = header.get("kid")
        # The whole header is fixed, so that `crit`, `jwk`, `jku` and `x5u` have no way in (RFC 8725 section 3).
        if not isinstance(kid, str) or header != {"alg": "EdDSA", "typ": TYPE, "kid": kid}:
            raise UntrustedAssertionError(f"the header must be `EdDSA`, `{TYPE}` and a `kid`, and nothing else")
        key = await self._keys.find(kid)
        if key is None:
            raise UntrustedAssertionError("the gateway has published no key of this `kid`")
        try:
            key.verify(signature, signed.encode())
            claims = _read_object(claims_part)
        except (InvalidSignature, ValueError) as exc:
            raise UntrustedAssertionError("the signature does not fit") from exc
        return self._check(claims, account=account)

    def _check(self, claims: Mapping[str, Any], *, account: str) -> Assertion:
        wanted = {"iss": self._issuer, "aud": self._audience, "account": account, "seat": "none"}
        for name, value in wanted.items():
            if claims.get(name) != value:
                raise UntrustedAssertionError(f"`{name}` must be `{value}`")
        match claims:
            case {
                "sub": str(subject),
                "act": {"sub": str(actor), "iss": str(actor_issuer)},
                "sid": str(sid),
                "grant_id": str(grant_id),
                "scope": str(scope),
                "jti": str(),
                "iat": int(issued_at),
                "exp": int(expires_at),
            }:
                pass
            case _:
                raise UntrustedAssertionError("a claim is missing or of another kind")
        # "on or after" the expiry is expired: RFC 7519 section 4.1.4.
        if not issued_at - CLOCK_SKEW_SECONDS <= self._clock().timestamp() < expires_at:
            raise UntrustedAssertionError("expired, or not yet issued")
        if expires_at - issued_at > MAX_LIFETIME_SECONDS:
            raise UntrustedAssertionError(f"made for longer than {MAX_LIFETIME_SECONDS} seconds")
        return Assertion(
            account=account,
            subject=subject,
            actor=actor,
            actor_issuer=actor_issuer,
            sid=sid,
            grant_id=grant_id,
            scope=frozenset(scope.split()),
        )


class KeySet:
    """The gateway's public keys, fetched from its JWKS address when they are first needed."""

    def __init__(self, url: str, *, http: ClientSession, ticks: Callable[[], float]) -> None:
        self._url = url
        self._http = http
        self._ticks = ticks
        self._keys: Mapping[str, Ed25519PublicKey] | None = None
        self._quiet_until = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str) -> Ed25519PublicKey | None:
        """Return the key, or None; an unknown `kid` causes at most one fetch in 60 seconds.

        The first fetch that succeeds does not count, so that a key made just after it is found at once.
        A fetch that fails keeps the keys that are known.
        """
        async with self._fetching:
            known = self._keys or {}
            if kid in known or self._ticks() < self._quiet_until:
                return known.get(kid)
            try:
                fetched = await self._fetch()
            except (ClientError, TimeoutError, ValueError):
                fetched = None
            if self._keys is not None or fetched is None:
                self._quiet_until = self._ticks() + REFETCH_SECONDS
            self._keys = self._keys if fetched is None else fetched
            return (self._keys or {}).get(kid)

    async def _fetch(self) -> dict[str, Ed25519PublicKey]:
        async with self._http.get(self._url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"the key set answers {response.status}")
            document = _parse_object(await response.read())
        match document:
            case {"keys": list(listed)}:
                return dict(entry for jwk in listed if (entry := _read_key(jwk)) is not None)
            case _:
                raise ValueError("the key set has no `keys`")


def _read_key(jwk: Any) -> tuple[str, Ed25519PublicKey] | None:
    """Return the key if it is one to verify EdDSA with (RFC 8037 section 2), or None for any other."""
    match jwk:
        case {"kty": "OKP", "crv": "Ed25519", "kid": str(kid), "x": str(x)} if (
            jwk.get("use", "sig") == "sig" and jwk.get("alg", "EdDSA") == "EdDSA"
        ):
            return kid, Ed25519PublicKey.from_public_bytes(_decode(x))
    return None


def _read_object(part: str) -> dict[str, Any]:
    return _parse_object(_decode(part))


def _decode(part: str) -> bytes:
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    # Python's decoder skips what is not base64url; only the one canonical spelling may pass (RFC 7515 section 2).
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise ValueError("not base64url")
    return decoded


def _parse_object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    match document:
        case dict():
            return document
        case _:
            raise ValueError("not a JSON object")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of a repeated member may believe different ones (RFC 7519 section 4).
    if len(found := dict(members)) != len(members):
        raise ValueError("a member is repeated")
    return found

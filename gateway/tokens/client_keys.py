"""Clients that authenticate with a key of their own: `private_key_jwt` (RFC 7523 sections 2.2 and 3)."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeGuard

from gateway.clock import Clock
from gateway.stores.store import Client, Store, StoreConflict
from gateway.tokens.compact import CompactError, UnverifiedToken, read_compact
from gateway.tokens.signing import ForeignKey, KeyRefused, TokenRefused, open_foreign, read_jwks
from policy.model import ClientId
from policy.times import LEEWAY, is_time
from policy.unique import unique

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_SECONDS = 300
"""From now to the end of an assertion: it is made for one request."""
_TYPES = (None, "JWT", "client-authentication+jwt")
_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class AssertionRefused(Exception):
    """The caller's fault: the assertion proves nobody; the message says why and holds nothing of it."""


class ClientKeys:
    """Authenticates clients by what they have signed, each assertion once, on whatever node it comes in."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def authenticate(self, assertion: str, *, audiences: Collection[str]) -> Client:
        """Return the client that an assertion for one of `audiences` proves; raises AssertionRefused, StoreError."""
        try:
            token = read_compact(assertion)
        except CompactError as exc:
            raise AssertionRefused(f"the client assertion is refused: {exc}") from exc
        now = self._clock()
        name, id_, ends = _read(token, audiences, now)
        client = await self._store.find_client(name)
        if client is None or client.jwks is None:
            raise AssertionRefused("there is no such client with keys")
        try:
            open_foreign(token, read_jwks(json.loads(client.jwks)))
        except TokenRefused as exc:
            raise AssertionRefused(f"the client assertion is refused: {exc}") from exc
        digest = sha256(f"client assertion\0{name}\0{id_}".encode()).digest()
        try:
            # Only now, so that nobody but the client uses its identifiers up.
            await self._store.add_one_time(digest, "", expires_at=ends + LEEWAY, now=now)
        except StoreConflict as exc:
            raise AssertionRefused("the client assertion was used before") from exc
        return client


def _read(token: UnverifiedToken, audiences: Collection[str], now: datetime) -> tuple[ClientId, str, datetime]:
    """Return who an assertion is about, its identifier and its end (RFC 7523 section 3), its signature unverified."""
    claims = token.payload
    name, id_ = claims.get("sub"), claims.get("jti")
    if token.header.get("typ") not in _TYPES:
        raise AssertionRefused("the client assertion is a token of another kind")
    if not is_identifier(name) or claims.get("iss") != name:
        raise AssertionRefused("`iss` and `sub` of the client assertion must both be the client's id")
    if not is_identifier(id_):
        raise AssertionRefused("the client assertion needs a `jti` of 1 to 256 plain characters")
    aud = claims.get("aud")
    # One audience only, or whoever is another could use the assertion here.
    if aud not in [form for audience in audiences for form in (audience, [audience])]:
        raise AssertionRefused("`aud` of the client assertion must be our issuer, and nobody else")
    return ClientId(name), id_, _read_end(claims, now)


def is_identifier(value: object) -> TypeGuard[str]:
    """Tell whether it is what we take for a `sub` or a `jti`: 1 to 256 plain characters."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _read_end(claims: Mapping[str, Any], now: datetime) -> datetime:
    seconds = now.timestamp()
    for name in ("exp", "iat", "nbf"):
        if not is_time(claims.get(name, 0)):
            raise AssertionRefused(f"`{name}` of the client assertion is not a whole number of seconds")
    exp = claims.get("exp", 0)
    if seconds >= exp:
        raise AssertionRefused("the client assertion has expired, or does not say when it does")
    leeway = LEEWAY.total_seconds()
    if exp > seconds + LONGEST_SECONDS + leeway:
        raise AssertionRefused(f"the client assertion may live {LONGEST_SECONDS} seconds")
    if max(claims.get("iat", 0), claims.get("nbf", 0)) > seconds + leeway:
        raise AssertionRefused("the client assertion is from the future: set both clocks by NTP")
    return datetime.fromtimestamp(exp, UTC)


def read_client_jwks(text: str) -> str:
    """Return a JWK set as it is kept, or raise KeyRefused: at least one key that can be used, no secret, ids unique."""
    try:
        document = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as exc:
        raise KeyRefused("it is not JSON") from exc
    found = read_jwks(document)
    entries = document["keys"]
    if any(isinstance(entry, dict) and _PRIVATE & set(entry) for entry in entries):
        raise KeyRefused("there is a private key in it: make it anew, and give the public half only")
    if len(found) != len(entries):
        raise KeyRefused("a key in it cannot be used: RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519")
    if not found:
        raise KeyRefused("there is no key in it")
    if len({key.id for key in found}) != len(found):
        raise KeyRefused("give each key a `kid` of its own")
    return json.dumps(document, separators=(",", ":"))


def read_held_key(jwk: Mapping[str, Any], token: UnverifiedToken) -> ForeignKey:
    """Return the public key that a token itself brings along, whatever either calls it; raises KeyRefused."""
    if _PRIVATE & set(jwk):
        raise KeyRefused("it brings a private key along")
    found = read_jwks({"keys": [dict(jwk)]})
    if len(found) != 1:
        raise KeyRefused("its key cannot be used")
    return replace(found[0], id=token.header.get("kid"))

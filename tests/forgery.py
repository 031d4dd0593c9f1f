"""Compact tokens made by hand: any header, any payload, any signature, whatever a library would refuse to write."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.tokens.keys import KeyRing, KeyTerms
from gateway.tokens.signing import SigningKey
from gateway.tokens.stored import StoredKeys
from tests.memory_store import MemoryStore

ISSUER = "https://assume.vendor.example"
NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = SigningKey("locum-0123456789abcdef", PRIVATE)


def ring(*keys: SigningKey) -> KeyRing:
    """Return a ring of these keys alone, of which the first signs."""
    [first, *_] = keys
    terms = KeyTerms(given=keys, tokens=first.algorithm, assertions=first.algorithm)
    return KeyRing(terms, StoredKeys(MemoryStore(), lambda: NOON))


DROP = object()
"""A member with this value is left out."""


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_json(members) -> bytes:
    if isinstance(members, bytes):
        return members
    if isinstance(members, dict):
        members = {name: value for name, value in members.items() if value is not DROP}
    return json.dumps(members, separators=(",", ":")).encode()


@dataclass
class Forger:
    """Whoever holds a private key and writes what they like."""

    private: Ed25519PrivateKey
    key_id: str
    issuer: str = ISSUER
    now: datetime = NOON

    def header(self, **changes):
        return {"alg": "EdDSA", "kid": self.key_id, "typ": "at+jwt"} | changes

    def claims(self, **changes):
        """Return the claims of a flawless token, as an RFC 9068 reader expects them."""
        at = int(self.now.timestamp())
        return {
            "iss": self.issuer,
            "aud": "acme.helpdesk.example",
            "sub": "maria",
            "act": {"sub": "dana", "iss": "https://idp.vendor.example"},
            "client_id": "app",
            "scope": "tickets:read",
            "sid": "as_1",
            "jti": "token-1",
            "iat": at,
            "nbf": at,
            "exp": at + 900,
            "authorization_details": [detail()],
        } | changes

    def token(self, payload=None, header=None, *, sign=None) -> str:
        """Return a token; `payload` and `header` are members or raw bytes, `sign` makes the signature."""
        parts = f"{b64(as_json(self.header() if header is None else header))}."
        parts += b64(as_json(self.claims() if payload is None else payload))
        return f"{parts}.{b64((sign or self.private.sign)(parts.encode()))}"


def detail(**changes):
    return {
        "type": "account_assumption",
        "identifier": "grant_1",
        "locations": ["acme.helpdesk.example"],
        "account": "acme",
        "ticket": "SUP-1",
        "reason": "cannot reproduce",
        "grant_epoch": 1,
    } | changes

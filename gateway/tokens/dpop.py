"""Proofs that whoever sends a request holds a key (DPoP, RFC 9449): read strictly, for one request and a moment."""

import base64
import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol
from urllib.parse import urlsplit

from gateway.clock import Clock
from gateway.origin import DEFAULT_PORTS
from gateway.tokens.client_keys import is_identifier, read_held_key
from gateway.tokens.compact import CompactError, UnverifiedToken, read_compact
from gateway.tokens.signing import KeyRefused, SigningKey, TokenRefused, open_foreign
from policy.keys import CLOCKS_APART
from policy.model import Deny, DenyReason
from policy.times import LEEWAY, is_time

ALGORITHMS = ("EdDSA", "Ed25519", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
LIFE = timedelta(seconds=60)
"""How old a proof may be; so long it is remembered that it was used."""
HEADER = "DPoP"
NONCE_HEADER = "DPoP-Nonce"

_NONCE_SECONDS = 150
_THUMBED = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


class ProofRefused(Exception):
    """The caller's fault: the request carries no proof that counts for it."""

    def __init__(self, message: str, reason: DenyReason = DenyReason.PROOF_INVALID) -> None:
        super().__init__(message)
        self.deny = Deny(reason=reason, detail=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A proof that fits its request; whether it was used before is for whoever takes it to see."""

    key: str
    """The thumbprint of the key (RFC 7638)."""
    digest: bytes
    """Of its key and its `jti`: by this it is told apart, never by its text."""
    ends_at: datetime
    """When it would be too old in any case."""


class Signing(Protocol):
    """Knows the keys of tokens."""

    @property
    def signing(self) -> SigningKey:
        """The key that signs now; raises StoreError if there is none."""

    def published(self) -> Collection[SigningKey]:
        """Return all that count, also those that sign no more or not yet."""


class Nonces:
    """Makes what a client has to put into its proofs, so that none is made long beforehand (RFC 9449 section 8).

    Every process and node that signs with the same key makes the same, so no one has to remember any. Those of every
    key that counts are good, because at a rotation one node changes over before the other, and nobody's nonce ends.
    """

    def __init__(self, keys: Signing, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._secrets: dict[str, bytes] = {}

    def current(self) -> str:
        """Return what is good for the next few minutes; raises StoreError."""
        return self._of(self._keys.signing, _window(self._clock()))

    def is_good(self, nonce: str) -> bool:
        """Tell whether it is of now or of just before, by this clock or by one a little ahead; raises StoreError."""
        now = self._clock()
        newest, oldest = _window(now + CLOCKS_APART), _window(now) - 1
        keys = {key.id: key for key in (self._keys.signing, *self._keys.published())}
        for gone in self._secrets.keys() - keys:
            del self._secrets[gone]
        good = [self._of(key, window) for key in keys.values() for window in range(oldest, newest + 1)]
        return any(hmac.compare_digest(nonce.encode(), one.encode()) for one in good)

    def _of(self, key: SigningKey, window: int) -> str:
        if key.id not in self._secrets:
            self._secrets[key.id] = sha256(b"locum nonces\0" + key.pem()).digest()
        mac = hmac.digest(self._secrets[key.id], b"%d" % window, "sha256")[:18]
        return base64.urlsafe_b64encode(mac).decode("ascii")


def _window(at: datetime) -> int:
    return int(at.timestamp()) // _NONCE_SECONDS


class Proofs:
    """Reads proofs."""

    def __init__(self, nonces: Nonces, clock: Clock) -> None:
        self.nonces = nonces
        self._clock = clock

    def read(self, lines: Sequence[str], *, method: str, uris: Collection[str], token: str | None = None) -> Proof:
        """Return the proof of a request that was sent to one of `uris` with, at a resource, this `token`.

        `lines` are those of its `DPoP` header. Raises ProofRefused by RFC 9449 section 4.3, and StoreError.
        """
        if len(lines) != 1:
            raise ProofRefused("send one proof of the token's key in `DPoP`", DenyReason.PROOF_MISSING)
        try:
            proof = read_compact(lines[0])
        except CompactError as exc:
            raise ProofRefused(f"the proof is refused: {exc}") from exc
        jwk = _open(proof)
        now = self._clock()
        claims = proof.payload
        id_, made = claims.get("jti"), claims.get("iat")
        if not is_identifier(id_):
            raise ProofRefused("the proof needs a `jti` of 1 to 256 plain characters")
        if not is_time(made) or not -LEEWAY <= now - datetime.fromtimestamp(made, UTC) <= LIFE:
            raise ProofRefused("the proof was not made just now: set both clocks by NTP, and make one for each request")
        if claims.get("htm") != method or _plain(claims.get("htu")) not in map(_plain, uris):
            raise ProofRefused("the proof is for another request: `htm` and `htu` are its method and its address")
        if token is not None and claims.get("ath") != _b64(sha256(token.encode("ascii", "replace")).digest()):
            raise ProofRefused("the proof is for another token")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not self.nonces.is_good(nonce):
            raise ProofRefused("make the proof with the `nonce` of the DPoP-Nonce header", DenyReason.PROOF_NONCE)
        key = thumbprint(jwk)
        digest = sha256(f"dpop proof\0{key}\0{id_}".encode()).digest()
        return Proof(key=key, digest=digest, ends_at=datetime.fromtimestamp(made, UTC) + LIFE + LEEWAY)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638 section 3)."""
    members = {name: jwk[name] for name in _THUMBED[jwk["kty"]]}
    return _b64(sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode("utf-8")).digest())


def _open(proof: UnverifiedToken) -> Mapping[str, Any]:
    """Return the key that a proof brings along, its signature verified with it."""
    jwk = proof.header.get("jwk")
    if proof.header.get("typ") != "dpop+jwt" or proof.header.get("alg") not in ALGORITHMS or not isinstance(jwk, dict):
        raise ProofRefused("the proof's header needs `typ` dpop+jwt, `jwk`, and an algorithm with a public key")
    try:
        open_foreign(proof, [read_held_key(jwk, proof)])
    except (KeyRefused, TokenRefused) as exc:
        raise ProofRefused(f"the proof is refused: {exc}") from exc
    return jwk


def _plain(uri: object) -> tuple[str, str, int | None, str] | None:
    """Return what of an address is compared: neither query nor fragment, and no default port (RFC 9449 section 4.3)."""
    try:
        parts = urlsplit(uri) if isinstance(uri, str) else None
        port = None if parts is None else parts.port
    except ValueError:
        return None
    if parts is None or parts.username is not None:
        return None
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", port or DEFAULT_PORTS.get(scheme), parts.path or "/"


def _b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")

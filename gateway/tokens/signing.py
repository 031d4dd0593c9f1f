"""Signing and verifying; the only importer of `jwt`, whose errors end here."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from cachetools import LRUCache
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.tokens.compact import CompactError, UnverifiedToken, names_issuer, read_compact
from policy.claims import TOKEN_TYPE, ClaimsError, check_token
from policy.model import AssumptionClaims
from policy.times import LEEWAY

ALGORITHM = "EdDSA"
FOREIGN_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEAST_RSA_BITS = 2048
_MOST_REMEMBERED = 4096


class TokenRefused(Exception):
    """The caller's fault: the token is not one that we accept; the message holds nothing of it."""


class KeyRefused(Exception):
    """The key cannot be used; the message says why."""


class SigningKey:
    """An Ed25519 key pair with its id."""

    def __init__(self, key_id: str, private: Ed25519PrivateKey) -> None:
        self.id = key_id
        self.private = private
        self.public = private.public_key()

    @classmethod
    def from_pem(cls, key_id: str | None, pem: bytes) -> "SigningKey":
        """Read a PKCS#8 key; raises KeyRefused unless it is Ed25519. Without an id it is named by its public half."""
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as exc:
            raise KeyRefused("not an unencrypted private key in PKCS#8 PEM") from exc
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyRefused("not an Ed25519 key: make one with `openssl genpkey -algorithm ed25519`")
        digest = hashlib.sha256(private.public_key().public_bytes_raw()).hexdigest()
        return cls(key_id or f"locum-{digest[:16]}", private)

    def pem(self) -> bytes:
        """Return the private key as PKCS#8 PEM."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_pem(self) -> bytes:
        """Return the public key as PEM."""
        return self.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def jwk(self) -> dict[str, str]:
        """Return the public key as a JWK (RFC 8037 section 2)."""
        encoded: dict[str, str] = jwt.algorithms.OKPAlgorithm.to_jwk(self.public, as_dict=True)
        return {"kty": encoded["kty"], "crv": encoded["crv"], "x": encoded["x"]} | {
            "kid": self.id,
            "use": "sig",
            "alg": ALGORITHM,
        }

    def sign(self, claims: Mapping[str, Any], *, type_: str) -> str:
        """Return the compact JWS over `claims` with `typ` set."""
        return jwt.encode(dict(claims), self.private, algorithm=ALGORITHM, headers={"kid": self.id, "typ": type_})


class TokenVerifier:
    """Verifies our own assumption tokens and remembers what it has verified, by digest."""

    def __init__(self, keys: Iterable[SigningKey], *, issuer: str) -> None:
        self._keys = {key.id: key.public for key in keys}
        self._issuer = issuer
        self._known: LRUCache[bytes, AssumptionClaims] = LRUCache(_MOST_REMEMBERED)

    def verify(self, text: str) -> AssumptionClaims:
        """Return what the token says, or raise TokenRefused. Time is not looked at: the decision does that."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = self._known[digest] = self._verify(text)
        return claims

    def is_ours(self, text: str) -> bool:
        """Tell whether a bearer token claims to be from here; if so it is ours to judge and never the app's."""
        # A damaged token of ours must still be refused here and not be handed to the app: every header that we
        # write begins with the same bytes, and where those are damaged the payload still names us.
        return text.startswith(OUR_BEGINNING.decode("ascii")) or names_issuer(text, self._issuer)

    def _verify(self, text: str) -> AssumptionClaims:
        try:
            token = read_compact(text)
        except CompactError as exc:
            raise TokenRefused(str(exc)) from exc
        # Exactly these members: so there is no `crit`, `jku`, `x5u`, `jwk` or `b64` to obey (RFC 8725 section 3.10).
        if set(token.header) != {"alg", "kid", "typ"} or token.header["typ"] != TOKEN_TYPE:
            raise TokenRefused("its header is not one that we write")
        key = self._keys.get(str(token.header["kid"]))
        if key is None or token.header["alg"] != ALGORITHM:
            raise TokenRefused("it is signed with no key of ours")
        _check_signature(token, key, ALGORITHM)
        try:
            return check_token(token.payload, issuer=self._issuer)
        except ClaimsError as exc:
            raise TokenRefused(str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A public key of another issuer, with the algorithms it may be used for."""

    id: str | None
    key: Any
    algorithms: frozenset[str]


def read_jwks(document: Any) -> tuple[ForeignKey, ...]:
    """Return the keys of a JWK set that may verify signatures; the others are passed over (RFC 7517 section 4)."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeyRefused("not a JWK set")
    found = (_foreign_key(entry) for entry in entries if isinstance(entry, dict))
    return tuple(key for key in found if key is not None)


def verify_foreign(
    token: UnverifiedToken, keys: Iterable[ForeignKey], *, issuer: str, audience: str, now: datetime
) -> Mapping[str, Any]:
    """Return the claims of another issuer's token, or raise TokenRefused.

    Checked are signature, `iss` and `aud` (exact), `exp`, `iat` and `nbf` at `now`, and that `sub` is there.
    """
    claims = open_foreign(token, keys)
    aud = claims.get("aud")
    if claims.get("iss") != issuer or aud not in (audience, [audience]):
        raise TokenRefused("it is from another issuer or for another audience")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise TokenRefused("it names no subject")
    _check_times(claims, now)
    return claims


def open_foreign(token: UnverifiedToken, keys: Iterable[ForeignKey]) -> Mapping[str, Any]:
    """Return the claims that another issuer's key has signed, none of them checked yet, or raise TokenRefused."""
    algorithm = token.header.get("alg")
    if "crit" in token.header or algorithm not in FOREIGN_ALGORITHMS:
        raise TokenRefused("its header asks for what is not supported")
    fitting = [key for key in keys if algorithm in key.algorithms and key.id == token.header.get("kid")]
    if len(fitting) != 1:
        raise TokenRefused("its key is not among the issuer's")
    _check_signature(token, fitting[0].key, algorithm)
    return token.payload


_LEEWAY_SECONDS = LEEWAY.total_seconds()


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    seconds = now.timestamp()
    for name in ("exp", "iat"):
        if type(claims.get(name)) is not int:
            raise TokenRefused(f"`{name}` is missing or not a whole number")
    if type(claims.get("nbf", 0)) is not int:
        raise TokenRefused("`nbf` is not a whole number")
    if seconds >= claims["exp"]:
        raise TokenRefused("it has expired")
    if max(claims["iat"], claims.get("nbf", 0)) > seconds + _LEEWAY_SECONDS:
        raise TokenRefused("it is from the future: set both clocks by NTP")


def _check_signature(token: UnverifiedToken, key: Any, algorithm: str) -> None:
    try:
        jwt.PyJWS(algorithms=[algorithm]).decode(token.text, key, algorithms=[algorithm])
    except (jwt.InvalidTokenError, jwt.InvalidKeyError) as exc:
        raise TokenRefused("its signature does not fit") from exc


OUR_BEGINNING = b"eyJhbGciOiJFZERTQSIsImtpZCI6ImxvY3Vt"
"""How every token that we sign begins: `{"alg":"EdDSA","kid":"locum` in base64url."""


def _foreign_key(entry: Mapping[str, Any]) -> ForeignKey | None:
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if "alg" in entry and entry["alg"] not in FOREIGN_ALGORITHMS:
        return None
    try:
        key = jwt.PyJWK(dict(entry)).key
    except (jwt.PyJWKError, jwt.InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(key)
    if "alg" in entry:
        algorithms = frozenset(name for name in algorithms if name == entry["alg"])
    key_id = entry.get("kid")
    return ForeignKey(id=key_id, key=key, algorithms=algorithms) if algorithms else None


def _algorithms(key: Any) -> frozenset[str]:
    """Return what a key may be used for; a secret, a private key or a short RSA key may not be used at all."""
    if isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return frozenset(name for name in FOREIGN_ALGORITHMS if name[:2] in ("RS", "PS"))
    if isinstance(key, EllipticCurvePublicKey):
        return frozenset({{"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}.get(key.curve.name, "")})
    return frozenset({"EdDSA"}) if isinstance(key, Ed25519PublicKey) else frozenset()

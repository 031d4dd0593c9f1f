"""Signing and verifying; the only importer of `jwt`, whose errors end here."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import jwt
from cachetools import LRUCache
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from gateway.tokens.compact import CompactError, UnverifiedToken, names_issuer, read_compact
from policy.claims import TOKEN_TYPE, ClaimsError, check_token
from policy.keys import Algorithm
from policy.model import AssumptionClaims
from policy.times import LEEWAY

FOREIGN_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    # Ed25519 by its older name and by the one that names the curve as well (RFC 9864 section 2.2).
    *("EdDSA", "Ed25519"),
)
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
_LEAST_RSA_BITS = 2048
_MOST_RSA_BITS = 8192
_MOST_E_BITS = 32
_PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
_MOST_REMEMBERED = 4096
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_BYTES = 32

OUR_BEGINNING = b"ImtpZCI6ImxvY3Vt"
"""What the beginning of every token that we sign holds, whatever its algorithm: `"kid":"locum` in base64url.

The header is `{"alg":"…","kid":"locum…`, and the names of our algorithms are of one length, so it has one spelling.
"""
BEFORE_OURS = rb"eyJhbGciOiJ[A-Za-z0-9]{9}"
"""What stands before it, as a pattern: `{"alg":"…",`."""


class TokenRefused(Exception):
    """The caller's fault: the token is not one that we accept; the message holds nothing of it."""


class KeyRefused(Exception):
    """The key cannot be used; the message says why."""


class SigningKey:
    """A key pair with its id and the one algorithm that it is used for."""

    def __init__(self, key_id: str, private: PrivateKey) -> None:
        """Take a key of a kind that we sign with; raises KeyRefused."""
        self.id = key_id
        self.algorithm = _algorithm_of(private)
        self.private = private
        self.public = private.public_key()

    @classmethod
    def generate(cls, key_id: str, algorithm: Algorithm) -> "SigningKey":
        """Make a key; for RSA this takes a while."""
        match algorithm:
            case "EdDSA":
                return cls(key_id, Ed25519PrivateKey.generate())
            case "ES256":
                return cls(key_id, generate_private_key(SECP256R1()))
            case "RS256":
                return cls(key_id, generate_rsa_key(public_exponent=65537, key_size=_LEAST_RSA_BITS))

    @classmethod
    def from_pem(cls, key_id: str | None, pem: bytes) -> "SigningKey":
        """Read a PKCS#8 key; raises KeyRefused. Without an id it is named by its public half."""
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as exc:
            raise KeyRefused("not an unencrypted private key in PKCS#8 PEM") from exc
        if not isinstance(private, PrivateKey):
            raise KeyRefused(_UNFIT)
        return cls(key_id or f"locum-{_fingerprint(private)[:16]}", private)

    def pem(self) -> bytes:
        """Return the private key as PKCS#8 PEM."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_pem(self) -> bytes:
        """Return the public key as PEM."""
        return self.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def jwk(self) -> dict[str, str]:
        """Return the public key as a JWK (RFC 7518 section 6, RFC 8037 section 2)."""
        members = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.public, as_dict=True)
        public = {name: str(members[name]) for name in _PUBLIC_MEMBERS if name in members}
        return public | {"kid": self.id, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: Mapping[str, Any], *, type_: str) -> str:
        """Return the compact JWS over `claims` with `typ` set."""
        headers = {"kid": self.id, "typ": type_}
        text = jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers=headers)
        return _lowered(text) if self.algorithm == "ES256" else text


_UNFIT = (
    "not an Ed25519 key, nor one on P-256, nor one of RSA with 2048 bits or more:"
    " make one with `openssl genpkey -algorithm ed25519`"
)


def _algorithm_of(private: PrivateKey) -> Algorithm:
    match private:
        case Ed25519PrivateKey():
            return "EdDSA"
        case EllipticCurvePrivateKey() if isinstance(private.curve, SECP256R1):
            return "ES256"
        case RSAPrivateKey() if private.key_size >= _LEAST_RSA_BITS:
            return "RS256"
        case _:
            raise KeyRefused(_UNFIT)


def _fingerprint(private: PrivateKey) -> str:
    public = private.public_key()
    if isinstance(public, Ed25519PublicKey):
        return hashlib.sha256(public.public_bytes_raw()).hexdigest()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _lowered(text: str) -> str:
    """Return a token of ES256 with the one of its two signatures that we accept."""
    signed, _, part = text.rpartition(".")
    signature = base64.urlsafe_b64decode(part + "==")
    second = int.from_bytes(signature[_P256_BYTES:], "big")
    if second <= _P256_ORDER // 2:
        return text
    lowered = signature[:_P256_BYTES] + (_P256_ORDER - second).to_bytes(_P256_BYTES, "big")
    return f"{signed}.{base64.urlsafe_b64encode(lowered).rstrip(b'=').decode('ascii')}"


class Keys(Protocol):
    """Knows our own keys."""

    def find(self, key_id: str) -> SigningKey | None:
        """Return a key if what it has signed counts now."""

    def knows(self, key_id: str) -> bool:
        """Tell whether that was so when the keys were last looked at, which is again whenever one of them changes.

        This is for what was verified before: it ends by itself before its key stops counting of its own accord.
        """


class TokenVerifier:
    """Verifies our own assumption tokens and remembers what it has verified, by digest, as long as its key counts."""

    def __init__(self, keys: Keys, *, issuer: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._known: LRUCache[bytes, AssumptionClaims] = LRUCache(_MOST_REMEMBERED)

    def verify(self, text: str) -> AssumptionClaims:
        """Return what the token says, or raise TokenRefused. Time is not looked at: the decision does that."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = self._known[digest] = self._verify(text)
        elif not self.counts(claims):
            del self._known[digest]
            raise TokenRefused("the key that signed it counts no more")
        return claims

    def counts(self, claims: AssumptionClaims) -> bool:
        """Tell whether what was verified before still is: whether the key that signed it still counts, if one did."""
        return claims.signed_by is None or self._keys.knows(claims.signed_by)

    def is_ours(self, text: str) -> bool:
        """Tell whether a bearer token claims to be from here; if so it is ours to judge and never the app's."""
        # A damaged token of ours must still be refused here and not be handed to the app: every header that we
        # write holds the same bytes, and where those are damaged the payload still names us.
        return OUR_BEGINNING.decode("ascii") in text or names_issuer(text, self._issuer)

    def _verify(self, text: str) -> AssumptionClaims:
        try:
            token = read_compact(text)
        except CompactError as exc:
            raise TokenRefused(str(exc)) from exc
        # Exactly these members: so there is no `crit`, `jku`, `x5u`, `jwk` or `b64` to obey (RFC 8725 section 3.10).
        if set(token.header) != {"alg", "kid", "typ"} or token.header["typ"] != TOKEN_TYPE:
            raise TokenRefused("its header is not one that we write")
        key_id = token.header["kid"]
        key = self._keys.find(key_id) if isinstance(key_id, str) else None
        # The key says which algorithm it is for, and the token may only agree (RFC 8725 section 3.1).
        if key is None or token.header["alg"] != key.algorithm:
            raise TokenRefused("it is signed with no key of ours")
        _check_signature(token, key.public, key.algorithm)
        if key.algorithm == "ES256" and _lowered(text) != text:
            raise TokenRefused("its signature is not in the one form that we write")
        try:
            return check_token(token.payload, issuer=self._issuer, signed_by=key.id)
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
    jws = jwt.PyJWS(algorithms=[algorithm])
    if algorithm == "Ed25519":
        # Of the two curves that it would verify for, `_algorithms` lets this one only through.
        jws.register_algorithm(algorithm, jwt.algorithms.OKPAlgorithm())
    try:
        jws.decode(token.text, key, algorithms=[algorithm])
    except (jwt.InvalidTokenError, jwt.InvalidKeyError) as exc:
        raise TokenRefused("its signature does not fit") from exc


def _foreign_key(entry: Mapping[str, Any]) -> ForeignKey | None:
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if "alg" in entry and entry["alg"] not in FOREIGN_ALGORITHMS:
        return None
    key_id = entry.get("kid")
    if not isinstance(key_id, str | None):
        return None
    try:
        # Its `alg` says what it may be used for, which is looked at below; not everybody knows the newer names.
        key = jwt.PyJWK({name: value for name, value in entry.items() if name != "alg"}).key
    except (jwt.PyJWKError, jwt.InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(key)
    if "alg" in entry:
        algorithms = frozenset(name for name in algorithms if name == entry["alg"])
    return ForeignKey(id=key_id, key=key, algorithms=algorithms) if algorithms else None


def _algorithms(key: Any) -> frozenset[str]:
    """Return what a key may be used for; a secret, a private key or an odd RSA key may not be used at all."""
    if isinstance(key, RSAPublicKey):
        # A long one takes seconds of this process for each signature.
        if not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS or key.public_numbers().e.bit_length() > _MOST_E_BITS:
            return frozenset()
        return frozenset(name for name in FOREIGN_ALGORITHMS if name[:2] in ("RS", "PS"))
    if isinstance(key, EllipticCurvePublicKey):
        return frozenset({{"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}.get(key.curve.name, "")})
    return frozenset({"EdDSA", "Ed25519"}) if isinstance(key, Ed25519PublicKey) else frozenset()

"""A stand-in for the vendor's identity provider (OpenID Connect): keys, discovery and tokens on request."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.clock import Clock, utc_now
from gateway.demo.sign_in import DemoPerson, DemoSignIn

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Fault(StrEnum):
    """How an identity provider can fail its clients."""

    UNAVAILABLE = "answers 503"
    ABORTING = "drops the connection"
    SILENT = "accepts and never answers"
    GARBAGE = "answers 200 with something that is not JSON"
    FOREIGN = "its discovery document names another issuer"


class DemoIssuer:
    """An issuer on loopback while its context lasts; every key lives in memory only.

    It publishes one RS256 (2048 bit) and one ES256 key. Whoever runs it gets any token from `token`; `with_sign_in`
    people sign in at it, too (`gateway.demo.sign_in`).
    """

    def __init__(self, *, clock: Clock = utc_now, port: int = 0, with_sign_in: bool = False) -> None:
        self.issuer = ""
        """The issuer identifier, a URL without a slash at the end; empty before the context is entered."""
        self.discovery_fetches = 0
        self.jwks_fetches = 0
        self._clock = clock
        self._port = port
        self._people = DemoSignIn(self._sign_in)
        self._pages = self._people.routes() if with_sign_in else []
        self._fault: Fault | None = None
        self._recovered = asyncio.Event()
        self._signing: dict[str, tuple[str, Key]] = {}
        self._published: list[dict[str, str]] = []
        self.rotate()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.issuer = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.up()
        await self._runner.cleanup()

    def _routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/.well-known/openid-configuration", self._discovery),
            web.get("/jwks.json", self._jwks),
            *self._pages,
        ]

    def invite(self, subject: str, *, then: str) -> str:
        """Return the address that signs a browser in as one of DEMO_STAFF and leads to `then`: `DemoSignIn.invite`."""
        return self.issuer + self._people.invite(subject, then=then)

    def token(
        self,
        subject: str,
        *,
        audience: str | Sequence[str],
        groups: Sequence[str] = (),
        amr: Sequence[str] = ("hwk", "pin"),
        acr: str = "phrh",
        name: str | None = None,
        lifetime_seconds: float = 300,
        auth_time: datetime | None = None,
        algorithm: str = "RS256",
        **overrides: Any,
    ) -> str:
        """Return an ID token (OpenID Connect Core section 2) signed with the current key of `algorithm`.

        `auth_time` None means now. Each of `overrides` replaces the claim of its name; None removes it.
        """
        now = int(self._clock().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime_seconds),
            "auth_time": now if auth_time is None else int(auth_time.timestamp()),
            "jti": uuid4().hex,
            "groups": list(groups),
            "amr": list(amr),
            "acr": acr,
            "name": name,
        } | overrides
        return self.signed({k: v for k, v in claims.items() if v is not None}, type_="JWT", algorithm=algorithm)

    def _sign_in(self, person: DemoPerson, client: str, nonce: str) -> str:
        return self.token(person.subject, audience=client, groups=person.groups, name=person.name, nonce=nonce)

    def signed(self, claims: Mapping[str, Any], *, type_: str, algorithm: str = "RS256") -> str:
        """Return any claims signed with the current key of `algorithm`, such as a logout token's."""
        kid, key = self._signing[algorithm]
        return sign({"alg": algorithm, "typ": type_, "kid": kid}, claims, key=key)

    def rotate(self, *, overlap: bool = True) -> None:
        """Sign with new keys from now on; the former ones stay published only if `overlap`."""
        keys: dict[str, Key] = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
        }
        self._signing = {algorithm: (uuid4().hex[:8], key) for algorithm, key in keys.items()}
        fresh = [
            {"kid": kid, "use": "sig", "alg": algorithm} | public_jwk(key)
            for algorithm, (kid, key) in self._signing.items()
        ]
        self._published = fresh + (self._published if overlap else [])

    def down(self, fault: Fault = Fault.UNAVAILABLE) -> None:
        """Fail every fetch in this way until `up`; the counters go on counting."""
        self._fault = fault
        self._recovered.clear()

    def up(self) -> None:
        """Serve again, also those who still wait for an answer."""
        self._fault = None
        self._recovered.set()

    async def _discovery(self, request: web.Request) -> web.Response:
        self.discovery_fetches += 1
        issuer = "http://issuer.invalid" if self._fault is Fault.FOREIGN else self.issuer
        document = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks.json",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }
        return await self._answer(request, document)

    async def _jwks(self, request: web.Request) -> web.Response:
        self.jwks_fetches += 1
        return await self._answer(request, {"keys": self._published})

    async def _answer(self, request: web.Request, document: object) -> web.Response:
        match self._fault:
            case Fault.UNAVAILABLE:
                return web.Response(status=503)
            case Fault.GARBAGE:
                return web.Response(text="<html>", content_type="application/json")
            case Fault.ABORTING if request.transport is not None:
                request.transport.abort()
            case Fault.SILENT:
                await self._recovered.wait()
            case _:
                pass
        return web.json_response(document)


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], *, key: Key) -> str:
    """Return a JWS in compact form (RFC 7515 section 3.1): RS256 with an RSA key, ES256 with a P-256 key."""
    signed = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
    else:
        # JWS wants r and s as two numbers of 32 bytes, not their DER form: RFC 7518 section 3.4.
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{signed}.{_encode(signature)}"


def public_jwk(key: Key) -> dict[str, str]:
    """Return the public half as a JWK (RFC 7518 sections 6.2 and 6.3)."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        exponent = public.e.to_bytes((public.e.bit_length() + 7) // 8, "big")
        modulus = public.n.to_bytes(key.key_size // 8, "big")
        return {"kty": "RSA", "n": _encode(modulus), "e": _encode(exponent)}
    point = key.public_key().public_numbers()
    x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
    return {"kty": "EC", "crv": "P-256", "x": _encode(x), "y": _encode(y)}


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

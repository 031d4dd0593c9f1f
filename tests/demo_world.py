"""Both sides of the demo helpdesk for its tests: a gateway that it trusts, and a client of its accounts."""

import base64
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import jwt
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from gateway.demo.desk import PASSWORD
from gateway.demo.helpdesk import DemoHelpdesk

ISSUER, AUDIENCE, TYPE = "https://gateway.example", "demo-helpdesk", "locum-assertion+jwt"
START = datetime(2030, 1, 1, tzinfo=UTC)
# More than the socket buffers of loopback take in, so that a reader who stops really stalls the writer.
ATTACHMENT_BYTES = 32 * 1024 * 1024 + 7
AGENT_ROUTES = [
    ("GET", "/whoami"),
    ("GET", "/tickets"),
    ("POST", "/tickets"),
    ("POST", "/tickets/search"),
    ("POST", "/tickets/test"),
    ("GET", "/tickets/1"),
    ("GET", "/tickets/1?action=close"),
    ("GET", "/tickets/1/hold"),
    ("POST", "/tickets/1/reply"),
    ("GET", "/attachments/1"),
    ("GET", "/events"),
    ("GET", "/admin"),
    ("POST", "/admin/agents"),
    ("POST", "/api-tokens"),
]


class Gateway:
    """What the app sees of a gateway: its assertions and its key set."""

    def __init__(self):
        self.key = Ed25519PrivateKey.generate()
        self.keys = {"locum-1": self.key}
        self.extra_jwks = []
        self.fetches = 0
        self.status = 200
        self.now = START
        app = web.Application()
        app.router.add_get("/.locum/jwks.json", self._jwks)
        self.server = TestServer(app)

    def ticks(self):
        return self.now.timestamp()

    def claims(self, **changes):
        now = int(self.now.timestamp())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "maria",
            "act": {"sub": "dana", "iss": "https://idp.example"},
            "sid": "as-1",
            "account": "acme",
            "scope": "tickets:read tickets:write",
            "grant_id": "g-1",
            "seat": "none",
            "jti": "j-1",
            "iat": now,
            "exp": now + 60,
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def assertion(self, *, key=None, header=None, kid="locum-1", **changes):
        """A genuine assertion, except for what is named; a change to None removes the claim."""
        signing = key or self.keys.get(kid, self.key)
        head = {"typ": TYPE, "kid": kid} | (header or {})
        return jwt.encode(self.claims(**changes), signing, algorithm="EdDSA", headers=head)

    async def _jwks(self, request):
        self.fetches += 1
        listed = [self.jwk(kid, key) for kid, key in self.keys.items()]
        return web.json_response({"keys": listed + self.extra_jwks}, status=self.status)

    @staticmethod
    def jwk(kid, key, **changes):
        x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x} | changes


class Client:
    """Requests to one account, as a gateway or a browser would send them."""

    def __init__(self, http, desk):
        self.http, self.desk = http, desk

    def open(self, method, path, *, assertion=None, cookie=None, headers=None, account="acme", **body):
        sent = {"Host": f"{account}.helpdesk.localhost"} | (headers or {})
        sent |= {"X-Locum-Assertion": assertion} if assertion else {}
        sent |= {"Cookie": f"session={cookie}"} if cookie else {}
        url = URL(self.desk.url + path, encoded=True)
        return self.http.request(method, url, headers=sent, allow_redirects=False, **body)

    async def send(self, method, path, **options):
        """Return status and body: decoded if it is JSON, else its text."""
        async with self.open(method, path, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else text

    async def sign_in(self, agent, *, password=PASSWORD, account="acme"):
        fields = {"agent": agent, "password": password}
        async with self.open("POST", "/login", data=fields, account=account) as response:
            return response.cookies["session"].value if response.status == 303 else None


@asynccontextmanager
async def open_desk(gateway):
    """A helpdesk that trusts `gateway` and lives by its clock."""
    desk = DemoHelpdesk(
        clock=lambda: gateway.now,
        ticks=gateway.ticks,
        tick_seconds=0.01,
        attachment_bytes=ATTACHMENT_BYTES,
    )
    async with desk:
        desk.trust(jwks_url=str(gateway.server.make_url("/.locum/jwks.json")), issuer=ISSUER, audience=AUDIENCE)
        yield desk


@asynccontextmanager
async def open_client(desk):
    """A client without a memory for cookies."""
    async with ClientSession(timeout=ClientTimeout(total=10), cookie_jar=DummyCookieJar()) as http:
        yield Client(http, desk)

"""The fixtures of a running django-helpdesk whose gateway is played by the test: it holds the key and signs."""

import base64
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import jwt
import pytest
import pytest_asyncio
from aiohttp import ClientResponse, ClientSession, CookieJar
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.demo.django_helpdesk.runner import DjangoHelpdesk, HelpdeskNotInstalledError

ISSUER = "https://helpdesk.example"
AUDIENCE = "helpdesk"
HEADER = "X-Locum-Assertion"


class World:
    """One helpdesk, the gateway's key, and a browser without any session."""

    def __init__(self, app: DjangoHelpdesk, key: Ed25519PrivateKey, http: ClientSession, data: Path) -> None:
        self.app = app
        self.key = key
        self.http = http
        self.data = data

    def assertion(self, *, key: object = None, header: dict | None = None, alg: str = "EdDSA", **changes) -> str:
        now = int(time.time())  # noqa: TID251 - the helpdesk's clock is the real one
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "maria",
            "act": {"sub": "erin", "iss": "https://staff.example"},
            "scope": "tickets:read tickets:write",
            "account": "acme",
            "sid": "as_1",
            "grant_id": "grant_1",
            "seat": "none",
            "jti": f"{time.monotonic_ns()}",
            "iat": now,
            "exp": now + 60,
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        headers = {"typ": "locum-assertion+jwt", "kid": "locum-1"} | (header or {})
        return jwt.encode(claims, self.key if key is None else key, algorithm=alg, headers=headers)

    async def ask(self, method: str, path: str, *, token: str | None = None, **more) -> ClientResponse:
        """Send one request as maria, or with another token, or with none (an empty one)."""
        token = self.assertion() if token is None else token
        headers = ({HEADER: token} if token else {}) | more.pop("headers", {})
        response = await self.http.request(method, self.app.url + path, headers=headers, allow_redirects=False, **more)
        await response.read()
        return response

    async def submit(self, path: str, fields: dict[str, str], *, form: str = "", **more) -> ClientResponse:
        """Fetch the page with the form, then post the form to `path` with the CSRF token of that page."""
        page = await (await self.ask("GET", form or path, **more)).text()
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        token = found[1] if found else ""
        return await self.ask("POST", path, data={"csrfmiddlewaretoken": token, **fields}, **more)

    async def new_ticket(self, **fields) -> int:
        body = {"queue": 1, "title": "A ticket", "description": "for one test", "priority": 3, **fields}
        response = await self.ask("POST", "/api/tickets/", json=body)
        assert 201 == response.status, await response.text()
        return (await response.json())["id"]

    def rows(self, statement: str, *values: object) -> list[tuple]:
        with closing(sqlite3.connect(f"file:{self.data}/helpdesk.sqlite3?mode=ro", uri=True)) as database:
            return database.execute(statement, values).fetchall()

    def fingerprint(self) -> str:
        """Return a digest of every row of every table."""
        with closing(sqlite3.connect(f"file:{self.data}/helpdesk.sqlite3?mode=ro", uri=True)) as database:
            return hashlib.sha256("\n".join(database.iterdump()).encode()).hexdigest()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def django_helpdesk(tmp_path_factory) -> AsyncIterator[tuple[DjangoHelpdesk, Ed25519PrivateKey, Path]]:
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "locum-1"}
    jwk["x"] = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    keys = tmp_path_factory.mktemp("keys") / "jwks.json"
    keys.write_text(json.dumps({"keys": [jwk]}))
    data = tmp_path_factory.mktemp("helpdesk")
    helpdesk = DjangoHelpdesk(data=data, jwks_url=keys.as_uri(), issuer=ISSUER, audience=AUDIENCE)
    try:
        await helpdesk.__aenter__()
    except HelpdeskNotInstalledError as exc:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(exc))
    try:
        yield helpdesk, key, data
    finally:
        await helpdesk.__aexit__(None, None, None)


@pytest_asyncio.fixture(loop_scope="module")
async def desk(django_helpdesk) -> AsyncIterator[World]:
    helpdesk, key, data = django_helpdesk
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
        yield World(helpdesk, key, http, data)

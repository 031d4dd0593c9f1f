"""A provider at which people sign in, a browser that keeps cookies, and a gateway between them."""

import base64
import hashlib
import re
import secrets
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from aiohttp import web

from tests.gateway_world import AUDIENCE, ISSUER, open_world
from tests.world_issuer import WorldIssuer

STAFF_HOST = "assume.vendor.example"
CLIENT_SECRET = "a secret: of 32 bytes, 100% odd/+"  # has what form encoding changes
CALLBACK = "/.locum/sign-in/callback"
STAFF_COOKIE = "__Host-locum-staff"
ATTEMPT_COOKIE = "__Host-locum-sign-in"


class Provider(WorldIssuer):
    """Signs in whoever a test says, and gives a code for it; `asked` is what came to its token endpoint."""

    def __init__(self, **options):
        super().__init__(**options)
        self.metadata = {"authorization_response_iss_parameter_supported": True, "end_session_endpoint": "/end"}
        self.codes = {}
        self.asked = []
        self.claims = {}
        self.answer = {}
        """What each token answer has beside or instead of what is right; None takes a member out."""
        self.raw_answer = None

    def consent(self, location, subject="dana", *, iss=None, **claims):
        """Sign a person in at the address that a browser was sent to; return the query that it goes back with."""
        asked = dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))
        code = secrets.token_urlsafe(16)
        self.codes[code] = (asked, subject, claims)
        return urlencode({"code": code, "state": asked["state"], "iss": iss or self.issuer})

    def _routes(self):
        return [*super()._routes(), web.post("/token", self._token)]

    async def _answer(self, request, document):
        if isinstance(document, dict) and "issuer" in document:
            more = dict(self.metadata)
            if "end_session_endpoint" in more:
                more["end_session_endpoint"] = f"{self.issuer}{more['end_session_endpoint']}"
            document = {name: value for name, value in (document | more).items() if value is not None}
        return await super()._answer(request, document)

    async def _token(self, request):
        form = dict(parse_qsl(await request.text(), keep_blank_values=True, strict_parsing=True))
        self.asked.append((request.headers.get("Authorization"), form))
        if self.raw_answer is not None:
            return self.raw_answer()
        asked, subject, claims = self.codes.pop(form["code"], ({}, None, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        right = (
            form["grant_type"] == "authorization_code"
            and form["redirect_uri"] == asked.get("redirect_uri")
            and challenge.decode() == asked.get("code_challenge")
            and asked.get("code_challenge_method") == "S256"
        )
        if not right:
            return web.json_response({"error": "invalid_grant"}, status=400)
        changes = {"groups": ("support",), "nonce": asked["nonce"], "name": "Dana Doe"} | claims | self.claims
        token = self.token(subject, audience=changes.pop("audience", AUDIENCE), **changes)
        body = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 300, "id_token": token} | self.answer
        return web.json_response({name: value for name, value in body.items() if value is not None})


class Reply:
    """One response: status, header lines as they came, body as text."""

    def __init__(self, raw):
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.lines = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        self.text = body.decode()

    def all(self, name):
        return [value for one, value in self.lines if one == name]

    def __getitem__(self, name):
        [value] = self.all(name)
        return value

    @property
    def location(self):
        return self["location"]

    @property
    def form_token(self):
        return re.search(r'name="form_token" value="([^"]+)"', self.text)[1]


class Browser:
    """Keeps cookies by name for one host, as the lines of answers say."""

    def __init__(self, world, *, host=STAFF_HOST):
        self.world = world
        self.host = host
        self.cookies = {}

    async def send(self, target="/.locum/", *, method="GET", headers=(), body=b"", cookies=None, host=None):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or self.host}", "Connection: close"]
        if cookies is None and self.cookies:
            cookies = ["; ".join(f"{name}={value}" for name, value in self.cookies.items())]
        lines += [f"Cookie: {line}" for line in cookies or ()]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        reply = Reply(await self.world.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body))
        for line in reply.all("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value.strip('"')
        return reply

    async def post(self, target, fields, *, origin=ISSUER, site="same-origin", **options):
        if site == "cross-site":
            options.setdefault("cookies", [])  # ours are `SameSite=Lax`
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        headers += [("Origin", origin)] if origin is not None else []
        headers += [("Sec-Fetch-Site", site)] if site is not None else []
        return await self.send(
            target,
            method="POST",
            headers=[*headers, *options.pop("more", ())],
            body=urlencode(fields).encode(),
            **options,
        )

    async def begin(self, return_to=None):
        """Begin a sign-in; return where the provider is."""
        query = "" if return_to is None else f"?return={quote_plus(return_to)}"
        reply = await self.send(f"/.locum/sign-in{query}")
        assert 303 == reply.status, reply.text
        return reply.location

    async def sign_in(self, subject="dana", *, return_to=None, **claims):
        """Go all the way; return the last answer."""
        location = await self.begin(return_to)
        return await self.send(f"{CALLBACK}?{self.world.issuer.consent(location, subject, **claims)}")

    async def sign_out(self):
        page = await self.send()
        return await self.post("/.locum/sign-out", {"form_token": page.form_token})


@asynccontextmanager
async def open_sign_in(directory, *, change=lambda _document: None, **section):
    """Open a world in which staff can sign in; `section` are keys of [staff.sign_in], None takes one out."""

    def changed(document):
        wanted = {"client_id": AUDIENCE, "client_secret": CLIENT_SECRET} | section
        document["staff"]["sign_in"] = {name: value for name, value in wanted.items() if value is not None}
        change(document)

    async with open_world(directory, change=changed, issuer_class=Provider) as world:
        yield world

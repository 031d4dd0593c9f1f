"""A browser of the security team before a whole gateway's admin listener, sending raw bytes."""

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from gateway.clients import digest_of, new_secret
from gateway.stores.store import Client
from policy.model import AccountId, ClientId
from tests.browser_world import Answer
from tests.gateway_world import World, open_world, parse
from tests.provider_world import Provider
from tests.rawwire import exchange

PATH = "/console"
ORIGIN = "https://locum.vendor.example"
"""Of the console, where it has one; without, it is the loopback."""
CLIENT_ID = "locum-security"
CALLBACK = "/console/sign-in/callback"


@dataclass
class Guard:
    """Sends what a browser would, and keeps its cookies."""

    world: World
    origin: str = ""
    cookies: dict = field(default_factory=dict)

    @property
    def port(self):
        return int(self.world.gateway.admin_url.rpartition(":")[2])

    @property
    def here(self):
        return self.origin or f"http://127.0.0.1:{self.port}"

    @property
    def host(self):
        return self.here.partition("://")[2]

    @property
    def cookie_name(self):
        return "__Host-locum-security" if self.origin.startswith("https") else "locum-security"

    @property
    def cookie(self):
        return self.cookies.get(self.cookie_name, "")

    async def ask(self, target=PATH, *lines, method="GET", host=None, body=b"", cookie=None, port=None):
        """Send one request; `cookie` replaces the line that would be sent."""
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.host if host is None else host}", "Connection: close"]
        line = "; ".join(f"{name}={value}" for name, value in self.cookies.items()) if cookie is None else cookie
        head += [*lines, *([f"Cookie: {line}"] if line else [])]
        if body or method == "POST":
            head.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body
        answer = await exchange("127.0.0.1", port or self.port, raw)
        found = Answer(*parse(answer), answer)
        for line in found.set_cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower():
                self.cookies.pop(name, None)
            elif cookie is None:
                self.cookies[name] = value
        return found

    async def page(self, target=PATH, *lines, **more):
        """Load a page as a person does."""
        return await self.ask(target, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", *lines, **more)

    async def post(self, name, fields=(), *lines, origin=None, site="same-origin", **more):
        """Send a form as a page of the console would."""
        origin = self.here if origin is None else origin
        said = [f"Origin: {origin}"] if origin else []
        said += [f"Sec-Fetch-Site: {site}"] if site else []
        said.append("Content-Type: application/x-www-form-urlencoded")
        pairs = list(fields.items()) if isinstance(fields, dict) else list(fields)
        return await self.ask(f"{PATH}/{name}", *said, *lines, method="POST", body=urlencode(pairs).encode(), **more)

    async def form_token(self, target=PATH):
        page = await self.page(target)
        assert 200 == page.status, page.text
        return re.search(r'name="form_token" value="([^"]+)"', page.text)[1]

    async def do(self, name, **fields):
        """Send a form with the token of the page as it is now."""
        return await self.post(name, {"form_token": await self.form_token(), **fields})

    async def add_client(self, name, *roles, account=None):
        """Add a client; returns its secret."""
        secret = new_secret()
        only = None if account is None else AccountId(account)
        entry = Client(id=ClientId(name), secret_digest=digest_of(secret), roles=frozenset(roles), account=only)
        await self.world.gateway.store.add_client(entry)
        return secret

    async def sign_in(self, name, secret, **more):
        return await self.post("sign-in/client", {"client_id": name, "client_secret": secret}, **more)

    async def enter(self, name="guard", *roles, account=None):
        """Add a client, and sign in with its secret."""
        found = await self.sign_in(name, await self.add_client(name, *(roles or ("audit",)), account=account))
        assert 303 == found.status, found.text
        return self

    def another(self):
        """Return another browser."""
        return Guard(self.world, self.origin)

    async def begin(self, query=""):
        """Be sent to the provider; returns the address there."""
        found = await self.page(f"{PATH}/sign-in/begin{query}", "Sec-Fetch-Site: same-origin")
        assert 303 == found.status, found.text
        return found.headers["location"]

    async def come_back(self, query, *lines, **more):
        return await self.page(f"{CALLBACK}?{query}", "Sec-Fetch-Site: cross-site", *lines, **more)

    async def enter_at_provider(self, subject="sam", **claims):
        """Sign in at the provider, as an auditor if nothing else is said."""
        claims = {"groups": ["security"], "name": "Sam Sentry", "audience": CLIENT_ID} | claims
        return await self.come_back(self.world.issuer.consent(await self.begin(), subject, **claims))


def security(document, **section):
    document.setdefault("console", {})["security"] = section


def at_provider(document, **changes):
    """Have people sign in at the staff's provider, at an origin of https."""
    sign_in = {"client_id": CLIENT_ID, "auditors": ["security"], "operators": ["security-operators"]} | changes
    security(document, origin=ORIGIN, sign_in=sign_in)


@asynccontextmanager
async def open_guard(directory, *, change=security, origin="", **options):
    """Run a gateway with the console on, on loopback if `change` does not say another origin."""
    async with open_world(directory, change=change, **options) as world:
        yield Guard(world, origin)


@asynccontextmanager
async def open_guard_at_provider(directory, *, change=None, **options):
    """Likewise, with people who sign in at a provider."""

    def changed(document):
        at_provider(document)
        if change is not None:
            change(document)

    async with open_guard(directory, change=changed, origin=ORIGIN, issuer_class=Provider, **options) as guard:
        yield guard

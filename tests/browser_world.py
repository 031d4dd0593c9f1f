"""A staff member's browser before a whole gateway: signed in at the staff origin, standing in at an account's host."""

import html
import re
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from json import dumps
from urllib.parse import urlencode

from gateway.stores.store import StaffSession
from policy.model import ActorId, Permission, Staff
from tests.gateway_world import AUDIENCE, HOST, ISSUER, World, open_world, parse
from tests.rawwire import exchange

STAFF_HOST = ISSUER.removeprefix("https://")
ORIGIN = f"https://{HOST}"
ASSUMPTION = "__Host-locum-assumption"
STAFF = "__Host-locum-staff"
PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"
EVERYTHING = ("read", "test_tickets", "write")


@dataclass
class Answer:
    """What came back, with every `Set-Cookie` line."""

    status: int
    headers: dict
    body: bytes
    raw: bytes = field(repr=False)

    @property
    def set_cookies(self):
        head = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")
        return [line.partition(":")[2].strip() for line in head.split("\r\n") if line.lower().startswith("set-cookie:")]

    @property
    def text(self):
        return html.unescape(self.body.decode())


@dataclass
class Browser:
    """Sends what a browser would, by hand."""

    world: World
    staff: str = ""
    """The staff session's cookie."""
    held: str = ""
    """The assumption's cookie."""
    cookies: str = ""
    """Others that it has for the account's host, as they stand in the line."""
    lax: bool = True
    """Whether it keeps ours from other sites' forms, as browsers do with `SameSite=Lax`."""

    async def ask(self, target="/tickets/1", *lines, method="GET", host=HOST, body=b"", cookie=None, port=None):
        """Send one request; `lines` are header lines as text; `cookie` replaces the line that would be sent."""
        mine = f"{STAFF}={self.staff}" if host == STAFF_HOST else f"{ASSUMPTION}={self.held}" if self.held else ""
        line = "; ".join(part for part in (self.cookies, mine) if part) if cookie is None else cookie
        head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
        head += [f"Cookie: {line}"] if line else []
        if body or method == "POST":
            head.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body
        answer = await self.world.raw(raw) if port is None else await raw_at(port, raw)
        return Answer(*parse(answer), answer)

    async def post(self, target, fields=(), *lines, host=HOST, origin=ORIGIN, site="same-origin", **more):
        """Send a form as a page of `origin` would."""
        if self.lax and site == "cross-site":
            more.setdefault("cookie", self.cookies)
        said = [f"Origin: {origin}"] if origin else []
        said += [f"Sec-Fetch-Site: {site}"] if site else []
        said.append("Content-Type: application/x-www-form-urlencoded")
        body = urlencode(list(fields)).encode()
        return await self.ask(target, *said, *lines, method="POST", host=host, body=body, **more)

    async def sign_in(self, subject="dana", **changes):
        """Get a session at the staff origin, as a sign-in would leave it in the store."""
        store, now = self.world.gateway.store, self.world.clock.now
        issuer = self.world.issuer.issuer
        at = int(now.timestamp())
        claims = {"iss": issuer, "sub": subject, "aud": AUDIENCE, "name": "Dana Reyes", "groups": ["support"]}
        claims |= {"iat": at, "exp": at + 300} | changes
        self.staff = secrets.token_urlsafe(32)
        actor = ActorId(issuer=issuer, subject=subject)
        known = await store.find_staff(actor)
        staff = Staff(id=actor, name="Dana Reyes", permissions=frozenset(Permission))
        await store.begin_session(
            StaffSession(
                digest=sha256(self.staff.encode()).digest(),
                actor=actor,
                claims=dumps(claims),
                signed_in_at=now,
                seen_at=now,
                ends_at=now + timedelta(hours=24),
            ),
            replace(staff, signed_out_at=known and known.signed_out_at),
            at=now,
        )

    async def home(self, query=""):
        return await self.ask(f"/.locum/{query}", f"Accept: {PAGE}", host=STAFF_HOST)

    async def begin(
        self, *, scopes=("tickets:read",), origin=ISSUER, token=None, host=STAFF_HOST, site="same-origin", **changes
    ):
        """Send the form that begins an assumption."""
        if token is None:
            token = re.search(r'name="form_token" value="([^"]+)"', (await self.home()).text)[1]
        fields = {"account": "acme", "agent": "maria", "ticket": "SUP-1", "reason": "cannot reproduce"} | changes
        pairs = [(name, value) for name, value in fields.items() if value is not None]
        pairs += [("form_token", token), *(("scope", scope) for scope in scopes)]
        return await self.post("/.locum/assumptions", pairs, host=host, origin=origin, site=site)

    async def enter(self, code, *, origin=ISSUER, host=HOST, **more):
        """Bring a code to the account's host."""
        return await self.post("/.locum/enter", [("code", code)], host=host, origin=origin, site="cross-site", **more)

    async def stand_in(self, **options):
        """Begin and enter; what it holds from now on is in `held`."""
        if not self.staff:
            await self.sign_in()
        page = await self.begin(**options)
        assert 200 == page.status, page.text
        entered = await self.enter(code_of(page), host=f"{options.get('account', 'acme')}.helpdesk.example")
        assert 303 == entered.status, entered.text
        self.held = value_of(entered)
        return entered

    async def session(self, *, accept="application/json", host=HOST):
        return await self.ask("/.locum/session", f"Accept: {accept}", host=host)

    async def write(self, *lines, origin=ORIGIN, site="same-origin", method="POST", target="/tickets/1/reply"):
        """Send what changes data in the app, as a page of the app would."""
        said = [f"Origin: {origin}"] if origin else []
        said += [f"Sec-Fetch-Site: {site}"] if site else []
        return await self.ask(target, *said, *lines, method=method, body=b"{}")


def code_of(page):
    return re.search(r'name="code" value="([^"]+)"', page.text)[1]


def value_of(entered):
    [line] = [line for line in entered.set_cookies if line.startswith(f"{ASSUMPTION}=")]
    return line.partition(";")[0].partition("=")[2]


async def raw_at(port, raw):
    return await exchange("127.0.0.1", port, raw)


def signing_in(document):
    document["staff"]["sign_in"] = {"client_id": AUDIENCE}


@asynccontextmanager
async def open_browser(
    directory, *, permissions=EVERYTHING, stand_in=True, scopes=("tickets:read",), change=None, **options
):
    """Run a gateway with an account that allows `permissions`, and a browser that stands in there."""

    def changed(document):
        signing_in(document)
        if change is not None:
            change(document)

    async with open_world(directory, change=changed, **options) as world:
        assert 200 == (await world.choose("week", permissions))[0]
        browser = Browser(world)
        if stand_in:
            await browser.stand_in(scopes=scopes)
        yield browser
        assert [] == world.strangers

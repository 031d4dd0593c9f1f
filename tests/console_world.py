"""An administrator's browser before a whole gateway, whose app says who is there by a cookie."""

import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from tests.browser_world import PAGE, Answer, signing_in
from tests.gateway_world import World, open_world, parse
from tests.rawwire import response

PATH = "/.locum/account"
WHO = b"/whoami"
FIELDS = {"user": "/id", "name": "/name", "account": "/account", "roles": "/roles", "acting": "/act"}
OLIVIA = {
    "id": 7,
    "name": "Olivia Owner",
    "account": "acme",
    "roles": {"support": "agent", "explore": "admin"},
    "act": None,
}
BEN = {"id": 8, "name": "Ben", "account": "acme", "roles": {"support": "agent"}, "act": None}
GINA = {"id": 9, "name": "Gina", "account": "globex", "roles": {"support": "owner"}, "act": None}


@dataclass
class App:
    """Says who is there; a test may put any other answer in its place."""

    people: dict = field(default_factory=lambda: {"s-olivia": OLIVIA, "s-ben": BEN, "s-gina": GINA})
    answer: object = None
    """Bytes or a coroutine function in place of every answer to the question."""

    sets: tuple = ()
    """Header lines of every answer but that to the question."""

    setting: object = None
    """What it answers about an account's setting, where it keeps that itself."""

    def script(self, request):
        if self.setting is not None and request.target.startswith(b"/accounts/"):
            return self.setting
        if not request.target.startswith(WHO) or request.values(b"x-locum-assertion"):
            return response(headers=self.sets)
        if self.answer is not None:
            return self.answer
        session = re.search(rb"session=([^;]*)", b"; ".join(request.values(b"cookie")))
        person = self.people.get(session[1].decode()) if session else None
        return response(status=b"401 Unauthorized") if person is None else who(person)


def who(person, *headers):
    return response(json.dumps(person).encode(), headers=((b"Content-Type", b"application/json"), *headers))


@dataclass
class Customer:
    """Sends what an administrator's browser would, by hand."""

    world: World
    session: str = "s-olivia"
    account: str = "acme"

    @property
    def host(self):
        return f"{self.account}.helpdesk.example"

    async def ask(self, target=PATH, *lines, method="GET", host=None, body=b"", cookie=None):
        """Send one request; `cookie` replaces the line that would be sent."""
        line = f"session={self.session}" if cookie is None else cookie
        head = [f"{method} {target} HTTP/1.1", f"Host: {host or self.host}", "Connection: close", *lines]
        head += [f"Cookie: {line}"] if line else []
        if body or method == "POST":
            head.append(f"Content-Length: {len(body)}")
        answer = await self.world.raw("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        return Answer(*parse(answer), answer)

    async def page(self, query="", *lines, **more):
        return await self.ask(f"{PATH}{query}", f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate", *lines, **more)

    async def post(self, name, fields=(), *lines, origin=None, site="same-origin", **more):
        """Send a form as the account's page would."""
        origin = f"https://{more.get('host') or self.host}" if origin is None else origin
        said = [f"Origin: {origin}"] if origin else []
        said += [f"Sec-Fetch-Site: {site}"] if site else []
        said.append("Content-Type: application/x-www-form-urlencoded")
        body = urlencode(list(fields)).encode()
        return await self.ask(f"{PATH}/{name}", *said, *lines, method="POST", body=body, **more)

    async def form(self):
        """Return the hidden fields of the page as it is now."""
        page = await self.page()
        assert 200 == page.status, page.text
        return {"form_token": hidden(page, "form_token"), "epoch": hidden(page, "epoch")}

    async def choose(self, duration="day", permissions=(), *, form=None, **more):
        fields = {**(form or await self.form()), "duration": duration}
        return await self.post("setting", [*fields.items(), *(("permission", one) for one in permissions)], **more)

    async def do(self, name, *, form=None, **fields):
        fields = {"form_token": (form or await self.form())["form_token"], **fields}
        return await self.post(name, fields.items())

    async def grant(self):
        return (await self.world.gateway.store.find_account(self.account)).grant


def hidden(page, name):
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    return found[1] if found else ""


def console(document, **changes):
    signing_in(document)
    section = {"who_am_i": WHO.decode(), "fields": FIELDS, "pass_headers": ["X-Forwarded-Proto"]} | changes
    document["console"] = {"account": {name: value for name, value in section.items() if value is not None}}


@asynccontextmanager
async def open_customer(directory, *, change=None, accounts=("globex",), **options):
    """Run a gateway with the page on, and Olivia's browser, who is an administrator of acme."""
    app = App()

    def changed(document):
        console(document)
        if change is not None:
            change(document)

    async with open_world(directory, script=app.script, change=changed, **options) as world:
        for account in accounts:
            await world.add_account(account)
        world.app = app
        yield Customer(world)


def asked(world):
    """The questions that the app has heard."""
    return [
        seen
        for seen in world.upstream.requests
        if seen.target.startswith(WHO) and not seen.values(b"x-locum-assertion")
    ]

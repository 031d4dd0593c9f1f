"""One gateway with every page on, and everybody who may come to one: who they are, and what they send."""

import base64
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from gateway.audit.index.building import Builder
from gateway.audit.index.database import beside
from gateway.stores.request_room import Room
from policy.asking import GrantRequest, GrantRequestId
from policy.model import AccountId, ClientId, Duration, Permission
from tests.browser_world import ASSUMPTION, STAFF, Answer, Browser
from tests.console_world import open_customer
from tests.gateway_world import parse
from tests.rawwire import exchange
from tests.security_world import Guard, security
from tests.telling_world import notices, put_contacts

ACME, GLOBEX = "acme.helpdesk.example", "globex.helpdesk.example"
SECRET = "quokka"
"""In all that happens at acme, and in nothing that is elsewhere or that anybody sends."""
TICKET, REASON, NAME = f"SUP-{SECRET}", f"why {SECRET}", f"Dana {SECRET}"
REQUEST = "ask_wombat"
CLIENTS = {"auditor": (None, "audit"), "operator": (None, "operate", "kill_switch"), "limited": ("globex", "audit")}
"""The account that they may know of, if it is one, and their roles."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """What somebody sends along with each request."""

    cookie: str = ""
    basic: str = ""
    """What a client shows where there are no cookies."""


@dataclass
class Pages:
    """The gateway and its people."""

    world: object
    people: dict
    assumption: str
    """Dana's at acme, whose id nobody else is to learn."""
    record: str = ""
    """The number of a record of it."""
    stream: str = ""
    """Where the page of acme's own log listens."""

    def tells(self, answer, target):
        """Tell whether there is anything in an answer that happens at acme, beside what was asked for."""
        said = answer.raw
        for asked in (target, quote(target, safe=""), quote(target)):
            said = said.replace(asked.encode(), b"")
        return any(word.encode() in said for word in (SECRET, self.assumption, REQUEST))

    def fill(self, path):
        """Return an address of a route: what it is about is acme's, where it is about anything."""
        values = {"account": "acme", "request": REQUEST, "assumption": self.assumption, "sid": self.assumption}
        values |= {"origin": "gateway", "path": "", "id": self.record if "/record/" in path else "0" * 32}
        filled = re.sub(r"\{(\w+)(?::[^}]*)?\}", lambda found: values[found[1]], path)
        return self.stream if filled == self.stream.partition("?")[0] else filled

    async def standing(self):
        """Return all that nobody here may change, as it is in the store."""
        store, now = self.world.gateway.store, self.world.clock.now
        return (
            await store.list_accounts(),
            sorted(one.id for one in await store.list_assumptions(at=now)),
            await store.list_waiting(AccountId("acme"), at=now),
            await store.find_kill_switch(),
            await store.list_contacts(),
            [(await store.find_client(ClientId(name))).roles for name in CLIENTS],
        )

    async def ask(self, method, target, person, *, host="", to_head=False):
        """Send what a browser sends of a page of ours; without a `host` to the admin listener.

        All but a GET has an empty form.
        """
        admin = not host
        port = int(self.world.gateway.admin_url.rpartition(":")[2]) if admin else self.world.port
        host = f"127.0.0.1:{port}" if admin else host
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", "Sec-Fetch-Site: same-origin"]
        if method == "GET":
            lines += ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"]
        else:
            origin = f"http://{host}" if admin else f"https://{host}"
            lines += [f"Origin: {origin}", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 0"]
        if person.cookie:
            lines.append(f"Cookie: {person.cookie}")
        if person.basic and not target.startswith("/console"):
            lines.append(f"Authorization: Basic {person.basic}")
        raw = await exchange("127.0.0.1", port, "\r\n".join(lines).encode() + b"\r\n\r\n", to_head=to_head)
        return Answer(*parse(raw), raw)


def every_page(document):
    security(document)
    document["notices"] = notices()


@asynccontextmanager
async def open_pages(directory):
    """Dana stands in at acme and waits for an answer there; Erin stands in there, too; Frank is staff and nowhere in."""
    async with open_customer(directory, change=every_page) as olivia:
        world = olivia.world
        for account in ("acme", "globex"):
            assert 200 == (await world.choose("week", ["read"], account=account))[0]
        dana, erin, frank = Browser(world), Browser(world), Browser(world)
        await dana.sign_in("dana", name=NAME)
        await dana.stand_in(ticket=TICKET, reason=REASON)
        await erin.sign_in("erin", name="Erin")
        await erin.stand_in(ticket="SUP-7", reason="looks")
        await frank.sign_in("frank", name="Frank")
        people = {
            "stranger": Person(),
            "owner": Person(cookie="session=s-olivia"),
            "agent": Person(cookie="session=s-ben"),
            "other owner": Person(cookie="session=s-gina"),
            "inside": Person(cookie=f"{ASSUMPTION}={erin.held}"),
            "staff": Person(cookie=f"{STAFF}={frank.staff}"),
        }
        await put_contacts(world.gateway.store, by=NAME)
        for name, (account, *roles) in CLIENTS.items():
            guard = Guard(world)
            secret = await guard.add_client(name, *roles, account=account)
            assert 303 == (await guard.sign_in(name, secret)).status
            basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
            people[name] = Person(cookie=f"{guard.cookie_name}={guard.cookie}", basic=basic)
        people["app"] = Person(basic=world.basic().removeprefix("Basic "))
        live = await world.gateway.store.list_assumptions(at=world.clock.now)
        [one] = [one for one in live if one.ticket == TICKET]
        await _add_request(world, one.actor)
        # Or there is no receipt yet.
        await world.gateway.journal.checkpoint()
        journal = world.gateway.config.journal_directory
        with Builder(journal, beside(journal)) as builder:
            builder.catch_up()
        pages = Pages(world, people, one.id)
        page = await pages.ask("GET", f"/console/log?q={SECRET}", people["auditor"])
        pages.record = re.search(r'href="/console/log/record/(-?[0-9]+)', page.text)[1]
        page = await pages.ask("GET", "/.locum/account/log", people["owner"], host=ACME)
        pages.stream = re.search(r'"(/.locum/account/live/log[^"]*)"', page.text)[1]
        yield pages


async def _add_request(world, actor):
    asked = GrantRequest(
        id=GrantRequestId(REQUEST),
        account=AccountId("acme"),
        actor=actor,
        name=NAME,
        permissions=frozenset({Permission.WRITE}),
        duration=Duration.WEEK,
        ticket=TICKET,
        reason=REASON,
        asked_at=world.clock.now,
        expires_at=world.clock.now + timedelta(days=1),
    )
    room = Room(per_staff_and_account=9, per_account=9, per_staff=9)
    assert None is await world.gateway.store.add_grant_request(asked, room=room)

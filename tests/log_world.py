"""What an account's administrators see of the log: staff who did something, and an index of it."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from datetime import timedelta

from gateway.audit.index.building import Builder
from gateway.audit.index.database import beside
from gateway.audit.segment import build_line
from tests.browser_world import PAGE
from tests.console_world import PATH, open_customer
from tests.gateway_world import parse
from tests.patience import PATIENCE_SECONDS
from tests.upstream_client import eventually

LOG = f"{PATH}/log"
USUAL = {
    "account": "acme",
    "assumption": "as_odd",
    "kind": "decision",
    "decision": "allow",
    "method": "GET",
    "path": "/tickets/1",
    "actor": {"issuer": "i", "name": "Dana", "subject": "dana"},
    "subject": "maria",
    "origin": "odd",
}
"""What a request leaves in the journal, without its time."""


def index(world):
    """Have everything in the index that is on the record by now."""
    journal = world.directory / "journal"
    with Builder(journal, beside(journal)) as builder:
        builder.catch_up()


@asynccontextmanager
async def open_reader(directory, **options):
    """Run a gateway whose records are some minutes old by the wall clock, and Olivia's browser."""
    async with open_customer(directory, **options) as olivia:
        # Or what was done just now would be held back from whoever reads the oldest first.
        olivia.world.clock.forward(minutes=-10)
        yield olivia


async def look(customer, query="", *lines, **more):
    """Open the list, or something below it."""
    return await customer.ask(f"{LOG}{query}", f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate", *lines, **more)


async def receipt(customer, sid, *lines):
    """Download a receipt, however long it takes to make, which is done behind everything else: a page says so."""
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        while (answer := await look(customer, f"/{sid}/receipt", *lines)).text.find("is being made</h1>") > 0:
            pass
        return answer


async def send(world, token, method, target, *, account="acme", agent="a browser"):
    """Send one request of staff; return its status."""
    lines = (f"{method} {target} HTTP/1.1", f"Host: {account}.helpdesk.example", f"Authorization: Bearer {token}")
    raw = "\r\n".join((*lines, f"User-Agent: {agent}", "Content-Length: 0", "Connection: close", "", ""))
    return parse(await world.raw(raw.encode("utf-8", "surrogateescape")))[0]


async def done(world, *requests, account="acme", token=None, agent="a browser", **changes):
    """Have staff stand in and send requests, a second apart, each `(method, target)`; return the assumption."""
    token = token or await world.token(account=account, **changes)
    ends = len(world.records(kind="completion"))
    allowed = 0
    for method, target in requests:
        world.clock.forward(seconds=1)
        allowed += await send(world, token, method, target, account=account, agent=agent) < 400
    await eventually(lambda: len(world.records(kind="completion")) >= ends + allowed)
    index(world)
    return world.records(kind="token", decision="allow", account=account)[-1]["assumption"]


def write(world, entries):
    """Put records into the journal's files as they are, and into the index."""
    path = world.directory / "journal" / "odd-000000000000.jsonl"
    path.write_bytes(b"".join(build_line(json.dumps(entry).encode())[1] for entry in entries))
    index(world)


def requests(world, count, **more):
    """What so many requests of one assumption leave in the journal, a second apart: the last was a minute ago."""
    begin = world.clock.now - timedelta(seconds=count + 60)
    for number in range(1, count + 1):
        at = (begin + timedelta(seconds=number)).isoformat()
        yield {**USUAL, "path": f"/tickets/{number}", "seq": number, "at": at, **more}


def whats(page):
    """What each line of a page says that was done."""
    return re.findall(r'<p class="what"><bdi>(.*?)</bdi>', page.text)

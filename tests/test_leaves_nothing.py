"""What a connection held is gone when it is: nothing of it waits for the cycle collector, which may take its time."""

import asyncio
import contextlib
import gc
import logging
from collections import Counter
from pathlib import Path

import pytest

from gateway.proxy.client import ClientConnection
from gateway.proxy.connection import Connection
from gateway.proxy.flow import Inbox
from gateway.proxy.inbound import ClientRequest
from gateway.proxy.intake import Intake
from gateway.proxy.response import ResponseParser
from tests.certificates import Authority
from tests.gateway_world import HOST, open_world
from tests.listener_world import until_closed
from tests.rawwire import hold, response, then_close, then_reset
from tests.tally import TALLY
from tests.test_websockets import AGREED, LISTED, handshake
from tests.upstream_client import eventually

EACH = 3
"""Connections of a kind at a time; of their requests two may be under way, so that the third waits for its turn."""
LONG = b"x" * 300_000
HOLDERS = (ClientConnection, ClientRequest, Connection, Inbox, Intake, ResponseParser)
"""Whatever has bytes of a connection has them in one of these."""

LINE = b"Host: " + HOST.encode() + b"\r\n"
CLOSE = b"Connection: close\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(LONG), LONG)


def get(target, *lines):
    return b"GET %b HTTP/1.1\r\n" % target + LINE + b"".join(lines or [b"\r\n"])


def post(target, length):
    return b"POST %b HTTP/1.1\r\n" % target + LINE + b"Content-Length: %d\r\n\r\n" % length + LONG


def chunks(target, then=b""):
    return b"POST %b HTTP/1.1\r\n" % target + LINE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK + then


READ = None
"""It is read to its end; otherwise it is cut once the app has heard so many of these requests."""
CUSTOMERS = {
    "nothing said": (b"", 0),
    "half a head": (get(b"/half", b"X-Half: " + LONG[:20_000]), 0),
    "a malformed head": (get(b"/ malformed"), READ),
    "an idle connection": (get(b"/idle"), EACH),
    "a finished request": (get(b"/finished", CLOSE), READ),
    "a finished upload": (post(b"/finished", len(LONG)), EACH),
    "no answer": (get(b"/held"), EACH - 1),
    "an unread download": (get(b"/download"), 1),
    "an upload of which some is missing": (post(b"/held", 2 * len(LONG)), EACH - 1),
    "chunks of which some are missing": (chunks(b"/held"), EACH - 1),
    "chunks that break off": (chunks(b"/held", b"no chunk\r\n"), READ),
    "an upload that is answered early": (post(b"/early", 2 * len(LONG)), 1),
    "no answer, and the app has gone": (get(b"/reset"), READ),
    "half an answer, and the app has gone": (get(b"/half-answered"), READ),
    "a WebSocket": (handshake() + LONG, EACH),
    "a WebSocket that the app resets": (handshake(target=b"/live/reset") + LONG, READ),
    "a page of ours": (get(b"/.locum/account", CLOSE), READ),
}
ASSUMED = b"Authorization: Bearer TOKEN\r\n"
STAFF = {
    "an assumed request": (get(b"/tickets/1", ASSUMED, CLOSE), READ),
    "a refused request": (get(b"/forbidden", ASSUMED, CLOSE), READ),
    "an unread download": (get(b"/tickets/2", ASSUMED, b"\r\n"), 1),
    "no answer": (get(b"/tickets/3", ASSUMED, b"\r\n"), EACH - 1),
    "staff's WebSocket": (handshake("TOKEN") + LONG, EACH),
}


def script(seen):
    answers = {
        b"/held": hold(asyncio.Event()),
        b"/tickets/3": hold(asyncio.Event()),
        b"/download": response(LONG * 10),
        b"/tickets/2": response(LONG * 10),
        b"/early": response(b"no", status=b"413 Content Too Large"),
        b"/reset": then_reset(b""),
        b"/half-answered": then_close(response(LONG)[:-1]),
        b"/live": hold(asyncio.Event(), before=AGREED + LONG),
        b"/live/reset": then_reset(AGREED + LONG),
    }
    return answers.get(seen.target, response())


@pytest.fixture
def no_collector(caplog):
    """It does not run, and what existed before is not looked through for what has been left.

    Nor is anything kept with what is logged, as pytest would keep it.
    """
    caplog.set_level(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def holders():
    """Count what there is of each kind, but for connections to the app that wait for the next request."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, HOLDERS) and not waits(one))


def waits(one):
    """Whether it is a connection to the app that the next request may use."""
    return isinstance(one, Connection) and hasattr(one, "_transport") and one.is_idle


@contextlib.asynccontextmanager
async def opened(tmp_path, pair=None):
    def change(document):
        document["limits"]["in_flight_per_peer"] = EACH - 1
        if pair is not None:
            document["server"]["tls"] = pair.table()
        profile = Path(document["upstream"]["profile"])
        profile.write_text(profile.read_text() + LISTED)

    async with open_world(tmp_path, script=script, answer_at_head=True, change=change) as world:
        yield world


async def come_and_go(world, raw, heard, *, trusting=None):
    """Open some connections that say `raw`, and end them."""
    there, asked = holders()["ClientConnection"], len(world.upstream.requests)
    TALLY.messages += EACH
    ways = [await asyncio.open_connection("127.0.0.1", world.port, ssl=trusting) for _ in range(EACH)]
    try:
        for _, writer in ways:
            writer.write(raw)
        if heard is READ:
            if not raw:
                for _, writer in ways:
                    writer.write_eof()
            for reader, _ in ways:
                await until_closed(reader)
        else:
            await eventually(lambda: holders()["ClientConnection"] >= there + EACH)
            await world.upstream.until(lambda: len(world.upstream.requests) >= asked + heard)
    finally:
        for _, writer in ways:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def check_nothing_stays(world, kinds, **options):
    """Fail for the first kind of connection of which anything stays."""
    for kind, (raw, heard) in kinds.items():
        before = holders()
        await come_and_go(world, raw, heard, **options)
        with contextlib.suppress(TimeoutError):
            await eventually(lambda before=before: holders() <= before)
        assert Counter() == holders() - before, kind


@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_customers_connection_stays_behind_it(tmp_path):
    """However it ends, on either side, there is nothing of it left that only the cycle collector would find."""
    async with opened(tmp_path) as world:
        await check_nothing_stays(world, CUSTOMERS)


@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_tls_connection_stays_behind_it(tmp_path, authority):
    """Likewise, and such a one holds a quarter of a mebibyte for its records; so it is if the handshake fails."""
    async with opened(tmp_path, authority.issue("127.0.0.1")) as world:
        await check_nothing_stays(world, CUSTOMERS, trusting=authority.trusting())
        await check_nothing_stays(world, {"no handshake": (b"", READ), "no TLS": (get(b"/plain"), READ)})


@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_staffs_connection_stays_behind_it(tmp_path):
    """Likewise, for what is assumed or refused; its tokens are among what it held."""
    async with opened(tmp_path) as world:
        await world.choose("day")
        token = (await world.token()).encode()
        kinds = {kind: (raw.replace(b"TOKEN", token), heard) for kind, (raw, heard) in STAFF.items()}
        await check_nothing_stays(world, kinds)

"""Ordinary traffic in time: what comes piece by piece goes on piece by piece, and what comes beside the message as well."""

import asyncio
import base64
import contextlib
import hashlib
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.attack_world import open_attack
from tests.oracle import parse_responses
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import chunked_response, drip, each_byte, exchange, hold, response
from tests.striker import HOST_LINE
from tests.tally import TALLY

whole = pytest.mark.asyncio(loop_scope="module")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b>\r\n\r\n"
KEY = base64.b64encode(b"0123456789abcdef")
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - RFC 6455


class App:
    """Gives the next answer that it was told to."""

    def __init__(self):
        self.answer = response()

    def __call__(self, seen):
        return self.answer


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory):
    """An app that answers when it has seen a head."""
    app = App()
    directory = tmp_path_factory.mktemp("gateway")
    async with open_attack(directory, script=app, answer_at_head=True, token=False) as attacker:
        attacker.world.app = app
        yield attacker.world


@pytest.fixture
def answering(world):
    def told(answer):
        world.app.answer = answer

    yield told
    world.app.answer = response()


@asynccontextmanager
async def talking(world, raw):
    """Send `raw` on a new connection, and talk on."""
    TALLY.messages += 1
    await world.note_sent(raw)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(raw)
            yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def get(*lines, target=b"/tickets/1", method=b"GET", version=b"HTTP/1.1", host=HOST_LINE):
    return (
        method + b" " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    )


POST = get(CHUNKED.strip(), method=b"POST")


# --- piece by piece ---


@whole
@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 33\r\n", b""], ids=["chunked", "counted", "to the end"])
async def test_an_event_is_there_before_the_next_one_is_sent(world, answering, framing):
    """Nothing of a stream is held back to be sent with more: not its head, and none of its pieces."""
    steps = [asyncio.Event() for _ in range(4)]
    events = [b"data: %d...\n" % index for index in range(3)]

    async def stream(connection):
        await connection.send(OK + b"Content-Type: text/event-stream\r\n" + framing + b"\r\n")
        for step, event in zip(steps, events, strict=False):
            await step.wait()
            await connection.send(b"%x\r\n%b\r\n" % (len(event), event) if framing == CHUNKED else event)
        await steps[3].wait()
        connection.close()

    answering(stream)
    async with talking(world, get()) as (reader, _writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK + b"Content-Type: text/event-stream\r\n")
        for step, event in zip(steps, events, strict=False):
            step.set()
            piece = await reader.readuntil(event)
            assert event in piece
        steps[3].set()


@whole
@pytest.mark.parametrize("size", [1, 5000])
async def test_a_piece_of_a_request_is_at_the_app_before_the_next_one_is_sent(world, size):
    """An upload goes on as it comes, not when it is complete."""
    async with talking(world, POST) as (reader, writer):
        await reader.readuntil(b"\r\n\r\nok")
        seen = world.upstream.requests[-1]
        assert b"" == seen.body
    world.app.answer = hold(done := asyncio.Event(), after=response(b"done"))
    async with talking(world, POST) as (reader, writer):
        await world.upstream.until(lambda: world.upstream.requests[-1] is not seen)
        seen = world.upstream.requests[-1]
        for index in range(4):
            writer.write(b"%x\r\n%b\r\n" % (size, b"%d" % index * size))
            await world.upstream.until(lambda index=index: seen.body.endswith(b"%d" % index * size))
        writer.write(b"0\r\n\r\n")
        await world.upstream.until(seen.complete.is_set)
        done.set()
        await reader.readuntil(b"\r\n\r\ndone")
    world.app.answer = response()


@whole
async def test_a_long_poll_waits_and_nobody_waits_with_it(world, answering):
    """A held answer holds neither other clients nor their connections."""
    go = asyncio.Event()
    answering(hold(go, after=response(b"late")))
    before = len(world.upstream.requests)
    async with talking(world, get()) as (reader, _writer):
        await world.upstream.until(lambda: len(world.upstream.requests) > before)
        answering(response())
        for _ in range(20):
            assert response() == await world.raw(get())
        go.set()
        assert response(b"late") == await reader.readexactly(len(response(b"late")))


@whole
async def test_the_body_is_asked_for_by_us_and_once(world, answering):
    """`100 Continue` comes when the app is there to take the body; the app's own is not sent on."""
    answering(b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"done"))
    async with talking(world, get(b"Expect: 100-continue", b"Content-Length: 5", method=b"POST") + b"") as (
        reader,
        writer,
    ):
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hello")
        answer = await reader.readuntil(b"\r\n\r\ndone")
    assert [200] == [one.status for one in await parse_responses(answer)]


# --- beside the message ---


@whole
async def test_early_hints_are_there_before_the_answer(world, answering):
    """RFC 8297: as they are, each once, and none for HTTP/1.0, which has no interim responses."""
    go = asyncio.Event()
    answering(hold(go, before=HINTS, after=HINTS + response(b"done")))
    async with talking(world, get()) as (reader, _writer):
        assert HINTS == await reader.readuntil(b"\r\n\r\n")
        go.set()
        assert HINTS + response(b"done") == await reader.readexactly(len(HINTS + response(b"done")))

    answering(HINTS + response(b"done"))
    answer = await world.raw(get(version=b"HTTP/1.0"), responses=None)
    assert [200] == [one.status for one in await parse_responses(answer)]


@whole
async def test_early_hints_are_the_same_byte_by_byte(world, answering):
    """Wherever the app's segments are cut."""
    answering(drip(HINTS + HINTS + response()))
    assert HINTS + HINTS + response() == await world.raw(get())


TRAILERS = [(b"X-Sum", b"1"), (b"x-sum", b"\xff 2"), (b"Content-Digest", b"sha-256=:x:"), (b"Grpc-Status", b"0")]


@whole
async def test_trailers_of_an_answer_reach_the_client(world, answering):
    """In order and as they are, behind the last chunk; with the line that announces them."""
    raw = chunked_response(b"hello", headers=[(b"Trailer", b"X-Sum")], trailers=TRAILERS)
    for answer in (raw, drip(raw)):
        answering(answer)
        [one] = await parse_responses(await world.raw(get(b"TE: trailers")))
        assert (b"hello", TRAILERS) == (one.body, one.trailers)
        assert [b"X-Sum"] == one.values(b"trailer")


@whole
async def test_trailers_of_a_request_reach_the_app(world, answering):
    """In order and as they are, behind the last chunk."""

    async def when_complete(connection):
        await world.upstream.requests[-1].complete.wait()
        await connection.send(response())

    answering(when_complete)
    raw = POST + b"5\r\nhello\r\n0\r\n" + b"".join(b"%b: %b\r\n" % line for line in TRAILERS) + b"\r\n"
    for pieces in ([raw], each_byte(raw)):
        before = len(world.upstream.requests)
        await world.raw(pieces)
        [seen] = world.upstream.requests[before:]
        assert (b"hello", TRAILERS) == (seen.body, seen.trailers)


FORBIDDEN = [
    b"Content-Length", b"Transfer-Encoding", b"Host", b"Set-Cookie", b"Connection", b"Location", b"Cache-Control", b"Content-Type",
    b"WWW-Authenticate", b"Access-Control-Allow-Origin",
]  # fmt: skip


@whole
async def test_trailers_that_frame_route_or_control_stay_behind(world, answering):
    """RFC 9110 section 6.5.1: no client finds them where it might merge them into the head."""
    lines = [(name, b"1") for name in FORBIDDEN if name not in (b"Content-Length", b"Transfer-Encoding")]
    answering(chunked_response(b"hello", trailers=[(b"A", b"1"), *lines, (b"B", b"2")]))
    [one] = await parse_responses(await world.raw(get(b"TE: trailers")))
    assert (b"hello", [(b"A", b"1"), (b"B", b"2")]) == (one.body, one.trailers)


# --- WebSocket ---

SWITCH = OK.replace(b"200 OK", b"101 Switching Protocols") + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
HANDSHAKE = get(
    b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY
)
FRAMES = bytes(range(256)) * 300


@pytest.mark.parametrize("way", ["at once", "byte by byte"])
async def test_a_websocket_carries_bytes_both_ways_as_they_are(open_before, way):
    """Also what comes in the segment of the handshake, on either side; and its end ends both connections."""
    got, ended = bytearray(), asyncio.Event()

    async def echo(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Sec-WebSocket-Key: " + KEY in head
        writer.write(SWITCH + b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\nhello")
        while data := await reader.read(65536):
            got.extend(data)
            writer.write(data)
            await writer.drain()
        writer.close()
        ended.set()

    async with another_app(echo) as url, open_before(url) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for piece in [HANDSHAKE + b"early"] if way == "at once" else each_byte(HANDSHAKE + b"early"):
                writer.write(piece)
                await asyncio.sleep(0)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Accept: " + ACCEPT in head
            assert b"helloearly" == await reader.readexactly(10)
            writer.write(FRAMES)
            assert FRAMES == await reader.readexactly(len(FRAMES))
            assert b"early" + FRAMES == got
            writer.write_eof()
            assert b"" == await reader.read()
            await ended.wait()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def another_app(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def open_before(tmp_path):
    @asynccontextmanager
    async def opened(url):
        def change(document):
            document["upstream"]["url"] = url

        async with open_attack(tmp_path, change=change, token=False) as attacker:
            yield attacker.world.port

    return opened


# --- ends, and what older clients leave out ---


@whole
async def test_http_10_may_leave_out_the_host(world):
    """The app gets the name under which we know it, and one Host line."""
    answer = await world.raw(get(version=b"HTTP/1.0", host=b""), responses=None)
    assert answer.endswith(b"\r\n\r\nok")
    assert [world.upstream.url.removeprefix("http://").encode()] == world.upstream.requests[-1].values(b"host")


@whole
@pytest.mark.parametrize(
    "raw", [get()[:-2], get(b"Content-Length: 5", method=b"POST") + b"hell", POST + b"5\r\nhello\r\n0\r\n"]
)
async def test_a_client_that_ends_in_the_middle_of_its_request_has_gone(world, raw):
    """Half a request is none: the app never sees it complete."""
    before = len(world.upstream.requests)
    await world.note_sent(raw)
    assert b"" == await exchange("127.0.0.1", world.port, raw, then_eof=True, responses=None)
    await world.raw(get())
    assert not any(seen.complete.is_set() for seen in world.upstream.requests[before:-1])

"""The public listener on real sockets: what is answered and how, what ends a connection, and what it may take."""

import asyncio
import contextlib

import pytest

from gateway.proxy.client import HIGH_WATER_BYTES
from gateway.proxy.wire import Headers
from tests.listener_world import (
    BULK,
    CLOSING_GET,
    GET,
    IN_FLIGHT,
    SOON,
    Echo,
    Stuck,
    chunks,
    head,
    listening,
    post,
    reply,
    statuses,
    until_closed,
    until_still,
)
from tests.oracle import parse_responses
from tests.rawwire import each_byte

BOTH_LOOPS = True

EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


# --- requests and responses ---


async def test_a_request_is_handed_over_as_it_came():
    """Method, target, version and lines, byte for byte, and who is connected."""
    seen = []

    async def handler(inbound):
        seen.append((inbound.head, inbound.peer, inbound.has_body))
        await reply(inbound)

    raw = b"FROB /%zz/\xc3\xa9?? HTTP/1.0\r\nhOST: a\r\nX: 1\r\nx:\xff\r\n\r\n"
    async with listening(handler) as server:
        answer = await server.send(raw)
    [(got, peer, has_body)] = seen
    assert (b"FROB", b"/%zz/\xc3\xa9??", (1, 0)) == (got.method, got.target, got.version)
    assert ((b"hOST", b"a"), (b"X", b"1"), (b"x", b"\xff")) == got.headers
    assert ("127.0.0.1", False) == (peer, has_body)
    assert b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" == answer


async def test_a_body_is_handed_over_without_its_framing():
    """Counted or chunked; and the next request begins right behind it."""
    echo = Echo()
    streamed = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
    )
    raw = post(b"hello") + streamed + CLOSING_GET
    async with listening(echo) as server:
        for pieces in ([raw], each_byte(raw)):
            answer = await server.send(b"", pieces=pieces)
            assert [b"echo:hello", b"echo:hello", b"echo:"] == [each.body for each in await parse_responses(answer)]


RESPONSES = [
    # Headers and body of the response, method and version of the request: what is on the wire.
    (((b"Content-Length", b"2"),), b"ok", b"GET", 1, b"Content-Length: 2\r\n\r\nok"),
    (((b"cOntent-length", b"2"),), b"ok", b"GET", 1, b"cOntent-length: 2\r\n\r\nok"),
    ((), b"ok", b"GET", 1, b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ((), b"", b"GET", 1, b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ((), None, b"GET", 1, b"Content-Length: 0\r\n\r\n"),
    (((b"X", b"1"), (b"x", b"\xff")), None, b"GET", 1, b"X: 1\r\nx: \xff\r\nContent-Length: 0\r\n\r\n"),
    (((b"Content-Length", b"2"),), b"ok", b"GET", 0, b"Content-Length: 2\r\nConnection: keep-alive\r\n\r\nok"),
    ((), b"ok", b"GET", 0, b"Connection: close\r\n\r\nok"),
    (((b"Content-Length", b"2"),), b"ok", b"HEAD", 1, b"Content-Length: 2\r\n\r\n"),
    (((b"Content-Length", b"2"),), None, b"HEAD", 1, b"Content-Length: 2\r\n\r\n"),
    ((), b"ok", b"HEAD", 1, b"\r\n"),
    ((), None, b"HEAD", 0, b"Connection: keep-alive\r\n\r\n"),
]


@pytest.mark.parametrize(("lines", "body", "method", "minor", "expected"), RESPONSES)
async def test_a_response_is_framed_so_that_it_has_one_end(lines, body, method, minor, expected):
    """By its length, in chunks, or by the end of the connection; and nothing else is added."""

    async def handler(inbound):
        if inbound.head.target == b"/last":
            await reply(inbound, b"last")
        else:
            await inbound.respond(head(200, *lines), None if body is None else chunks(body))

    request = b"%b / HTTP/1.%d\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" % (method, minor)
    async with listening(handler) as server:
        answer = await server.send(request + CLOSING_GET)
    first = b"HTTP/1.1 200 OK\r\n" + expected
    kept = b"Connection: close" not in expected
    assert first + (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast" if kept else b"") == answer


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(status):
    """Whatever the handler gives along, not a byte of it is sent, or it would be read as the next response."""

    async def handler(inbound):
        await inbound.respond(head(status), chunks(b"body"))

    async with listening(handler) as server:
        answer = await server.send(GET + CLOSING_GET)
    expected = b"HTTP/1.1 %d OK\r\n" % status
    assert expected + b"\r\n" + expected + b"Connection: close\r\n\r\n" == answer


@pytest.mark.parametrize("length", [b"0", b"5"])
async def test_a_204_announces_nothing(length):
    """RFC 9110 section 8.6: whoever believed it would wait, or take the next response for its body."""

    async def handler(inbound):
        await inbound.respond(head(204, (b"ETag", b"x"), (b"content-length", length)), None)

    async with listening(handler) as server:
        answer = await server.send(GET + CLOSING_GET)
    expected = b"HTTP/1.1 204 OK\r\nETag: x\r\n"
    assert expected + b"\r\n" + expected + b"Connection: close\r\n\r\n" == answer


BAD_RESPONSES = [
    (((b"X", b"a\r\nY: b"),), b"", 500),
    (((b"X\n", b"a"),), b"", 500),
    (((b"X", b"a\rb"),), b"", 500),
    (((b"Content-Length", b"1"), (b"Content-Length", b"1")), b"x", 500),
    (((b"Content-Length", b"-1"),), b"x", 500),
    (((b"Content-Length", b"1"),), None, 500),
    (((b"Content-Length", b"1"),), b"xx", None),
    (((b"Content-Length", b"3"),), b"xx", None),
]


@pytest.mark.parametrize(("lines", "body", "status"), BAD_RESPONSES)
async def test_a_response_that_would_be_read_as_two_is_not_sent(lines, body, status):
    """Our own mistake is a 500, or once the head is out an end; never a response too many, or one that never ends."""

    async def handler(inbound):
        await inbound.respond(head(200, *lines), None if body is None else chunks(body))

    async with listening(handler, our_faults=True) as server:
        answer = await server.send(GET + GET)
    assert ([] if status is None else [status]) == await statuses(answer if status else b"")
    assert b"Y: b" not in answer
    assert answer.count(b"HTTP/1.1") <= 1
    assert b"xx" not in answer or status is None


async def test_an_empty_chunk_does_not_end_a_response():
    """On the wire it would."""

    async def handler(inbound):
        await inbound.respond(head(), chunks(b"a", b"", b"b"))

    async with listening(handler) as server:
        assert (await server.send(CLOSING_GET)).endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


class CountingTransport:
    """A transport that counts how often it is written to."""

    def __init__(self, transport):
        self.writes = []
        self._transport = transport

    def write(self, data):
        self.writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


async def test_a_small_response_leaves_in_one_write_and_a_late_body_holds_no_head_back():
    """Head and body go together when both are here, and the head alone when the body takes time."""
    made = []
    late = asyncio.Event()

    def counted(listener):
        def factory():
            connection = listener()
            made_by_us = connection.connection_made

            def connection_made(transport):
                made.append(CountingTransport(transport))
                made_by_us(made[-1])

            connection.connection_made = connection_made
            return connection

        return factory

    async def slow_body():
        await late.wait()
        yield b"ok"

    async def handler(inbound):
        if inbound.head.target == b"/late":
            await inbound.respond(head(200, (b"Content-Length", b"2")), slow_body())
        else:
            await reply(inbound)

    async with listening(handler, factory=counted) as server, server.connect() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"ok")
        assert 1 == len(made[0].writes)
        writer.write(GET.replace(b"/ ", b"/late "))
        assert await reader.readuntil(b"\r\n\r\n")
        late.set()
        assert b"ok" == await reader.readexactly(2)
        assert 3 == len(made[0].writes)


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time():
    """A thousand in one piece, each begun when the one before it is over."""
    running = 0

    async def handler(inbound):
        nonlocal running
        running += 1
        assert 1 == running
        await asyncio.sleep(0)
        running -= 1
        await reply(inbound, inbound.head.target)

    raw = b"".join(GET.replace(b"/ ", b"/%d " % index) for index in range(1000)) + CLOSING_GET
    async with listening(handler) as server:
        answer = await server.send(raw)
    expected = [b"/%d" % index for index in range(1000)] + [b"/last"]
    assert expected == [response.body for response in await parse_responses(answer)]


async def test_what_is_pipelined_waits_outside():
    """While a request is answered, no more than a bounded part of what comes behind it is taken in."""
    stuck = Stuck()
    async with listening(stuck) as server, server.connect() as (_, writer):
        writer.write(GET)
        await stuck.begun.wait()
        writer.write(GET * (BULK // len(GET)))
        await until_still(writer.transport.get_write_buffer_size)
        assert writer.transport.get_write_buffer_size() > BULK - IN_FLIGHT
        [connection] = server.listener._open
        assert connection._intake.buffered < 3 * HIGH_WATER_BYTES
        stuck.go.set()


# --- Expect, interim responses, upgrades ---

EXPECTING = post(b"", b"Expect: 100-continue", length=5)


async def test_the_body_is_asked_for_when_it_is_read():
    """`100 Continue` comes with the first reading, once, and not to HTTP/1.0."""
    decided = asyncio.Event()

    async def handler(inbound):
        await decided.wait()
        await Echo()(inbound)

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(EXPECTING)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await reader.read(1)
        decided.set()
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hello" + CLOSING_GET)
        assert [200, 200] == await statuses(await until_closed(reader))
        assert [200] == await statuses(await server.send(EXPECTING.replace(b"/1.1", b"/1.0") + b"hello"))


async def test_a_body_that_is_not_read_is_not_asked_for():
    """The refusal comes alone, and then the connection ends: what follows might be the body or not."""
    async with listening(lambda inbound: reply(inbound, status=403)) as server:
        answer = await server.send(EXPECTING + GET)
    assert b"HTTP/1.1 403 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" == answer


async def test_interim_responses_go_ahead_of_the_final_one():
    """Any number of them, but none to HTTP/1.0, and none behind."""
    late = []

    async def handler(inbound):
        inbound.inform(head(103, (b"Link", b"</a>"), reason=b"Early Hints"))
        inbound.inform(head(103, (b"Link", b"</a>"), reason=b"Early Hints"))
        await reply(inbound)
        for status in (103, 101, 200):
            with pytest.raises(ValueError, match="interim"):
                inbound.inform(head(status))
            late.append(status)

    async with listening(handler) as server:
        assert (await server.send(CLOSING_GET)).startswith(2 * EARLY_HINTS + b"HTTP/1.1 200 OK\r\n")
        assert (await server.send(CLOSING_GET.replace(b"/1.1", b"/1.0"))).startswith(b"HTTP/1.1 200 OK\r\n")
    assert 6 == len(late)


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED: Headers = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))


async def test_a_switched_connection_is_handed_over_with_what_came_early():
    """Bytes go both ways untouched, each end of a direction is told, and nothing of it is read as HTTP."""
    over = asyncio.Event()

    async def handler(inbound):
        stream = await inbound.switch(head(101, *SWITCHED, reason=b"Switching Protocols"))
        while data := await stream.read():
            await stream.write(data)
        await stream.write(b"bye")
        await stream.close()
        await stream.close()
        over.set()

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(UPGRADE + GET)
        expected = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET
        assert expected == await reader.readexactly(len(expected))
        writer.write(b"\x00\r\n\r\n\xff")
        assert b"\x00\r\n\r\n\xff" == await reader.readexactly(6)
        writer.write_eof()
        assert b"bye" == await until_closed(reader)
        await over.wait()


async def test_a_stream_slows_its_sender_down_and_waits_for_its_reader():
    """What is not read waits outside, whoever does not read."""
    begin, sent = asyncio.Event(), 0

    async def handler(inbound):
        nonlocal sent
        stream = await inbound.switch(head(101))
        await begin.wait()
        with contextlib.suppress(ConnectionError):
            while True:
                await stream.write(b"x" * 65536)
                sent += 65536

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * BULK)
        await until_still(writer.transport.get_write_buffer_size)
        assert writer.transport.get_write_buffer_size() > BULK - IN_FLIGHT
        begin.set()
        await until_still(lambda: sent)
        assert 0 < sent < IN_FLIGHT


async def test_a_stream_that_is_cut_delivers_nothing_more():
    """`abort` resets: what was written and not yet taken is dropped. The handler goes on to its end."""
    cut, over = asyncio.Event(), asyncio.Event()

    async def handler(inbound):
        stream = await inbound.switch(head(101))
        await cut.wait()
        stream.abort()
        with pytest.raises(ConnectionError):
            await stream.read()
        with pytest.raises(ConnectionError):
            await stream.write(b"late")
        await asyncio.sleep(0.01)  # as a record of the end would take
        over.set()

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        cut.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await over.wait()


@pytest.mark.parametrize("status", [200, 403, 426])
async def test_after_an_upgrade_that_is_not_made_nothing_is_read(status):
    """What came early was meant for the other protocol."""
    echo = []

    async def handler(inbound):
        echo.append(inbound.head.target)
        await reply(inbound, status=status)

    async with listening(handler) as server:
        assert [status] == await statuses(await server.send(UPGRADE + GET + GET))
    assert [b"/ws"] == echo


async def test_an_ignored_h2c_upgrade_does_not_cost_the_connection():
    """Some clients ask for it each time and wait for the answer."""
    raw = GET.replace(
        b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"
    )
    async with listening(reply) as server:
        assert [200, 200, 200] == await statuses(await server.send(raw + raw + CLOSING_GET))


async def test_connect_ends_the_connection():
    """Whatever the answer, what follows may be meant for a tunnel."""
    async with listening(lambda inbound: reply(inbound, status=405)) as server:
        raw = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + GET
        assert [405] == await statuses(await server.send(raw))


@pytest.mark.parametrize("raw", [post(b"hello"), UPGRADE.replace(b"/1.1", b"/1.0")])
async def test_only_a_request_that_can_be_switched_is(raw, caplog):
    """Not with a body, whose end would be the stream's beginning; not in HTTP/1.0."""

    async def handler(inbound):
        with pytest.raises(ValueError, match="101"):
            await inbound.switch(head(101))
        await reply(inbound, close=True)

    async with listening(handler) as server:
        assert [200] == await statuses(await server.send(raw))

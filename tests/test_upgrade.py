"""The switch of protocols at the upstream: who gets the raw connection, and that nobody else ever gets its bytes."""

import asyncio
import base64
import hashlib
import os

import pytest

from gateway.proxy.wire import UpstreamFault, UpstreamTimeout
from tests.rawwire import RecordingUpstream, UpstreamConnection, each_byte, hold, response, then_close
from tests.upstream_client import body_of, eventually, fetch, pool_to, read_all, request

BOTH_LOOPS = True

SOON = 0.05
"""Seconds: a limit that is meant to be reached."""
BULK = 64 * 1024 * 1024
IN_FLIGHT = 12 * 1024 * 1024
"""What the kernel may hold on both sides of a loopback connection, and our own bounded rest."""
KEY = base64.b64encode(bytes(range(16)))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - RFC 6455
FORGED = response(b"forged")


def handshake(**changes):
    lines = {
        "Connection": b"keep-alive, Upgrade",
        "Upgrade": b"websocket",
        "Sec_WebSocket_Version": b"13",
        "Sec_WebSocket_Key": KEY,
    }
    return request(**{name: value for name, value in (lines | changes).items() if value is not None})


def switching(*lines: bytes, version: bytes = b"1.1", **changes) -> bytes:
    """A 101, right unless changed: `accept=None` leaves the line out, further lines come behind."""
    right = {
        "upgrade": b"Upgrade: websocket",
        "connection": b"Connection: Upgrade",
        "accept": b"Sec-WebSocket-Accept: " + ACCEPT,
    }
    kept = [line for line in (right | changes).values() if line is not None]
    return b"\r\n".join([b"HTTP/" + version + b" 101 Switching Protocols", *kept, *lines]) + b"\r\n\r\n"


# --- the raw connection ---


async def test_bytes_go_both_ways_as_they_are():
    """Those behind the head come first; nothing is parsed, a frame of an exbibyte announced is ten bytes."""
    frame = b"\x82\x7f\x10\x00\x00\x00\x00\x00\x00\x00"
    async with RecordingUpstream(switching() + b"first") as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        stream = answer.stream
        assert (101, True) == (answer.head.status, stream is not None)
        assert [] == [chunk async for chunk in answer.body]
        assert b"first" == await stream.read()

        await stream.write(frame)
        await eventually(lambda: upstream.connections[0].received.endswith(b"\r\n\r\n" + frame))
        await upstream.connections[0].send(frame)
        assert frame == await stream.read()
        await stream.close()
        await answer.close()


async def test_a_switch_is_the_same_wherever_its_segments_are_cut():
    """Head and first frames, byte by byte."""

    async def dripped(connection: UpstreamConnection) -> None:
        for piece in each_byte(switching(b"Content-Length: 0") + b"abc"):
            await connection.send(piece)
            await asyncio.sleep(0)
        connection.close()

    async with RecordingUpstream(dripped) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        assert b"abc" == await read_stream(answer.stream)
        await answer.close()


async def read_stream(stream) -> bytes:
    pieces = []
    while data := await stream.read():
        pieces.append(data)
    return b"".join(pieces)


async def test_interim_answers_may_come_before_the_switch():
    """RFC 9110 section 15.2: any number of them, here told of."""
    told = []
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + switching()
    async with RecordingUpstream(raw) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True, inform=told.append)

        assert ([103], 101) == ([head.status for head in told], answer.head.status)
        answer.stream.abort()


async def test_nothing_but_the_handshake_is_sent_before_the_switch():
    """Early data stays with the caller: there is no stream to write it to."""
    gate = asyncio.Event()
    async with RecordingUpstream(hold(gate, after=switching())) as upstream, pool_to(upstream.url) as pool:
        sending = asyncio.ensure_future(pool.send(handshake(), None, upgrade=True))
        await upstream.until(lambda: upstream.requests)
        assert upstream.requests[0].head == upstream.connections[0].received
        gate.set()

        await (await sending).close()


async def test_a_switched_connection_never_carries_a_request_again():
    """Neither while it is open nor when it was closed cleanly."""
    script = [response(), switching(), response(), response()]
    async with RecordingUpstream(script) as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)
        answer = await pool.send(handshake(), None, upgrade=True)
        await fetch(pool)
        await answer.close()
        await upstream.until(upstream.connections[0].ended.is_set)
        await fetch(pool)

        assert [0, 0, 1, 1] == [seen.connection_id for seen in upstream.requests]


async def test_the_end_of_the_upstream_is_the_end_of_the_stream():
    """What it sent before is all there."""
    async with RecordingUpstream(then_close(switching() + b"bye")) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        await eventually(lambda: pool.open_count == 0)

        assert [b"bye", b"", b""] == [await answer.stream.read() for _ in range(3)]
        with pytest.raises(UpstreamFault, match=upstream.url):
            await answer.stream.write(b"x")
        await answer.stream.close()


async def test_a_reset_is_not_the_end_of_the_stream():
    """A broken connection can be told from a closed one."""
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        upstream.connections[0].reset()

        with pytest.raises(UpstreamFault, match=upstream.url):
            await answer.stream.read()
        await answer.close()


async def test_closing_the_stream_sends_what_was_written_and_ends_who_reads():
    """All of it arrives, then the end; the reader on our side sees the end, too."""
    async with RecordingUpstream(switching(), receive_buffer_bytes=65536) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        reading = asyncio.ensure_future(answer.stream.read())
        written = b"x" * 4_000_000
        await answer.stream.write(written)
        await answer.stream.close()
        await answer.stream.close()

        assert b"" == await reading
        await upstream.until(upstream.connections[0].ended.is_set)
        assert upstream.connections[0].received.endswith(b"\r\n\r\n" + written)


@pytest.mark.parametrize("cut", ["abort", "close the answer", "close the pool"])
async def test_cutting_the_stream_ends_both_sides(cut):
    """At once, with nothing more sent."""
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        reading = asyncio.ensure_future(answer.stream.read())
        await asyncio.sleep(0)
        if cut == "abort":
            answer.stream.abort()
        elif cut == "close the answer":
            await answer.close()
        else:
            await pool.close()

        await upstream.until(upstream.connections[0].ended.is_set)
        with pytest.raises(UpstreamFault):
            await reading
        with pytest.raises(UpstreamFault):
            await answer.stream.write(b"x")
        await answer.close()
        assert upstream.requests[0].head == upstream.connections[0].received


async def test_an_upstream_that_does_not_read_is_not_waited_for_without_end():
    """The limit for a stalled request holds for a write, and from then on the stream is closed."""
    async with (
        RecordingUpstream(switching(), receive_buffer_bytes=65536) as upstream,
        pool_to(upstream.url, request_stall_timeout_seconds=SOON) as pool,
    ):
        answer = await pool.send(handshake(), None, upgrade=True)
        upstream.reading.clear()
        for _ in range(2):
            with pytest.raises(UpstreamTimeout, match="request_stall_timeout_seconds"):
                await answer.stream.write(b"x" * BULK)
        await eventually(lambda: pool.open_count == 0)
        await answer.stream.close()
        upstream.reading.set()


async def test_closing_does_not_wait_without_end_for_what_was_written():
    """The same limit, and then the rest is thrown away."""
    async with (
        RecordingUpstream(switching(), receive_buffer_bytes=65536) as upstream,
        pool_to(upstream.url, request_stall_timeout_seconds=SOON) as pool,
    ):
        answer = await pool.send(handshake(), None, upgrade=True)
        upstream.reading.clear()
        writing = asyncio.ensure_future(answer.stream.write(b"x" * BULK))
        await asyncio.sleep(0)
        writing.cancel()
        await answer.stream.close()
        await eventually(lambda: pool.open_count == 0)
        upstream.reading.set()


async def test_whoever_waits_for_room_hears_at_once_that_the_connection_broke():
    """Not when some time is up."""
    async with RecordingUpstream(switching(), receive_buffer_bytes=65536) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        upstream.reading.clear()
        writing = asyncio.ensure_future(answer.stream.write(b"x" * BULK))
        await asyncio.sleep(0)
        upstream.connections[0].reset()

        with pytest.raises(UpstreamFault, match="broke the connection"):
            await writing
        await answer.close()
        upstream.reading.set()


async def test_a_cancelled_write_breaks_nothing():
    """What was handed over goes out in its order when the upstream reads on, though nobody waits for it any more."""
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with RecordingUpstream(switching(), receive_buffer_bytes=65536) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        upstream.reading.clear()
        writing = asyncio.ensure_future(answer.stream.write(b"x" * BULK))
        await asyncio.sleep(0)
        assert not writing.done()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        upstream.reading.set()
        await answer.stream.write(b"y")
        await answer.stream.close()
        await upstream.until(upstream.connections[0].ended.is_set)

        assert upstream.connections[0].received.endswith(b"xy")
    assert [] == errors


async def test_a_slow_reader_stops_the_upstream_and_a_slow_upstream_the_writer():
    """Nothing piles up in memory, either way, while the other way goes on."""
    given = 0

    async def bulk(connection: UpstreamConnection) -> None:
        nonlocal given
        await connection.send(switching())
        for _ in range(BULK // 65536):
            await connection.send(b"x" * 65536)
            given += 65536
        connection.send_eof()

    async with RecordingUpstream(bulk, receive_buffer_bytes=65536) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        before = -1
        while before != given or not given:
            before = given
            await asyncio.sleep(0.02)  # the claim is that nothing happens, so time is what must pass
        assert given < IN_FLIGHT

        upstream.reading.clear()
        writing = asyncio.ensure_future(answer.stream.write(b"y" * BULK))
        assert BULK == len(await read_stream(answer.stream))
        assert not writing.done()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await answer.close()


# --- time and number ---


async def test_a_silent_stream_outlives_the_limits_of_an_exchange():
    """A WebSocket may be quiet; the limit between pieces of a body is not for it."""
    limits = {"idle_timeout_seconds": SOON, "response_timeout_seconds": SOON, "max_idle_age_seconds": SOON}
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url, **limits) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        await asyncio.sleep(3 * SOON)  # the claim is that nothing happens, so time is what must pass
        await upstream.connections[0].send(b"late")

        assert b"late" == await answer.stream.read()
        await answer.stream.close()


async def test_a_stream_may_have_a_limit_of_its_own():
    """Counted from the last byte of either side."""
    async with (
        RecordingUpstream(switching()) as upstream,
        pool_to(upstream.url, websocket_idle_timeout_seconds=SOON) as pool,
    ):
        answer = await pool.send(handshake(), None, upgrade=True)
        clock = asyncio.get_running_loop().time
        end = clock() + 3 * SOON
        while clock() < end:
            await answer.stream.write(b"x")
            await asyncio.sleep(0)

        with pytest.raises(UpstreamTimeout, match="websocket_idle_timeout_seconds"):
            await answer.stream.read()
        await answer.close()


async def test_open_streams_take_no_place_of_ordinary_requests():
    """However many agents leave a page open, the app stays within reach; and however they end, no place is given twice."""
    script = lambda seen: switching() if seen.values(b"upgrade") else response()  # noqa: E731 - one line says it
    async with (
        RecordingUpstream(script) as upstream,
        pool_to(upstream.url, max_connections=1, queue_timeout_seconds=SOON) as pool,
    ):
        answers = [await pool.send(handshake(), None, upgrade=True) for _ in range(5)]

        assert [(200, b"ok")] * 3 == [await fetch(pool) for _ in range(3)]
        for answer in answers[:3]:
            await answer.stream.close()
        for connection in upstream.connections[3:5]:
            connection.close()
        assert [b""] * 2 == [await answer.stream.read() for answer in answers[3:]]
        for answer in answers:
            await answer.close()
        assert (200, b"ok") == await fetch(pool)
        busy = await pool.send(request(), None)
        with pytest.raises(UpstreamTimeout, match="max_connections"):
            await fetch(pool)
        await busy.close()


async def test_there_are_no_more_streams_than_allowed():
    """The upstream is not even asked; one that ends makes room."""
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url, max_websockets=2) as pool:
        answers = [await pool.send(handshake(), None, upgrade=True) for _ in range(2)]
        with pytest.raises(UpstreamFault, match="max_websockets"):
            await pool.send(handshake(), None, upgrade=True)
        assert 2 == len(upstream.requests)
        upstream.connections[0].close()
        await eventually(lambda: pool.open_count == 1)

        answers.append(await pool.send(handshake(), None, upgrade=True))
        assert 101 == answers[-1].head.status
        for answer in answers:
            await answer.close()


# --- attacks ---

FAKES = {
    "wrong accept": switching(accept=b"Sec-WebSocket-Accept: " + base64.b64encode(b"x" * 20)),
    "the key as accept": switching(accept=b"Sec-WebSocket-Accept: " + KEY),
    "accept in another case": switching(accept=b"Sec-WebSocket-Accept: " + ACCEPT.swapcase()),
    "no accept": switching(accept=None),
    "two accepts": switching(b"Sec-WebSocket-Accept: " + ACCEPT),
    "no upgrade": switching(upgrade=None),
    "h2c": switching(upgrade=b"Upgrade: h2c"),
    "two protocols": switching(upgrade=b"Upgrade: h2c, websocket"),
    "two upgrades": switching(b"Upgrade: h2c"),
    "no connection": switching(connection=None),
    "connection close": switching(connection=b"Connection: close"),
    "HTTP/1.0": switching(version=b"1.0"),
    "a body announced": switching(b"Content-Length: 6"),
    "a chunked body announced": switching(b"Transfer-Encoding: chunked"),
    "bare LF": switching().replace(b"\r\n", b"\n"),
    "102": switching().replace(b"101", b"102") + FORGED,
}


@pytest.mark.parametrize("raw", FAKES.values(), ids=FAKES)
async def test_a_fake_101_opens_nothing(raw):
    """What answers no handshake of ours is a fault or another answer, and its connection carries nothing more."""
    async with RecordingUpstream([raw, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        try:
            answer = await pool.send(handshake(), None, upgrade=True)
        except UpstreamFault:
            pass
        else:
            assert (200, None) == (answer.head.status, answer.stream)
            await answer.close()

        await upstream.until(upstream.connections[0].ended.is_set)
        assert (200, b"mine") == await fetch(pool)
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


@pytest.mark.parametrize(
    "head",
    [
        handshake(Sec_WebSocket_Version=b"1337"),
        handshake(Sec_WebSocket_Version=None),
        handshake(Sec_WebSocket_Key=None),
        handshake(Sec_WebSocket_Key=b""),
        handshake(Sec_WebSocket_Key=base64.b64encode(b"too short")),
        handshake(Sec_WebSocket_Key=KEY[:-2] + b"!!"),
        handshake(sec_websocket_key=KEY),
        handshake(Upgrade=b"h2c"),
        handshake(Upgrade=b"websocket, h2c"),
        handshake(upgrade=b"h2c"),
        handshake(Upgrade=None),
        handshake(Connection=b"keep-alive"),
        handshake(Connection=None),
    ],
)
async def test_a_101_to_what_was_no_handshake_opens_nothing(head):
    """Whatever accept it has: a stranger who chooses the answer does not choose what was asked."""
    key = dict(head.headers).get(b"Sec-WebSocket-Key", b"")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    raw = switching(accept=b"Sec-WebSocket-Accept: " + accept)
    async with RecordingUpstream([raw, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault, match="switched protocols"):
            await pool.send(head, None, upgrade=True)

        assert (200, b"mine") == await fetch(pool)


async def test_a_101_unasked_opens_nothing():
    """A perfect handshake and a perfect answer, but the caller did not mean it; or it had a body; or was no GET."""
    post = request(b"POST", **{name.decode().replace("-", "_"): value for name, value in handshake().headers[1:]})
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url) as pool:
        for head, body, upgrade in [
            (handshake(), None, False),
            (handshake(Content_Length=b"1"), body_of(b"x"), True),
            (post, None, True),
        ]:
            with pytest.raises(UpstreamFault):
                await pool.send(head, body, upgrade=upgrade)


@pytest.mark.parametrize(
    "status", [b"200 OK", b"400 Bad", b"401 No", b"403 Forbidden", b"426 Upgrade Required", b"503 Later"]
)
@pytest.mark.parametrize("version", [b"13", b"1337"])
async def test_a_refused_upgrade_is_an_ordinary_answer_whose_connection_is_closed(status, version):
    """WebSocket smuggling: whoever believed in the upgrade sends on, so nothing may be sent there any more."""
    lines = [(b"Sec-WebSocket-Version", b"13"), (b"Connection", b"keep-alive")]
    script = [response(b"no", status=status, headers=lines), response(b"mine")]
    async with RecordingUpstream(script) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(Sec_WebSocket_Version=version), None, upgrade=True)

        assert (int(status[:3]), None) == (answer.head.status, answer.stream)
        assert b"no" == await read_all(answer)
        await upstream.until(upstream.connections[0].ended.is_set)
        assert upstream.requests[0].head == upstream.connections[0].received
        assert (200, b"mine") == await fetch(pool)


async def test_what_follows_a_refused_upgrade_answers_nobody():
    """Poison: a second answer behind the refusal, at once or later."""
    gate = asyncio.Event()

    async def refuse_and_poison(connection: UpstreamConnection) -> None:
        await connection.send(response(b"no", status=b"426 Upgrade Required"))
        await gate.wait()
        await connection.send(FORGED)

    async with RecordingUpstream([refuse_and_poison, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        assert b"no" == await read_all(answer)
        gate.set()

        assert (200, b"mine") == await fetch(pool)
        assert 2 == len(upstream.connections)


async def test_hundreds_of_upgrades_between_requests_poison_none():
    """Every answer carries its request's nonce, whatever became of the handshakes around it."""
    fates = [
        *FAKES.values(),
        switching(),
        switching() + FORGED,
        response(b"no", status=b"426 Upgrade Required") + FORGED,
    ]

    def script(seen):
        if seen.values(b"upgrade"):
            return fates[int(seen.target[1:]) % len(fates)]
        return response(seen.target[1:])

    async def upgrade(number: int) -> None:
        head = handshake()
        head = type(head)(method=b"GET", target=b"/%d" % number, headers=head.headers)
        try:
            answer = await pool.send(head, None, upgrade=True)
        except UpstreamFault:
            return
        await answer.close()

    async def ordinary(number: int) -> None:
        nonce = b"nonce-%d-" % number + os.urandom(8).hex().encode()
        assert (200, nonce) == await fetch(pool, request(target=b"/" + nonce))

    async with (
        RecordingUpstream(script) as upstream,
        pool_to(upstream.url, max_connections=8, queue_timeout_seconds=60) as pool,
    ):
        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(upgrade(number))
                group.create_task(ordinary(number))

        assert 300 == sum(not seen.values(b"upgrade") for seen in upstream.requests)

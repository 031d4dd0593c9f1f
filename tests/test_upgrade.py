"""The switch of protocols at the upstream: who gets the raw connection, for how long, and how many of them."""

import asyncio

import pytest

from gateway.proxy.wire import UpstreamFault, UpstreamTimeout
from tests.patience import unless_it_stalls
from tests.rawwire import RecordingUpstream, UpstreamConnection, each_byte, hold, response, then_close
from tests.upgrades import handshake, switching
from tests.upstream_client import eventually, fetch, pool_to, request

BOTH_LOOPS = True

SOON = 0.05
"""Seconds: a limit that is meant to be reached."""
BULK = 64 * 1024 * 1024
IN_FLIGHT = 12 * 1024 * 1024
"""What the kernel may hold on both sides of a loopback connection, and our own bounded rest."""


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


@unless_it_stalls
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


@unless_it_stalls
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


@unless_it_stalls
async def test_a_silent_stream_outlives_the_limits_of_an_exchange():
    """A WebSocket may be quiet; the limit between pieces of a body is not for it."""
    limits = {"idle_timeout_seconds": SOON, "response_timeout_seconds": SOON, "max_idle_age_seconds": SOON}
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url, **limits) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        await asyncio.sleep(3 * SOON)  # the claim is that nothing happens, so time is what must pass
        await upstream.connections[0].send(b"late")

        assert b"late" == await answer.stream.read()
        await answer.stream.close()


@unless_it_stalls
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


@unless_it_stalls
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

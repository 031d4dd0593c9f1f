"""Bodies on their way: an early end, a slow end on either side, and every wait with its limit."""

import asyncio

import pytest

from gateway.proxy.connection import HIGH_WATER_BYTES
from gateway.proxy.wire import UpstreamFault, UpstreamTimeout
from tests.patience import unless_it_stalls
from tests.rawwire import RecordingUpstream, UpstreamConnection, hold, response, then_close, then_reset
from tests.upstream_client import body_of, fetch, pool_to, read_all, request

BOTH_LOOPS = True

SOON = 0.05
"""Seconds: a limit that is meant to be reached."""
MEBIBYTE = 1024 * 1024
BULK = 64 * MEBIBYTE
IN_FLIGHT = 12 * MEBIBYTE
"""What the kernel may hold on both sides of a loopback connection, and our own bounded rest."""


# --- both ways at once ---


async def test_a_final_answer_before_the_body_is_read_stops_the_sending():
    """The answer is whole, the body is left where it is, and the connection is not used again."""
    stopped = asyncio.Event()

    async def endless():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            stopped.set()

    script = [response(b"too large", status=b"413 Content Too Large"), response()]
    async with RecordingUpstream(script, answer_at_head=True) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(request(b"POST"), endless())

        assert stopped.is_set(), "the body is still being read after send has returned"
        assert (413, b"too large") == (answer.head.status, await read_all(answer))
        assert (200, b"ok") == await fetch(pool)
        assert ([], [0, 1]) == (upstream.violations, [seen.connection_id for seen in upstream.requests])


async def test_an_answer_before_the_last_byte_has_left_costs_the_connection():
    """A request is sent when the kernel has it, not when we have handed it over."""

    async def answer_and_stop_reading(connection: UpstreamConnection) -> None:
        upstream.reading.clear()
        await connection.send(response())

    upstream = RecordingUpstream([answer_and_stop_reading, response()], answer_at_head=True, receive_buffer_bytes=65536)
    async with upstream, pool_to(upstream.url) as pool:
        assert (200, b"ok") == await fetch(pool, request(b"POST", Content_Length=b"%d" % BULK), body_of(b"x" * BULK))
        upstream.reading.set()

        assert (200, b"ok") == await fetch(pool)
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


async def test_a_body_of_known_length_is_sent_when_its_last_byte_is():
    """Its iterator need not end for that, and the connection is used again."""

    async def unfinished():
        yield b"hello"
        await asyncio.Event().wait()

    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        assert (200, b"ok") == await fetch(pool, request(b"POST", Content_Length=b"5"), unfinished())
        assert (200, b"ok") == await fetch(pool)
        assert [0, 0] == [seen.connection_id for seen in upstream.requests]


@pytest.mark.parametrize("answer", [then_reset(b""), then_close(b"")], ids=["reset", "closed"])
@pytest.mark.parametrize("size", [1, 65536])
async def test_an_upstream_that_hangs_up_on_the_body_is_a_fault(answer, size):
    """Whatever the writing to a dead socket raises, it is told as the upstream's fault."""

    async def endless():
        while True:
            yield b"x" * size
            await asyncio.sleep(0)

    async with RecordingUpstream(answer, answer_at_head=True) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault, match=upstream.url):
            await fetch(pool, request(b"POST"), endless())


async def test_an_interim_answer_does_not_stop_the_sending():
    """100 and 103 are passed over, and the body goes on."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    gate = asyncio.Event()

    async def after_interim():
        yield b"first"
        await gate.wait()
        yield b"second"

    async with (
        RecordingUpstream(hold(gate, before=interim, after=response()), answer_at_head=True) as upstream,
        pool_to(upstream.url) as pool,
    ):
        sending = asyncio.ensure_future(fetch(pool, request(b"POST", Content_Length=b"11"), after_interim()))
        await upstream.until(lambda: upstream.requests)
        gate.set()

        assert (200, b"ok") == await sending
        await upstream.until(upstream.requests[0].complete.is_set)
        assert b"firstsecond" == upstream.requests[0].body


async def test_cancelling_the_sending_ends_the_body_and_the_connection():
    """When `send` has raised, nobody reads the client's body any more."""
    stopped = asyncio.Event()

    async def endless():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        sending = asyncio.ensure_future(pool.send(request(b"POST"), endless()))
        await upstream.until(lambda: upstream.requests and upstream.requests[0].body)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        assert stopped.is_set()
        await upstream.until(upstream.connections[0].ended.is_set)


async def test_closing_an_answer_early_closes_its_connection():
    """What was not read is not left for the next exchange."""
    async with RecordingUpstream(response(b"x" * 4_000_000)) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(request(), None)
        await answer.close()
        await answer.close()

        await upstream.until(upstream.connections[0].ended.is_set)
        with pytest.raises(UpstreamFault):
            await read_all(answer)


async def test_an_upstream_that_does_not_read_stops_the_sender():
    """A large upload waits at the client and not in memory; it arrives whole when the upstream reads on."""
    taken = 0

    async def bulk():
        nonlocal taken
        for _ in range(BULK // 65536):
            taken += 65536
            yield b"x" * 65536

    async with RecordingUpstream(receive_buffer_bytes=65536) as upstream, pool_to(upstream.url) as pool:
        upstream.reading.clear()
        sending = asyncio.ensure_future(fetch(pool, request(b"POST", Content_Length=b"%d" % BULK), bulk()))
        before = -1
        while before != taken or not taken:
            before = taken
            await asyncio.sleep(0.02)  # the claim is that nothing happens, so time is what must pass

        assert taken < IN_FLIGHT
        upstream.reading.set()
        assert (200, b"ok") == await sending
        assert BULK == len(upstream.requests[0].body)


@pytest.mark.parametrize("framing", [b"Content-Length: %d" % BULK, b"Transfer-Encoding: chunked", b"X: to the end"])
@unless_it_stalls
async def test_a_reader_that_does_not_read_stops_the_upstream(framing):
    """A large download waits at the upstream; it arrives whole when the reader reads on."""
    given = 0

    async def bulk(connection: UpstreamConnection) -> None:
        nonlocal given
        chunked = framing.endswith(b"chunked")
        await connection.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        for _ in range(BULK // 65536):
            await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n" if chunked else b"x" * 65536)
            given += 65536
        await connection.send(b"0\r\n\r\n" if chunked else b"")
        if framing.startswith(b"X"):
            connection.close()

    async with RecordingUpstream(bulk) as upstream, pool_to(upstream.url, idle_timeout_seconds=0.2) as pool:
        answer = await pool.send(request(), None)
        before = -1
        while before != given or not given:
            before = given
            await asyncio.sleep(0.25)  # longer than the idle timeout, which must not run while we do not read

        assert given < IN_FLIGHT
        assert answer._parser.buffered <= 3 * HIGH_WATER_BYTES
        assert BULK == sum([len(chunk) async for chunk in answer.body])
        await answer.close()


# --- time ---


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
@unless_it_stalls
async def test_an_upstream_that_does_not_answer_in_time_is_a_timeout(before):
    """Neither silence, nor interim answers, nor half a head hold a request for ever."""
    async with (
        RecordingUpstream([hold(asyncio.Event(), before=before), response()]) as upstream,
        pool_to(upstream.url, response_timeout_seconds=SOON) as pool,
    ):
        with pytest.raises(UpstreamTimeout, match="response_timeout_seconds"):
            await fetch(pool)

        assert (200, b"ok") == await fetch(pool)


@unless_it_stalls
async def test_a_head_that_trickles_in_is_a_timeout():
    """The limit is for the whole head; a byte now and then does not extend it."""

    async def trickle(connection: UpstreamConnection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nX: ")
        while not connection.ended.is_set():
            await connection.send(b"y")
            await asyncio.sleep(SOON / 4)

    async with (
        RecordingUpstream(trickle) as upstream,
        pool_to(upstream.url, response_timeout_seconds=SOON) as pool,
    ):
        with pytest.raises(UpstreamTimeout, match="response_timeout_seconds"):
            await fetch(pool)


@unless_it_stalls
async def test_the_time_to_answer_counts_from_the_end_of_the_request():
    """A slow client's upload is not the upstream's delay."""

    async def slow():
        for _ in range(4):
            yield b"x"
            await asyncio.sleep(SOON)

    async with RecordingUpstream() as upstream, pool_to(upstream.url, response_timeout_seconds=2 * SOON) as pool:
        assert (200, b"ok") == await fetch(pool, request(b"POST"), slow())


@unless_it_stalls
async def test_an_upstream_that_stops_reading_is_a_timeout():
    """A stalled upload ends."""

    async def bulk():
        while True:
            yield b"x" * 65536

    async with (
        RecordingUpstream(receive_buffer_bytes=65536) as upstream,
        pool_to(upstream.url, request_stall_timeout_seconds=SOON) as pool,
    ):
        upstream.reading.clear()
        with pytest.raises(UpstreamTimeout, match="request_stall_timeout_seconds"):
            await fetch(pool, request(b"POST"), bulk())
        upstream.reading.set()


@unless_it_stalls
async def test_an_answer_that_pauses_too_long_is_a_timeout():
    """The body so far is handed out, then the iterator raises."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
    async with (
        RecordingUpstream(hold(asyncio.Event(), before=half)) as upstream,
        pool_to(upstream.url, idle_timeout_seconds=SOON) as pool,
    ):
        answer = await pool.send(request(), None)
        assert b"half" == await anext(answer.body)
        with pytest.raises(UpstreamTimeout, match="idle_timeout_seconds"):
            await anext(answer.body)
        await answer.close()

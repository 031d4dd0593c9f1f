"""The pool: which connection is used again, what is sent a second time, how many there are, and how it all ends."""

import asyncio
import os
import socket
import ssl

import pytest

from gateway.proxy.pool import Pool
from gateway.proxy.wire import UpstreamFault, UpstreamTimeout
from tests.patience import unless_it_stalls
from tests.ports import free_port
from tests.rawwire import RecordingUpstream, UpstreamConnection, hold, response, then_close, then_reset
from tests.upstream_client import body_of, eventually, fetch, pool_to, read_all, request

SOON = 0.05
"""Seconds: a limit that is meant to be reached."""


BOTH_LOOPS = True


# --- reuse ---


async def test_the_connection_used_last_is_used_next():
    """Last in, first out: the load keeps few connections warm and lets the others age."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        first = await pool.send(request(), None)
        second = await pool.send(request(), None)
        await second.close()
        await first.close()
        await fetch(pool)
        await fetch(pool)

        assert [0, 1, 0, 0] == [seen.connection_id for seen in upstream.requests]


async def test_an_answer_that_says_close_ends_its_connection():
    """RFC 9112 section 9.6."""
    async with (
        RecordingUpstream(response(headers=[(b"Connection", b"close")])) as upstream,
        pool_to(upstream.url) as pool,
    ):
        await fetch(pool)
        await fetch(pool)

        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


async def test_no_more_connections_stay_idle_than_allowed():
    """The rest are closed when they come back."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url, max_idle=2) as pool:
        for answer in [await pool.send(request(), None) for _ in range(5)]:
            await answer.close()

        await upstream.until(lambda: 3 == sum(connection.ended.is_set() for connection in upstream.connections))


@pytest.mark.parametrize("scheme", ["NTLM", "ntlm", "Negotiate", "nEGOTIATE"])
@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization"])
async def test_a_connection_that_somebody_signed_in_is_nobody_else_s(name, scheme):
    """NTLM and Negotiate sign in the connection (RFC 4559 section 6): what comes next on it would be theirs."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        await fetch(pool, request(**{name: f"{scheme} TlRMTVNTUAABAAAA".encode()}))
        await fetch(pool)
        await fetch(pool, request(**{name: b"Bearer negotiate"}))
        await fetch(pool)

        assert [0, 1, 1, 1] == [seen.connection_id for seen in upstream.requests]


async def test_a_pool_apart_shares_bounds_and_no_connection():
    """One busy connection is all there may be of both; once it is idle, the other opens its own; both are closed."""
    async with (
        RecordingUpstream() as upstream,
        pool_to(upstream.url, max_connections=1, queue_timeout_seconds=SOON) as pool,
    ):
        apart = pool.apart()
        busy = await pool.send(request(), None)
        with pytest.raises(UpstreamTimeout):
            await apart.send(request(), None)
        await busy.close()
        for one in (apart, pool, apart):
            await fetch(one)
        assert [0, 1, 0, 1] == [seen.connection_id for seen in upstream.requests]
        assert 2 == pool.open_count == apart.open_count
        await pool.close()
        assert 0 == apart.open_count
        with pytest.raises(UpstreamFault):
            await apart.send(request(), None)


@unless_it_stalls
async def test_an_idle_connection_is_closed_when_it_is_too_old():
    """The upstream would close it anyway, perhaps under a request."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url, max_idle_age_seconds=SOON) as pool:
        await fetch(pool)

        await upstream.until(upstream.connections[0].ended.is_set)
        assert (200, b"ok") == await fetch(pool)


@unless_it_stalls
async def test_the_idle_age_counts_from_the_last_use():
    """A connection in use never grows old, though it makes no timer per request."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url, max_idle_age_seconds=4 * SOON) as pool:
        clock = asyncio.get_running_loop().time
        end = clock() + 8 * SOON
        while clock() < end:
            await fetch(pool)

        assert 1 == len(upstream.connections)


async def test_connections_that_died_idle_take_no_place_of_others():
    """What is closed is forgotten at once."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url, max_idle=2) as pool:
        answers = [await pool.send(request(), None) for _ in range(4)]
        for answer in answers[:2]:
            await answer.close()
        for connection in upstream.connections[:2]:
            connection.close()
        await eventually(lambda: pool.open_count == 2)
        for answer in answers[2:]:
            await answer.close()

        assert [{2, 3}] * 2 == [await two_at_once(upstream, pool) for _ in range(2)]


async def two_at_once(upstream: RecordingUpstream, pool: Pool) -> set[int]:
    answers = [await pool.send(request(), None) for _ in range(2)]
    for answer in answers:
        await answer.close()
    return {seen.connection_id for seen in upstream.requests[-2:]}


# --- the second try ---


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
@pytest.mark.parametrize("death", [then_close(b""), then_reset(b"")], ids=["closed", "reset"])
async def test_an_idempotent_request_is_sent_again_when_a_reused_connection_dies_silently(method, death):
    """RFC 9112 section 9.3.1; once, on a fresh connection."""
    head_only = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with RecordingUpstream([response(), death, head_only]) as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)

        assert (204, b"") == await fetch(pool, request(method))
        assert [0, 0, 1] == [seen.connection_id for seen in upstream.requests]


async def test_there_is_no_third_try():
    """A fresh connection that dies too is the upstream's fault."""
    async with (
        RecordingUpstream([response(), then_close(b""), then_close(b"")]) as upstream,
        pool_to(upstream.url) as pool,
    ):
        await fetch(pool)

        with pytest.raises(UpstreamFault):
            await fetch(pool)
        assert 3 == len(upstream.requests)


async def test_a_fresh_connection_that_dies_gets_no_second_try():
    """What the first connection did to the upstream, the second would do again."""
    async with RecordingUpstream(then_close(b"")) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault):
            await fetch(pool)
        assert 1 == len(upstream.requests)


@pytest.mark.parametrize(
    ("head", "chunks"),
    [
        (request(b"POST"), None),
        (request(b"PATCH"), None),
        (request(b"get"), None),
        (request(b"POST"), [b"x"]),
        (request(b"PUT"), [b"x"]),
        (request(b"DELETE"), [b"x"]),
        (request(b"GET"), [b"x"]),
    ],
)
async def test_what_may_change_something_or_has_a_body_is_never_sent_twice(head, chunks):
    """The upstream may have done it before it died."""
    async with (
        RecordingUpstream([response(), then_close(b""), response()]) as upstream,
        pool_to(upstream.url) as pool,
    ):
        await fetch(pool)

        with pytest.raises(UpstreamFault):
            await fetch(pool, head, None if chunks is None else body_of(*chunks))
        assert 2 == len(upstream.requests)


@pytest.mark.parametrize("seen", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_request_whose_answer_had_begun_is_never_sent_twice(seen):
    """One byte of an answer proves that the request was taken."""
    async with (
        RecordingUpstream([response(), then_close(seen), response()]) as upstream,
        pool_to(upstream.url) as pool,
    ):
        await fetch(pool)

        with pytest.raises(UpstreamFault):
            await fetch(pool)
        assert 2 == len(upstream.requests)


async def test_a_reset_after_the_answer_had_begun_is_no_reason_to_send_again():
    """As with an end of stream; a reset only looks different from here."""

    async def begin_and_reset(connection: UpstreamConnection) -> None:
        await connection.send(b"HTTP/1.1 ")
        await eventually(lambda: all(one._answered for one in pool._way.open))
        connection.reset()

    async with RecordingUpstream([response(), begin_and_reset]) as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)
        for one in pool._way.open:
            one._answered = False

        with pytest.raises(UpstreamFault):
            await fetch(pool)
        assert 2 == len(upstream.requests)


async def test_a_connection_that_the_upstream_closed_while_idle_is_not_even_tried():
    """Also a request that may be sent only once gets through."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)
        upstream.connections[0].close()
        await upstream.until(upstream.connections[0].ended.is_set)

        assert (200, b"ok") == await fetch(pool, request(b"POST"), body_of(b"x"))
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH"])
async def test_an_end_that_we_have_not_been_told_of_yet_is_seen_before_anything_is_sent(method):
    """The kernel knows that the connection has ended, the event loop does not; nothing is sent, so any may go again."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)
        with socket.socket(fileno=os.dup(upstream.connections[0].socket.fileno())) as same:
            same.shutdown(socket.SHUT_WR)

        assert (200, b"ok") == await fetch(pool, request(method), None if method == b"GET" else body_of(b"x"))
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


async def test_bytes_that_came_before_a_request_are_not_its_answer():
    """An early 408, or the body of another answer: in the kernel already, and not read when the connection is taken."""
    async with RecordingUpstream([response(), response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)
        os.write(upstream.connections[0].socket.fileno(), response(b"forged", status=b"408 Request Timeout"))

        assert (200, b"mine") == await fetch(pool)
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


# --- how many ---


async def test_no_more_connections_are_open_than_allowed_and_the_rest_wait_their_turn():
    """The limit holds at the upstream, and every request is answered."""
    gate = asyncio.Event()
    async with RecordingUpstream(hold(gate, after=response())) as upstream:
        async with pool_to(upstream.url, max_connections=3) as pool, asyncio.TaskGroup() as group:
            fetches = [group.create_task(fetch(pool)) for _ in range(20)]
            await upstream.until(lambda: len(upstream.requests) == 3)
            gate.set()

        assert [(200, b"ok")] * 20 == [task.result() for task in fetches]
        assert 3 == len(upstream.connections)


@unless_it_stalls
async def test_a_request_that_waits_too_long_for_its_turn_is_a_timeout():
    """And it takes nobody's place: once there is room again, all goes on."""
    async with (
        RecordingUpstream() as upstream,
        pool_to(upstream.url, max_connections=1, queue_timeout_seconds=SOON) as pool,
    ):
        busy = await pool.send(request(), None)
        with pytest.raises(UpstreamTimeout, match="max_connections"):
            await fetch(pool)
        await read_all(busy)

        assert (200, b"ok") == await fetch(pool)


@pytest.mark.parametrize("answer", [then_close(b""), b"garbage", then_reset(b"HTTP/1.1 200 OK\r\n")])
@unless_it_stalls
async def test_a_fault_gives_its_place_back(answer):
    """However many exchanges fail, the pool does not shrink."""
    async with (
        RecordingUpstream([answer] * 5 + [response()]) as upstream,
        pool_to(upstream.url, max_connections=1, queue_timeout_seconds=SOON) as pool,
    ):
        for _ in range(5):
            with pytest.raises(UpstreamFault):
                await fetch(pool)

        assert (200, b"ok") == await fetch(pool)


async def test_a_cancelled_request_gives_its_place_back_and_closes_its_connection():
    """The answer that may still come is nobody's."""
    gate = asyncio.Event()
    async with (
        RecordingUpstream([hold(gate, after=response(b"late")), response()]) as upstream,
        pool_to(upstream.url, max_connections=1) as pool,
    ):
        sending = asyncio.ensure_future(fetch(pool))
        await upstream.until(lambda: upstream.requests)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await upstream.until(upstream.connections[0].ended.is_set)

        assert (200, b"ok") == await fetch(pool)


# --- reaching it ---


async def test_a_refused_connection_is_a_fault_that_says_what_to_do():
    """The message names the upstream."""
    url = f"http://127.0.0.1:{free_port()}"
    async with pool_to(url) as pool:
        with pytest.raises(UpstreamFault, match=f"`{url}`.*check that it is running"):
            await fetch(pool)


async def test_after_a_failed_attempt_others_fail_without_one():
    """Nobody waits for what was found out a moment ago, and what still has a connection goes on."""
    server = await asyncio.start_server(answer_ok, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with pool_to(f"http://127.0.0.1:{port}", unreachable_pause_seconds=3600) as pool:
        busy = await pool.send(request(), None)
        server.close()
        with pytest.raises(UpstreamFault, match="check that it is running"):
            await fetch(pool)
        attempts = []
        async with await asyncio.start_server(lambda *_: attempts.append(1), "127.0.0.1", port):
            for _ in range(3):
                with pytest.raises(UpstreamFault, match="a moment ago: check that it is running"):
                    await fetch(pool)

            assert b"ok" == await read_all(busy)
            assert (200, b"ok") == await fetch(pool)
        assert [] == attempts


@unless_it_stalls
async def test_an_upstream_that_is_back_is_found_by_the_next_request_after_the_pause():
    """Nothing has to be reset, and nothing tries by itself."""
    port = free_port()
    async with pool_to(f"http://127.0.0.1:{port}", unreachable_pause_seconds=SOON) as pool:
        with pytest.raises(UpstreamFault):
            await fetch(pool)
        server = await asyncio.start_server(answer_ok, "127.0.0.1", port)
        async with server:
            answered = False
            while not answered:
                try:
                    answered = await fetch(pool) == (200, b"ok")
                except UpstreamFault:
                    await asyncio.sleep(0)

            assert [(200, b"ok")] * 3 == await asyncio.gather(*[fetch(pool) for _ in range(3)])
            await pool.close()


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        writer.write(response())
    writer.close()


@unless_it_stalls
async def test_while_one_request_tries_again_the_others_do_not():
    """An upstream that lets everybody wait costs one of them the wait."""
    async with RecordingUpstream(hold(asyncio.Event())) as upstream:
        url = upstream.url.replace("http:", "https:")
        limits = {"connect_timeout_seconds": SOON, "unreachable_pause_seconds": 4 * SOON}
        async with pool_to(url, tls=ssl.create_default_context(), **limits) as pool:
            with pytest.raises(UpstreamTimeout):
                await fetch(pool)
            outcomes = []
            while not any(isinstance(outcome, UpstreamTimeout) for outcome in outcomes):
                outcomes = await asyncio.gather(*[fetch(pool) for _ in range(20)], return_exceptions=True)
                await asyncio.sleep(0)

            assert [502] * 19 + [504] == sorted(outcome.status for outcome in outcomes)
            assert 2 == len(upstream.connections)


async def test_a_server_that_hangs_up_at_once_is_a_fault_and_leaves_nothing_behind():
    """Also when the connection is lost before anything could be sent on it."""
    server = await asyncio.start_server(lambda _, writer: writer.transport.abort(), "127.0.0.1", 0)
    async with server, pool_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as pool:
        for _ in range(50):
            with pytest.raises(UpstreamFault):
                await fetch(pool)
        await eventually(lambda: pool.open_count == 0)


async def test_a_name_that_does_not_resolve_is_a_fault():
    """RFC 6761 section 6.4: `.invalid` never resolves."""
    async with pool_to("http://app.invalid:80") as pool:
        with pytest.raises(UpstreamFault, match=r"app\.invalid"):
            await fetch(pool)


@unless_it_stalls
async def test_a_connection_that_does_not_come_about_is_a_timeout():
    """TLS to a server that never says a word is not waited for without end."""
    gate = asyncio.Event()
    async with RecordingUpstream(hold(gate)) as upstream:
        url = upstream.url.replace("http:", "https:")
        context = ssl.create_default_context()
        async with pool_to(url, tls=context, connect_timeout_seconds=SOON) as pool:
            with pytest.raises(UpstreamTimeout, match="connect_timeout_seconds"):
                await fetch(pool)


async def test_tls_to_what_speaks_no_tls_is_a_fault():
    """Nothing is sent in the clear instead."""
    async with RecordingUpstream() as upstream:
        async with pool_to(upstream.url.replace("http:", "https:"), tls=ssl.create_default_context()) as pool:
            upstream_speaks = asyncio.ensure_future(fetch(pool))
            await upstream.until(lambda: upstream.connections)
            await upstream.connections[0].send(response())

            with pytest.raises(UpstreamFault):
                await upstream_speaks
        assert b"app.example" not in upstream.connections[0].received


async def test_a_unix_socket_is_an_upstream(tmp_path):
    """The same rules, another door."""
    async with RecordingUpstream(unix_path=str(tmp_path / "app.sock")) as upstream, pool_to(upstream.url) as pool:
        assert [(200, b"ok")] * 2 == [await fetch(pool) for _ in range(2)]
        assert 1 == len(upstream.connections)


async def test_no_proxy_from_the_environment_is_used(monkeypatch):
    """`HTTP_PROXY` is for other programs."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        assert (200, b"ok") == await fetch(pool)


# --- the end ---


async def test_closing_the_pool_closes_what_is_idle_and_what_is_under_way():
    """After `close` no socket is open, and whoever waited is told."""
    gate = asyncio.Event()
    script = [response(), hold(gate, before=b"HTTP/1.1 200 OK\r\n\r\nhalf"), hold(gate)]
    async with RecordingUpstream(script) as upstream, pool_to(upstream.url) as pool:
        idle = await pool.send(request(), None)
        reading = await pool.send(request(), None)
        waiting = asyncio.ensure_future(pool.send(request(), None))
        await upstream.until(lambda: len(upstream.requests) == 3)
        await idle.close()
        await pool.close()

        with pytest.raises(UpstreamFault):
            await read_all(reading)
        with pytest.raises(UpstreamFault):
            await waiting
        with pytest.raises(UpstreamFault, match="shutting down"):
            await fetch(pool)
        await upstream.until(lambda: all(connection.ended.is_set() for connection in upstream.connections))

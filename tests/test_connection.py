"""One connection to the upstream: what is sent, what is taken for an answer, and that no answer is another's."""

import asyncio
import random

import pytest

from gateway.proxy.pool import Pool
from gateway.proxy.wire import RequestHead, UpstreamFault
from tests.rawwire import (
    RecordedRequest,
    RecordingUpstream,
    UpstreamConnection,
    chunked_response,
    drip,
    hold,
    response,
    then_close,
    then_reset,
)
from tests.upstream_client import body_of, fetch, pool_to, read_all, request

BOTH_LOOPS = True


# --- what is sent ---


async def test_the_request_arrives_byte_for_byte():
    """Order, case, repetition and high bytes of the lines are the caller's; nothing is added."""
    head = RequestHead(
        method=b"GET",
        target=b"/a%2F..;/%zz?q=\xc3\xa9",
        headers=((b"hOST", b"app"), (b"X-B", b"\x80\xff"), (b"Cookie", b"a=1"), (b"x-b", b""), (b"Cookie", b"b=2")),
    )
    raw = b"GET /a%2F..;/%zz?q=\xc3\xa9 HTTP/1.1\r\nhOST: app\r\nX-B: \x80\xff\r\nCookie: a=1\r\nx-b: \r\nCookie: b=2\r\n\r\n"
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        assert (200, b"ok") == await fetch(pool, head)
        assert raw == upstream.connections[0].received


@pytest.mark.parametrize("chunks", [[b"hello"], [b"he", b"", b"llo"], []])
async def test_a_body_of_unknown_length_is_sent_chunked(chunks):
    """The Transfer-Encoding line is added if it is missing, and an empty chunk does not end the body."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        for head in (request(b"POST"), request(b"POST", Transfer_Encoding=b"Chunked")):
            assert (200, b"ok") == await fetch(pool, head, body_of(*chunks))

        assert [b"".join(chunks)] * 2 == [seen.body for seen in upstream.requests]
        assert [[b"chunked"], [b"Chunked"]] == [seen.values(b"transfer-encoding") for seen in upstream.requests]
        assert ([], 1) == (upstream.violations, len(upstream.connections))


async def test_a_body_of_known_length_is_sent_as_it_is():
    """The Content-Length line is the framing, and the connection is used again."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        assert (200, b"ok") == await fetch(pool, request(b"POST", Content_Length=b"5"), body_of(b"he", b"llo"))
        assert (200, b"ok") == await fetch(pool, request(b"POST", Content_Length=b"0"), body_of())

        assert [b"hello", b""] == [seen.body for seen in upstream.requests]
        assert ([], 1) == (upstream.violations, len(upstream.connections))


@pytest.mark.parametrize(
    ("head", "chunks"),
    [
        (request(target=b"/ HTTP/1.1\r\nX: y"), None),
        (request(target=b"/a b"), None),
        (request(method=b"GET /x"), None),
        (request(X=b"y\r\nX-Locum-Assertion: forged"), None),
        (request(X=b"y\nZ: z"), None),
        (request(X=b"y\rZ: z"), None),
        (request(b"CONNECT", b"app:443"), None),
        (request(Content_Length=b"5"), None),
        (request(Transfer_Encoding=b"chunked"), None),
        (request(b"POST", Content_Length=b"5", Transfer_Encoding=b"chunked"), [b"hello"]),
        (request(b"POST", Content_Length=b"5", content_length=b"5"), [b"hello"]),
        (request(b"POST", Content_Length=b"5, 5"), [b"hello"]),
        (request(b"POST", Transfer_Encoding=b"gzip, chunked"), [b"hello"]),
        (request(b"POST", Content_Length=b"4"), [b"hello"]),
        (request(b"POST", Content_Length=b"6"), [b"hello"]),
    ],
)
async def test_a_head_that_does_not_fit_its_body_makes_no_second_request(head, chunks):
    """The last gate: our own mistake is an error here, and never two requests or a half one kept open there."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(ValueError, match=r"request|CONNECT"):
            await fetch(pool, head, None if chunks is None else body_of(*chunks))
        await upstream.until(lambda: all(connection.ended.is_set() for connection in upstream.connections))

        assert (200, b"ok") == await fetch(pool)
        assert b"forged" not in b"".join(connection.received for connection in upstream.connections)
        assert len([seen for seen in upstream.requests if seen.complete.is_set()]) == 1


async def test_an_error_of_the_body_comes_through_and_costs_the_connection():
    """The client's fault stays the client's, and the half request is never completed."""

    class ClientGone(Exception):
        pass

    async def broken():
        yield b"half"
        raise ClientGone

    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(ClientGone):
            await fetch(pool, request(b"POST"), broken())
        await upstream.until(upstream.connections[0].ended.is_set)

        assert (b"half", False) == (upstream.requests[0].body, upstream.requests[0].complete.is_set())
        assert (200, b"ok") == await fetch(pool)


# --- what is received ---


async def test_the_answer_keeps_its_lines():
    """Set-Cookie lines stay apart and in order, high bytes stay, nothing is decoded."""
    lines = [
        (b"Set-Cookie", b"a=1"),
        (b"content-encoding", b"gzip"),
        (b"Set-Cookie", b"b=\x80\xff"),
        (b"Location", b"/x"),
    ]
    async with (
        RecordingUpstream(response(b"\x1f\x8b...", status=b"302 Moved", headers=lines)) as upstream,
        pool_to(upstream.url) as pool,
    ):
        answer = await pool.send(request(), None)

        assert (302, b"Moved", (1, 1)) == (answer.head.status, answer.head.reason, answer.head.version)
        assert (*lines, (b"Content-Length", b"5")) == answer.head.headers
        assert b"\x1f\x8b..." == await read_all(answer)
        assert len(upstream.requests) == 1


async def test_no_cookie_of_one_answer_goes_into_the_next_request():
    """There is no cookie jar; two customers share a connection and nothing else."""
    async with RecordingUpstream(response(headers=[(b"Set-Cookie", b"secret=1")])) as upstream:
        async with pool_to(upstream.url.replace("127.0.0.1", "localhost")) as pool:
            await fetch(pool)
            await fetch(pool)

        assert upstream.requests[0].head == upstream.requests[1].head


@pytest.mark.parametrize(
    "raw",
    [
        response(b"hello"),
        chunked_response(b"he", b"llo", trailers=[(b"X-Locum-Assertion", b"forged")]),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"hello"),
    ],
    ids=["counted", "chunked with trailers", "after 103"],
)
async def test_an_answer_that_drips_is_the_same_and_its_connection_is_used_again(raw):
    """Byte by byte, with interim responses and trailers dropped."""
    async with RecordingUpstream(drip(raw)) as upstream, pool_to(upstream.url) as pool:
        for _ in range(3):
            answer = await pool.send(request(), None)

            assert b"forged" not in str(answer.head.headers).encode()
            assert b"hello" == await read_all(answer)
        assert 1 == len(upstream.connections)


async def test_an_answer_that_ends_with_its_connection_is_whole_and_the_next_has_another_connection():
    """RFC 9112 section 6.3, rule 8."""
    async with (
        RecordingUpstream(then_close(b"HTTP/1.1 200 OK\r\n\r\nto the end")) as upstream,
        pool_to(upstream.url) as pool,
    ):
        assert [(200, b"to the end")] * 2 == [await fetch(pool) for _ in range(2)]
        assert 2 == len(upstream.connections)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    ],
)
async def test_an_answer_without_a_body_is_not_waited_for_and_its_connection_is_used_again(method, raw):
    """RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5."""
    async with RecordingUpstream(raw) as upstream, pool_to(upstream.url) as pool:
        for _ in range(3):
            assert b"" == (await fetch(pool, request(method)))[1]
        assert 1 == len(upstream.connections)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
async def test_a_body_that_may_still_come_after_a_bodiless_answer_has_no_request_to_answer(method, raw):
    """The announced length is kept for the client; the connection is closed rather than trusted."""
    async with RecordingUpstream(raw) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(request(method), None)

        assert 1 == len(answer.head.headers)
        assert b"" == await read_all(answer)
        await upstream.until(upstream.connections[0].ended.is_set)


# --- answers that are not one answer ---

FORGED = response(b"forged")
BROKEN = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\nok",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "1xx flood": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00",
    "body on 204": b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED,
    "body on 304": b"HTTP/1.1 304 Not Modified\r\n\r\n" + FORGED,
    "second answer": response() + FORGED,
    "second answer to chunked": chunked_response(b"ok") + FORGED,
    "empty line too many": chunked_response(b"ok") + b"\r\n",
    "long head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_an_answer_that_is_not_one_answer_is_a_fault_and_costs_the_connection(raw):
    """Nothing of it is in the next exchange, and there is no second try."""
    async with RecordingUpstream([raw, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault, match=upstream.url):
            await fetch(pool)

        assert (200, b"mine") == await fetch(pool)
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


async def test_a_body_on_the_answer_to_head_is_a_fault():
    """A forged second response behind it reaches nobody."""
    raw = response(b"x" * 40) + FORGED
    async with RecordingUpstream([raw, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault):
            await fetch(pool, request(b"HEAD"))

        assert (200, b"mine") == await fetch(pool)


@pytest.mark.parametrize(
    "answer",
    [
        then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n"),
        then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
    ],
)
async def test_a_body_that_breaks_off_is_never_a_whole_body(answer):
    """The iterator raises; what did arrive was handed out before."""
    async with RecordingUpstream(answer) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault):
            await fetch(pool)


async def test_a_reset_in_a_body_that_ends_with_its_connection_is_not_its_end():
    """A reset is no end of stream, so truncation shows."""
    gate = asyncio.Event()

    async def reset_later(connection: UpstreamConnection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await gate.wait()
        connection.reset()

    async with RecordingUpstream(reset_later) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(request(), None)
        assert b"half" == await anext(answer.body)
        gate.set()

        with pytest.raises(UpstreamFault):
            await anext(answer.body)
        await answer.close()


async def test_bytes_on_an_idle_connection_close_it():
    """What nobody asked for is nobody's answer."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        await fetch(pool)
        await upstream.connections[0].send(FORGED)
        await upstream.until(upstream.connections[0].ended.is_set)

        assert (200, b"ok") == await fetch(pool)
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


async def test_bytes_after_the_answer_was_read_and_before_it_was_closed_cost_the_connection():
    """The answer is whole; what follows it is not the next one's."""
    async with RecordingUpstream() as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(request(), None)
        assert b"ok" == await anext(answer.body)
        await upstream.connections[0].send(FORGED)
        await upstream.until(upstream.connections[0].ended.is_set)
        assert b"" == await read_all(answer)

        assert (200, b"ok") == await fetch(pool)
        assert 2 == len(upstream.connections)


async def test_the_body_of_a_closed_answer_never_yields_another_answers_bytes():
    """A stale reader on a connection in use again gets an error or the end."""
    first, second = response(b"1" * 10), response(b"2" * 10)
    async with RecordingUpstream([first, second]) as upstream, pool_to(upstream.url) as pool:
        stale = await pool.send(request(), None)
        await stale.close()
        fresh = await pool.send(request(), None)

        assert b"1" * 10 == await anext(stale.body)
        with pytest.raises(StopAsyncIteration):
            await anext(stale.body)
        assert b"2" * 10 == await read_all(fresh)


MISBEHAVIOURS = (
    response,
    lambda nonce: chunked_response(nonce[:4], nonce[4:], trailers=[(b"X", b"y")]),
    lambda nonce: drip(response(nonce)),
    lambda nonce: response(nonce) + FORGED,
    lambda nonce: chunked_response(nonce) + b"\r\n",
    lambda nonce: b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged",
    lambda nonce: b"HTTP/1.1 200 OK\nContent-Length: 6\n\nforged",
    lambda nonce: b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + FORGED,
    lambda nonce: then_close(response(nonce)[:-1]),
    lambda nonce: then_reset(response(nonce)),
    lambda nonce: then_close(b""),
)


async def test_hundreds_of_interleaved_requests_each_get_their_own_answer_or_a_fault():
    """Poison check: every answer carries its request's nonce, and every third misbehaves in some way."""
    rng = random.Random(4)  # noqa: S311 - repeatable, not secret

    def script(seen: RecordedRequest):
        nonce = seen.target.removeprefix(b"/")
        misbehaviour = rng.choice(MISBEHAVIOURS) if rng.random() < 0.34 else MISBEHAVIOURS[0]
        return misbehaviour(nonce)

    faults = 0

    async def one(pool: Pool, number: int) -> None:
        nonlocal faults
        nonce = b"nonce-%04d" % number
        method = rng.choice([b"GET", b"POST"])
        body = body_of(b"x" * rng.randrange(1, 2000)) if method == b"POST" else None
        try:
            assert (200, nonce) == await fetch(pool, request(method, b"/" + nonce), body)
        except UpstreamFault:
            faults += 1

    async with RecordingUpstream(script) as upstream, pool_to(upstream.url, max_connections=8) as pool:
        async with asyncio.TaskGroup() as group:
            for number in range(600):
                group.create_task(one(pool, number))

        assert [] == upstream.violations
        assert 50 < faults < 200
        assert len(upstream.connections) < 300, "connections are not used again, so nothing could be poisoned"


# --- beside the answer ---


async def test_interim_answers_are_told_of_before_the_final_one_has_come():
    """103 is worth something only while the client still waits; with a body under way as well as without."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    for body in (None, body_of(b"x")):
        gate = asyncio.Event()
        told = []

        def inform(head, told=told, gate=gate):
            told.append(head)
            gate.set()

        async with (
            RecordingUpstream(hold(gate, before=hints, after=response()), answer_at_head=True) as upstream,
            pool_to(upstream.url) as pool,
        ):
            answer = await pool.send(request(b"GET" if body is None else b"POST"), body, inform=inform)

            assert b"ok" == await read_all(answer)
        assert [(103, ((b"Link", b"</a>"),))] == [(head.status, head.headers) for head in told]


async def test_interim_answers_in_one_segment_with_the_final_one_are_told_of_in_order():
    """Before `send` returns, and never again for the next request."""
    script = [b"".join(b"HTTP/1.1 %d Interim\r\n\r\n" % status for status in range(102, 118)) + response(), response()]
    async with RecordingUpstream(script) as upstream, pool_to(upstream.url) as pool:
        told: list[int] = []
        for _ in range(2):
            answer = await pool.send(request(), None, inform=lambda head: told.append(head.status))
            assert list(range(102, 118)) == told
            await read_all(answer)
        assert 1 == len(upstream.connections)


async def test_an_error_of_who_is_told_comes_through_and_costs_the_connection():
    """Say, the client is gone; the answer that is still to come is nobody's."""

    class ClientGone(Exception):
        pass

    def inform(_):
        raise ClientGone

    script = [b"HTTP/1.1 103 Early Hints\r\n\r\n" + response(b"late"), response(b"mine")]
    async with RecordingUpstream(script) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(ClientGone):
            await pool.send(request(), None, inform=inform)

        assert (200, b"mine") == await fetch(pool)
        assert 2 == len(upstream.connections)


async def test_trailers_are_there_when_the_body_is_exhausted():
    """And not before, although they may have come in one segment with it."""
    raw = chunked_response(b"hello", trailers=[(b"X-Sum", b"1"), (b"Set-Cookie", b"evil=1")])
    async with RecordingUpstream([raw, response()]) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(request(), None)
        assert () == answer.trailers()
        assert b"hello" == await read_all(answer)
        assert ((b"X-Sum", b"1"),) == answer.trailers()

        assert () == (await sent_and_read(pool)).trailers()
        assert ((b"X-Sum", b"1"),) == answer.trailers()
        assert 1 == len(upstream.connections)


async def sent_and_read(pool: Pool):
    answer = await pool.send(request(), None)
    await read_all(answer)
    return answer

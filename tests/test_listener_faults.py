"""The public listener when something is wrong: what is answered to it, and what ends the connection."""

import functools

import pytest

from tests.listener_world import (
    BULK,
    CLOSING_GET,
    GET,
    SOON,
    Echo,
    head,
    listening,
    post,
    reply,
    statuses,
    until_closed,
)

BOTH_LOOPS = True


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Secret : s3cret\r\n\r\n", 400),
        (b"GET /s3cret HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /s3cret" + b"s" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: s3cret" + b"s" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: s3cret\r\n" * 300 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\ns3cret\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\ns3cret\r\n", 400),
    ],
)
async def test_what_cannot_be_read_is_refused_with_its_status_and_the_connection_ends(raw, status, caplog):
    """What was answered before it stands; what follows is not read; and no byte of it is told or logged."""
    caplog.set_level("INFO")
    echo = Echo()
    async with listening(echo) as server:
        answer = await server.send(GET + raw + GET)
    assert [200, status] == await statuses(answer)
    assert b"Connection: close\r\n" in answer
    assert b"application/problem+json" in answer
    assert b"s3cret" not in answer
    assert "s3cret" not in caplog.text
    assert 1 == len(echo.bodies)


async def test_a_request_whose_body_is_broken_already_is_not_begun():
    """What came with the head counts; so nothing of it goes anywhere."""
    echo = Echo()
    raw = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x1\r\na\r\n0\r\n\r\n"
    async with listening(echo) as server:
        assert [400] == await statuses(await server.send(raw))
    assert [] == echo.heads


async def test_a_body_that_breaks_after_the_answer_has_begun_ends_the_connection():
    """There is no second answer to one request."""

    async def handler(inbound):
        await inbound.respond(head(), inbound.body())

    raw = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(raw)
        await reader.readuntil(b"abc\r\n")
        writer.write(b"no\r\n" + GET)
        assert b"" == await until_closed(reader)


async def test_a_fault_of_the_handler_is_a_500_and_the_end():
    """Nothing behind the request is read, and the client is told nothing of the fault."""
    asked = []

    async def handler(inbound):
        asked.append(inbound.head.target)
        raise KeyError("s3cret")

    async with listening(handler, our_faults=True) as server:
        answer = await server.send(GET + GET)
    assert ([500], [b"/"], False) == (await statuses(answer), asked, b"s3cret" in answer)


async def test_a_fault_behind_the_head_breaks_the_connection():
    """A response that is not whole must not look whole."""

    async def broken():
        yield b"half"
        raise KeyError

    async def handler(inbound):
        await inbound.respond(head(), broken())

    async with listening(handler, our_faults=True) as server, server.connect() as (reader, writer):
        writer.write(GET + GET)
        answer = await until_closed(reader)
    assert answer.count(b"HTTP/1.1") <= 1
    assert b"0\r\n\r\n" not in answer


async def test_a_handler_that_does_not_answer_is_a_500():
    """The client is not left waiting."""

    async def handler(inbound):
        pass

    async with listening(handler, our_faults=True) as server:
        assert [500] == await statuses(await server.send(GET + GET))


async def test_a_request_is_answered_once():
    """A second answer, or one that comes when the request is over, is our mistake and never sent."""
    kept = []

    async def handler(inbound):
        kept.append(inbound)
        await reply(inbound)
        with pytest.raises(RuntimeError, match="exactly once"):
            await reply(inbound)

    async with listening(handler) as server, server.connect() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"ok")
        writer.write(GET)
        await reader.readuntil(b"ok")
        kept[0].abort()
        writer.write(CLOSING_GET)
        assert [200] == await statuses(await until_closed(reader))


async def test_an_unread_body_does_not_eat_the_refusal():
    """The client sends on for a while and still reads the answer, where a plain close would have reset it away."""
    async with listening(lambda inbound: reply(inbound, b"no" * 1000, 403, close=True)) as server:
        async with server.connect() as (reader, writer):
            writer.write(post(b"x" * 1000, length=BULK))
            answer = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2000)
            writer.write(b"x" * 500_000)
            assert b"" == await reader.read()
            writer.close()
        await server.until_empty()
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_a_client_that_never_stops_sending_is_cut():
    """Behind the last response a bounded amount is thrown away, and for a bounded time."""
    refuse = functools.partial(reply, status=403, close=True)
    async with listening(refuse, linger_timeout_seconds=60) as server, server.connect() as (_, writer):
        writer.write(post(b"x" * BULK))
        await server.until_empty()
    async with listening(refuse, linger_timeout_seconds=SOON) as server, server.connect() as (reader, writer):
        writer.write(post(b"x", length=5))
        await reader.readuntil(b"ok")
        await server.until_empty()

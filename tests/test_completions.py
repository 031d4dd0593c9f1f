"""How an exchange ended is on the record: whatever became of it, once, and without anybody's waiting for it."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from gateway.audit.segment import read_entry
from tests.gateway_world import HOST, open_world
from tests.live_world import FIRST, LAST
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import chunked_response, response, then_close, then_reset
from tests.test_websockets import AGREED, LISTED, handshake
from tests.upstream_client import eventually

UPLOADS = ("read", "write")


def listed(document):
    """Have the profile list a WebSocket, and the app named by its address."""
    with Path(document["upstream"]["profile"]).open("a", encoding="utf-8") as profile:
        profile.write(LISTED)


@contextlib.asynccontextmanager
async def open_app(directory, script, *, scope="tickets:read", permissions=("read",), **options):
    async with open_world(directory, script=script, **options) as world:
        assert 200 == (await world.choose("day", permissions))[0]
        yield world, await world.token(scope)


async def only_end(world):
    """Return the one completion, once it is there."""
    await eventually(world.ends)
    [end] = world.ends()
    return end


def request(token, *lines, method="GET", target="/tickets/1", body=b""):
    head = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {token}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def hang_up_after(world, raw, mark):
    """Send, read until `mark` has come, and break the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(raw)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            if mark:
                await reader.readuntil(mark)
            else:
                await world.upstream.until(lambda: world.upstream.requests)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("answer", "status", "sent"),
    [
        (response(b"hello"), 200, 5),
        (response(b"", status=b"404 Not Found"), 404, 0),
        (chunked_response(b"a" * 70_000, b"b" * 70_000), 200, 140_000),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, 0),
        (then_close(b"HTTP/1.1 200 OK\r\n\r\nto the end"), 200, 10),
    ],
)
async def test_an_answer_that_was_sent_whole_is_complete(tmp_path, answer, status, sent):
    """Status, bytes both ways and time; the record names the decision's by number and by the request's id."""
    async with open_app(tmp_path, answer) as (world, token):
        began = time.perf_counter()
        await world.get(token, "/tickets/1?page=2")
        took = (time.perf_counter() - began) * 1e6
        end = await only_end(world)
        assert ("complete", status, 0, sent) == (
            end["ended"],
            end["status"],
            end["bytes_received"],
            end["bytes_sent"],
        )
        [decided] = world.records(kind="decision")
        assert (decided["seq"], decided["request_id"]) == (end["completes"], end["request_id"])
        assert 0 < end["duration_us"] < took
        assert ("acme", decided["assumption"]) == (end["account"], end["assumption"])


async def test_the_body_of_a_request_counts_as_received(tmp_path):
    """Also one in chunks, without their framing."""
    scope = "tickets:read tickets:write"
    async with open_app(tmp_path, response(), scope=scope, permissions=UPLOADS) as (world, token):
        body = b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
        raw = request(token, "Transfer-Encoding: chunked", method="POST", target="/tickets/1/reply", body=body)
        assert b"HTTP/1.1 200 " == (await world.raw(raw))[:13]
        end = await only_end(world)
        assert ("complete", 8, 2) == (end["ended"], end["bytes_received"], end["bytes_sent"])


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (then_reset(b""), 502),
        (then_close(b"no http"), 502),
        (then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), 200),
    ],
)
async def test_an_app_that_fails_is_told_from_one_that_answers_so(tmp_path, answer, status):
    """What staff were told is there, and that it was not the app's word."""
    async with open_app(tmp_path, answer) as (world, token):
        await world.get(token)
        end = await only_end(world)
        assert ("upstream_failed", status) == (end["ended"], end["status"])


async def test_an_answer_of_the_app_s_own_is_no_failure_of_it(tmp_path):
    """It may say 502 for what is behind it."""
    async with open_app(tmp_path, response(status=b"502 Bad Gateway")) as (world, token):
        await world.get(token)
        end = await only_end(world)
        assert ("complete", 502) == (end["ended"], end["status"])


@pytest.mark.parametrize("mark", [b"first\r\n", b""])
async def test_a_client_that_goes_away_is_said_to_have_gone(tmp_path, mark):
    """Before the answer and in the middle of it."""
    gate = asyncio.Event()

    async def answer(connection):
        if mark:
            await connection.send(FIRST)
        await gate.wait()
        await connection.send(LAST)

    async with open_app(tmp_path, answer) as (world, token):
        await hang_up_after(world, request(token), mark)
        end = await only_end(world)
        assert ("client_gone", len("first") if mark else 0) == (end["ended"], end["bytes_sent"])
        assert (200 if mark else None) == end.get("status")
        gate.set()


async def test_an_upload_that_breaks_off_is_the_client_s(tmp_path):
    """It announced more than it sent."""
    scope = "tickets:read tickets:write"
    async with open_app(tmp_path, response(), scope=scope, permissions=UPLOADS) as (world, token):
        raw = request(token, "Content-Length: 10", method="POST", target="/tickets/1/reply", body=b"four")
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(raw)
        await world.upstream.until(
            lambda: world.upstream.requests and b"four" == bytes(world.upstream.requests[0].body)
        )
        writer.close()
        end = await only_end(world)
        assert ("client_gone", 4) == (end["ended"], end["bytes_received"])
        with contextlib.suppress(ConnectionError):
            await reader.read()
            await writer.wait_closed()


async def test_a_gateway_that_stops_says_so_of_what_it_ends(tmp_path):
    """And writes it down before it lets go of the journal."""

    async def answer(connection):
        await connection.send(FIRST)
        await asyncio.Event().wait()

    async with open_app(tmp_path, answer) as (world, token):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(request(token))
        await reader.readuntil(b"first\r\n")
    assert [("stopped", 200)] == [(end["ended"], end["status"]) for end in world.ends()]
    writer.transport.abort()


@pytest.mark.parametrize("app_closes", [True, False])
async def test_a_websocket_ends_as_any_exchange(tmp_path, app_closes):
    """Closed by the app it is complete, and so it is when staff close it; its status is 101."""
    gone = asyncio.Event()

    async def answer(connection):
        await connection.send(AGREED + b"\x81\x02hi")
        if app_closes:
            connection.close()
        await gone.wait()

    async with open_app(tmp_path, answer, change=listed) as (world, token):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(handshake(token))
        assert (await reader.readuntil(b"\x81\x02hi")).startswith(b"HTTP/1.1 101 ")
        if app_closes:
            await reader.read()
        writer.close()
        gone.set()
        end = await only_end(world)
        assert ("complete", 101, 4, 0) == (end["ended"], end["status"], end["bytes_sent"], end["bytes_received"])
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_refusal_says_what_it_was_answered_and_needs_no_completion(tmp_path):
    """The decision's record is all there is of it."""
    async with open_app(tmp_path, response()) as (world, token):
        for target in ("/admin/users", "/nowhere"):
            assert 403 == (await world.get(token, target))[0]
        assert 401 == (await world.get(token + "x"))[0]
        await world.get(token)
        await only_end(world)
        assert [403, 403, 401, None] == [record.get("status") for record in world.records(kind="decision")]


async def test_what_is_done_while_nobody_waits_costs_the_request_nothing(tmp_path):
    """The answer is there before its completion is: no line of that kind is written while the request is open."""
    async with open_app(tmp_path, response()) as (world, token):
        status, _, _ = await world.get(token)
        (segment,) = (tmp_path / "journal").glob("gateway-*.jsonl")
        kinds = [read_entry(line)["kind"] for line in segment.read_bytes().splitlines(keepends=True)]
        assert (200, "decision") == (status, kinds[-1])
        await only_end(world)

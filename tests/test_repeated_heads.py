"""What is kept of a head while its connection repeats it: nothing that a head of its own would not say."""

import asyncio
import gc
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.handler import ProxyHandler
from gateway.proxy.head import ClientFault, HeadReader
from tests.attack_world import open_attack, request
from tests.patience import PATIENCE_SECONDS
from tests.upstream_client import eventually

LONG = b"Cookie: " + b"x" * 5000 + b"\r\n"
LINES = [
    b"",
    b"Host: a\r\n",
    b"Host: b\r\n",
    b"Host: a\r\n" + LONG,
    b"Host: a\r\nConnection: close\r\n",
    b"Host: a\r\nConnection: keep-alive\r\n",
    b"Host: a\r\nContent-Length: 5\r\n",
    b"Host: a\r\nTransfer-Encoding: chunked\r\n",
    b"Host: a\r\nUpgrade: websocket\r\n",
    b"Host: a\r\nHost: a\r\n",
    b"Host: a\r\nX : y\r\n",
    b"Host: a\r\nX: y\r\n" * 3,
]
HEADS = st.builds(
    lambda method, version, lines: b"%b /%b HTTP/%b\r\n%b\r\n" % (method, method, version, lines),
    st.sampled_from([b"GET", b"POST", b"CONNECT", b"OPTIONS"]),
    st.sampled_from([b"1.0", b"1.1", b"1.2"]),
    st.sampled_from(LINES),
)


def reading(reader, raw):
    """What a reader says of a head, its fault included."""
    try:
        head, framing = reader.read(raw)
    except ClientFault as fault:
        return fault.status, fault.title
    return head.method, head.target, head.version, head.headers, framing


@settings(max_examples=600, deadline=None)
@given(st.lists(HEADS, min_size=1, max_size=8))
def test_a_reader_with_a_past_reads_as_one_without(heads):
    """Whatever came before on the connection, and however it was refused."""
    with_past = HeadReader(max_lines=6)
    for raw in heads:
        assert reading(HeadReader(max_lines=6), raw) == reading(with_past, raw)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(LINES[:5], 2)))
def test_what_was_worked_out_goes_on_with_the_very_same_lines_only(first, second):
    """Another line, another version, a long head or CONNECT between, and it begins anew."""
    reader = HeadReader(max_lines=6)
    kept = []
    for version, lines in ((b"0", first), (b"0", first), (b"0", second), (b"0", first)):
        head, _ = reader.read(b"GET / HTTP/1.%b\r\n%b\r\n" % (version, lines))
        head.kept["mark"] = len(kept)
        kept.append(head.kept)
    assert (len(first) < 4096) == (kept[0] is kept[1])
    assert kept[1] is not kept[2]
    assert kept[2] is not kept[3]


async def test_a_repeated_head_is_judged_anew_each_time(tmp_path):
    """On one connection: allowed, then another target, another method, and after a revoke, with the same header lines."""
    async with open_attack(tmp_path) as attacker:
        world, token = attacker.world, attacker.token

        async def statuses(*lines):
            raw = b"".join(request(token).replace(b"GET /tickets/1", line) for line in lines)
            answer = await world.raw(raw, responses=len(lines))
            return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]

        assert [200, 200, 200] == await statuses(b"GET /tickets/1", b"GET /tickets/2", b"GET /tickets/1")
        assert [200, 403] == await statuses(b"GET /tickets/1", b"GET /admin/agents")
        assert [200, 403] == await statuses(b"GET /tickets/1", b"DELETE /tickets/1")
        assert [200, 400] == await statuses(b"GET /tickets/1", b"GET /tickets/%2e%2e/1")


async def test_what_is_kept_ends_with_the_configuration_it_was_made_under(tmp_path):
    """However often it is renewed, a connection that repeats its head holds no more than the last ones alive."""
    # Of other tests: aiohttp remembers, for all applications of a process, the handlers that it has put middlewares around.
    before = count_handlers()
    async with open_attack(tmp_path) as attacker:
        world = attacker.world
        raw = request(attacker.token)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                for _ in range(8):
                    await world.note_sent(raw)
                    writer.write(raw)
                    await reader.readuntil(b"ok")
                    await world.gateway.renew(world.gateway.config)
                # The old ones take themselves down in tasks of their own.
                await eventually(lambda: count_handlers() <= before + 3)
        finally:
            writer.transport.abort()


def count_handlers():
    gc.collect()
    return sum(isinstance(one, ProxyHandler) for one in gc.get_objects())


async def test_a_revoke_counts_between_two_equal_requests_of_one_connection(tmp_path):
    """What is kept of the first head says nothing about the grant."""
    async with open_attack(tmp_path) as attacker:
        world = attacker.world
        raw = request(attacker.token)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await world.note_sent(raw)
                writer.write(raw)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
                assert 200 == (await world.choose("off"))[0]
                await world.note_sent(raw)
                writer.write(raw)
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 403 ")
        finally:
            writer.transport.abort()

"""What one address may take of what there is for all: with the rest of it everybody else is served."""

import asyncio
import contextlib

import pytest

from gateway.proxy.control import PER_ADDRESS, ControlShares
from gateway.proxy.limits import ListenerLimits
from gateway.proxy.peers import Peers, network_of
from tests.attack_world import open_attack, request
from tests.gateway_world import HOST, open_world, parse
from tests.listener_world import GET, listening, reply, statuses, until_closed
from tests.patience import PATIENCE_SECONDS, unless_it_stalls, within
from tests.test_config_limits import open_chat
from tests.test_websockets import handshake
from tests.upstream_client import eventually

UPLOAD = b"POST /tickets HTTP/1.1\r\nHost: acme.helpdesk.example\r\nContent-Length: 100000\r\n\r\n"
CONNECTIONS = 4
OTHER = "127.0.0.2"
"""An address of this machine's, and not the one that the greedy come from."""


@contextlib.asynccontextmanager
async def client(port, *, at="127.0.0.1"):
    """A connection from one of this machine's addresses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(at, 0))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(port, raw=GET, *, at="127.0.0.1"):
    """Send on a connection of its own; return status and headers, with the head only if it switches."""
    async with client(port, at=at) as (reader, writer):
        writer.write(raw)
        status, headers, _ = parse(await reader.readuntil(b"\r\n\r\n"))
        return status, headers


@contextlib.asynccontextmanager
async def uploading(world, count):
    """So many uploads of one address that go on, above every least rate, until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(client(world.port)) for _ in range(count)]

        async def feed(writer):
            while True:
                writer.write(b"x" * 100)
                await asyncio.sleep(0.05)

        for _, writer in lines:
            await world.note_sent(UPLOAD)
            writer.write(UPLOAD)
        feeding = [asyncio.ensure_future(feed(writer)) for _, writer in lines]
        try:
            yield lines
        finally:
            for one in feeding:
                one.cancel()
            await asyncio.gather(*feeding, return_exceptions=True)


def greedy(*, limits=None, trusted=()):
    def change(document):
        document["upstream"] |= {"max_connections": CONNECTIONS, "queue_timeout_seconds": 5}
        document["limits"] = {"queue_timeout_seconds": 0.2, "min_bytes_per_second": 200} | (limits or {})
        document["server"]["trusted_proxies"] = list(trusted)

    return change


@unless_it_stalls
async def test_one_address_does_not_take_every_connection_to_the_app(tmp_path):
    """Uploads just above the least rate: half get through, the others are told to come back, and nobody else waits."""
    async with open_attack(tmp_path, change=greedy(), token=False) as attacker:
        world = attacker.world
        async with uploading(world, CONNECTIONS) as lines:
            await world.upstream.until(lambda: len(world.upstream.requests) == CONNECTIONS // 2)
            await world.note_sent(request())
            async with within(1):
                assert 200 == (await ask(world.port, request(), at=OTHER))[0]
            told = [parse(await until_closed(reader)) for reader, _ in lines[CONNECTIONS // 2 :]]
            assert [(503, "1")] * (CONNECTIONS // 2) == [(status, said["retry-after"]) for status, said, _ in told]
        assert 1 + CONNECTIONS // 2 == len(world.upstream.requests)


@pytest.mark.parametrize("change", [greedy(trusted=["127.0.0.1/32"]), greedy(limits={"in_flight_per_peer": 4})])
async def test_a_proxy_that_is_trusted_may_take_them_all(tmp_path, change):
    """It speaks for many; and so may everybody, where the operator says so."""
    async with open_attack(tmp_path, change=change, token=False) as attacker:
        world = attacker.world
        async with uploading(world, CONNECTIONS):
            await world.upstream.until(lambda: len(world.upstream.requests) == CONNECTIONS)


async def test_who_has_its_share_waits_for_its_own_requests():
    """In order, and for no longer than `queue_timeout_seconds`; a client that leaves the queue leaves no gap."""
    go_on, begun = asyncio.Event(), []

    async def handler(inbound):
        begun.append(inbound.head.target)
        await go_on.wait()
        await reply(inbound)

    async with listening(handler, in_flight_per_peer=1) as server, contextlib.AsyncExitStack() as stack:
        asked = []
        for name in (b"/a", b"/b", b"/c"):
            reader, writer = await stack.enter_async_context(client(server.port))
            writer.write(GET.replace(b"/ ", name + b" ", 1))
            asked.append((reader, writer))
            # On a connection of its own to another address: what was sent before has been read by then.
            async with client(server.port, at=OTHER) as (probe, probing):
                probing.write(b"no request\r\n\r\n")
                await until_closed(probe)
        assert [b"/a"] == begun
        asked[1][1].transport.abort()
        await eventually(lambda: server.listener.open_count == 2)
        go_on.set()
        for reader, _ in (asked[0], asked[2]):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    assert [b"/a", b"/c"] == begun


async def test_a_share_grows_with_the_limits_of_a_reload():
    """Also for an address that is always here, and for its requests that wait already."""
    go_on = asyncio.Event()

    async def handler(inbound):
        await go_on.wait()
        await reply(inbound)

    async with listening(handler, in_flight_per_peer=1) as server, contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(client(server.port)) for _ in range(3)]
        for _, writer in lines:
            writer.write(GET)
        async with client(server.port, at=OTHER) as (probe, probing):
            probing.write(b"no request\r\n\r\n")
            await until_closed(probe)
        assert 1 == server.listener.in_flight
        server.listener.renew(handler, ListenerLimits(in_flight_per_peer=2))
        await eventually(lambda: server.listener.in_flight == 2)
        server.listener.renew(handler, ListenerLimits(in_flight_per_peer=1), lambda _: True)
        await eventually(lambda: server.listener.in_flight == 3)
        server.listener.renew(handler, ListenerLimits(in_flight_per_peer=1))
        go_on.set()
        for reader, writer in lines:
            await reader.readuntil(b"ok")
            writer.write(GET)
            await reader.readuntil(b"ok")


async def test_one_address_does_not_take_every_websocket(tmp_path):
    """Half of them; its ordinary requests go on, and everybody else gets theirs; one that ends makes room."""
    async with open_chat(tmp_path, max_websockets=4) as (world, _), contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await stack.enter_async_context(client(world.port))
            writer.write(handshake())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert 503 == (await ask(world.port, handshake()))[0]
        assert 101 == (await ask(world.port, handshake(), at=OTHER))[0]
        writer.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while 101 != (await ask(world.port, handshake()))[0]:  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(0)
        assert 200 == (await ask(world.port, request()))[0]


@unless_it_stalls
async def test_websockets_take_nothing_of_the_requests_under_way(tmp_path):
    """They last, so an office behind one address would soon have no request left."""

    def change(document):
        document["limits"] = {"in_flight_per_peer": 1, "queue_timeout_seconds": 0.2}

    async with open_chat(tmp_path) as (chat, _):
        app = chat.gateway.config.upstream.url
        (tmp_path / "other").mkdir()

        def both(document):
            change(document)
            document["upstream"]["url"] = app

        async with open_world(tmp_path / "other", change=both) as world, contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                reader, writer = await stack.enter_async_context(client(world.port))
                writer.write(handshake())
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert 200 == (await ask(world.port, request()))[0]


async def test_nothing_is_left_of_an_address_that_has_gone():
    """Nor does a flood of addresses fill the memory."""
    async with listening(reply) as server:
        for _ in range(3):
            assert [200] == await statuses(
                await server.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            )
        await server.until_empty()
        assert {} == server.listener.peers._known


def test_addresses_of_one_network_count_as_one():
    """Whoever has one IPv6 address has its /64; IPv4 addresses are single, whatever they are written as."""
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff:ffff:ffff:ffff")
    assert network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")
    assert "192.0.2.1" == network_of("192.0.2.1") == network_of("::ffff:192.0.2.1")
    assert network_of("fe80::1") != network_of("fe80::2")
    assert network_of("::1") != network_of("2001:db8:1:2::1")


def test_a_trusted_proxy_is_counted_apart_from_its_neighbours():
    """One address of a /64 may be a proxy's, and the next one a stranger's."""
    proxy, stranger = "2001:db8::1", "2001:db8::2"
    peers = Peers(ListenerLimits(in_flight_per_peer=1), lambda address: address == proxy)
    one, other, third = peers.enter(stranger), peers.enter(proxy), peers.enter("2001:db8::3")
    assert (one is third, one is other) == (True, False)
    assert [True, False] == [one.requests.take_free() for _ in range(2)]
    assert [True, True] == [other.requests.take_free() for _ in range(2)]
    peers.renew(ListenerLimits(in_flight_per_peer=2), lambda _address: False)
    assert [True, False] == [one.requests.take_free() for _ in range(2)]
    assert not other.requests.take_free()
    for peer in (one, other, third):
        peers.leave(peer)
    assert {} == peers._known


async def test_slow_bodies_from_some_addresses_keep_no_sign_out_away(tmp_path):
    """Of each address a few are let through to the control plane and the others turned away; a stranger is answered."""

    def change(document):
        document["limits"] = {"max_in_flight": 4 * PER_ADDRESS, "in_flight_per_peer": 4 * PER_ADDRESS}

    form = "Content-Type: application/x-www-form-urlencoded"
    post = f"POST /.locum/backchannel-logout HTTP/1.1\r\nHost: {HOST}\r\n{form}\r\nContent-Length: "
    async with open_world(tmp_path, change=change) as world, contextlib.AsyncExitStack() as stack:
        answers = []
        for address in ("127.0.0.2", "127.0.0.3"):
            for _ in range(PER_ADDRESS + 4):
                reader, writer = await stack.enter_async_context(client(world.port, at=address))
                writer.write(f"{post}9000\r\n\r\nlogout_token=".encode())
                answers.append(asyncio.ensure_future(reader.read(12)))
        await eventually(lambda: sum(answer.done() for answer in answers) == 8)
        assert {b"HTTP/1.1 503"} == {answer.result() for answer in answers if answer.done()}
        assert (await world.raw(f"{post}0\r\n\r\n".encode())).startswith(b"HTTP/1.1 400")
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


def test_what_was_given_back_can_be_had_again():
    """By the same address, and by each address of one network; who is trusted has no limit."""
    shares = ControlShares(lambda address: address == "10.0.0.1")
    with contextlib.ExitStack() as stack:
        for index in range(PER_ADDRESS):
            assert stack.enter_context(shares.share(f"2001:db8::{index}"))
        with shares.share("2001:db8::ffff") as is_left, shares.share("2001:db8:1::1") as other:
            assert (False, True) == (is_left, other)
        for _ in range(2 * PER_ADDRESS):
            assert stack.enter_context(shares.share("10.0.0.1"))
            assert stack.enter_context(shares.share(""))
    with shares.share("2001:db8::1") as is_left:
        assert is_left

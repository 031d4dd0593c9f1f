"""TLS handshakes that nobody means: an address has only so many, from the moment that it connects, and others do not wait."""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl

import pytest

from gateway.binding import listen
from gateway.config.model import ServerTls
from gateway.handshakes import TlsServer
from gateway.proxy.limits import ListenerLimits
from gateway.proxy.listener import make_listener
from gateway.tls import listener_context
from tests.certificates import Authority
from tests.gateway_process import MEBIBYTE, running
from tests.listener_world import GET, reply, until_closed
from tests.patience import PATIENCE_SECONDS, unless_it_stalls, within
from tests.rawwire import RecordingUpstream
from tests.upstream_client import eventually

SILENT = 2000
OTHER = "127.0.0.2"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: acme.helpdesk.example\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("127.0.0.1")


class Public:
    """A listener behind TLS."""

    def __init__(self, listener, server, trusting):
        self.listener = listener
        self.server = server
        self.trusting = trusting

    async def ask(self, *, at="127.0.0.1", raw=CLOSING_GET):
        """The whole answer to one request, empty if there is no word of one."""
        try:
            return await visit(self.server.port, self.trusting, at=at, raw=raw)
        except (ConnectionError, ssl.SSLError):
            return b""


async def visit(port, trusting, *, at="127.0.0.1", raw=CLOSING_GET):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(at, 0), ssl=trusting)
    try:
        writer.write(raw)
        return await until_closed(reader)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(authority, pair, *, seconds=PATIENCE_SECONDS, sockets=None, handler=reply, **limits):
    """A listener behind TLS, of which nothing may be left."""
    listener = make_listener(handler, ListenerLimits(**{"linger_timeout_seconds": 0.1} | limits))
    sockets = sockets or listen("127.0.0.1", 0, shared=False, backlog=1024)
    context = listener_context(ServerTls(**pair.table()))
    server = TlsServer(listener, sockets, context, handshake_seconds=seconds)
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            yield Public(listener, server, authority.trusting())
        finally:
            await server.close()
            await listener.shutdown(0.1)
        await eventually(lambda: not listener.peers._known)
    assert (0, 0) == (listener.open_count, listener.in_flight)


@contextlib.asynccontextmanager
async def silent(port, count=1, raw=b""):
    """Connections that begin no handshake, or say `raw` and no more."""
    lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        for _, writer in lines:
            writer.write(raw)
        yield lines
    finally:
        for _, writer in lines:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_thousands_that_say_nothing_hold_little_and_keep_nobody_out(tmp_path, authority, pair):
    """Each costs a socket and a place in the queue; who comes from elsewhere is served meanwhile, at once."""
    more = f"""[server.tls]
certificate = "{pair.certificate}"
key = "{pair.key}"
[limits]
tls_handshake_timeout_seconds = 30
"""
    trusting = authority.trusting()
    async with RecordingUpstream() as upstream:
        with running(tmp_path, upstream.port, more=more) as gateway:
            assert (await visit(gateway.port, trusting)).endswith(b"ok")
            before = gateway.resident()
            async with silent(gateway.port, SILENT):
                async with within(5):
                    assert (await visit(gateway.port, trusting, at=OTHER)).endswith(b"ok")
                assert gateway.resident() - before < 24 * MEBIBYTE


async def test_a_connection_counts_before_its_handshake(authority, pair):
    """connections_per_peer: one more is closed at once; another address has its own; who leaves makes room."""
    async with serving(authority, pair, connections_per_peer=2) as public:
        async with silent(public.server.port, 2):
            await eventually(lambda: public.listener.peers._known)
            assert b"" == await public.ask()
            assert (await public.ask(at=OTHER)).endswith(b"ok")
        while not await public.ask():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0)


async def test_all_addresses_together_have_only_so_many_connections(authority, pair):
    """max_connections: one more is closed before its handshake, from wherever it comes; who leaves makes room."""
    async with serving(authority, pair, max_connections=1) as public:
        async with silent(public.server.port):
            await eventually(lambda: public.listener.peers.connections)
            assert b"" == await public.ask(at=OTHER)
            assert {"max_connections": 1} == {
                limit: times for limit, times in public.listener.turned_away.items() if times
            }
        while not await public.ask():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0)


@pytest.mark.parametrize("raw", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_waits_for_others_of_its_address(authority, pair, raw):
    """It comes in its turn when one of them fails, and others have theirs meanwhile."""
    async with (
        serving(authority, pair, tls_handshakes_per_peer=1) as public,
        silent(public.server.port, raw=raw) as [(_, first)],
    ):
        await eventually(lambda: public.listener.peers._known)
        waiting = asyncio.ensure_future(public.ask())
        assert (await public.ask(at=OTHER)).endswith(b"ok")
        assert not waiting.done()
        first.transport.abort()
        assert (await waiting).endswith(b"ok")


@unless_it_stalls
async def test_who_waits_too_long_for_its_turn_is_gone(authority, pair):
    """The time for a handshake counts from the connection on, with the wait."""
    async with serving(authority, pair, seconds=0.3, tls_handshakes_per_peer=1) as public:
        begun = asyncio.get_running_loop().time()
        async with silent(public.server.port, 3) as lines:
            assert [b"", b"", b""] == [await until_closed(reader) for reader, _ in lines]
        assert asyncio.get_running_loop().time() - begun < 0.9
        await eventually(lambda: not public.listener.peers._known)
        assert (await public.ask()).endswith(b"ok")


async def test_a_handshake_that_was_made_takes_no_turn_any_more(authority, pair):
    """Connections stay open; handshakes go on."""
    async with serving(authority, pair, tls_handshakes_per_peer=1) as public:
        lines = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", public.server.port, ssl=public.trusting)
            lines.append(writer)
            writer.write(GET)
            await reader.readuntil(b"ok")
        assert 3 == public.listener.open_count
        for writer in lines:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_a_stop_cuts_handshakes_and_those_that_wait_for_one(authority, pair):
    """Nobody waits for them; `serving` looks that nothing is left."""
    async with serving(authority, pair, tls_handshakes_per_peer=1) as public:
        lines = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", public.server.port) for _ in range(3)))
        await eventually(lambda: [peer.connections for peer in public.listener.peers._known.values()] == [3])
    for reader, writer in lines:
        assert b"" == await until_closed(reader)
        writer.close()


class _Short(socket.socket):
    """Listens where descriptors have run out, once."""

    short = True

    def accept(self):
        if self.short:
            self.short = False
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_shortage_of_descriptors_is_waited_for(authority, pair, caplog):
    """Said once, and who waits at the door comes in when it is over; nothing spins."""
    caplog.set_level(logging.ERROR)
    listening = _Short()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    listening.setblocking(False)
    async with serving(authority, pair, sockets=[listening]) as public:
        assert (await public.ask()).endswith(b"ok")
    [said] = caplog.messages
    assert "Too many open files" in said

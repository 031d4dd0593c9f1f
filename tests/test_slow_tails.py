"""The end of an answer, which the kernel has and the client has not: it is left time, and no more than it earns."""

import asyncio
import contextlib
import socket
import ssl

import pytest

from gateway.binding import listen
from tests.certificates import Authority
from tests.listener_world import CLOSING_GET, GET, head, listening
from tests.patience import PATIENCE_SECONDS, unless_it_stalls
from tests.test_handshakes import serving
from tests.upstream_client import eventually

SIZE = 1_000_000
"""So much that the kernel does not take in all of it, and so little that at its end it has a good part of it."""
LITTLE = 64 * 1024
AT_A_TIME = 8 * 1024
LIMIT = 0.2
"""Seconds: whatever a connection may take for its end."""
LIMITS = dict.fromkeys(("idle_timeout_seconds", "linger_timeout_seconds", "write_stall_timeout_seconds"), LIMIT)
ENDS = pytest.mark.parametrize("raw", [GET, CLOSING_GET], ids=["idle", "closing"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["plain", "tls"])
def trusting(request, authority):
    return authority.trusting() if request.param == "tls" else None


@contextlib.asynccontextmanager
async def served(authority, trusting, handler):
    """A listener with these limits, and its port."""
    sockets = listen("127.0.0.1", 0, shared=False, backlog=1)
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SIZE // 4)  # Linux makes twice as much of it
    options = {"handler": handler, "sockets": sockets, **LIMITS}
    if trusting is None:
        async with listening(**options) as server:
            yield server.listener, server.port
    else:
        async with serving(authority, authority.issue("127.0.0.1"), **options) as public:
            yield public.listener, public.server.port


class Client:
    """A connection, with TLS or without, of which nothing is read or said unless it is asked to."""

    def __init__(self, port: int, trusting: ssl.SSLContext | None) -> None:
        self._port = port
        self._raw = socket.socket()
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)
        self._raw.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trusting and trusting.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    async def __aenter__(self):
        await self._loop.sock_connect(self._raw, ("127.0.0.1", self._port))
        if self._tls:
            await self._until_done(self._tls.do_handshake)
        return self

    async def __aexit__(self, *_):
        self._raw.close()

    async def say(self, raw: bytes, *, record_bytes: int = 0) -> None:
        """Send, by TLS in records of so many bytes at the most."""
        if self._tls:
            for at in range(0, len(raw), record_bytes or len(raw)):
                self._tls.write(raw[at : at + (record_bytes or len(raw))])
            raw = self._outgoing.read()
        await self._loop.sock_sendall(self._raw, raw)

    async def say_farewell(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._loop.sock_sendall(self._raw, self._outgoing.read())

    async def read(self) -> bytes:
        """The next bytes, empty at an orderly end."""
        if self._tls is None:
            return await self._loop.sock_recv(self._raw, AT_A_TIME)
        with contextlib.suppress(ssl.SSLZeroReturnError):
            return await self._until_done(lambda: self._tls.read(AT_A_TIME))
        return b""

    async def _until_done(self, step):
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._loop.sock_sendall(self._raw, self._outgoing.read())
                if not (data := await self._loop.sock_recv(self._raw, AT_A_TIME)):
                    return b""
                self._incoming.write(data)
            else:
                await self._loop.sock_sendall(self._raw, self._outgoing.read())
                return result


async def answer(inbound):
    await inbound.respond(head(200, (b"Content-Length", b"%d" % SIZE)), b"x" * SIZE)


@ENDS
@unless_it_stalls
async def test_who_reads_steadily_gets_the_end_of_an_answer_however_late(authority, trusting, raw):
    """It takes many times as long as a connection may be idle, or take for its end, and nothing of it is lost."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        served(authority, trusting, answer) as (_, port),
        Client(port, trusting) as client,
    ):
        await client.say(raw)
        received = 0
        while received < SIZE:
            data = await client.read()
            assert data, f"cut after {received} bytes"
            received += len(data)
            await asyncio.sleep(0.01)  # the pace of the reader


@ENDS
async def test_who_takes_nothing_of_the_end_of_an_answer_is_cut(authority, trusting, raw):
    """What waits for them does not wait longer than what they have still to be sent would."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        served(authority, trusting, answer) as (listener, port),
        Client(port, trusting) as client,
    ):
        await client.say(raw)
        assert await client.read()
        await eventually(lambda: not listener.open_count)
        with pytest.raises(ConnectionResetError):
            while await client.read():
                pass
            raise AssertionError("an orderly end")


async def test_who_says_farewell_and_takes_nothing_is_cut(authority):
    """In TLS the client ends both directions at once; what was sent to it before is no reason to stay for ever."""

    async def switch(inbound):
        stream = await inbound.switch(head(101, reason=b"Switching Protocols"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT / 2):
                await stream.write(b"x" * 2 * SIZE)
        while await stream.read():
            pass
        await stream.close()

    trusting = authority.trusting()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        served(authority, trusting, switch) as (listener, port),
        Client(port, trusting) as client,
    ):
        await client.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert await client.read()
        await client.say_farewell()
        await eventually(lambda: not listener.open_count)

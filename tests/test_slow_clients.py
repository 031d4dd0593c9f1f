"""Two thousand clients that are slow in every way, beside one that is not, before the gateway as it is run."""

import asyncio
import contextlib
import resource
import socket
import sys
from collections import Counter

import pytest

from tests.gateway_process import MEBIBYTE, PIECE, running, until_still
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream, response
from tests.striker import HOST_LINE
from tests.tally import TALLY

SLOW = 2000
READERS = 60
TIMEOUT = 2.0
"""Seconds: every limit of the gateway's."""
BODY = 16 * MEBIBYTE
"""More than the kernel takes in for the two connections of a download that is not read."""
DESCRIPTORS = 4 * SLOW
MOST_RESIDENT = 150
"""Mebibytes."""
OF_EACH = 64 * 1024
"""More than a connection may have us hold, and less than goes into the kernel beside that."""

LIMITS = f"""[limits]
header_timeout_seconds = {TIMEOUT}
idle_timeout_seconds = {TIMEOUT}
body_idle_timeout_seconds = {TIMEOUT}
write_stall_timeout_seconds = {TIMEOUT}
in_flight_per_peer = 4096
"""

HEAD = b"GET /slow HTTP/1.1\r\n" + HOST_LINE
UPLOAD = b"POST /upload HTTP/1.1\r\n" + HOST_LINE + b"Content-Length: 1000\r\n\r\nsome"
BIG_UPLOAD = UPLOAD.replace(b"1000", b"100000000")
DOWNLOAD = b"GET /download HTTP/1.1\r\n" + HOST_LINE + b"\r\n"
ORDINARY = b"GET /ordinary HTTP/1.1\r\n" + HOST_LINE + b"\r\n"


@pytest.fixture
def how_many(capfd):
    """As many as there are descriptors for, in this process and in the gateway that inherits its limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    count = min(SLOW, (max(soft, wanted) - 200) // 3)
    if count < SLOW:
        with capfd.disabled():
            print(f"{count} slow clients and not {SLOW}: {wanted} open files are allowed", file=sys.stderr)  # noqa: T201
    yield count
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Slow:
    """One connection that gets on with nothing; waits, without reading, until it is over."""

    def __init__(self, raw: bytes, *, little: bool = False) -> None:
        TALLY.messages += 1
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if little:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._raw = raw
        self._filled = 0

    async def begin(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", port))
        await loop.sock_sendall(self.socket, self._raw)

    async def trickle(self) -> None:
        """Send a byte now and then, until that is no longer possible."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(TIMEOUT / 4)
                await loop.sock_sendall(self.socket, b"x")

    def fill(self) -> int:
        """Send all that is taken now, without reading; how much that was since the first time."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._filled += self.socket.send(PIECE)
        return self._filled

    async def end(self) -> str:
        """Read to the end: the status of what came whole, or how it ended without."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BODY)
        loop, received = asyncio.get_running_loop(), bytearray()
        try:
            while data := await loop.sock_recv(self.socket, MEBIBYTE):
                received += data
        except ConnectionError:
            return "reset"
        if not received:
            return "gone"
        return received[9:12].decode() if not received.startswith(b"HTTP/1.1 200 ") or len(received) > BODY else "cut"


async def test_two_thousand_slow_clients_are_ended_and_nobody_else_notices(tmp_path, how_many):
    """Heads that trickle in, bodies that stop, downloads that are not read: each ends by its limit.

    Meanwhile every ordinary request is answered, and at once.
    """

    download = response(b"x" * BODY)

    def script(seen):
        return download if seen.target == b"/download" else response()

    async with RecordingUpstream(script) as upstream, contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running(tmp_path, upstream.port, upstream="max_connections = 4096", more=LIMITS))
        heads = [Slow(HEAD) for _ in range((how_many - READERS) // 2)]
        bodies = [Slow(UPLOAD) for _ in range((how_many - READERS) // 2)]
        readers = [Slow(DOWNLOAD, little=True) for _ in range(READERS)]
        everybody = heads + bodies + readers
        for one in everybody:
            stack.callback(one.socket.close)
        ordinary = asyncio.ensure_future(keep_asking(gateway.port))
        for one in everybody:
            await one.begin(gateway.port)
        trickling = [asyncio.ensure_future(one.trickle()) for one in heads]

        async with asyncio.timeout(PATIENCE_SECONDS + TIMEOUT):
            refused = Counter(await asyncio.gather(*(one.end() for one in heads + bodies)))
            await asyncio.gather(*trickling)
            await upstream.until(lambda: len(gone(upstream)) == len(readers))
            unread = Counter(await asyncio.gather(*(one.end() for one in readers)))
        ordinary.cancel()
        waits = await ordinary

    # A client that goes on sending may find the connection reset or gone, and its answer with it.
    assert {"408", "reset", "gone"} >= set(refused), refused
    assert refused["408"] > len(heads + bodies) * 0.9, refused
    assert len(readers) == unread["reset"] + unread["cut"]
    assert len(waits) > 20
    # A turn that had to wait for a slow one's end would take as long as their limits; one may be the machine's doing.
    assert max(waits) < PATIENCE_SECONDS
    assert sorted(waits)[len(waits) // 2] < TIMEOUT / 8


async def test_two_thousand_uploads_from_one_address_wait_at_their_senders(tmp_path, how_many):
    """Each sends all that is taken from it, and the app takes nothing: the gateway stays below 150 MiB, all in all.

    It is so with the limits as they are; but those whose turn does not come are not turned away meanwhile.
    """
    patient = f"[limits]\nqueue_timeout_seconds = {10 * PATIENCE_SECONDS}\n"
    with socket.create_server(("127.0.0.1", 0), backlog=SLOW) as app, contextlib.ExitStack() as stack:
        gateway = stack.enter_context(running(tmp_path, app.getsockname()[1], more=patient))
        uploads = [Slow(BIG_UPLOAD) for _ in range(how_many)]
        sent = 0
        for one in uploads:
            stack.callback(one.socket.close)
            one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
            await one.begin(gateway.port)

        def resident():
            """Mebibytes, once more was sent: the kernels take a little each time, but the gateway no more."""
            nonlocal sent
            sent = sum(one.fill() for one in uploads)
            return gateway.most_resident() // MEBIBYTE

        most = until_still(resident)

    assert sent > how_many * OF_EACH
    assert most < MOST_RESIDENT


def gone(upstream):
    """The downloads that the gateway has given up."""
    asked = [seen.connection_id for seen in upstream.requests if seen.target == b"/download"]
    return [index for index in asked if upstream.connections[index].ended.is_set()]


async def keep_asking(port: int) -> list[float]:
    """Ask one ordinary request after another until cancelled; how long each took, in seconds."""
    loop, waits = asyncio.get_running_loop(), []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            TALLY.messages += 1
            begun = loop.time()
            writer.write(ORDINARY)
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 OK\r\n")
            waits.append(loop.time() - begun)
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        return waits
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

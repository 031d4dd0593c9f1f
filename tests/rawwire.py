"""HTTP/1.1 as bytes on real sockets: an upstream that records and misbehaves, a client that sends what it is given.

Messages are framed by tests/oracle.py. What it does not take for exactly one request is noted, and fails the test when
the upstream closes.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from typing import Self

from tests.oracle import RecordedRequest, Tape, Violation, read_request_body, read_request_head, read_response
from tests.patience import PATIENCE_SECONDS
from tests.tally import TALLY

Answer = bytes | Callable[["UpstreamConnection"], Awaitable[None]]
"""What the upstream does for one request: send these bytes, or run this with the connection."""
Script = Answer | Sequence[Answer] | Callable[["RecordedRequest"], Answer]
"""One answer for all, one per request in order of arrival, or a plain function from the request to its answer."""


class UpstreamConnection:
    """One connection at the upstream, numbered from 0 in order of arrival."""

    def __init__(self, connection_id: int, tape: Tape, writer: asyncio.StreamWriter) -> None:
        self.id = connection_id
        self.ended = asyncio.Event()
        """Set when the peer has closed or reset the connection, or broken HTTP."""
        self._tape = tape
        self._writer = writer

    @property
    def received(self) -> bytes:
        """Every byte that came in."""
        return bytes(self._tape.recorded)

    @property
    def socket(self) -> socket.socket:
        return self._writer.get_extra_info("socket")

    async def send(self, raw: bytes) -> None:
        """Send, at any time; returns when the kernel has all but a little of it. A gone peer is no error."""
        if self._writer.transport.is_closing():
            return
        self._writer.write(raw)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def drip(self, raw: bytes) -> None:
        """Send byte by byte, each in a segment of its own."""
        for index in range(len(raw)):
            await self.send(raw[index : index + 1])
            await asyncio.sleep(0)

    def send_eof(self) -> None:
        """End our direction only."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close after what was sent."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection with a TCP reset; what was sent and not yet read over there is lost."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class RecordingUpstream:
    """A server that keeps every byte it gets, frames it with its own oracle, and answers by script.

    Use as `async with RecordingUpstream(script) as upstream`. Requests are answered in order per connection, when they
    are complete, or with `answer_at_head` when their head is; reading goes on while an answer is held back. At the end
    of the `async with` everything is closed, whatever was still going on, and a violation is a failed test.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        answer_at_head: bool = False,
        unix_path: str | None = None,
        tls: ssl.SSLContext | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        self.requests: list[RecordedRequest] = []
        """In order of arrival, over all connections; bodies fill while they come."""
        self.connections: list[UpstreamConnection] = []
        self.violations: list[str] = []
        """What came in and was not HTTP by the oracle, and requests that a list of answers had no answer for."""
        self.reading = asyncio.Event()
        """Clear it, and the upstream stops reading from its sockets."""
        self.reading.set()
        self._script = response() if script is None else script
        self._answer_at_head = answer_at_head
        self._unix_path = unix_path
        self._tls = tls
        self._receive_buffer_bytes = receive_buffer_bytes
        self._changed = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        if self._unix_path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._unix_path)
            return self
        listener = socket.create_server(("127.0.0.1", 0))
        if self._receive_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        self._server = await asyncio.start_server(self._serve, sock=listener, ssl=self._tls, backlog=4096)
        return self

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        TALLY.strangers += len(self.violations)
        if error is None:
            assert [] == self.violations

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, `https://localhost:PORT`, or `unix:PATH`."""
        if self._unix_path is not None:
            return f"unix:{self._unix_path}"
        return f"https://localhost:{self.port}" if self._tls is not None else f"http://127.0.0.1:{self.port}"

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something about the recording is true; looked at whenever something came in or ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        tape = Tape(reader, running=self.reading, on_taken=self._notify)
        connection = UpstreamConnection(len(self.connections), tape, writer)
        self.connections.append(connection)
        ready: asyncio.Queue[Answer | None] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(connection, ready))
                group.create_task(self._answer(connection, ready))
        except asyncio.CancelledError:
            pass  # the end of the test; asyncio.streams would report it as an error
        finally:
            self._serving.discard(task)
            writer.transport.abort()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _read(self, connection: UpstreamConnection, ready: asyncio.Queue[Answer | None]) -> None:
        tape = connection._tape
        self._notify()
        try:
            while True:
                request = await read_request_head(tape, connection_id=connection.id)
                self.requests.append(request)
                # What is answered is settled as soon as there is a request, or whoever sees one and then changes the
                # script might change this answer too.
                if self._answer_at_head:
                    ready.put_nowait(self._choose(request))
                self._notify()
                await read_request_body(tape, request)
                if not self._answer_at_head:
                    ready.put_nowait(self._choose(request))
                self._notify()
        except EOFError:
            pass
        except Violation as exc:
            self.violations.append(f"connection {connection.id}: {exc}")
        ready.put_nowait(None)
        connection.ended.set()
        self._notify()

    async def _answer(self, connection: UpstreamConnection, ready: asyncio.Queue[Answer | None]) -> None:
        while (answer := await ready.get()) is not None:
            if isinstance(answer, bytes):
                await connection.send(answer)
            else:
                await answer(connection)
        if not connection._writer.is_closing():
            connection.close()

    def _choose(self, request: RecordedRequest) -> Answer:
        if isinstance(self._script, bytes) or asyncio.iscoroutinefunction(self._script):
            return self._script
        if callable(self._script):
            return self._script(request)
        index = self.requests.index(request)
        if index < len(self._script):
            return self._script[index]
        self.violations.append(f"request {index} has no answer: {request.first_line!r}")
        return then_close(b"")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


# --- answers ---


def response(body: bytes = b"ok", *, status: bytes = b"200 OK", headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A response with Content-Length."""
    lines = [b"HTTP/1.1 " + status, *(b"%b: %b" % header for header in headers), b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked_response(
    *chunks: bytes, headers: Iterable[tuple[bytes, bytes]] = (), trailers: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """A chunked response, one chunk per argument."""
    lines = [b"HTTP/1.1 200 OK", *(b"%b: %b" % header for header in headers), b"Transfer-Encoding: chunked"]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    end = b"".join(b"%b: %b\r\n" % trailer for trailer in trailers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + framed + b"0\r\n" + end + b"\r\n"


def then_close(raw: bytes) -> Answer:
    """Send, then close."""

    async def answer(connection: UpstreamConnection) -> None:
        await connection.send(raw)
        connection.close()

    return answer


def then_reset(raw: bytes) -> Answer:
    """Send, then reset."""

    async def answer(connection: UpstreamConnection) -> None:
        await connection.send(raw)
        connection.reset()

    return answer


def hold(event: asyncio.Event, *, before: bytes = b"", after: bytes = b"") -> Answer:
    """Send `before`, wait for the event, send `after`."""

    async def answer(connection: UpstreamConnection) -> None:
        await connection.send(before)
        await event.wait()
        await connection.send(after)

    return answer


def drip(raw: bytes) -> Answer:
    """Send byte by byte."""

    async def answer(connection: UpstreamConnection) -> None:
        await connection.drip(raw)

    return answer


# --- the client ---


async def exchange(
    host: str,
    port: int,
    raw: bytes | Sequence[bytes],
    *,
    responses: int | None = 1,
    to_head: bool = False,
    then: bytes = b"",
    then_eof: bool = False,
    door: asyncio.Lock | None = None,
) -> bytes:
    """Send `raw` on a new connection, and `then` behind so many responses, and return every byte that came back.

    A sequence is sent piece by piece (see `each_byte`, `cut_at`). A server in this very loop reads each by itself, if it
    had no other connection to accept at the time: whoever sends many at a time gives them one `door`. Behind `then`, which
    is sent unless the connection was said to end, and must end it, all is read to the end. Otherwise reading ends with
    the end of the stream, or, unless `responses` is None, with so many final ones or with what is no HTTP; bytes that
    came along with the last response are returned too.
    """
    TALLY.messages += 1
    async with door or contextlib.nullcontext():
        reader, writer = await asyncio.open_connection(host, port)
    tape = Tape(reader)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionError):  # it may answer and hang up before it has read all
                for piece in [raw] if isinstance(raw, bytes) else raw:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if then_eof:
                    writer.write_eof()
            await _read_responses(tape, responses, to_head=to_head)
            if then:
                if b"\r\nConnection: close\r\n" not in tape.recorded:
                    writer.write(then)
                await _read_responses(tape, None, to_head=False)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return bytes(tape.recorded)


async def _read_responses(tape: Tape, count: int | None, *, to_head: bool) -> None:
    with contextlib.suppress(EOFError, Violation):
        while count is None:
            if not await tape.more():
                return
        while count > 0:
            got = await read_response(tape, to_head=to_head)
            if got.status >= 200:
                count -= 1


def each_byte(raw: bytes) -> list[bytes]:
    """Every byte a piece of its own."""
    return [raw[index : index + 1] for index in range(len(raw))]


def cut_at(raw: bytes, *offsets: int) -> list[bytes]:
    """The pieces between the given offsets."""
    edges = [0, *offsets, len(raw)]
    return [raw[start:end] for start, end in pairwise(edges)]

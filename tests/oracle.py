"""HTTP/1.1 messages framed from a byte stream by nobody's library: the tests' own, strict reading.

Whatever is not exactly one message in exactly one reading is a `Violation`.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

HeaderList = list[tuple[bytes, bytes]]

# High bytes in a target are no grammar, but occur, and no reader takes them for its end.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~\x80-\xff]+ HTTP/1\.[01]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9] [\t -~\x80-\xff]*")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t -~\x80-\xff]*)?")


class Violation(Exception):
    """The peer did not send exactly one HTTP/1.1 message."""


@dataclass
class Message:
    """One message as it came over the wire."""

    head: bytes
    """All of the head, first line to empty line."""
    body: bytearray = field(default_factory=bytearray)
    """The content without chunk framing, as far as it has come."""
    trailers: HeaderList = field(default_factory=list)

    @property
    def first_line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def headers(self) -> HeaderList:
        """Every header line in order, name as sent, value without surrounding blanks."""
        return _header_lines(self.head.split(b"\r\n")[1:-2])

    def values(self, name: bytes) -> list[bytes]:
        """The values of all lines with this name, whatever its case."""
        return [value for other, value in self.headers if other.lower() == name.lower()]


@dataclass
class RecordedRequest(Message):
    """One request at the upstream."""

    connection_id: int = -1
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole body is here."""

    @property
    def method(self) -> bytes:
        return self.first_line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.first_line.split(b" ")[1]


@dataclass
class RawResponse(Message):
    """One response at the client."""

    @property
    def status(self) -> int:
        return int(self.first_line[9:12])


class Tape:
    """A stream that keeps every byte it has read."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        *,
        running: asyncio.Event | None = None,
        on_taken: Callable[[], None] = lambda: None,
    ) -> None:
        """Read only while `running` is set; `on_taken` is called after each step forward."""
        self.recorded = bytearray()
        self._reader = reader
        self._running = running
        self._on_taken = on_taken
        self._at = 0
        self._ended = False

    @property
    def rest(self) -> bytes:
        """What was read and is not part of any message yet."""
        return bytes(self.recorded[self._at :])

    async def more(self) -> bool:
        """Read on; False at the end of the stream, however it ended."""
        if self._running is not None:
            await self._running.wait()
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            data = b""
        self.recorded += data
        self._ended = self._ended or not data
        return bool(data)

    async def until(self, end: bytes) -> bytes:
        searched = self._at
        while (found := self.recorded.find(end, searched)) < 0:
            searched = max(self._at, len(self.recorded) - len(end) + 1)
            if not await self.more():
                raise EOFError
        return self._take(found + len(end) - self._at)

    def skip(self, prefix: bytes) -> None:
        """Pass over some bytes if they are what comes next and are here."""
        if self.recorded.startswith(prefix, self._at):
            self._at += len(prefix)

    async def into(self, body: bytearray, count: int | None) -> None:
        """Move `count` bytes into `body` as they come, or with None all until the end of the stream."""
        while count is None or count:
            if self._at == len(self.recorded) and not await self.more():
                if count is None:
                    return
                raise EOFError
            waiting = len(self.recorded) - self._at
            piece = self._take(waiting if count is None else min(count, waiting))
            body += piece
            self._on_taken()
            count = count if count is None else count - len(piece)

    def _take(self, count: int) -> bytes:
        taken = bytes(self.recorded[self._at : self._at + count])
        self._at += count
        return taken


async def read_request_head(tape: Tape, *, connection_id: int = -1) -> RecordedRequest:
    """The next request, still without its body; raises Violation, and EOFError at the end of the stream."""
    request = RecordedRequest(head=await tape.until(b"\r\n\r\n"), connection_id=connection_id)
    if not _REQUEST_LINE.fullmatch(request.first_line):
        raise Violation(f"not a request line: {request.first_line!r}")
    _ = request.headers
    return request


async def read_request_body(tape: Tape, request: RecordedRequest) -> None:
    """Fill in the body; raises Violation, and EOFError when it breaks off."""
    await _read_body(tape, request, default=0)
    request.complete.set()


async def parse_requests(raw: bytes) -> list[RecordedRequest]:
    """All requests that begin in some bytes, up to the first that is not exactly one; the last may break off."""
    tape = _tape_of(raw)
    found: list[RecordedRequest] = []
    with contextlib.suppress(EOFError, Violation):
        while True:
            tape.skip(b"\r\n")  # RFC 9112 section 2.2 lets an empty line stand before a request
            found.append(await read_request_head(tape))
            await read_request_body(tape, found[-1])
    return found


async def read_response(tape: Tape, *, to_head: bool = False) -> RawResponse:
    """The next response, interim ones too; raises Violation, and EOFError at the end of the stream."""
    response = RawResponse(head=await tape.until(b"\r\n\r\n"))
    if not _STATUS_LINE.fullmatch(response.first_line):
        raise Violation(f"not a status line: {response.first_line!r}")
    _ = response.headers
    if not to_head and response.status >= 200 and response.status not in (204, 304):
        await _read_body(tape, response, default=None)
    return response


async def parse_responses(raw: bytes, *, to_head: bool = False) -> list[RawResponse]:
    """All responses in what `exchange` returned, interim ones too; raises Violation for anything else in it."""
    tape = _tape_of(raw)
    found: list[RawResponse] = []
    while tape.rest or await tape.more():
        try:
            found.append(await read_response(tape, to_head=to_head))
        except EOFError as exc:
            raise Violation(f"a response that breaks off: {tape.rest!r}") from exc
    return found


def _tape_of(raw: bytes) -> Tape:
    ended = asyncio.StreamReader()
    ended.feed_eof()
    tape = Tape(ended)
    tape.recorded += raw
    return tape


async def _read_body(tape: Tape, message: Message, *, default: int | None) -> None:
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if not codings:
        if len(lengths) > 1 or not all(re.fullmatch(rb"0|[1-9][0-9]{0,17}", length) for length in lengths):
            raise Violation(f"ambiguous Content-Length: {lengths}")
        await tape.into(message.body, int(lengths[0]) if lengths else default)
        return
    if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
        raise Violation(f"framed twice, or not as chunked: {lengths} {codings}")
    while size := await _chunk_size(tape):
        await tape.into(message.body, size)
        if await tape.until(b"\r\n") != b"\r\n":
            raise Violation("a chunk longer than its size")
    while (line := await tape.until(b"\r\n")) != b"\r\n":
        message.trailers += _header_lines([line[:-2]])


async def _chunk_size(tape: Tape) -> int:
    line = await tape.until(b"\r\n")
    match = _CHUNK_LINE.fullmatch(line[:-2])
    if match is None:
        raise Violation(f"not a chunk size: {line!r}")
    return int(match[1], 16)


def _header_lines(lines: Iterable[bytes]) -> HeaderList:
    headers = []
    for line in lines:
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise Violation(f"not a header line: {line!r}")
        headers.append((match[1], match[2]))
    return headers

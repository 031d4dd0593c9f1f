"""The reading of one upstream response: bytes in, one head and its body out, or the first anomaly.

Heads are cut off and held against the grammar here, so that what follows them is known to the byte; chunked framing is
left to httptools, with a parser for each message, so that none is used in a state left by another one.
"""

import re
from collections import deque
from collections.abc import Callable

from httptools import HttpParserError, HttpResponseParser

from gateway.proxy.handshake import is_accepted
from gateway.proxy.headers import may_trail
from gateway.proxy.names import LONGEST_REMEMBERED
from gateway.proxy.remembered import Remembered
from gateway.proxy.wire import Headers, ResponseHead

MAX_FRAMING_BYTES = 64 * 1024
"""Between two pieces of a chunked body."""
MAX_INTERIM_RESPONSES = 16
MAX_TRAILERS = 256

_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_BARE_LF = re.compile(rb"(?<!\r)\n")
# RFC 9112 sections 4 and 5, without folding and with nothing repaired; possessive, so that it never backtracks.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?+")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):([\t -~\x80-\xff]*+)")
_LONGEST_LINE_REMEMBERED = 80
"""Most of an app's lines are those of its other answers. Longer ones are not, and may hold what is somebody's own."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_WHOLE = -1


class ResponseAnomaly(Exception):
    """What the upstream sent is not exactly one HTTP/1.1 response; the message says what it did."""


class ResponseParser:
    """Reads the final response to one request, over any interim ones.

    Stricter than RFC 9112 asks of a client: whatever two readers could frame differently is an anomaly.
    """

    __slots__ = (
        "_accept",
        "_events",
        "_interim",
        "_max_bytes",
        "_overhead",
        "_parser",
        "_pending",
        "_remaining",
        "_tail",
        "_to_head",
        "buffered",
        "chunks",
        "complete",
        "head",
        "interim",
        "reusable",
        "trailers",
    )

    def __init__(self, *, to_head: bool, max_bytes: int, accept: bytes | None = None) -> None:
        """Start reading; `to_head` when the request was a HEAD, whose response never has a body.

        A head, interim or final, may have `max_bytes`, from its status line to its empty line.
        A 101 is the final response if it has this `accept`; what follows is then read as it comes, to the end of the
        stream. Without `accept` there may be no 101.
        """
        self.head: ResponseHead | None = None
        self.interim: tuple[ResponseHead, ...] = ()
        """Interim responses but for 100, without framing lines; whoever takes them empties it."""
        self.chunks: deque[bytes] = deque()
        """The body read so far and not yet taken."""
        self.buffered = 0
        """Bytes in `chunks`; whoever takes a chunk takes its length off here."""
        self.complete = False
        self.reusable = False
        """Whether, as far as the response goes, the connection may carry another request; valid once complete."""
        self.trailers: Headers = ()
        """What came behind a chunked body and may stand there; valid once complete."""
        self._to_head = to_head
        self._accept = accept
        self._max_bytes = max_bytes
        self._pending = b""
        self._interim = 0
        self._remaining = 0
        self._events: _Events
        self._parser: HttpResponseParser | None = None
        self._overhead = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take in the next bytes (at least one); raises ResponseAnomaly.

        Bytes beyond the response raise too, after all of the response has been taken in.
        """
        if self.head is None:
            data = self._feed_heads(data)
            if not data:
                return
        if self.complete:
            raise ResponseAnomaly("sent more than its response")
        if self._parser is not None:
            self._feed_chunked(self._parser, data)
        elif self._remaining == _WHOLE:
            self._keep(data)
        else:
            self._feed_counted(data)

    def tell(self, inform: Callable[[ResponseHead], None] | None) -> None:
        """Hand on the interim responses that have come, once."""
        if not self.interim:
            return
        heads, self.interim = self.interim, ()
        if inform is not None:
            for head in heads:
                inform(head)

    def feed_eof(self) -> None:
        """Take in the end of the stream; raises ResponseAnomaly when the response is not all there."""
        if self.complete:
            return
        if self.head is None:
            raise ResponseAnomaly("closed the connection before its response head was complete")
        if self._remaining != _WHOLE:
            raise ResponseAnomaly("closed the connection in the middle of its response")
        self.complete = True

    def _feed_heads(self, data: bytes) -> bytes:
        """Cut heads off until the final one; the bytes that follow it."""
        searched = max(0, len(self._pending) - 3)
        data = self._pending + data
        while (end := data.find(b"\r\n\r\n", searched) + 4) > 3:
            head = self._parse_head(data[:end])
            data = data[end:]
            searched = 0
            if head.status >= 200 or head.status == 101:
                self._pending = b""
                self._start_body(head)
                return data
            self._pass_over(head)
        self._pending = data
        if not data.startswith(_VERSIONS[0][: len(data)]) and not data.startswith(_VERSIONS[1][: len(data)]):
            raise ResponseAnomaly("did not answer in HTTP/1.1")
        # A head with bare line ends never shows its CRLF CRLF: say so now, not when the time is up.
        if _BARE_LF.search(data, searched):
            raise ResponseAnomaly("ended a header line with a bare LF")
        if len(data) > self._max_bytes:
            raise ResponseAnomaly("sent too long a response head")
        return b""

    def _parse_head(self, raw: bytes) -> ResponseHead:
        if len(raw) > self._max_bytes:
            raise ResponseAnomaly("sent too long a response head")
        if not raw.startswith(_VERSIONS):
            raise ResponseAnomaly("did not answer in HTTP/1.1")
        first, *lines = raw[:-4].split(b"\r\n")
        status, reason, version = _status_lines[first]
        return ResponseHead(
            status=status, reason=reason, headers=tuple([_lines[line] for line in lines]), version=version
        )

    def _pass_over(self, head: ResponseHead) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM_RESPONSES:
            raise ResponseAnomaly("sent too many interim responses")
        length, chunked, _ = _framing(head)
        if length or chunked:
            raise ResponseAnomaly("announced a body for an interim response")
        if head.status != 100:
            lines = tuple(line for line in head.headers if line[0].lower() != b"content-length")
            self.interim += (ResponseHead(status=head.status, reason=head.reason, headers=lines, version=head.version),)

    def _start_body(self, head: ResponseHead) -> None:
        """RFC 9112 section 6.3, with every case in doubt refused."""
        if head.status == 101:
            if self._accept is None or not is_accepted(head, self._accept):
                raise ResponseAnomaly("switched protocols without being asked, or to another one")
            self.head = head
            self._remaining = _WHOLE
            return
        length, chunked, persistent = _framing(head)
        self.head = head
        if self._to_head or head.status in (204, 304):
            # A body that is announced here must not follow, yet some apps send it, and whatever they send later is read
            # as the answer to the next request. Nothing tells when it would be too late for them: no time of silence
            # is long enough for an app that computes the body, and an answer to a probe of ours could be that body,
            # whose bytes a stranger may have chosen. So the announcement costs the connection.
            self._finish(reusable=persistent and not chunked and not length)
        elif chunked:
            self.reusable = persistent
            self._events = _Events()
            self._parser = HttpResponseParser(self._events)
            self._parse(self._parser, _CHUNKED_HEAD)
            self._events.headers.clear()
        elif length is None:
            self._remaining = _WHOLE
        elif length == 0:
            self._finish(reusable=persistent)
        else:
            self._remaining = length
            self.reusable = persistent

    def _feed_counted(self, data: bytes) -> None:
        surplus = len(data) > self._remaining
        if surplus:
            data = data[: self._remaining]
        self._keep(data)
        self._remaining -= len(data)
        if not self._remaining:
            self._finish(reusable=self.reusable)
        if surplus:
            raise ResponseAnomaly("sent more than its response")

    def _feed_chunked(self, parser: HttpResponseParser, data: bytes) -> None:
        events = self._events
        self._parse(parser, data)
        self._tail = (self._tail + data[-5:])[-5:]
        self._overhead = 0 if events.body else self._overhead + len(data)
        if events.body:
            self._keep(b"".join(events.body))
            events.body.clear()
        # Chunk extensions and trailers come without a length of their own.
        if self._overhead > MAX_FRAMING_BYTES or len(events.headers) > MAX_TRAILERS:
            raise ResponseAnomaly("sent too much chunk framing")
        if not events.complete:
            return
        # llhttp passes over line ends after a message, so those are looked for in the bytes themselves: with none,
        # a line that is not empty stands before the last four.
        surplus = events.begun > 1 or self._tail[:1] in (b"\r", b"\n")
        self.trailers = tuple(line for line in events.headers if may_trail(line[0]))
        self._finish(reusable=self.reusable)
        if surplus:
            raise ResponseAnomaly("sent more than its response")

    def _keep(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.buffered += len(chunk)

    def _finish(self, *, reusable: bool) -> None:
        self.complete = True
        self.reusable = reusable
        self._parser = None

    @staticmethod
    def _parse(parser: HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except HttpParserError as exc:
            raise ResponseAnomaly(f"sent a malformed response ({exc})") from exc


class _Events:
    """What httptools reports; it does not hold the parser, so the two form no reference cycle."""

    __slots__ = ("begun", "body", "complete", "headers")

    def __init__(self) -> None:
        self.begun = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.complete = False

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.strip(b" \t")))

    def on_body(self, chunk: bytes) -> None:
        self.body.append(chunk)

    def on_message_complete(self) -> None:
        self.complete = True


def _read_status_line(line: bytes) -> tuple[int, bytes, tuple[int, int]]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise ResponseAnomaly("sent a malformed response head")
    return int(match[2]), match[3] or b"", (1, 1 if match[1] == b"1" else 0)


def _read_line(line: bytes) -> tuple[bytes, bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ResponseAnomaly("sent a malformed response head")
    return match[1], match[2].strip(b" \t")


def _tell(name: bytes) -> bytes:
    """Return a header's name in lower case if it says something of the message, else nothing."""
    key = name.lower()
    return key if key in _FRAMING else b""


_status_lines = Remembered(_read_status_line, longest=_LONGEST_LINE_REMEMBERED)
_lines = Remembered(_read_line, longest=_LONGEST_LINE_REMEMBERED)
_telling = Remembered(_tell, longest=LONGEST_REMEMBERED)


def _framing(head: ResponseHead) -> tuple[int | None, bool, bool]:
    """The content length if any, whether chunked, and whether the connection persists (RFC 9112 section 9.3)."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options: list[bytes] = []
    for name, value in head.headers:
        if not (key := _telling[name]):
            continue
        if key == b"content-length":
            lengths.append(value)
        elif key == b"transfer-encoding":
            codings.append(value.lower())
        else:
            options += [option.strip(b" \t") for option in value.lower().split(b",")]
    if codings and (lengths or head.version == (1, 0) or codings != [b"chunked"]):
        raise ResponseAnomaly("framed its response with something else than one Content-Length or `chunked`")
    persistent = b"close" not in options and (head.version == (1, 1) or b"keep-alive" in options)
    return _parse_length(lengths), bool(codings), persistent


def _parse_length(lengths: list[bytes]) -> int | None:
    if not lengths:
        return None
    text = lengths[0]
    # 18 digits stay below 2**63; a leading zero is read as octal somewhere.
    if len(lengths) > 1 or not text.isdigit() or len(text) > 18 or (text[:1] == b"0" and text != b"0"):
        raise ResponseAnomaly("sent an ambiguous Content-Length")
    return int(text)

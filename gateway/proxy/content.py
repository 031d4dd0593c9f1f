"""The reading of one request body: which bytes belong to it, and what they say without their framing."""

import re
import sys
from typing import Final, Protocol

from gateway.proxy.head import BAD_LINE_BYTE, FIELD_LINE, TOKEN, ClientFault, split_lines
from gateway.proxy.wire import Headers
from gateway.proxy.witness import ChunkWitness, Disagreement

MAX_CHUNK_LINE_BYTES = 1024
MAX_TRAILER_BYTES = 16 * 1024
MAX_TRAILER_LINES = 64
FRAMING_BYTES: Final = 4096
"""Read at a time where lines may be that frame a body: a byte of them can take a hundred times as long as one of the
content, and whatever has come on a connection is read before anybody else gets their turn."""

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_EXTENSION = rb";" + TOKEN + rb"++(?:=(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?+"
# RFC 9112 section 7.1, without the blanks that it calls bad; 16 digits are what 64 bits hold.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:" + _EXTENSION + rb")*+\r\n")
_TRAILERS = re.compile(rb"(?:" + FIELD_LINE + rb")*+\r\n")


class Content(Protocol):
    """Takes a body off the bytes of its connection."""

    @property
    def complete(self) -> bool:
        """Whether all of the body was read."""

    @property
    def trailers(self) -> Headers:
        """The lines behind it, valid once complete."""

    @property
    def at_once(self) -> int:
        """How many bytes should be read at a time at the most, now, for it to take no long time to feed them."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what `data` adds to the content, perhaps nothing, and what of it comes behind the body.

        Raises ClientFault, and must not be fed again then, nor once complete.
        """


class Counted:
    """A body with a Content-Length; implements Content."""

    __slots__ = ("_left", "trailers")

    def __init__(self, length: int) -> None:
        self._left = length
        self.trailers: Headers = ()

    @property
    def complete(self) -> bool:
        """See Content."""
        return not self._left

    @property
    def at_once(self) -> int:
        """See Content."""
        return sys.maxsize

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See Content."""
        content, rest = data[: self._left], data[self._left :]
        self._left -= len(content)
        return content, rest


class Chunked:
    """A chunked body (RFC 9112 section 7.1); implements Content. Extensions are read and dropped."""

    __slots__ = ("_in_trailers", "_left", "_line", "_witness", "complete", "trailers")

    def __init__(self) -> None:
        self.complete = False
        self.trailers: Headers = ()
        self._left = 0
        """Of the chunk at hand, with the CRLF behind it."""
        self._line = b""
        """What has come of a chunk line or of the trailers."""
        self._in_trailers = False
        self._witness = ChunkWitness()

    @property
    def at_once(self) -> int:
        """See Content."""
        return self._left + FRAMING_BYTES

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See Content."""
        content: list[bytes] = []
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                at = self._take_chunk(data, at, content)
            elif self._in_trailers:
                at = self._take_trailers(data, at)
            else:
                whole = at if self._line else _take_whole(data, at, content)
                at = whole if whole > at else self._take_line(data, at)
        try:
            self._witness.confirm(data[:at], complete=self.complete)
        except Disagreement as exc:
            raise ClientFault(status=400, title="the chunks can be read in more than one way") from exc
        return b"".join(content), data[at:]

    def _take_chunk(self, data: bytes, at: int, content: list[bytes]) -> int:
        end = min(len(data), at + self._left)
        piece = data[at:end]
        left = self._left - len(piece)
        # The last two bytes of what is left are not content, and both, one or none may be in this piece.
        surplus = max(0, min(len(piece), 2 - left))
        tail = piece[len(piece) - surplus :]
        if tail != b"\r\n"[2 - left - surplus : 2 - left]:
            raise ClientFault(status=400, title="a chunk does not end where its size says")
        if surplus < len(piece):
            content.append(piece[: len(piece) - surplus])
        self._left = left
        return end

    def _take_line(self, data: bytes, at: int) -> int:
        line, at = self._take_until(b"\r\n", data, at, MAX_CHUNK_LINE_BYTES, "send shorter chunk extensions")
        if not line:
            return at
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ClientFault(status=400, title="a chunk does not begin with its size as plain hexadecimal digits")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True
            self._line = b"\r\n"  # as if of the last chunk's line: so the end of no trailers looks like that of some
        return at

    def _take_trailers(self, data: bytes, at: int) -> int:
        section, at = self._take_until(b"\r\n\r\n", data, at, MAX_TRAILER_BYTES, "send shorter trailers")
        if not section:
            return at
        if _TRAILERS.fullmatch(section, 2) is None:
            raise ClientFault(status=400, title="a trailer line is not `name: value`")
        if section.count(b"\r\n") > MAX_TRAILER_LINES + 2:
            raise ClientFault(status=400, title="send fewer trailers")
        self.trailers = split_lines(section[2:-2])
        self.complete = True
        return at

    def _take_until(self, end: bytes, data: bytes, at: int, limit: int, title: str) -> tuple[bytes, int]:
        """Return everything up to and with `end`, or nothing if it is not there yet; and where it goes on."""
        before = len(self._line)
        gathered = self._line + data[at : at + limit + len(end)]
        found = gathered.find(end, max(0, before - len(end) + 1))
        whole = gathered[: found + len(end)] if found >= 0 else gathered
        if len(whole) > limit:
            raise ClientFault(status=400, title=title)
        if BAD_LINE_BYTE.search(whole, max(0, before - 1)):
            raise ClientFault(status=400, title="a line of the body's framing does not end in CRLF, or holds a NUL")
        if found < 0:
            self._line = gathered
            return b"", len(data)
        self._line = b""
        return whole, at + len(whole) - before


def _take_whole(data: bytes, at: int, content: list[bytes]) -> int:
    """Take the chunks that are here as a whole, as the others are taken but at once; return where they end."""
    while (line := _CHUNK_LINE.match(data, at)) is not None:
        begin = line.end()
        end = begin + int(line[1], 16)
        if begin == end or begin - at > MAX_CHUNK_LINE_BYTES or data[end : end + 2] != b"\r\n":
            break
        content.append(data[begin:end])
        at = end + 2
    return at

"""A second reader of every request, llhttp, which must come to the same end.

Most servers behind a gateway read HTTP with llhttp or much like it. A message of which it thinks otherwise than our own
reader is one that could be read as two.
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

# Only how lines are read and the body is framed is asked of it: a method it has never heard of, or a high byte in
# the target, says nothing about where the message ends.
_REQUEST_LINE = b"POST / HTTP/1.%b\r\n%b\r\n"
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Disagreement(Exception):
    """The second reader refuses the message, or ends it elsewhere."""


def confirm_head(lines: bytes, *, minor: bytes, has_body: bool) -> None:
    """Read the header lines of an HTTP/1.`minor` head, each with its CRLF.

    Raises Disagreement unless a body follows exactly if it should.
    """
    end = _End()
    raw = _REQUEST_LINE % (minor, lines)
    try:
        HttpRequestParser(end).feed_data(raw)
    except HttpParserUpgrade as exc:
        # It takes all that follows for the other protocol; ours is made to agree by closing.
        if exc.args != (len(raw),):
            raise Disagreement from exc
        return
    except HttpParserError as exc:
        raise Disagreement from exc
    if end.reached == has_body:
        raise Disagreement


class ChunkWitness:
    """Reads a chunked body along with us."""

    __slots__ = ("_end", "_parser")

    def __init__(self) -> None:
        self._end = _End()
        self._parser = HttpRequestParser(self._end)
        self._parser.feed_data(_CHUNKED_HEAD)

    def confirm(self, data: bytes, *, complete: bool) -> None:
        """Read the next bytes; raises Disagreement unless the body ends with them exactly if it is `complete`."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as exc:
            raise Disagreement from exc
        if self._end.reached != complete:
            raise Disagreement


class _End:
    """What is asked of the parser; it does not hold the parser, so the two form no reference cycle."""

    __slots__ = ("reached",)

    def __init__(self) -> None:
        self.reached = False

    def on_message_complete(self) -> None:
        self.reached = True

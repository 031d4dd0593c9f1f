"""What comes in on one connection, cut into the heads and bodies of its requests; no byte is looked at too early."""

import sys
from collections.abc import Callable

from gateway.proxy.content import Chunked, Content, Counted
from gateway.proxy.flow import Inbox
from gateway.proxy.head import ClientFault, Framing, HeadReader, check_beginning, too_long
from gateway.proxy.wire import RequestHead


class Intake:
    """The requests of a connection, one at a time: `cut_head`, then its body through `inbox`, then `cut_head` again."""

    __slots__ = ("_at", "_buffer", "_checked", "_content", "_fault", "_max_bytes", "_new_inbox", "_reader", "inbox")

    def __init__(self, new_inbox: Callable[[], Inbox], *, max_bytes: int, max_lines: int) -> None:
        """Refuse heads with more bytes or header lines than that."""
        self.inbox: Inbox | None = None
        """The body of the request at hand, None if it has none."""
        self._new_inbox = new_inbox
        self._max_bytes = max_bytes
        self._reader = HeadReader(max_lines=max_lines)
        self._buffer = b""
        """What came and belongs to no request yet, from `_at` on."""
        self._at = 0
        self._checked = 0
        """How many bytes of an incomplete head were looked at."""
        self._content: Content | None = None
        """Of the request at hand, as long as some of it is missing."""
        self._fault: ClientFault | None = None
        """Why nothing more is read."""

    @property
    def buffered(self) -> int:
        """Bytes that wait, of the body at hand and behind it."""
        return len(self._buffer) - self._at + (self.inbox.buffered if self.inbox is not None else 0)

    @property
    def at_once(self) -> int:
        """See Content, of the body at hand."""
        return sys.maxsize if self._content is None else self._content.at_once

    @property
    def has_begun(self) -> bool:
        """Whether more than an empty line of the next head is here; valid when `cut_head` has returned None."""
        return bool(self._buffer.strip(b"\r\n"))

    def feed(self, data: bytes) -> None:
        """Take in bytes, at least one. What breaks the framing of a body is told to whoever reads that."""
        if self._fault is not None:
            return
        if self._content is None or self.inbox is None:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0
            return
        try:
            piece, self._buffer = self._content.feed(data)
        except ClientFault as fault:
            self.fail(fault)
            return
        if piece:
            self.inbox.put(piece)
        if self._content.complete:
            self.inbox.trailers = self._content.trailers
            self._content = None
            self.inbox.end()

    def fail(self, fault: ClientFault) -> None:
        """Give the body at hand up: where it ends will never be known, so neither will what comes behind it."""
        self._fault = fault
        if self.inbox is not None:
            self.inbox.fail(fault)

    def cut_head(self) -> tuple[RequestHead, Framing] | None:
        """Begin the next request if its head is here, once the one before is read and answered.

        Raises ClientFault, also if what has come of its body breaks off already.
        """
        buffer, at = self._buffer, self._at
        self.inbox = None
        end = buffer.find(b"\r\n\r\n", at) + 4
        if end < 4:
            beginning = buffer[at:]
            check_beginning(beginning, since=self._checked, max_bytes=self._max_bytes)
            self._buffer, self._at, self._checked = beginning, 0, len(beginning)
            return None
        raw = buffer[at:end]
        if len(raw) > self._max_bytes:
            raise too_long(raw)
        # RFC 9112 section 2.2: an empty line before a request is passed over.
        head, framing = self._reader.read(raw.removeprefix(b"\r\n"))
        self._checked = 0
        self._buffer, self._at = (buffer, end) if end < len(buffer) else (b"", 0)
        if framing.chunked or framing.length:
            self._content = Chunked() if framing.chunked else Counted(framing.length)
            self.inbox = self._new_inbox()
            if early := self.take_rest():
                self.feed(early)
        if self._fault is not None:
            raise self._fault
        return head, framing

    def close(self) -> None:
        """Let go of all that came, and of whoever made the bodies' inboxes: nothing may be fed or cut any more."""
        self.take_rest()
        self._content = self._fault = None
        if self.inbox is not None:
            self.inbox.close()
        del self._new_inbox

    def take_rest(self) -> bytes:
        """Return what is behind the request at hand, which is not HTTP any more."""
        rest, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return rest

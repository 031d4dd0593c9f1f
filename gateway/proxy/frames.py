"""Where the frames of a WebSocket begin and end (RFC 6455 section 5.2), which is all that is read of them."""

import secrets
import struct

POLICY_VIOLATION = 1008
"""RFC 6455 section 7.4.1: what one side did, or would do next, is against the policy of the other."""
_MASKED = 0x80
_LONG, _LONGEST = 126, 127
_LONGEST_HEAD = 14


class FrameMarks:
    """Follows one direction of a WebSocket, however its bytes are cut."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        """Bytes of the frame's content that are still to come."""

    @property
    def between(self) -> bool:
        """Whether a frame of somebody else's may stand here: a control frame may, also inside a message of several."""
        return not self._left and not self._head

    def pass_over(self, data: bytes) -> None:
        """Take note of the next bytes."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            if not self._head and (end := _pass_over_whole(data, at)) > at:
                at = min(end, len(data))
                self._left = end - at
                continue
            missing = _head_length(self._head) - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == _head_length(self._head):
                self._left = _content_length(self._head)
                self._head = b""


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """Return a Close frame (section 5.5.1); what a client sends is masked (section 5.3)."""
    content = struct.pack(">H", code) + reason.encode()
    if len(content) >= _LONG:
        raise ValueError("a control frame carries 125 bytes at most")
    if not masked:
        return bytes((0x88, len(content))) + content
    mask = secrets.token_bytes(4)
    hidden = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
    return bytes((0x88, _MASKED | len(content))) + mask + hidden


def _pass_over_whole(data: bytes, at: int) -> int:
    """Return where the frames end whose heads are here for certain; the last of them may end beyond the data."""
    last = len(data) - _LONGEST_HEAD
    while at <= last:
        second = data[at + 1]
        length, begin = second & 0x7F, at + (6 if second & _MASKED else 2)
        if length >= _LONG:
            width = 2 if length == _LONG else 8
            length = int.from_bytes(data[at + 2 : at + 2 + width], "big")
            begin += width
        at = begin + length
    return at


def _head_length(head: bytes) -> int:
    """Return how long a frame's head is, or how much of it has to be known before that can be said."""
    if len(head) < 2:
        return 2
    extended = {_LONG: 2, _LONGEST: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def _content_length(head: bytes) -> int:
    short = head[1] & 0x7F
    if short == _LONG:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if short == _LONGEST else short

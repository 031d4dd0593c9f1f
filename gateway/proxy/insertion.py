"""Something put into a page on its way, at the beginning of its body, or not at all."""

from typing import Final

from gateway.proxy.markup import BodyStart
from gateway.proxy.wire import Body, Headers, ResponseHead

_LENGTH: Final = b"content-length"
# What says something of the very bytes, or that a part of them may be asked for, would not be true any more.
# (RFC 9110 sections 8.8.1 and 14.3, RFC 9530)
_OF_THE_BYTES = frozenset(
    {b"etag", b"accept-ranges", b"content-md5", b"digest", b"content-digest", b"repr-digest", _LENGTH}
)


class Insertion:
    """Puts a piece of markup into one answer, whose content is neither coded nor a part."""

    def __init__(self, head: ResponseHead, piece: bytes) -> None:
        """Put `piece`, which is ASCII and no more than elements of a body, into what follows `head`."""
        self._head = head
        self._piece = piece

    def whole(self, content: bytes) -> tuple[ResponseHead, bytes]:
        """Return head and content with the piece in it; both as they were if there is no place for it."""
        before, after = BodyStart().feed(content)
        if after is None:
            return self._head, content
        length = (b"Content-Length", b"%d" % (len(content) + len(self._piece)))
        return self._with((*self._kept(), length)), b"".join((before, self._piece, after))

    def stream(self, body: Body) -> tuple[ResponseHead, Body]:
        """Return a head that fits either way, without a length, and the body with the piece in it as it comes."""
        return self._with(self._kept()), _Stream(body, self._piece)

    def _kept(self) -> Headers:
        return tuple([line for line in self._head.headers if line[0].lower() not in _OF_THE_BYTES])

    def _with(self, headers: Headers) -> ResponseHead:
        return ResponseHead(status=self._head.status, reason=self._head.reason, headers=headers)


class _Stream:
    """A `Body`."""

    __slots__ = ("_body", "_piece", "_start")

    def __init__(self, body: Body, piece: bytes) -> None:
        self._body = body
        self._piece = piece
        self._start = BodyStart()

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                if rest := self._start.rest():
                    return rest
                raise
            before, after = self._start.feed(chunk)
            if after is not None:
                return b"".join((before, self._piece, after))
            if before:
                return before

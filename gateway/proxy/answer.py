"""What the caller of the upstream gets: a response, and the raw connection if it switched protocols."""

from gateway.proxy.connection import Connection
from gateway.proxy.response import ResponseParser
from gateway.proxy.wire import Body, Headers, ResponseHead

_MOST_AT_HAND = 64 * 1024


class Response:
    """An `UpstreamResponse` that holds its connection until it is closed; also the iterator over its own body."""

    __slots__ = ("_closed", "_connection", "_parser", "head", "stream")

    def __init__(self, connection: Connection, head: ResponseHead, parser: ResponseParser) -> None:
        """Take over an exchange whose final `head` is here."""
        self.head = head
        self.stream = SwitchedStream(connection, parser) if connection.switched else None
        self._connection = connection
        self._parser = parser
        self._closed = False

    @property
    def body(self) -> Body:
        """See `UpstreamResponse.body`; the same iterator every time."""
        return self

    def at_hand(self) -> bytes | None:
        """See `UpstreamResponse.at_hand`."""
        parser = self._parser
        if not parser.complete or parser.buffered > _MOST_AT_HAND or parser.trailers or self.stream is not None:
            return None
        content = b"".join(parser.chunks)
        parser.chunks.clear()
        parser.buffered = 0
        return content

    def trailers(self) -> Headers:
        """See `UpstreamResponse.trailers`."""
        return () if self._parser.chunks else self._parser.trailers

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        parser = self._parser
        if self.stream is not None:
            raise StopAsyncIteration
        if parser.chunks:
            return self._connection.take(parser)
        chunk = b"" if parser.complete else await self._connection.read(parser)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def close(self) -> None:
        """See `UpstreamResponse.close`."""
        self.release()

    def release(self) -> None:
        """End the exchange, at once; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._connection.finish()


class SwitchedStream:
    """A `ByteStream` over the connection of a response with status 101, which ends with it."""

    __slots__ = ("_connection", "_parser")

    def __init__(self, connection: Connection, parser: ResponseParser) -> None:
        """Take over the connection as it is behind the head."""
        self._connection = connection
        self._parser = parser

    async def read(self) -> bytes:
        """See `ByteStream.read`; raises UpstreamFault when the connection breaks."""
        return await self._connection.read(self._parser)

    async def write(self, data: bytes) -> None:
        """See `ByteStream.write`; raises UpstreamFault when the connection is closed or takes nothing for too long."""
        await self._connection.write(data)

    def say_last(self, data: bytes) -> bool:
        """See `ByteStream.say_last`."""
        return self._connection.say_last(data)

    def abort(self) -> None:
        """See `ByteStream.abort`."""
        self._connection.finish()

    async def close(self) -> None:
        """See `ByteStream.close`."""
        try:
            await self._connection.close(self._parser)
        finally:
            self._connection.finish()

"""Two raw connections made one, after a switch of protocols: bytes go both ways as they are, until either side ends."""

import asyncio
from contextlib import suppress

from gateway.proxy.frames import POLICY_VIOLATION, FrameMarks, close_frame
from gateway.proxy.live import Exchange
from gateway.proxy.wire import ByteStream, UpstreamFault

_WHY = "not permitted any more"
_FOLLOWED_BYTES = 8 * 1024
"""So much is looked through for frames before it is others' turn: it may be thousands."""


async def join(client: ByteStream, upstream: ByteStream) -> None:
    """Carry bytes both ways until one side ends, send what it has sent, and close both.

    A side that breaks, or a cancellation, cuts the other one at once. No frame is looked into, so extensions and
    whatever else the two have agreed on are theirs.
    """
    await Tunnel(client, upstream, follows=False).carry()


async def carry_exchange(exchange: Exchange, client: ByteStream, upstream: ByteStream) -> None:
    """Make the two one until either ends, or the exchange is cut, which says goodbye where it can."""
    tunnel = Tunnel(client, upstream, follows=True)
    if exchange.begin(tunnel.cut) is not None:
        tunnel.cut()
    if (broken := await tunnel.carry()) is not None:
        try:
            raise broken
        finally:
            del broken  # it holds this frame, which must not hold it


class Tunnel:
    """The two connections of a WebSocket, and how to cut them."""

    def __init__(self, client: ByteStream, upstream: ByteStream, *, follows: bool) -> None:
        """Let a cut say goodbye if it `follows` the frames, of which it reads no more than how long they are."""
        self._client = client
        self._upstream = upstream
        self._up = FrameMarks() if follows else None
        self._down = FrameMarks() if follows else None
        self._cut = asyncio.Event()
        self._is_ending = False

    def cut(self) -> None:
        """End both sides now; from this call on not a byte goes either way.

        Each gets a Close frame, with 1008 (RFC 6455 section 7.4.1), if nothing waits to be sent to it and no frame is
        under way. Otherwise that would have to go first, so the connection is reset.
        """
        if self._cut.is_set():
            return
        self._cut.set()
        if self._is_ending:
            # Both have been told of the end already, but what was sent before it may still be on its way.
            self._client.abort()
            self._upstream.abort()
            return
        for stream, marks, masked in ((self._client, self._down, False), (self._upstream, self._up, True)):
            frame = close_frame(POLICY_VIOLATION, _WHY, masked=masked)
            if marks is None or not marks.between or not stream.say_last(frame):
                stream.abort()

    async def carry(self) -> ConnectionError | UpstreamFault | None:
        """See `join`; returns soon after a cut as well, and what broke if it was one of the two sides."""
        ways = [
            asyncio.ensure_future(self._carry(self._client, self._upstream, self._up)),
            asyncio.ensure_future(self._carry(self._upstream, self._client, self._down)),
        ]
        over = asyncio.ensure_future(self._cut.wait())
        closed = False
        try:
            done, _ = await asyncio.wait([*ways, over], return_when=asyncio.FIRST_COMPLETED)
            broken = next((error for way in ways if way in done and (error := way.exception()) is not None), None)
            if over in done or broken is None:
                # What came before the end is delivered, at the pace of whoever takes it.
                self._is_ending = True
                with suppress(ConnectionError, UpstreamFault):
                    await self._upstream.close()
                    await self._client.close()
                    closed = True
        finally:
            for task in (*ways, over):
                task.cancel()
            await asyncio.gather(*ways, over, return_exceptions=True)
            if not closed:
                self._client.abort()
                self._upstream.abort()
        return broken if isinstance(broken, ConnectionError | UpstreamFault) and over not in done else None

    async def _carry(self, source: ByteStream, sink: ByteStream, marks: FrameMarks | None) -> None:
        # Asked behind each wait: what was read before a cut is not sent behind it.
        while (data := await source.read()) and not self._cut.is_set():
            if marks is None:
                await sink.write(data)
            else:
                await self._carry_followed(data, sink, marks)

    async def _carry_followed(self, data: bytes, sink: ByteStream, marks: FrameMarks) -> None:
        for at in range(0, len(data), _FOLLOWED_BYTES):
            if at:
                await asyncio.sleep(0)
            if self._cut.is_set():
                return
            piece = data[at : at + _FOLLOWED_BYTES]
            marks.pass_over(piece)
            await sink.write(piece)

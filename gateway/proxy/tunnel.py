"""Two raw connections made one, after a switch of protocols: bytes go both ways as they are, until either side ends."""

import asyncio
from contextlib import suppress

from gateway.proxy.wire import ByteStream, UpstreamFault


async def join(client: ByteStream, upstream: ByteStream) -> None:
    """Carry bytes both ways until one side ends, send what it has sent, and close both.

    A side that breaks, or a cancellation, cuts the other one at once. No frame is looked into, so extensions and
    whatever else the two have agreed on are theirs.
    """
    ways = [asyncio.ensure_future(_carry(client, upstream)), asyncio.ensure_future(_carry(upstream, client))]
    ended = False
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if all(way.exception() is None for way in done):
            # What came before the end is delivered, at the pace of whoever takes it.
            with suppress(ConnectionError, UpstreamFault):
                await upstream.close()
                await client.close()
                ended = True
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        if not ended:
            client.abort()
            upstream.abort()


async def _carry(source: ByteStream, sink: ByteStream) -> None:
    while data := await source.read():
        await sink.write(data)

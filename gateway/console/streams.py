"""What every stream of a page heeds: whoever listens may have gone, and the gateway may be about to."""

import asyncio
from contextlib import suppress

from aiohttp import web


def has_left(request: web.Request) -> bool:
    """Tell whether whoever asked has gone: the library does not end what answers them before something is sent."""
    return request.transport is None or request.transport.is_closing()


async def rest(leaving: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until the gateway is leaving; return whether it is."""
    with suppress(TimeoutError):
        await asyncio.wait_for(leaving.wait(), seconds)
    return leaving.is_set()

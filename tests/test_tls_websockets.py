"""WebSockets over TLS on the public listener."""

import asyncio
import logging

from tests.rawwire import hold
from tests.test_public_tls import authority, connect, open_tls_world, pair  # noqa: F401
from tests.test_websockets import AGREED, handshake


async def test_a_client_that_ends_its_websocket_over_tls_is_no_news(tmp_path, authority, pair, caplog):  # noqa: F811
    """Nothing is logged as a warning for it."""
    caplog.set_level(logging.WARNING)
    never = asyncio.Event()
    async with (
        open_tls_world(tmp_path, authority, pair, script=lambda _: hold(never, before=AGREED)) as world,
        connect(world.port, authority.trusting()) as (reader, writer),
    ):
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await world.upstream.connections[0].ended.wait()
        never.set()
    assert [] == caplog.messages

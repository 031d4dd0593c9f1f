"""What the tests of the way to the upstream share: a pool that is closed in the end, and the short way through it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.proxy.limits import PoolLimits
from gateway.proxy.pool import Pool, parse_upstream_url
from gateway.proxy.wire import RequestHead, Upstream, UpstreamResponse
from tests.patience import PATIENCE_SECONDS


@asynccontextmanager
async def pool_to(url: str, *, tls: ssl.SSLContext | None = None, **limits) -> AsyncIterator[Pool]:
    pool = Pool(parse_upstream_url(url, tls=tls), limits=PoolLimits(**limits))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield pool
    finally:
        await pool.close()


def request(method: bytes = b"GET", target: bytes = b"/", **headers: bytes) -> RequestHead:
    lines = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return RequestHead(method=method, target=target, headers=((b"Host", b"app.example"), *lines))


async def body_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read_all(answer: UpstreamResponse) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.body])
    finally:
        await answer.close()


async def fetch(pool: Upstream, head: RequestHead | None = None, body=None) -> tuple[int, bytes]:
    answer = await pool.send(head or request(), body)
    return answer.head.status, await read_all(answer)


async def eventually(condition: Callable[[], object]) -> None:
    """Let the loop run until something on our side of the socket is true, for which there is no event.

    It is looked at every so often, and not all the time: the gateway's threads and other processes need the processor.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing to wait on
            await asyncio.sleep(0.002)

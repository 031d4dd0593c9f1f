"""The numbers of one process at one moment, and how one worker asks another for them.

Nothing is kept of another worker's numbers: they are asked for at each scrape, so what is shown is of now, whichever
worker is asked, and no counter is ever seen to go back within its worker's life.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from gateway.metrics.catalogue import METRICS
from gateway.metrics.metric import Process
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 1.0


class Reading(msgspec.Struct, frozen=True):
    """What each metric says of one process, by name."""

    samples: dict[str, list[tuple[tuple[str, ...], float]]]


def take(process: Process) -> Reading:
    """Read every metric, in one step."""
    # Numbers all of them, for a yes is another word in JSON.
    return Reading(
        {metric.name: [(labels, float(value)) for labels, value in metric.read(process)] for metric in METRICS}
    )


@asynccontextmanager
async def told(path: Path, read: Callable[[], Awaitable[Reading]]) -> AsyncIterator[None]:
    """Tell whoever connects to a Unix socket at `path` what `read` returns, until the block ends; raises OSError.

    Only our own user may be able to reach it; what a killed process has left there is replaced.
    """
    tasks = Tasks()

    async def tell(writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.json.encode(await read()))
            await writer.drain()
        except ConnectionError:
            log.debug("whoever asked for metrics has gone")
        finally:
            writer.close()

    def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.start(tell(writer), name="tell another worker the metrics")

    server = await asyncio.start_unix_server(answer, path)
    try:
        yield
    finally:
        server.close()
        await tasks.close()


async def ask_all(paths: Iterable[Path]) -> list[Reading | None]:
    """Return what each tells, in order; None for one that says nothing within a second, or nothing that makes sense."""
    return await asyncio.gather(*map(_ask, paths))


async def _ask(path: Path) -> Reading | None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return msgspec.json.decode(await reader.read(), type=Reading)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None

"""A program that listens on a database's local channel and looks nowhere else: says when, and each time it is told."""

import asyncio
import sys
from pathlib import Path

from gateway.stores.local import channel_of, listen


async def listen_without_end(path: Path) -> None:
    async with listen(channel_of(path), see_nothing) as push:
        print("listening", flush=True)  # noqa: T201 - read by the test
        while True:
            await push.wait()
            print("told", flush=True)  # noqa: T201 - read by the test


async def see_nothing() -> int:
    return 0


if __name__ == "__main__":
    asyncio.run(listen_without_end(Path(sys.argv[1])))

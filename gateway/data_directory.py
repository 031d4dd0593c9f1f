"""The directory of our own data: nobody else may write it, and of our processes one at a time prepares it."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.audit.hand import Hand
from gateway.config.model import ConfigError
from gateway.locks import Claim, Lock, claim

_TURN_SECONDS = 0.05


def claim_directory(directory: Path) -> None:
    """Make the directory for our user alone, or check one that is there; raises ConfigError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as exc:
        raise ConfigError(f"server.data_directory: `{directory}` cannot be used: {exc.strerror}") from exc
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(f"server.data_directory: `{directory}` can be written by others: chmod 700 it")


@asynccontextmanager
async def in_turn(directory: Path, *, claim: Claim = claim) -> AsyncIterator[Hand]:
    """Keep the other processes that do this to a data directory waiting; raises ConfigError, OSError.

    Yields a hand for whatever else waits for the disk meanwhile: this process may have customers to serve.
    """
    hand, lock = Hand("data-directory"), Lock(directory / ".turn", claim=claim)
    try:
        await hand.run(partial(claim_directory, directory))
        while not await hand.run(lock.take):  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(_TURN_SECONDS)
        yield hand
    finally:
        hand.stop(lock.release)

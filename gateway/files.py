"""Files of our own in a directory that nobody else may write."""

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.config.model import ConfigError

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
async def in_turn(directory: Path) -> AsyncIterator[None]:
    """Keep the other processes that do this to a data directory waiting; raises ConfigError, OSError."""
    claim_directory(directory)
    descriptor = os.open(directory / ".turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                # Not waited for in the kernel: this process has customers to serve.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_TURN_SECONDS)
        yield
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes, *, mode: int = 0o644, fsync: Callable[[int], None] | None = None) -> None:
    """Put a file in place whole; a link that stands there is replaced, never followed; raises OSError.

    With `fsync` the content is on the disk before its name is.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        file.write(content)
        if fsync is not None:
            file.flush()
            fsync(file.fileno())
    draft.replace(path)

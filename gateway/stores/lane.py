"""One SQLite connection in a thread of its own; here, and only here, its errors become StoreError."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gateway.stores.store import StoreError

T = TypeVar("T")


class Lane:
    """Work is done one piece at a time, in the order it was handed in.

    A caller may be cancelled: work that has begun goes on to its end in the thread, work that has not begun never
    happens, and either way the lane goes on.
    """

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], path: Path) -> None:
        """Prepare the lane; `connect` is called in its thread, by `open`, and connects to the file at `path`."""
        self._connect = connect
        self._path = path.absolute()
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed: Future[None] | None = None

    async def open(self) -> None:
        """Connect; raises StoreError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns; whatever is wrong with the database raises StoreError."""
        if self._closed is not None:
            raise StoreError("the store is closed: open it again")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._use, work)

    def close(self, *, after: "Lane | None" = None) -> Awaitable[None]:
        """Close behind the work handed in so far, and behind `after`; it happens even if nobody waits for it."""
        if self._closed is None:
            self._closed = self._thread.submit(self._close, None if after is None else after._closed)
            self._thread.shutdown(wait=False)
        # Shielded, because cancelling a wrapped future would take the work back out of the queue.
        return asyncio.shield(asyncio.wrap_future(self._closed))

    def _open(self) -> None:
        with _translated():
            self._connection = self._connect()
            self._file = _identity(self._path)

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise StoreError("the store is not open: open it first")
        with _translated():
            # SQLite would go on with the file it has open, and never hear what others write into the new one.
            if self._file != _identity(self._path):
                raise StoreError(
                    f"`{self._path}` was replaced while in use: stop every process that uses it, put the right file "
                    "there, without a `-wal` and `-shm` of another one, and start again"
                )
            return work(self._connection)

    def _close(self, after: Future[None] | None) -> None:
        if after is not None:
            wait([after])
        if self._connection is None:
            return
        with _translated():
            self._connection.close()


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise StoreError(f"the database cannot be used: {exc}: check the disk, the file and its permissions") from exc
    except (ValueError, OverflowError) as exc:
        raise StoreError(f"a value has no exact form in this version's database: {exc}") from exc

"""One SQLite connection in a thread of its own; here, and only here, its errors become StoreError."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from gateway.stores.store import StoreError

T = TypeVar("T")

_Piece = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class Lane:
    """Work is done one piece at a time, in the order it was handed in.

    A caller may be cancelled: work that has begun goes on to its end in the thread, work that has not begun never
    happens, and either way the lane goes on. All work is handed in from one loop.
    """

    def __init__(
        self, name: str, connect: Callable[[], sqlite3.Connection], path: Path, *, tell_seconds: float = 0
    ) -> None:
        """Prepare the lane; `connect` is called in its thread, by `open`, and connects to the file at `path`.

        What comes of pieces that took less than `tell_seconds` together is told together, behind the one that comes
        next to them: waking the loop costs more than a short read. Only for where no piece takes long.
        """
        self._tell_seconds = tell_seconds
        self._connect = connect
        self._path = path.absolute()
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed: Future[None] | None = None
        self._pieces: deque[_Piece] = deque()
        self._awake = False
        """Whether the thread has been asked to do what there is, and has not said that it is through."""

    async def open(self) -> None:
        """Connect; raises StoreError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns; whatever is wrong with the database raises StoreError."""
        if self._closed is not None:
            raise StoreError("the store is closed: open it again")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._pieces.append((work, answer))
        if not self._awake:
            self._awake = True
            self._thread.submit(self._work, loop)
        return await answer

    def close(self, *, after: "Lane | None" = None) -> Awaitable[None]:
        """Close behind the work handed in so far, and behind `after`; it happens even if nobody waits for it."""
        if self._closed is None:
            if self._pieces:
                # Nobody will ask the thread again for what came while it was at work.
                self._thread.submit(self._work, asyncio.get_running_loop())
            self._closed = self._thread.submit(self._close, None if after is None else after._closed)
            self._thread.shutdown(wait=False)
        # Shielded, because cancelling a wrapped future would take the work back out of the queue.
        return asyncio.shield(asyncio.wrap_future(self._closed))

    def _open(self) -> None:
        with _translated():
            self._connection = self._connect()
            self._file = _identity(self._path)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do all there is, in the thread; what comes of it is told in the end, or after some time."""
        outcomes: list[_Outcome] = []
        began = perf_counter()
        while self._pieces:
            work, answer = self._pieces.popleft()
            if answer.cancelled():
                continue
            try:
                outcomes.append((answer, self._use(work), None))
            except StopIteration as error:
                # No future takes it; a coroutine makes the same of it (PEP 479).
                stopped = RuntimeError("a piece of work raised StopIteration")
                stopped.__cause__ = error
                outcomes.append((answer, None, stopped))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                outcomes.append((answer, None, error))
            if perf_counter() - began > self._tell_seconds:
                self._tell(loop, outcomes, through=False)
                outcomes, began = [], perf_counter()
        self._tell(loop, outcomes, through=True)

    def _tell(self, loop: asyncio.AbstractEventLoop, outcomes: list[_Outcome], *, through: bool) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(self._settle, loop, outcomes, through)

    def _settle(self, loop: asyncio.AbstractEventLoop, outcomes: list[_Outcome], through: bool) -> None:
        try:
            for answer, result, error in outcomes:
                if answer.done():
                    continue
                if error is None:
                    answer.set_result(result)
                else:
                    answer.set_exception(error)
        finally:
            # Or nobody would ask the thread again.
            if through:
                self._awake = False
                if self._pieces and self._closed is None:
                    self._awake = True
                    self._thread.submit(self._work, loop)

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

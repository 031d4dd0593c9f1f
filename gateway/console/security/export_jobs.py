"""Exports that take a while: each a folder and a process, kept for a bounded time, and found by whoever started it.

Every process of a gateway finds those of the others by their folders, and deletes what belongs to none any more.
"""

import asyncio
import logging
import os
import re
import secrets
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from gateway.audit.hand import Hand
from gateway.clock import Clock
from gateway.console.security.export_order import (
    ABOUT,
    CANCEL,
    DATA,
    PROGRESS,
    About,
    Order,
    Progress,
    read_whole,
    write_whole,
)
from gateway.locks import claim
from gateway.tasks import Tasks

T = TypeVar("T")
log = logging.getLogger(__name__)

FOLDER: Final = "console-exports"
_LOCK: Final = "lock"
_COMMAND: Final = ("-P", "-m", "gateway.console.security.export_process")
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SWEEP_SECONDS: Final = 60.0
_PIECE: Final = 256 * 1024


class TooManyExports(Exception):
    """As many are made or kept as may be: the message says of whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTerms:
    """How much exports may take."""

    most_running: int = 2
    """At a time, in each process of the gateway."""
    most_of_one: int = 3
    """That are made or kept for one person."""
    most_kept: int = 12
    """For all."""
    kept_seconds: float = 3600.0
    most_rows: int = 1_000_000
    most_bytes: int = 256 * 1024 * 1024
    settle_seconds: float = 30.0
    """For what is not in the index yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One export, as it is now."""

    id: str
    about: About
    progress: Progress
    data: Path
    """What came of it; there is such a file only while the state says so."""


class ExportJobs:
    """Makes exports, finds them and throws them away; every call raises OSError if the disk says no."""

    def __init__(
        self,
        base: Path,
        *,
        clock: Clock,
        terms: ExportTerms | None = None,
        write: Callable[[Order], Awaitable[None]] | None = None,
    ) -> None:
        """Keep them in a folder of our own below `base`, each written by a process, or by `write`; see `open`."""
        self._write = write or write_apart
        self.terms = terms or ExportTerms()
        self._base = base
        self._room = base / secrets.token_hex(8)
        self._clock = clock
        self._running: set[str] = set()
        self._tasks = Tasks()
        self._hand: Hand | None = None
        self._lock: int | None = None

    async def open(self, stack: AsyncExitStack) -> None:
        """Look after what is kept until the stack ends; then all of ours is ended and deleted."""
        stack.push_async_callback(self._close)
        self._tasks.start(self._keep_sweeping(), name="delete exports that are too old")

    async def clear(self) -> None:
        """Delete what those have left who live no more, where there is no console any more to look after it."""
        if not self._base.is_dir():
            return
        with suppress(OSError):
            await self._do(self._sweep)
        await self._close()

    async def check(self, owner: str) -> None:
        """Raise TooManyExports if there can be no other one of theirs now."""
        self._check_running()
        await self._do(partial(self._check, owner))

    async def start(self, owner: str, order: Order, *, link: str = "") -> str:
        """Begin an export and return its id; raises TooManyExports. The order's folder is set here."""
        self._check_running()
        id_ = secrets.token_hex(16)
        self._running.add(id_)
        try:
            about = About(owner=owner, form=order.form, text=order.text, link=link, made_at=self._now())
            folder = await self._do(partial(self._make, id_, about, order.total))
            self._tasks.start(
                self._run(id_, folder, msgspec.structs.replace(order, folder=str(folder))), name="write an export"
            )
        except BaseException:
            self._running.discard(id_)
            raise
        return id_

    async def find(self, owner: str, id_: str) -> Job | None:
        """Return an export of theirs; None if there is none, or it is somebody else's."""
        if _ID.fullmatch(id_) is None:
            return None
        found = await self._do(partial(self._find, id_))
        return found if found is not None and found.about.owner == owner else None

    async def list_of(self, owner: str) -> list[Job]:
        """Return all exports of theirs, the newest first."""
        return await self._do(lambda: [job for job in self._all() if job.about.owner == owner])

    @asynccontextmanager
    async def reading(self, job: Job) -> AsyncIterator[tuple[int, Callable[[], Awaitable[bytes]]]]:
        """Yield how long what came of it is, and what reads its next piece, nothing at its end."""
        file: BinaryIO = await self._do(lambda: job.data.open("rb"))
        try:
            length = await self._do(lambda: os.fstat(file.fileno()).st_size)
            yield length, partial(self._do, partial(file.read, _PIECE))
        finally:
            await self._do(file.close)

    async def cancel(self, job: Job) -> None:
        """End an export, and delete what came of it."""
        await self._do(partial(_cancel, job))

    async def _run(self, id_: str, folder: Path, order: Order) -> None:
        try:
            await self._write(order)
            progress = await self._do(partial(read_whole, folder / PROGRESS, Progress))
            if progress is None or progress.state == "running":
                failed = Progress(state="failed", said="the process that wrote it has ended")
                await self._do(partial(write_whole, folder / PROGRESS, failed))
        except FileNotFoundError:
            pass  # it was cancelled meanwhile, and is deleted
        except OSError:
            log.exception("an export could not be written")
        finally:
            self._running.discard(id_)

    async def _keep_sweeping(self) -> None:
        while True:
            with suppress(OSError):
                await self._do(self._sweep)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _close(self) -> None:
        await self._tasks.close()
        if self._hand is not None:
            self._hand.stop(self._leave)
            self._hand = None

    async def _do(self, work: Callable[[], T]) -> T:
        """Do what waits for the disk, without the loop's waiting for it."""
        if self._hand is None:
            self._hand = Hand("console-exports")
        return await self._hand.run(work)

    def _now(self) -> float:
        return self._clock().timestamp()

    def _check_running(self) -> None:
        if len(self._running) >= self.terms.most_running:
            raise TooManyExports("others are being written: try again when one is done")

    def _check(self, owner: str) -> None:
        jobs = self._all()
        if len(jobs) >= self.terms.most_kept:
            raise TooManyExports("as many are kept as may be: try again later")
        if sum(job.about.owner == owner for job in jobs) >= self.terms.most_of_one:
            raise TooManyExports(f"{self.terms.most_of_one} of yours are kept: delete one of them first")

    def _make(self, id_: str, about: About, total: int) -> Path:
        """Make the folder of an export, if there may be one more of theirs; for the hand."""
        self._enter()
        self._check(about.owner)
        folder = self._room / id_
        folder.mkdir(mode=0o700)
        write_whole(folder / PROGRESS, Progress(state="running", total=total))
        write_whole(folder / ABOUT, about)
        return folder

    def _enter(self) -> None:
        """Make our own room, which is ours for as long as we live."""
        if self._lock is not None:
            return
        self._base.mkdir(mode=0o700, exist_ok=True)
        self._room.mkdir(mode=0o700)
        self._lock = claim(self._room / _LOCK)

    def _leave(self) -> None:
        if self._lock is not None:
            shutil.rmtree(self._room, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def _all(self) -> list[Job]:
        folders = self._base.glob("*/*") if self._base.is_dir() else ()
        return [job for folder in sorted(folders) if _ID.fullmatch(folder.name) and (job := _read(folder)) is not None]

    def _find(self, id_: str) -> Job | None:
        return next((job for job in self._all() if job.id == id_), None)

    def _sweep(self) -> None:
        """Delete what is too old, and the rooms of those who live no more."""
        if not self._base.is_dir():
            return
        for job in self._all():
            if not 0 <= self._now() - job.about.made_at < self.terms.kept_seconds:
                _cancel(job)
                if job.progress.state != "running":
                    shutil.rmtree(job.data.parent, ignore_errors=True)
        for room in self._base.iterdir():
            if room == self._room or not room.is_dir() or room.is_symlink():
                continue
            handle = claim(room / _LOCK)
            if handle is not None:
                # Whoever made it a moment ago, and has not locked it yet, finds it gone and says so.
                shutil.rmtree(room, ignore_errors=True)
                os.close(handle)


def _read(folder: Path) -> Job | None:
    about, progress = read_whole(folder / ABOUT, About), read_whole(folder / PROGRESS, Progress)
    if about is None or progress is None:
        return None
    return Job(id=folder.name, about=about, progress=progress, data=folder / DATA)


def _cancel(job: Job) -> None:
    if job.progress.state == "running":
        (job.data.parent / CANCEL).touch(mode=0o600)
    else:
        shutil.rmtree(job.data.parent, ignore_errors=True)


async def write_apart(order: Order) -> None:
    """Have a process write it, and wait for that; whoever is cancelled ends it. Raises OSError."""
    process = await asyncio.create_subprocess_exec(sys.executable, *_COMMAND, stdin=PIPE, start_new_session=True)
    try:
        if process.stdin is None:
            raise OSError("it was started without its pipe")
        # Not among its arguments, which others can read: the address of a database holds a password.
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
            with suppress(ConnectionError):
                await process.stdin.wait_closed()
        await process.wait()

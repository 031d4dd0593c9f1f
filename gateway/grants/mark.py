"""The highest position of the store that was seen here and the tag of its change, kept in a small file of the data
directory across restarts.
"""

import asyncio
import logging
import os
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

from gateway.audit.hand import Hand
from gateway.audit.segment import Fsync
from gateway.files import write_new

log = logging.getLogger(__name__)

RECOVERY_LEAP = 1_000_000
"""How far the operator's `recover` raises the position of a store above all that was seen: further than any store that
goes on from an older copy gets by itself."""
CLOSING_SECONDS = 1.0
"""How long a disk may keep a worker from stopping."""
_PREFIX = "position-"


class Place(NamedTuple):
    """Where a store was in its history."""

    position: int
    tag: str | None = None
    """None if it is not known, as for a position that was never seen itself."""

    def is_of_another_history(self, tag: str | None) -> bool:
        """Tell whether a store is another one, by its change at this position; an unknown tag tells nothing."""
        return self.tag is not None and tag is not None and self.tag != tag


class Mark:
    """A store whose position is lower, or whose change at the position is another one, is an older copy of itself.

    Each process writes a file of its own and reads them all at its start. What is written is a second behind at the
    most, which matters to a process that is killed within it only.
    """

    def __init__(self, path: Path, place: Place, *, fsync: Fsync = os.fsync) -> None:
        """Use `open`."""
        self.place = place
        self._path = path
        self._fsync = fsync
        self._hand: Hand | None = None
        self._written: Place | None = None
        self._failed = False
        # A thread may still be at it when the last one is written at the end.
        self._writing = Lock()

    @classmethod
    def open(cls, directory: Path, origin: str, *, fsync: Fsync = os.fsync) -> Self:
        """Return the mark of the process that calls itself `origin`."""
        return cls(directory / f"{_PREFIX}{origin}", _read_all(directory), fsync=fsync)

    @property
    def highest(self) -> int:
        """The position."""
        return self.place.position

    def raise_to(self, position: int, tag: str | None = None) -> None:
        """Remember a position that was seen, and the tag of its change; a lower one changes nothing."""
        self.place = max(self.place, Place(position, tag), key=_rank)

    @property
    def is_written(self) -> bool:
        """Tell whether `write` has nothing to do."""
        return self._written == self.place

    async def keep(self) -> None:
        """Write it on a thread for which nobody has to wait, not even the end of the process; a disk may hang."""
        if self._hand is None:
            self._hand = Hand("mark")
        await self._hand.run(self.write)

    async def close(self, *, seconds: float = CLOSING_SECONDS) -> None:
        """Write it for the last time, unless the disk takes longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self.keep()
        except TimeoutError:
            log.error("`%s` could not be written for the last time: the disk hangs", self._path)  # noqa: TRY400 - the disk's
        if self._hand is not None:
            self._hand.stop()

    def write(self) -> None:
        """Put the mark on the disk, whole or not at all; if that fails, it is tried again next time."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        place = self.place
        line = f"{place.position} {place.tag or ''}".strip() + "\n"
        try:
            write_new(self._path, line.encode("utf-8"), mode=0o600, fsync=self._fsync)
        except OSError as exc:
            if not self._failed:
                log.warning("`%s` cannot be written: an older copy of the store goes unnoticed: %s", self._path, exc)
            self._failed = True
            return
        self._written, self._failed = place, False


def read_highest(directory: Path) -> int:
    """Return the highest position that any process has written into `directory`; 0 if none has."""
    return _read_all(directory).position


def _read_all(directory: Path) -> Place:
    files = (path for path in directory.glob(f"{_PREFIX}*") if path.suffix != ".new")
    return max((_read(path) for path in files), default=Place(0), key=_rank)


def _read(path: Path) -> Place:
    try:
        position, _, tag = path.read_text("utf-8").strip().partition(" ")
        return Place(int(position), tag or None)
    except (OSError, ValueError) as exc:
        log.error("`%s` cannot be read, so an older copy of the store may go unnoticed: %s", path, exc)  # noqa: TRY400 - the operator's
        return Place(0)


def _rank(place: Place) -> tuple[int, bool]:
    # Of two at the same position, the one that knows more.
    return place.position, place.tag is not None

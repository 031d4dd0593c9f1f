"""The highest position of the store that was seen here, kept across restarts in a small file of the data directory."""

import logging
import os
from pathlib import Path
from threading import Lock
from typing import Self

from gateway.files import write_new

log = logging.getLogger(__name__)

RECOVERY_LEAP = 1_000_000
"""How far the operator's `recover` raises the position of a store above all that was seen: further than any store that
goes on from an older copy gets by itself."""
_PREFIX = "position-"


class Mark:
    """A store whose position is lower is an older copy of itself.

    Each process writes a file of its own and reads them all at its start. What is written is a second behind at the
    most, which matters to a process that is killed within it only.
    """

    def __init__(self, path: Path, highest: int) -> None:
        """Use `open`."""
        self.highest = highest
        self._path = path
        self._written = -1
        self._failed = False
        # A thread may still be at it when the last one is written at the end.
        self._writing = Lock()

    @classmethod
    def open(cls, directory: Path, origin: str) -> Self:
        """Return the mark of the process that calls itself `origin`."""
        return cls(directory / f"{_PREFIX}{origin}", read_highest(directory))

    def raise_to(self, position: int) -> None:
        """Remember a position that was seen; a lower one changes nothing."""
        self.highest = max(self.highest, position)

    @property
    def is_written(self) -> bool:
        """Tell whether `write` has nothing to do."""
        return self._written == self.highest

    def write(self) -> None:
        """Put the mark on the disk, whole or not at all; if that fails, it is tried again next time."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        position = self.highest
        try:
            write_new(self._path, b"%d\n" % position, mode=0o600, fsync=os.fsync)
        except OSError as exc:
            if not self._failed:
                log.warning("`%s` cannot be written: an older copy of the store goes unnoticed: %s", self._path, exc)
            self._failed = True
            return
        self._written, self._failed = position, False


def read_highest(directory: Path) -> int:
    """Return the highest position that any process has written into `directory`; 0 if none has."""
    highest = 0
    for path in directory.glob(f"{_PREFIX}*"):
        if path.suffix != ".new":
            highest = max(highest, _read(path))
    return highest


def _read(path: Path) -> int:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError) as exc:
        log.error("`%s` cannot be read, so an older copy of the store may go unnoticed: %s", path, exc)  # noqa: TRY400 - the operator's
        return 0

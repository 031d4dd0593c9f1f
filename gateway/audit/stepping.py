"""What an index steps over, so that nothing which cannot be read keeps it from the rest: it is counted, and shown."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Final, Generic, NamedTuple, TypeVar

from gateway.audit.segment import decode_gone, parse_line

log = logging.getLogger(__name__)

T = TypeVar("T")


class Unread(NamedTuple):
    """How much of the journal is in no index because it cannot be read; `locum audit verify` says what is wrong."""

    lines: int = 0
    """They were stepped over, and are not tried again before their file changes in its place."""
    files: int = 0
    """Each is tried again whenever the index is brought up to date."""


NONE_UNREAD: Final = Unread()


class Lines(Generic[T]):
    """Reads lines, and steps over those that cannot be read."""

    def __init__(self, read: Callable[[bytes], T | None]) -> None:
        """`read` makes something of a whole line, or None if it is none of ours; it may raise anything."""
        self._read = read
        self._has_said = False

    def read(self, line: bytes) -> tuple[T | None, bool]:
        """Return what is made of a whole line, and whether it could be read.

        Nothing is made of one whose content retention has taken away, but it is read.
        """
        try:
            found = self._read(line)
        except Exception as error:  # noqa: BLE001 - no line is known that does this, so nobody knows what it would be
            self.say(error)
            return None, False
        return found, found is not None or is_gone(line)

    def say(self, error: Exception) -> None:
        """Tell the log of the first line that is stepped over for a reason that nobody knows yet."""
        if not self._has_said:
            self._has_said = True
            log.error("a line of the journal is stepped over, and others like it will be", exc_info=error)


def is_gone(line: bytes) -> bool:
    """Tell whether a whole line is one whose content retention has taken away."""
    parts = parse_line(line)
    return parts is not None and bool(parts.gone) and decode_gone(parts.gone) is not None


class Faults:
    """The files that cannot be read, each with the reason that was told last."""

    def __init__(self) -> None:
        """Know of none."""
        self._said: dict[str, str] = {}

    @contextmanager
    def stepped_over(self, path: Path) -> Iterator[None]:
        """Read a file in the block, which keeps an OSError to itself."""
        try:
            yield
        except OSError as error:
            self.note(path, error)
        else:
            self.clear(path)

    def clear(self, path: Path) -> None:
        """Take it that a file can be read."""
        self._said.pop(path.name, None)

    def note(self, path: Path, error: OSError) -> None:
        """Take it that a file cannot be read, unless it has gone."""
        if isinstance(error, FileNotFoundError) and not os.path.lexists(path):
            self.clear(path)
            return
        said = error.strerror or str(error)
        if self._said.get(path.name) != said:
            self._said[path.name] = said
            log.error("the journal's file `%s` cannot be read, and is stepped over: %s", path.name, said)

    def keep_only(self, names: set[str]) -> None:
        """Forget those that are not there any more."""
        self._said = {name: said for name, said in self._said.items() if name in names}

    def __contains__(self, name: str) -> bool:
        """Tell whether the file of this name could not be read the last time."""
        return name in self._said

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._said)


def look_at(path: Path) -> os.stat_result:
    """Return what is known of a segment's file; raises OSError, also if it is none, but a link, a pipe or a folder."""
    found = path.lstat()
    if not S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    return found

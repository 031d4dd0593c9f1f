"""What a process and all that it started have used of the processor, read from `/proc`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_MICROSECONDS_PER_TICK = 1_000_000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Where the measured process runs, and where load and backend do; the same where there is one core only."""

    proxy: int
    rest: int

    @property
    def apart(self) -> bool:
        """Tell whether load and backend leave the measured process alone."""
        return self.proxy != self.rest


def choose_cores() -> Cores:
    """Return two of the cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(proxy=allowed[-1], rest=allowed[0])


@contextmanager
def started_on(core: int) -> Iterator[None]:
    """Start every process of the block on `core`: a child inherits it before it can start threads of its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def used_microseconds(pid: int) -> float:
    """Return user and system time of a process, its descendants and all their threads, in steps of a clock tick.

    What ended meanwhile is not counted, so use it on servers that keep their threads. Raises ProcessLookupError if
    the process is gone.
    """
    if not (_PROC / str(pid)).exists():
        raise ProcessLookupError(f"process {pid} has ended")
    ticks = sum(_ticks(thread) for member in family(pid) for thread in _threads(member))
    return ticks * _MICROSECONDS_PER_TICK


def family(pid: int) -> set[int]:
    """Return a process and its descendants."""
    parents = {int(entry.name): _parent(entry / "stat") for entry in _PROC.iterdir() if entry.name.isdigit()}
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def _threads(pid: int) -> list[Path]:
    try:
        return [entry / "stat" for entry in (_PROC / str(pid) / "task").iterdir()]
    except FileNotFoundError:
        return []


def _ticks(stat: Path) -> int:
    fields = _fields(stat)
    # utime and stime, the 14th and 15th of proc(5); the first two are cut off.
    return int(fields[11]) + int(fields[12]) if fields else 0


def _parent(stat: Path) -> int:
    fields = _fields(stat)
    return int(fields[1]) if fields else 0


def _fields(stat: Path) -> list[str]:
    """Return what follows the name, which may hold spaces and parentheses; nothing if the process has gone."""
    try:
        return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []

"""What a process and all that it started have used of the processor, read from `/proc`."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_MICROSECONDS_PER_TICK = 1_000_000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Who runs where; all on the same where there is one core only."""

    one: frozenset[int]
    """The core of a contender."""
    two: frozenset[int]
    """The cores of a contender with two workers: with less than four cores it has no second one."""
    rest: frozenset[int]
    """The cores of load and backend."""

    @property
    def apart(self) -> bool:
        """Tell whether load and backend leave the contenders alone."""
        return self.two.isdisjoint(self.rest)

    @property
    def count(self) -> int:
        """Return how many there are."""
        return len(self.two | self.rest)


def choose_cores() -> Cores:
    """Return the cores that this process may use, shared out."""
    return share_out(os.sched_getaffinity(0))


def share_out(allowed: Collection[int]) -> Cores:
    """Return who runs on which of these cores. Only with four have two workers, load and backend one each."""
    ordered = sorted(allowed)
    ours = 2 if len(ordered) >= 4 else 1
    return Cores(
        one=frozenset(ordered[-1:]), two=frozenset(ordered[-ours:]), rest=frozenset(ordered[:-ours] or ordered)
    )


@contextmanager
def started_on(cores: Collection[int]) -> Iterator[None]:
    """Start every process of the block on `cores`: a child inherits them before it can start threads of its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
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

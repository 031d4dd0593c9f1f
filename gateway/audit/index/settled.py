"""Up to when everything that was recorded is in an index: whoever follows is shown no later record yet.

Origins are read one after the other, and nodes ship when they can. Were a record shown before one of another origin
that happened earlier, whoever goes on behind it would never see that one.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.audit.index.places import id_at
from gateway.audit.segment import read_entry, read_lines
from gateway.audit.times import time_of

SETTLING_MICROSECONDS: Final = 2_000_000
"""So long after it happened a record may come into the files, and so far two of one origin may be out of order."""
_MOST_LINES = 1000
First = Callable[[Path, int], int | None]
"""As `first_time`."""


def settled_id(now: datetime, waiting: Iterable[int]) -> int:
    """Return the id before which nothing can come any more.

    `waiting` are the times of what is known not to be in the index yet, the first of each file, in microseconds since
    1970.
    """
    return id_at(max(min((round(now.timestamp() * 1e6), *waiting)) - SETTLING_MICROSECONDS, 0))


def first_time(path: Path, offset: int) -> int | None:
    """Return when that happened which a file holds first from an offset on; None if it says no time. Raises OSError."""
    for _, line in islice(read_lines(path, start=offset), _MOST_LINES):
        entry = read_entry(line)
        if entry is not None and (at := time_of(entry)) is not None:
            return at
    return None

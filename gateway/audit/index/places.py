"""The ids of records in an index: in the order of time, and the same whenever it is made."""

from typing import Final
from zlib import crc32

from gateway.audit.segment import Entry

_SHIFT = 12
IDS_A_DAY: Final = 86_400_000_000 << _SHIFT
"""So many ids has a day of 86400 seconds."""


def id_at(time: int) -> int:
    """Return the lowest id of what happened at a time, in microseconds since 1970."""
    return time << _SHIFT


def time_at(id_: int) -> int | None:
    """Return the time that an id stands for, None if that is not known."""
    return id_ >> _SHIFT if id_ >= 0 else None


def id_of(entry: Entry, time: int, *, node: str = "") -> int:
    """Return the id that a record of this time would like to have; the next one that is free is its own."""
    place = f"{node}{entry.get('origin')}:{entry.get('seq')}".encode(errors="replace")
    return id_at(time) + (crc32(place) & ((1 << _SHIFT) - 1))

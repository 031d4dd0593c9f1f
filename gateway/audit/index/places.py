"""The ids of records in an index: in the order of time, and the same whenever it is made."""

from typing import Final
from zlib import crc32

from gateway.audit.segment import Entry

_SHIFT = 12
HIGHEST: Final = 2**63 - 1
"""No id is higher; the years from 2042 on have none."""
IDS_A_DAY: Final = 86_400_000_000 << _SHIFT
"""So many ids has a day of 86400 seconds."""
IDS_AN_HOUR: Final = IDS_A_DAY // 24


def id_at(time: int) -> int:
    """Return the lowest id of what happened at a time, in microseconds since 1970; of one without ids the highest."""
    return min(time, HIGHEST >> _SHIFT) << _SHIFT


def time_at(id_: int) -> int | None:
    """Return the time that an id stands for, None if that is not known."""
    return id_ >> _SHIFT if id_ >= 0 else None


def hour_of(id_: int) -> int:
    """Return the hour of an id, counted from 1970; -1 if its time is not known."""
    return id_ // IDS_AN_HOUR if id_ >= 0 else -1


def id_of(entry: Entry, time: int, *, node: str = "") -> int:
    """Return the id that a record of this time would like to have; the next one that is free is its own."""
    place = f"{node}{entry.get('origin')}:{entry.get('seq')}".encode(errors="replace")
    return (time << _SHIFT) + (crc32(place) & ((1 << _SHIFT) - 1))

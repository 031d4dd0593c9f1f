"""The ids of records in an index: in the order of time, and the same whenever it is made."""

from typing import Final
from zlib import crc32

from gateway.audit.segment import Entry

_SHIFT = 12
HIGHEST: Final = 2**63 - 1
"""No id is higher."""
_SQUEEZED: Final = (HIGHEST >> _SHIFT) - 86_400_000_000
"""From here on, in 2041, ids of their own would not do for all the time to come: what is later shares what is left."""
_TOGETHER: Final = 4_000_000
"""So many microseconds then have the ids of one, which leaves room up to the year 9999 and behind it."""
IDS_A_DAY: Final = 86_400_000_000 << _SHIFT
"""So many ids has a day of 86400 seconds."""
IDS_AN_HOUR: Final = IDS_A_DAY // 24


def id_at(time: int) -> int:
    """Return the lowest id of what happened at a time, in microseconds since 1970, or soon before it from 2041 on."""
    return _squeezed(time) << _SHIFT


def time_at(id_: int) -> int | None:
    """Return the time that an id stands for, from 2041 on only nearly; None if that is not known."""
    if id_ < 0:
        return None
    time = id_ >> _SHIFT
    return time if time < _SQUEEZED else _SQUEEZED + (time - _SQUEEZED) * _TOGETHER


def hour_of(id_: int) -> int:
    """Return the hour of an id, counted from 1970; -1 if its time is not known."""
    return id_ // IDS_AN_HOUR if id_ >= 0 else -1


def id_of(entry: Entry, time: int, *, node: str = "") -> int:
    """Return the id that a record of this time would like to have; the next one that is free is its own."""
    place = f"{node}{entry.get('origin')}:{entry.get('seq')}".encode(errors="replace")
    return id_at(time) + (crc32(place) & ((1 << _SHIFT) - 1))


def _squeezed(time: int) -> int:
    return time if time < _SQUEEZED else min(_SQUEEZED + (time - _SQUEEZED) // _TOGETHER, HIGHEST >> _SHIFT)

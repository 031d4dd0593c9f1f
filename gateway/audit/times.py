"""Reading when a record happened, and what people and formats write for a time."""

from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.audit.segment import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The last microsecond of the year 9999: no time is later."""


def time_of(entry: Entry) -> int | None:
    """Return when a record happened, in microseconds since 1970, or None if that cannot be read."""
    at = entry.get("at")
    return read_time(at) if isinstance(at, str) else None


def read_time(text: str) -> int | None:
    """Return the microseconds since 1970 of a date or a time in ISO 8601, which is in UTC unless it says otherwise.

    None if it is none, before that, or after the year 9999, in which `write_time` could not write it.
    """
    try:
        found = datetime.fromisoformat(text)
        time = ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
    return time if 0 <= time <= LAST else None


def write_time(time: int) -> str:
    """Return what `read_time` reads."""
    return (_EPOCH + time * _MICROSECOND).isoformat()

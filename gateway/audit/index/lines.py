"""What of a line of the journal goes into an index: what it has in common with other lines is worked out once."""

from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from gateway.audit.index.grouping import group_values
from gateway.audit.index.places import id_of
from gateway.audit.sealed import UNREADABLE, reveal
from gateway.audit.search.words import marks_of
from gateway.audit.segment import Entry, parse_line, read_entry
from gateway.audit.times import time_of

_TEXTS: Final = ("path", "request_id")
_NUMBERS: Final = ("bytes_received", "bytes_sent", "completes", "duration_us", "seq")
"""With the time, what differs from one record of an assumption to the next; numbers are nothing to be found by."""
_MOST_IN_COMMON = 2048
_MOST_TEXTS = 8192
_LONGEST = 4096
"""In bytes. What strangers can make as long as they like is worked out each time."""

_decode = msgspec.json.Decoder(Entry).decode
_encode = msgspec.json.Encoder().encode

Group = tuple[str | None, ...]


class Indexed(NamedTuple):
    """What stands of a record in an index."""

    id: int | None
    """The one it would like to have (see `gateway.audit.index.places`); None if it does not say when it happened."""
    group: Group
    """What it is counted by: its `group_values`."""
    marks: str
    """What it is found by: the words that are in its `marks_of`, each at least once, and no others."""


def read_indexed(line: bytes, *, node: str = "") -> Indexed | None:
    """Return what of a whole line goes into an index; None where `gateway.audit.segment.read_entry` returns None.

    `node` tells journals apart that share an index.
    """
    if len(line) > _LONGEST:
        entry = read_entry(line)
        return None if entry is None else Indexed(_id_of(entry, node), group_values(entry), marks_of(entry))
    parts = parse_line(line)
    if parts is None or not parts.record:
        return None
    try:
        record = _decode(parts.record)
        id_ = _id_of(record, node)
        texts = _take_own(record)
        group, marks = _in_common(_encode(record), parts.openings)
    except UNREADABLE:
        return None
    return Indexed(id_, group, " ".join((marks, *texts)))


def _id_of(entry: Entry, node: str) -> int | None:
    at = time_of(entry)
    return None if at is None else id_of(entry, at, node=node)


def _take_own(record: Entry) -> list[str]:
    """Take out what the record has in common with no other, or with few, and return the marks of that."""
    record.pop("at", None)
    for name in _NUMBERS:
        if isinstance(record.get(name), int):
            del record[name]
    return [_marks_of_text(name, record.pop(name)) for name in _TEXTS if isinstance(record.get(name), str)]


@lru_cache(_MOST_TEXTS)
def _marks_of_text(name: str, text: str) -> str:
    return marks_of({name: text})


@lru_cache(_MOST_IN_COMMON)
def _in_common(rest: bytes, openings: bytes) -> tuple[Group, str]:
    entry = reveal(_decode(rest), openings)
    return group_values(entry), " ".join(dict.fromkeys(marks_of(entry).split()))

"""What the process that keeps the index is told, and what it tells: one JSON object a line, over its pipes."""

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The one order it gets."""

    journal: str
    index: str
    node: str = ""
    database: str = ""
    """If there is a URL, the journal is shipped there and searched there, and no index is kept here."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What it tells about once a second."""

    behind_bytes: int
    behind_seconds: float
    """For how long there has been something that was not in the index yet."""
    unread_lines: int = 0
    """So many lines are not in the index because they could not be read: they were stepped over."""
    unread_files: int = 0
    """And so many files, of which none can be read now: each is tried again."""

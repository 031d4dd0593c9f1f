"""What records are counted by."""

from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry

DIMENSIONS = ("kind", "decision", "reason", "account", "actor", "method", "rule", "day")
"""By what it can be asked how many there are: GROUPING, and the day; in the order in which people are shown it."""
GROUPING = ("account", "actor", "decision", "kind", "method", "reason", "rule")


def group_values(entry: Entry) -> tuple[str | None, ...]:
    """Return what a record is counted by, in the order of GROUPING."""
    actor = next(iter(actor_of(entry)), None)
    return tuple(actor if name == "actor" else _text(entry, name) for name in GROUPING)


def _text(entry: Entry, name: str) -> str | None:
    value = entry.get(name)
    return None if value is None else str(value)

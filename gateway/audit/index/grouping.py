"""What records are counted by."""

from gateway.audit.search.words import Entry, actor_of

GROUPING = ("account", "actor", "decision", "kind", "method", "reason")


def group_values(entry: Entry) -> tuple[str | None, ...]:
    """Return what a record is counted by, in the order of GROUPING."""
    actor = next(iter(actor_of(entry)), None)
    return tuple(actor if name == "actor" else _text(entry, name) for name in GROUPING)


def _text(entry: Entry, name: str) -> str | None:
    value = entry.get(name)
    return None if value is None else str(value)

"""A query as SQLite is asked it: nothing that a caller typed stands in the SQL, or is read as FTS5's own language."""

from dataclasses import dataclass
from typing import Any

from gateway.audit.index.places import id_at
from gateway.audit.search.query import Marked, Query
from gateway.audit.search.words import ANY, MANY, mark_account


@dataclass(frozen=True, slots=True)
class Statement:
    """What to select from, and the values for its question marks."""

    source: str
    id: str
    """The column to sort by."""
    values: tuple[Any, ...]


def state(query: Query, *, account: str | None, lowest: int | None = None, highest: int | None = None) -> Statement:
    """Return where the records `r` are that may match, with ids between these two, neither of them included."""
    since, until = query.span
    # Those of which the time is not known have ids below 0.
    above = [] if since is None and until is None else [id_at(since or 0) - 1]
    above += [] if lowest is None else [lowest]
    below = [bound for bound in (highest, None if until is None else id_at(until)) if bound is not None]
    expression = express(query, account=account)
    source, id_ = ("records AS r", "r.id")
    conditions: list[str] = []
    values: list[Any] = []
    if expression:
        # CROSS: the marks are asked first, in the order of their ids, whatever the planner thinks of them.
        source, id_ = "marks AS m CROSS JOIN records AS r ON r.id = m.rowid", "m.rowid"
        conditions.append("m.marks MATCH ?")
        values.append(expression)
    if above:
        conditions.append(f"{id_} > ?")
        values.append(max(above))
    if below:
        conditions.append(f"{id_} < ?")
        values.append(min(below))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return Statement(f"FROM {source}{where}", id_, tuple(values))


def express(query: Query, *, account: str | None) -> str:
    """Return what FTS5 is asked, empty if there is nothing to ask it."""
    wanted = [_all_of(marked) for marked in query.wanted() if marked.marks]
    if account is not None:
        wanted.append(_quoted(mark_account(account)))
    unwanted = [_all_of(marked) for marked in query.unwanted()]
    if unwanted and not wanted:
        wanted = [_quoted(ANY)]
    asked = " AND ".join(wanted)
    return f"({asked}) NOT ({' OR '.join(unwanted)})" if unwanted else asked


def _all_of(marked: Marked) -> str:
    asked = " AND ".join(map(_quoted, marked.marks))
    return f"(({asked}) OR {_quoted(MANY)})" if marked.or_many else f"({asked})"


def _quoted(mark: str) -> str:
    # A mark is a word or a hash, so there is no quote in it; one would be doubled.
    text = mark.removesuffix("*").replace('"', '""')
    return f'"{text}"*' if mark.endswith("*") else f'"{text}"'

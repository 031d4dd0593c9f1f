"""The journal through its index, with what the index lacks read from the files: complete, whoever is behind."""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.index.database import IndexUnusable
from gateway.audit.index.finding import Finder, Lag, Tally
from gateway.audit.search.query import Query
from gateway.audit.search.reading import Follower
from gateway.audit.segment import Entry
from gateway.audit.stepping import Faults

_SECONDS = 24 * 3600.0


class Reader:
    """Reads a journal for one question; use it as a context manager does: see `open_reader`."""

    def __init__(self, journal: Path, finder: Finder | None) -> None:
        """Read with the help of the index, or without."""
        self._journal = journal
        self._finder = finder
        self._faults = Faults()

    @property
    def lag(self) -> Lag | None:
        """How far the index is behind; None if there is none. Raises OSError."""
        return None if self._finder is None else self._finder.lag()

    def find(self, query: Query) -> Iterable[Entry]:
        """Yield every record that matches, by time; raises OSError and IndexUnusable."""
        if self._finder is None:
            everything = Follower(self._journal, faults=self._faults)
            yield from (entry for entry in everything.poll() if query.matches(entry))
            return
        indexed = (one.entry for one in self._finder.each(query, oldest_first=True))
        yield from heapq.merge(indexed, self._rest(self._finder, query), key=_order)

    def newest(self, query: Query, limit: int) -> list[Entry]:
        """Return the newest `limit` records that match, by time."""
        if self._finder is None:
            return heapq.nlargest(limit, self.find(query), key=_order)[::-1]
        indexed = [one.entry for one in self._finder.search(query, limit=limit).found]
        return heapq.nlargest(limit, [*indexed, *self._rest(self._finder, query)], key=_order)[::-1]

    def stats(self, query: Query) -> Tally:
        """Count the records that match."""
        tally = Tally() if self._finder is None else self._finder.stats(query)
        for entry in self.find(query) if self._finder is None else self._rest(self._finder, query):
            tally.add_entry(entry)
        return tally

    def _rest(self, finder: Finder, query: Query) -> Iterator[Entry]:
        """Yield what is not in the index."""
        behind = Follower(self._journal, finder.usable_positions(), faults=self._faults)
        return (entry for entry in behind.poll() if query.matches(entry))


@contextmanager
def open_reader(journal: Path, index: Path | None) -> Iterator[Reader]:
    """Read a journal, with its index if that can be read; for a person who may wait."""
    try:
        finder = None if index is None else Finder(journal, index, seconds=_SECONDS)
    except IndexUnusable:
        finder = None
    if finder is None:
        yield Reader(journal, None)
        return
    with finder, finder.snapshot():
        yield Reader(journal, finder)


def _order(entry: Entry) -> tuple[str, str, int]:
    seq = entry.get("seq")
    return str(entry.get("at")), str(entry.get("origin")), seq if isinstance(seq, int) else 0

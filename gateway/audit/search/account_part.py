"""What of an account's own records is that account's to see: all, but what is about another account.

That is in the records of requests that came with a token of this account to another account's host.
"""

from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from gateway.audit.search.query import Below, Condition, Is, Marked, Query, Says, Term
from gateway.audit.segment import Entry

_ASKED: Final = "asked_account"
_ELSEWHERE: Final = frozenset({_ASKED, "host", "method", "path", "query_names", "query_values", "rule", "upstream"})
HIDDEN: Final = frozenset({"method", "rule"})
"""Of what records are counted by, what is hidden of such ones."""
Counts = MutableMapping[str, Counter[str]]
_QUALIFIERS: Final = frozenset({"method", "path", "route"})


@dataclass(frozen=True, slots=True)
class _IsElsewhere(Condition):
    """It was sent to another account's host."""

    def holds(self, entry: Entry) -> bool:
        return is_elsewhere(entry)

    def marked(self) -> Marked:
        return Marked((), exact=False)


def is_elsewhere(entry: Entry) -> bool:
    """Tell whether a record is of a request that was sent to another account's host: none was ever let through."""
    return _ASKED in entry


def their_part(entry: Entry) -> Entry:
    """Return what the account may see of a record of its own."""
    if not is_elsewhere(entry):
        return entry
    return {name: value for name, value in entry.items() if name not in _ELSEWHERE}


def of_theirs(query: Query) -> Query:
    """Return the query so that nothing is found by what may not be shown, nor counted: that would tell it."""
    if not any(_looks_inside(term) for term in query.terms):
        return query
    return Query(terms=(*query.terms, Term(_IsElsewhere(), negated=True)))


def elsewhere(query: Query) -> Query:
    """Return the query for those records of which something is hidden; none of those requests was ever let through."""
    denied = (Term(Is("kind", "decision"), negated=False), Term(Is("decision", "deny"), negated=False))
    return Query(terms=(*query.terms, *denied, Term(_IsElsewhere(), negated=False)))


def take_out(counts: Counts, of_elsewhere: Counts) -> None:
    """Take out of what was counted of a query what is hidden of it: what `elsewhere` has counted at the same moment."""
    for name in HIDDEN & counts.keys() & of_elsewhere.keys():
        counts[name] -= of_elsewhere[name]


def _looks_inside(term: Term) -> bool:
    condition = term.condition
    return isinstance(condition, Says | Below) or (isinstance(condition, Is) and condition.qualifier in _QUALIFIERS)

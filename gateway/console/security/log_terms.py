"""What a search of the access log asks the index for."""

from typing import Final

from gateway.audit.search.query import Is, Query, Since, Term, Until

_COMPLETION: Final = "completion"


def build_query(text: str, *, since: int | None, until: int | None, ends: bool) -> Query:
    """Return the query for what was typed, in a time given in microseconds since 1970; raises QueryError.

    The records of how exchanges ended are left out, unless they are asked for by `ends` or by their kind.
    """
    terms = list(Query.parse(text).terms)
    if since is not None:
        terms.append(Term(Since(since), negated=False))
    if until is not None:
        terms.append(Term(Until(until), negated=False))
    asks_kind = any(isinstance(term.condition, Is) and term.condition.qualifier == "kind" for term in terms)
    if not ends and not asks_kind:
        terms.append(Term(Is("kind", _COMPLETION), negated=True))
    return Query(tuple(terms))

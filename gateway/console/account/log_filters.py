"""What an administrator looks for in the log, as the address of the page says it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from gateway.audit.search import Query, QueryError
from gateway.audit.search.query import Below, Condition, Is, Says, Since, Term, Until
from gateway.audit.times import LAST, read_time

LONGEST: Final = 600
FIELDS: Final = ("q", "staff", "decision", "ticket", "path", "from", "to")
"""What can be filled in."""
DECISIONS: Final[Mapping[str, str]] = {"": "All", "allow": "Allowed", "deny": "Refused"}
_CURSOR = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DAY: Final = 86_400_000_000
_MOST_BEGINNINGS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is filled in, all of it text as it was typed; every one that is not empty must hold."""

    said: Mapping[str, str]
    before: int | None = None
    """Only what happened before this place in the log: an earlier page gave it."""
    refresh: bool = False
    """Whether the page is to be loaded again by itself."""

    def query(self) -> Query:
        """Return what to search for; raises QueryError, which says what to write instead."""
        terms = Query.parse(self.said["q"]).terms
        if sum(isinstance(term.condition, Says) and term.condition.begins for term in terms) > _MOST_BEGINNINGS:
            # Each stands for all the words that begin so, in everybody's records.
            raise QueryError(f"only {_MOST_BEGINNINGS} words may end with a star")
        return Query(terms=(*terms, *(Term(one, negated=False) for one in self._terms())))

    def _terms(self) -> Iterator[Condition]:
        said = self.said
        if said["decision"] not in DECISIONS:
            raise QueryError("choose all, allowed or refused")
        for name, qualifier in (("staff", "actor"), ("decision", "decision"), ("ticket", "ticket")):
            if said[name]:
                yield Is(qualifier, said[name].casefold())
        if said["path"]:
            if not said["path"].startswith("/"):
                raise QueryError("an address in the app begins with a slash, such as /tickets")
            yield Below(said["path"])
        if said["from"]:
            yield Since(_day(said["from"]))
        if said["to"]:
            yield Until(min(_day(said["to"]) + _DAY, LAST))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is looked for in particular."""
        return not any(self.said.values())

    @property
    def is_narrowed(self) -> bool:
        """Whether more is looked for than words."""
        return any(value for name, value in self.said.items() if name != "q")

    def address(self, **more: str) -> str:
        """Return the address's query that says the same, with `more` behind it; a place and a refresh are not kept."""
        fields = {name: value for name, value in self.said.items() if value} | more
        return f"?{urlencode(fields)}" if fields else ""

    def with_(self, name: str, value: str) -> str:
        """Return the address's query that looks for this as well."""
        return Filters(said={**self.said, name: value}).address()


def read_filters(request: web.Request) -> Filters:
    """Return what the address says; raises QueryError if it cannot be meant."""
    said = {}
    for name in (*FIELDS, "before", "refresh"):
        found = request.query.getall(name, [])
        if len(found) > 1:
            raise QueryError(f"`{name}` is there twice")
        said[name] = found[0].strip() if found else ""
        if len(said[name]) > LONGEST:
            raise QueryError(f"`{name}` is longer than {LONGEST} characters")
        if not _is_text(said[name]):
            raise QueryError(f"`{name}` is no text")
    before, refresh = said.pop("before"), said.pop("refresh")
    return Filters(said=said, before=read_place(before) if before else None, refresh=refresh == "on")


def nothing() -> Filters:
    """Return what looks for nothing in particular."""
    return Filters(said=dict.fromkeys(FIELDS, ""))


def read_place(text: str) -> int:
    """Return a place in the log; raises QueryError."""
    if _CURSOR.fullmatch(text) is None or abs(place := int(text)) >= 2**63:
        raise QueryError("a place in the log is a whole number that an earlier page gave")
    return place


def _is_text(value: str) -> bool:
    """Tell whether it can be sent again as it came: bytes that are no UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _day(value: str) -> int:
    """Return when a day begins, in UTC and in microseconds since 1970; raises QueryError."""
    time = read_time(value) if _DATE.fullmatch(value) else None
    if time is None:
        raise QueryError("write a day as 2026-11-23; days are in UTC")
    return time

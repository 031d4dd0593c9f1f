"""The language in which records are searched: one grammar, read once, for the files and for the indexes."""

import ipaddress
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from gateway.audit.search.words import (
    LONGEST_WORD,
    QUALIFIERS,
    TIMES,
    below,
    mark,
    mark_below,
    mark_network,
    split_words,
    texts_of,
)
from gateway.audit.segment import Entry
from gateway.audit.times import read_time, time_of, write_time

MOST_TERMS = 32
MOST_CHARACTERS = 600
"""However they are escaped, they fit into one request line."""
_LEAST_BEGINNING = 3


class QueryError(Exception):
    """The caller's fault: the query cannot be read."""


@dataclass(frozen=True, slots=True)
class Marked:
    """What an index can tell of a condition: which marks all have for which it holds.

    A mark with a star at its end stands for all that begin so. `exact`: whatever has them all fulfils the condition.
    """

    marks: tuple[str, ...]
    exact: bool = True
    or_many: bool = False
    """Whether it may also hold for records with more words than an index knows."""


class Condition(Protocol):
    """What a term asks for, before any hyphen turns it round."""

    def holds(self, entry: Entry) -> bool:
        """Tell whether it is fulfilled."""

    def marked(self) -> Marked:
        """Return what an index can tell of it."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition of a query, turned round or not."""

    condition: Condition
    negated: bool

    def holds(self, entry: Entry) -> bool:
        """Tell whether it is fulfilled."""
        return self.condition.holds(entry) is not self.negated


@dataclass(frozen=True, slots=True)
class Is(Condition):
    """A qualifier has exactly this value, upper and lower case being the same."""

    qualifier: str
    value: str

    def holds(self, entry: Entry) -> bool:
        return any(self.value == value.casefold() for value in QUALIFIERS[self.qualifier](entry))

    def marked(self) -> Marked:
        return Marked((mark(self.qualifier, self.value),))


@dataclass(frozen=True, slots=True)
class Below(Condition):
    """The path is this one, or below it."""

    path: str

    def holds(self, entry: Entry) -> bool:
        wanted = below(self.path)
        return any(f"{path.casefold()}/".startswith(wanted) for path in QUALIFIERS["path"](entry))

    def marked(self) -> Marked:
        found = mark_below(self.path)
        return Marked((), exact=False) if found is None else Marked((found,))


@dataclass(frozen=True, slots=True)
class Within(Condition):
    """The address is in a network."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network

    def holds(self, entry: Entry) -> bool:
        return any(self._has(address) for address in QUALIFIERS["ip"](entry))

    def marked(self) -> Marked:
        found = mark_network(self.network)
        return Marked((), exact=False) if found is None else Marked((found[0],), exact=found[1])

    def _has(self, address: str) -> bool:
        try:
            return ipaddress.ip_address(address) in self.network
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Says(Condition):
    """One of the texts has these words, one behind the other; the last may only begin so."""

    words: tuple[str, ...]
    begins: bool

    def holds(self, entry: Entry) -> bool:
        return any(self._is_in(split_words(text)) for text in texts_of(entry))

    def marked(self) -> Marked:
        words = tuple(word[:LONGEST_WORD] for word in self.words)
        # Where an index ends a word, another may go on.
        exact = len(words) == 1 and len(self.words[0]) < LONGEST_WORD
        return Marked((*words[:-1], f"{words[-1]}*") if self.begins else words, exact=exact, or_many=True)

    def _is_in(self, words: tuple[str, ...]) -> bool:
        count = len(self.words)
        if not self.begins and count == 1:
            return self.words[0] in words
        return any(self._is_at(words[at : at + count]) for at in range(len(words) - count + 1))

    def _is_at(self, words: tuple[str, ...]) -> bool:
        last = words[-1].startswith(self.words[-1]) if self.begins else words[-1] == self.words[-1]
        return last and words[:-1] == self.words[:-1]


@dataclass(frozen=True, slots=True)
class Since(Condition):
    """It happened at this time or later, in microseconds since 1970."""

    time: int

    def holds(self, entry: Entry) -> bool:
        at = time_of(entry)
        return at is not None and at >= self.time

    def marked(self) -> Marked:
        return Marked((), exact=False)


@dataclass(frozen=True, slots=True)
class Until(Condition):
    """It happened before this time."""

    time: int

    def holds(self, entry: Entry) -> bool:
        at = time_of(entry)
        return at is not None and at < self.time

    def marked(self) -> Marked:
        return Marked((), exact=False)


@dataclass(frozen=True, slots=True)
class Query:
    """A filter as it is typed into one box: `actor:dana -decision:allow path:/tickets refund`."""

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read terms separated by spaces, all of which must hold; raises QueryError.

        A term is `qualifier:value` or free text, whose words are looked for in all values, one behind the other; with
        `*` at its end the last word may go on. `-` before a term turns it round, and quotes keep spaces together. Upper
        and lower case are the same. `path:` holds for everything below it, `ip:` takes a network, too; `after:` takes a
        date or a time and holds from then on, `before:` up to it.
        """
        if len(text) > MOST_CHARACTERS:
            raise QueryError(f"the query is longer than {MOST_CHARACTERS} characters")
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise QueryError(f"`{text}` cannot be read: close the quotation") from error
        if len(words) > MOST_TERMS:
            raise QueryError(f"the query has more than {MOST_TERMS} terms")
        return cls(terms=tuple(_parse_term(word) for word in words))

    @classmethod
    def of_assumption(cls, sid: str) -> Self:
        """Return the query for the records of one assumption, and of those that differ from it only in case."""
        return cls(terms=(Term(Is("sid", sid.casefold()), negated=False),))

    def matches(self, entry: Entry) -> bool:
        """Tell whether all terms hold."""
        return all(term.holds(entry) for term in self.terms)

    @property
    def span(self) -> tuple[int | None, int | None]:
        """From when, and before when, everything lies that can match, in microseconds since 1970; None: any time."""
        since = [term.condition.time for term in self.terms if isinstance(term.condition, Since) and not term.negated]
        until = [term.condition.time for term in self.terms if isinstance(term.condition, Until) and not term.negated]
        return max(since, default=None), min(until, default=None)

    def wanted(self) -> Sequence[Marked]:
        """Return what an index can tell of the terms that must hold."""
        return [term.condition.marked() for term in self.terms if not term.negated]

    def unwanted(self) -> Sequence[Marked]:
        """Return what an index can tell of the terms that must not hold, where it can tell it for certain."""
        marked = [term.condition.marked() for term in self.terms if term.negated]
        return [one for one in marked if one.exact and one.marks]

    @property
    def is_exact(self) -> bool:
        """Whether what an index can tell of the terms, and of the time, is all that they ask for."""
        return all(_is_exact(term) for term in self.terms)

    @property
    def has_words(self) -> bool:
        """Whether any term is free text."""
        return any(isinstance(term.condition, Says) for term in self.terms)


def _is_exact(term: Term) -> bool:
    if isinstance(term.condition, Since | Until):
        return not term.negated
    marked = term.condition.marked()
    return marked.exact and bool(marked.marks)


_NOBODYS = frozenset({"account", "client", "decision", "kind", "method", "origin", "reason", "request", "route", "sid"})


def describe(query: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a record may say of a query: the names of what it asks about, and some values as `name=value`.

    Whom it is about, from where they came, where they went and what they said may be personal, and is left out.
    """
    names, values = [], []
    for term in query.terms:
        name, value = _name_of(term.condition)
        names.append(f"-{name}" if term.negated else name)
        if value is not None:
            values.append(f"{names[-1]}={value}")
    return tuple(names), tuple(values)


def _name_of(condition: Condition) -> tuple[str, str | None]:
    match condition:
        case Is(qualifier=name, value=value):
            return name, value if name in _NOBODYS else None
        case Below():
            return "path", None
        case Within():
            return "ip", None
        case Since(time=time):
            return "after", write_time(time)
        case Until(time=time):
            return "before", write_time(time)
        case _:
            return "text", None


def _parse_term(word: str) -> Term:
    negated = word.startswith("-") and len(word) > 1
    return Term(_parse_condition(word[1:] if negated else word), negated)


def _parse_condition(word: str) -> Condition:
    qualifier = re.match(r"([a-z]+):(?!//)", word)
    if qualifier is None:
        return _parse_text(word)
    name, value = qualifier[1], word[qualifier.end() :]
    if name not in QUALIFIERS and name not in TIMES:
        raise QueryError(f"`{name}:` is no qualifier: use one of {', '.join((*QUALIFIERS, *TIMES))}")
    if not value:
        raise QueryError(f"`{name}:` needs a value behind it, without a space between")
    if name in TIMES:
        return _parse_time(name, value)
    if name == "path":
        return Below(value)
    if name == "ip" and "/" in value:
        try:
            return Within(ipaddress.ip_network(value, strict=False))
        except ValueError as error:
            raise QueryError(f"`{value}` is not a network such as 192.0.2.0/24") from error
    return Is(name, value.casefold())


def _parse_time(name: str, value: str) -> Condition:
    time = read_time(value)
    if time is None:
        raise QueryError(f"`{name}:{value}` names no time: write 2026-11-23 or 2026-11-23T15:04:05, which is in UTC")
    return Since(time) if name == "after" else Until(time)


def _parse_text(word: str) -> Condition:
    begins = word.endswith("*")
    words = split_words(word)
    if not words:
        raise QueryError(f"`{word}` has neither a letter nor a digit to look for")
    if begins and len(words[-1]) < _LEAST_BEGINNING:
        raise QueryError(f"`{word}`: give at least {_LEAST_BEGINNING} characters before the star")
    return Says(words, begins)

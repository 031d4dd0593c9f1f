"""Records counted by their values and by steps of time, for a picture of them; and how SQLite is asked for that.

Most questions are answered from what was counted when the records came in, so that a million of them cost what their
hours cost; only the ends of the time that is asked about, where they lie within an hour, are counted record by record.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gateway.audit.index.expression import Statement
from gateway.audit.index.grouping import GROUPING, group_values
from gateway.audit.index.places import HIGHEST, IDS_AN_HOUR, id_at
from gateway.audit.search.account_part import take_out
from gateway.audit.search.query import Is, Query, Since, Until
from gateway.audit.segment import Entry
from gateway.audit.times import time_of

HOUR: Final = 3_600_000_000
"""In microseconds, as all times here."""
_QUALIFIERS: Final = {name: name for name in ("account", "decision", "kind", "method", "reason")} | {"route": "rule"}
"""The qualifiers about exactly what records are counted by, and what that is called there."""
_NO_VALUE: Final = "none"
"""A record that has nothing under a name, and one that has JSON's null there, are counted as the same."""

Group = tuple[str | None, ...]
"""The values of GROUPING."""


@dataclass(slots=True)
class Overview:
    """The records that match, counted."""

    step: int
    """How long each step of time is, in microseconds: they are counted from 1970 on."""
    total: int = 0
    by: dict[str, Counter[str]] = field(default_factory=dict)
    """How many have each value of each of GROUPING; those that have none are left out."""
    refused_by_rule: Counter[str] = field(default_factory=Counter)
    """Under which rules those are that were refused."""
    over_time: dict[int, Counter[str]] = field(default_factory=dict)
    """By the beginning of each step in which there is any: how many were decided how; `""` for no decision."""

    def add_group(self, group: Group, count: int) -> None:
        """Count so many records that have these values."""
        self.total += count
        values = dict(zip(GROUPING, group, strict=True))
        for name, value in values.items():
            if value is not None:
                self.add_value(name, value, count)
        if values["decision"] == "deny" and values["rule"] is not None:
            self.refused_by_rule[values["rule"]] += count

    def add_value(self, name: str, value: str, count: int) -> None:
        """Count so many records that have this value, and nothing else of them; `""` is all of them."""
        match name:
            case "":
                self.total += count
            case "refused":
                self.refused_by_rule[value] += count
            case _:
                self.by.setdefault(name, Counter())[value] += count

    def add_step(self, number: int, decision: str | None, count: int) -> None:
        """Count so many records of the step with this number; one below 0 is none."""
        if number >= 0:
            self.over_time.setdefault(number * self.step, Counter())[decision or ""] += count

    def take_out(self, of_elsewhere: "Overview") -> None:
        """Count nothing any more of what is hidden of those (`gateway.audit.search.account_part`)."""
        take_out(self.by, of_elsewhere.by)
        self.refused_by_rule -= of_elsewhere.refused_by_rule

    def add_entry(self, entry: Entry) -> None:
        """Count one record."""
        at, group = time_of(entry), group_values(entry)
        self.add_group(group, 1)
        if at is not None:
            self.add_step(at // self.step, group[GROUPING.index("decision")], 1)


@dataclass(frozen=True, slots=True)
class Test:
    """What a group has to have, or not, under one of GROUPING."""

    name: str
    folded: str
    negated: bool

    def holds(self, value: str) -> bool:
        """Tell whether a value is the one that is asked about, upper and lower case being the same."""
        found = value.casefold()
        return self.folded == found or (self.name == "rule" and self.folded in found.split())


def tests_of(query: Query) -> list[Test] | None:
    """Return what a query asks of groups beside the time; None if groups cannot tell what matches."""
    tests, others = split_tests(query)
    return None if others else tests


def split_tests(query: Query) -> tuple[list[Test], int]:
    """Return what a query asks of groups beside the time, and how many terms ask anything that groups cannot tell."""
    tests, others = [], 0
    for term in query.terms:
        match term.condition:
            case Is(qualifier=qualifier, value=value) if qualifier in _QUALIFIERS and value != _NO_VALUE:
                tests.append(Test(_QUALIFIERS[qualifier], value, term.negated))
            case Since() | Until() if not term.negated:
                continue
            case _:
                others += 1
    return tests, others


@dataclass(frozen=True, slots=True)
class Groups:
    """Which groups are counted: a condition, and the values for its question marks."""

    where: str = ""
    values: tuple[Any, ...] = ()

    @property
    def condition(self) -> str:
        """The condition for a record that is counted by its grouping."""
        return f"grouping IN (SELECT id FROM groups WHERE {self.where})" if self.where else "1"  # noqa: S608 - our own words

    def having(self, name: str, values: Sequence[str], *, negated: bool = False) -> "Groups":
        """Return those of them that have one of these values, or none of them."""
        one = f"{name} IN ({', '.join('?' * len(values))})" if values else "0"
        also = f"({name} IS NULL OR NOT ({one}))" if negated else one
        return Groups(f"{self.where} AND {also}" if self.where else also, (*self.values, *values))


@dataclass(frozen=True, slots=True)
class Rows:
    """Where rows of (grouping, step, count) are, and the values for the question marks."""

    sql: str
    values: tuple[Any, ...]

    @property
    def by_value(self) -> str:
        """What returns (name, value, count), as `Overview.add_value` takes them."""
        joined = "FROM counted AS c JOIN groups AS g ON g.id = c.grouping WHERE"
        parts = [
            f"SELECT '{name}', g.{name}, sum(c.count) {joined} g.{name} IS NOT NULL GROUP BY 2" for name in GROUPING
        ]
        parts.append(
            f"SELECT 'refused', g.rule, sum(c.count) {joined} g.rule IS NOT NULL AND g.decision = 'deny' GROUP BY 2"
        )
        parts.append("SELECT '', '', coalesce(sum(count), 0) FROM counted")
        # Once over everything, and from there on over the groups, of which there are few.
        counted = f"SELECT grouping, sum(count) AS count FROM ({self.sql}) GROUP BY grouping"  # noqa: S608 - our own words
        return f"WITH counted AS MATERIALIZED ({counted}) {' UNION ALL '.join(parts)}"

    @property
    def by_step(self) -> str:
        """What returns (step, decision, count)."""
        return (
            f"SELECT c.step, g.decision, sum(c.count) FROM ({self.sql}) AS c JOIN groups AS g ON g.id = c.grouping"  # noqa: S608 - our own words
            " GROUP BY 1, 2"
        )

    @classmethod
    def of_records(cls, stated: Statement, *, ids: int) -> Self:
        """Return the rows of the records `r`, one by one; a step is so many ids."""
        step = f"CASE WHEN r.id < 0 THEN -1 ELSE r.id / {ids} END"
        return cls(f"SELECT r.grouping AS grouping, {step} AS step, 1 AS count {stated.source}", stated.values)

    @classmethod
    def of_tallies(cls, query: Query, groups: Groups, *, hours: int) -> Self:
        """Return the rows of these groups in the time that is asked about; a step is so many hours."""
        since, until = query.span
        only = groups.condition
        step = f"CASE WHEN hour < 0 THEN -1 ELSE hour / {hours} END"
        whole = f"SELECT grouping, {step} AS step, count FROM tallies WHERE {only}"  # noqa: S608 - our own words
        if since is None and until is None:
            return cls(whole, groups.values)
        lowest = id_at(since or 0)
        highest = HIGHEST if until is None else id_at(until)
        first, last = -(-lowest // IDS_AN_HOUR), highest // IDS_AN_HOUR
        ends = [(lowest, first * IDS_AN_HOUR), (last * IDS_AN_HOUR, highest)] if first <= last else [(lowest, highest)]
        one = (
            f"SELECT grouping, id / {hours * IDS_AN_HOUR}, 1 FROM records"  # noqa: S608 - our own words
            f" WHERE id >= ? AND id < ? AND {only}"
        )
        parts = [f"{whole} AND hour >= ? AND hour < ?", *(one for _ in ends)]
        values: tuple[Any, ...] = (*groups.values, first, last)
        for end in ends:
            values += (*end, *groups.values)
        return cls(" UNION ALL ".join(parts), values)

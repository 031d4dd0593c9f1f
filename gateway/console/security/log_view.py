"""What the access log's pages show of records, in words for people; nothing in one can pass itself off as ours."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.audit.formats.text import plain, printable, to_line
from gateway.audit.index.finding import Found
from gateway.audit.index.overview import Overview
from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry
from gateway.console.security.log_query import LOG, Asked
from gateway.refusals import REFUSALS

RECORD: Final = f"{LOG}/record"
ASSUMPTION: Final = f"{LOG}/assumption"
DECISIONS: Final[Mapping[str, str]] = {"allow": "Permitted", "deny": "Refused"}
_FACETS: Final = (
    ("decision", "decision", "Decision"),
    ("reason", "reason", "Reason"),
    ("account", "account", "Account"),
    ("actor", "actor", "Staff"),
    ("method", "method", "Method"),
    ("rule", "route", "Rule"),
    ("kind", "kind", "Kind"),
)
"""By what records are counted, the qualifier that asks for it, and what people read."""
_MOST_VALUES: Final = 6
_MOST_TOP: Final = 5
_SHORT, _LONG = 120, 4000
_REASONS: Final = {str(reason): refusal.title for reason, refusal in REFUSALS.items()}
_PIVOTS: Final = {
    "account": "account",
    "client_id": "client",
    "client_ip": "ip",
    "method": "method",
    "path": "path",
    "reason": "reason",
    "request_id": "request",
    "rule": "route",
    "subject": "agent",
    "ticket": "ticket",
}
"""Each field that leads to all records that have the same, and the qualifier that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A text that somebody may have chosen, made harmless, and where it leads."""

    text: str
    href: str | None = None
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record of a list."""

    href: str
    at: str
    instant: str
    staff: Value | None
    subject: Value | None
    account: Value | None
    what: str
    decision: str
    """`allow`, `deny`, or nothing."""
    word: str
    reason: Value | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValue:
    """One value, how many have it, and where one click leads."""

    value: Value
    count: int
    excludes: str | None
    undo: str | None
    """Where it leads to take it out of the search again, if it stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """What the records found can be narrowed by."""

    label: str
    values: tuple[FacetValue, ...]
    more: int
    """How many values there are beside these."""


def show_rows(found: Sequence[Found], statuses: Mapping[tuple[str, str], str], asked: Asked) -> list[Row]:
    """Return the rows of a list; `statuses` say what was answered to the exchanges of which the records are."""
    return [_row(one, statuses, asked) for one in found]


def statuses_of(completions: Iterable[Entry]) -> dict[tuple[str, str], str]:
    """Return what was answered, by the origin and number of the record that the answer is about."""
    return {
        (plain(one.get("origin")), plain(one.get("completes"))): show_end(one)
        for one in completions
        if one.get("kind") == "completion"
    }


def show_end(completion: Entry) -> str:
    """Return what a completion says of how it ended."""
    status, ended = completion.get("status"), short(completion.get("ended", ""))
    said = "no answer" if status is None else short(status)
    return said if ended == "complete" else f"{said}, {ended.replace('_', ' ')}"


def show_facets(overview: Overview, asked: Asked) -> list[Facet]:
    """Return by what the search can be narrowed."""
    facets = []
    for name, qualifier, label in _FACETS:
        counts = overview.by.get(name, Counter())
        if not counts:
            continue
        values = tuple(
            FacetValue(
                value=_value(value, asked.narrowed(qualifier, value), name),
                count=count,
                excludes=asked.narrowed(qualifier, value, negated=True),
                undo=asked.without(qualifier, value),
            )
            for value, count in counts.most_common(_MOST_VALUES)
        )
        facets.append(Facet(label=label, values=values, more=len(counts) - len(values)))
    return facets


def show_top(counts: Counter[str], qualifier: str, asked: Asked) -> list[tuple[Value, int]]:
    """Return the most frequent values, each leading to its records."""
    return [
        (_value(value, asked.narrowed(qualifier, value), qualifier), count)
        for value, count in counts.most_common(_MOST_TOP)
    ]


def show_fields(entry: Entry, asked: Asked) -> list[tuple[str, list[Value]]]:
    """Return every field of a record, in the order of their names, each with where it leads."""
    fields = []
    for name, value in sorted(entry.items()):
        if name == "actor" and isinstance(value, Mapping):
            parts = sorted((f"actor {key}", key, part) for key, part in value.items())
            fields += [(long(label), [_pivot("actor", key, part, asked)]) for label, key, part in parts]
        elif isinstance(value, list):
            fields.append((_label(name), [Value(text=long(item)) for item in value]))
        else:
            fields.append((_label(name), [_pivot(name, name, value, asked)]))
    return fields


def show_json(entry: Entry) -> str:
    r"""Return a record as indented JSON in ASCII: what has no glyph, or reorders others, is written `\uXXXX`."""
    return msgspec.json.format(to_line(entry), indent=2).decode()


def show_word(entry: Entry) -> str:
    """Return what a record is, in a few words."""
    decision = plain(entry.get("decision", ""))
    if decision in DECISIONS:
        return DECISIONS[decision]
    kind = short(entry.get("kind", "record")).replace("_", " ")
    return f"{kind[:1].upper()}{kind[1:]}"


def show_what(entry: Entry) -> str:
    """Return what was asked for, or done."""
    asked = " ".join(short(entry[name]) for name in ("method", "path") if name in entry)
    return asked or " ".join(short(entry[name]) for name in ("duration", "ended", "segment") if name in entry)


def link_to_assumption(sid: Any) -> str | None:
    """Return where the timeline of an assumption is; None if it cannot stand in an address."""
    safe = isinstance(sid, str) and sid.isascii() and sid.replace("-", "").replace("_", "").isalnum()
    return f"{ASSUMPTION}/{sid}" if safe else None


def short(value: Any) -> str:
    """Return a value on one line of a list."""
    return _cut(value, _SHORT)


def long(value: Any) -> str:
    """Return a value, whole unless it is longer than anything that our own journal keeps."""
    return _cut(value, _LONG)


def _row(one: Found, statuses: Mapping[tuple[str, str], str], asked: Asked) -> Row:
    entry = one.entry
    at, decision = short(entry.get("at", "")), plain(entry.get("decision", ""))
    staff = next(iter(actor_of(entry)), None)
    by = entry.get("by")
    place = plain(entry.get("origin")), plain(entry.get("seq"))
    status = entry.get("status")
    return Row(
        href=f"{RECORD}/{one.id}",
        at=at[:19].replace("T", " "),
        instant=f"{at[:19]}Z",
        staff=_value(staff, asked.narrowed("actor", staff)) if staff else _value(plain(by), None) if by else None,
        subject=_narrowing(entry, "subject", asked),
        account=_narrowing(entry, "account", asked),
        what=show_what(entry),
        decision=decision if decision in DECISIONS else "",
        word=show_word(entry),
        reason=_narrowing(entry, "reason", asked),
        status=short(status) if status is not None else statuses.get(place, ""),
    )


def _narrowing(entry: Entry, name: str, asked: Asked) -> Value | None:
    value = entry.get(name)
    if value is None or value == "":
        return None
    return _value(plain(value), asked.narrowed(_PIVOTS[name], plain(value)), name)


def _pivot(name: str, key: str, value: Any, asked: Asked) -> Value:
    text = plain(value)
    if name == "assumption":
        return Value(text=long(text), href=link_to_assumption(value))
    if name == "actor":
        return Value(text=long(text), href=asked.narrowed("actor", text) if key in ("name", "subject") else None)
    qualifier = _PIVOTS.get(name)
    title = _REASONS.get(text, "") if name == "reason" else ""
    return Value(text=long(text), href=asked.narrowed(qualifier, text) if qualifier else None, title=title)


def _value(value: str, href: str | None, name: str = "") -> Value:
    text = DECISIONS.get(value, value) if name == "decision" else value
    return Value(text=short(text), href=href, title=_REASONS.get(value, "") if name == "reason" else "")


def _label(name: str) -> str:
    return long(name).replace("_", " ")


def _cut(value: Any, most: int) -> str:
    text = plain(value)
    # Cut before it is made harmless: what is written longer then is bounded all the same.
    return printable(text) if len(text) <= most else f"{printable(text[:most])}… ({len(text)} characters)"

"""Reading the journal for people: in the order of time, filtered, one safe line a record."""

import heapq
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from gateway.audit.segment import list_segments, read_lines, split_line

Entry = Mapping[str, Any]
"""A decoded record: the fields of `Record` that are not None, with `origin`, `seq` and `at`."""


class QueryError(Exception):
    """The caller's fault: the query cannot be read."""


def read(directory: Path) -> Iterator[Entry]:
    """Yield all records of all origins by time; lines that are none are passed over (see `verify`)."""
    return Follower(directory).poll()


class Follower:
    """Reads a journal that is being written to, each record once."""

    def __init__(self, directory: Path) -> None:
        """Start before the first record."""
        self._directory = directory
        self._positions: defaultdict[Path, int] = defaultdict(int)

    def poll(self) -> Iterator[Entry]:
        """Yield what has come since the last poll, by time; exhaust it before the next one. Raises OSError."""
        origins = (self._read_new(paths) for paths in list_segments(self._directory).values())
        return heapq.merge(*origins, key=lambda entry: (str(entry.get("at")), str(entry.get("origin"))))

    def _read_new(self, paths: list[Path]) -> Iterator[Entry]:
        for path in paths:
            if path.stat().st_size == self._positions[path]:
                continue
            for offset, line in read_lines(path, start=self._positions[path]):
                if not line.endswith(b"\n"):
                    break
                self._positions[path] = offset + len(line)
                if (entry := _decode(line)) is not None:
                    yield entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A filter as it is typed into one box: `actor:dana -decision:allow path:/tickets refund`."""

    terms: tuple[Callable[[Entry], bool], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read terms separated by spaces, all of which must hold; raises QueryError.

        A term is `qualifier:value` or free text, which is looked for in all values; `-` before it turns it round, and
        quotes keep spaces together. Upper and lower case are the same. `path:` holds for everything below it.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise QueryError(f"`{text}` cannot be read: close the quotation") from error
        return cls(terms=tuple(_parse_term(word) for word in words))

    def matches(self, entry: Entry) -> bool:
        """Tell whether all terms hold."""
        return all(term(entry) for term in self.terms)


def render(entry: Entry) -> str:
    """Return one line for a terminal: time (UTC), outcome, who for whom, what, why, ticket.

    Nothing in it can steer the terminal, and no value can pass itself off as two columns: one with spaces is quoted.
    """
    return "  ".join(filter(None, [_heading(entry), _who(entry), _what(entry), *_cells(entry, "reason", "ticket")]))


def printable(text: str) -> str:
    r"""Write whatever has no glyph of its own, or reorders its neighbours, as `\u` and its number."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _actor(entry: Entry) -> list[str]:
    actor = entry.get("actor") or {}
    return [str(actor[key]) for key in ("name", "subject") if key in actor]


def _plain(name: str) -> Callable[[Entry], list[str]]:
    return lambda entry: [str(entry[name])] if name in entry else []


_QUALIFIERS: Mapping[str, Callable[[Entry], list[str]]] = {
    "actor": _actor,
    "account": _plain("account"),
    "agent": _plain("subject"),
    "decision": _plain("decision"),
    "reason": _plain("reason"),
    "ticket": _plain("ticket"),
    "sid": _plain("assumption"),
    "kind": _plain("kind"),
    "method": _plain("method"),
    "path": _plain("path"),
}


def _parse_term(word: str) -> Callable[[Entry], bool]:
    if word.startswith("-") and len(word) > 1:
        inner = _parse_term(word[1:])
        return lambda entry: not inner(entry)
    qualifier = re.match(r"([a-z]+):(?!//)", word)
    if qualifier is None:
        wanted = word.casefold()
        return lambda entry: any(wanted in text.casefold() for text in _texts(entry))
    if (values := _QUALIFIERS.get(qualifier[1])) is None:
        raise QueryError(f"`{qualifier[0]}` is no qualifier: use one of {', '.join(_QUALIFIERS)}")
    return _comparison(qualifier[1], values, word[qualifier.end() :].casefold())


def _comparison(qualifier: str, values: Callable[[Entry], list[str]], wanted: str) -> Callable[[Entry], bool]:
    if qualifier == "path":
        below = wanted.rstrip("/") + "/"
        return lambda entry: any(f"{path.casefold()}/".startswith(below) for path in values(entry))
    return lambda entry: any(wanted == value.casefold() for value in values(entry))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            return


def _heading(entry: Entry) -> str:
    return f"{printable(str(entry.get('at')))[11:19]} {printable(str(entry.get('decision') or entry.get('kind'))):<5}"


def _who(entry: Entry) -> str:
    actor, operator = next(iter(_actor(entry)), ""), entry.get("by", "")
    by = _cell(operator or actor or entry.get("granted_by", ""))
    whom = _cell(entry.get("subject") or (actor if operator else ""))
    where = f"@{_cell(entry['account'])}" if "account" in entry else ""
    # Who acts in nobody's place may carry a mail address: keep it apart from the account.
    return "→".join(filter(None, [by, whom])) + (where if whom or not by else f" {where}".rstrip())


def _what(entry: Entry) -> str:
    return " ".join(
        _cells(
            entry,
            "method",
            "path",
            "duration",
            *(("client_id",) if entry.get("kind") == "client" else ()),
            "segment",
            "offset",
        )
    )


def _cells(entry: Entry, *names: str) -> list[str]:
    return [_cell(entry[name]) for name in names if name in entry]


def _cell(value: Any) -> str:
    text = printable(str(value))
    if " " not in text:
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


def _decode(line: bytes) -> Entry | None:
    parts = split_line(line)
    try:
        return None if parts is None else msgspec.json.decode(parts[1], type=dict[str, Any])
    except msgspec.DecodeError:
        return None

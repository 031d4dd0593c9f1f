"""What the access log's page is asked for: all of it stands in the address, so that a search is saved as a link."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode

from gateway.audit.formats.text import printable
from gateway.audit.index.overview import HOUR
from gateway.audit.search.query import MOST_CHARACTERS, Is, Query, QueryError
from gateway.audit.times import read_time
from gateway.console.security.log_terms import build_query
from gateway.console.security.visit import PATH

LOG: Final = f"{PATH}/log"
DAY: Final = 24 * HOUR
RANGES: Final[Mapping[str, tuple[str, int | None]]] = {
    "1h": ("Last hour", HOUR),
    "24h": ("Last 24 hours", DAY),
    "7d": ("Last 7 days", 7 * DAY),
    "30d": ("Last 30 days", 30 * DAY),
    "90d": ("Last 90 days", 90 * DAY),
    "all": ("All time", None),
}
"""The quick choices, in their order: what people read, and how far back it goes in microseconds."""
DEFAULT_RANGE: Final = "7d"
_MINUTE: Final = HOUR // 60
# The longest time for which each step gives a picture that can be looked at.
_STEPS: Final = (
    (2 * HOUR, _MINUTE),
    (8 * HOUR, 5 * _MINUTE),
    (4 * DAY, HOUR),
    (12 * DAY, 3 * HOUR),
    (120 * DAY, DAY),
    (800 * DAY, 7 * DAY),
)
_LONGEST_STEP: Final = 28 * DAY
_HIGHEST: Final = 2**63 - 2


class AskedWrongly(Exception):
    """The visitor's fault; the message says what to write instead, and `field` where."""

    def __init__(self, field: str, said: str) -> None:
        # It may quote what was typed.
        super().__init__(printable(said))
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question; times are in microseconds since 1970."""

    text: str = ""
    """What stands in the box."""
    range: str = DEFAULT_RANGE
    """One of RANGES; empty if `since` and `until` were given as times."""
    since: int | None = None
    until: int | None = None
    before: int | None = None
    after: int | None = None
    """A cursor, at the most one: the page of those older, or newer, than this one."""
    ends: bool = False
    """Whether the records of how exchanges ended are wanted, too."""

    @property
    def query(self) -> Query:
        """What the log is asked; raises AskedWrongly."""
        try:
            return build_query(self.text, since=self.since, until=self.until, ends=self.ends)
        except QueryError as exc:
            raise AskedWrongly("q", str(exc)) from exc

    @property
    def parameters(self) -> dict[str, str]:
        """What stands in the address, without the cursor: the same for the same search."""
        said = {"q": self.text} if self.text else {}
        if self.range:
            said |= {"range": self.range} if self.range != DEFAULT_RANGE else {}
        else:
            said |= {"from": write_moment(self.since)} if self.since is not None else {}
            said |= {"to": write_moment(self.until)} if self.until is not None else {}
        return said | ({"ends": "1"} if self.ends else {})

    def link(self, path: str = LOG, **more: str) -> str:
        """Return the address of this search at a page."""
        said = urlencode({**self.parameters, **more})
        return f"{path}?{said}" if said else path

    def page(self, *, before: int | None = None, after: int | None = None) -> str:
        """Return the address of the page of older or newer ones."""
        at = {"before": before} if before is not None else {"after": after}
        return self.link(**{name: str(value) for name, value in at.items() if value is not None})

    def between(self, since: int, until: int) -> str:
        """Return the address of the same search in another time."""
        return replace(self, range="", since=since, until=until).link()

    def with_range(self, name: str) -> str:
        """Return the address of the same search in one of RANGES."""
        return replace(self, range=name, since=None, until=None).link()

    def narrowed(self, qualifier: str, value: str, *, negated: bool = False) -> str | None:
        """Return the address of this search with one more term, None if no term can say so."""
        term = write_term(qualifier, value, negated=negated)
        if term is None:
            return None
        opposite = write_term(qualifier, value, negated=not negated)
        said = [quoted for word, quoted in _split(self.text) if word not in (term, opposite)]
        text = " ".join([*said, shlex.quote(term)])
        return replace(self, text=text).link() if len(text) <= MOST_CHARACTERS else None

    def without(self, qualifier: str, value: str) -> str | None:
        """Return the address of this search without a term that it has, None if it has none."""
        terms = {write_term(qualifier, value, negated=negated) for negated in (False, True)}
        words = _split(self.text)
        left = [quoted for word, quoted in words if word not in terms]
        return replace(self, text=" ".join(left)).link() if len(left) < len(words) else None

    def step(self, now: int) -> int:
        """Return how long a step of its picture is."""
        if self.since is None:
            return DAY
        length = max((now if self.until is None else self.until) - self.since, 0)
        return next((step for longest, step in _STEPS if length <= longest), _LONGEST_STEP)


def read_asked(given: Mapping[str, str], now: int) -> Asked:
    """Return what the parameters of an address, or the fields of a form, ask for; raises AskedWrongly."""
    text = given.get("q", "").strip()
    since, until = (_read_moment(given.get(name, ""), name) for name in ("from", "to"))
    before, after = (_read_cursor(given.get(name, "")) for name in ("before", "after"))
    asked = Asked(text=text, before=before, after=None if before is not None else after, ends=given.get("ends") == "1")
    if since is not None or until is not None:
        if since is not None and until is not None and until <= since:
            raise AskedWrongly("to", "the end must be later than the beginning")
        return replace(asked, range="", since=since, until=until)
    name = given.get("range", "") or DEFAULT_RANGE
    if name not in RANGES:
        raise AskedWrongly("range", f"the time is one of {', '.join(RANGES)}")
    back = RANGES[name][1]
    if back is None:
        return replace(asked, range=name)
    # From the beginning of a step on, so that what is counted by the hour can be used.
    step = replace(asked, range=name, since=now - back).step(now)
    return replace(asked, range=name, since=max((now - back) // step * step, 0))


def write_term(qualifier: str, value: str, *, negated: bool = False) -> str | None:
    """Return the term as it is split, not as it is typed; None if the query language cannot say it."""
    return _write_term(qualifier, value, negated=negated) if len(value) <= MOST_CHARACTERS else None


# The rows of a page have the same few names.
@lru_cache(maxsize=2048)
def _write_term(qualifier: str, value: str, *, negated: bool) -> str | None:
    text = f"{'-' if negated else ''}{qualifier}:{value}"
    try:
        [term] = Query.parse(shlex.quote(text)).terms
    except (QueryError, ValueError):
        return None
    said = isinstance(term.condition, Is) and term.condition.qualifier == qualifier
    return text if said and term.negated is negated else None


def write_moment(time: int) -> str:
    """Return a time as the form's fields have it, in UTC, to the second or what is needed to say it."""
    said = datetime.fromtimestamp(time // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return said.removesuffix(":00") if time % 1_000_000 == 0 else f"{said}.{time % 1_000_000:06d}"


# Each link of a page says the whole text again, and to split it takes longer than all the rest of that.
@lru_cache(maxsize=64)
def _split(text: str) -> tuple[tuple[str, str], ...]:
    """Return the words of a text, each as it is and as it is typed."""
    try:
        return tuple((word, shlex.quote(word)) for word in shlex.split(text))
    except ValueError:
        return ()


def _read_moment(text: str, field: str) -> int | None:
    if not text:
        return None
    time = read_time(text)
    if time is None:
        raise AskedWrongly(field, "write a time such as 2026-11-23T15:04, which is in UTC")
    return time


def _read_cursor(text: str) -> int | None:
    """Return a cursor that a link of ours has, None for anything else: then it is the first page."""
    number = text.removeprefix("-")
    if not (number.isascii() and number.isdigit() and len(number) <= 19):
        return None
    return max(min(int(text), _HIGHEST), -_HIGHEST)

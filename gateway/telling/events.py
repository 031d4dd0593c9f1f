"""What of the journal concerns somebody outside: a record becomes an event, or none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

from gateway.audit.formats.text import part, plain
from gateway.audit.segment import Entry
from gateway.audit.times import read_time
from gateway.config.notices import EventName

ASKED: Final = "grant_request"
"""The kind of the records of what staff ask an account for."""
_CHANGES: Final = frozenset(
    {
        "enabled",
        "extended",
        "reduced",
        "permissions_changed",
        "turned_off",
        "converted",
        "suspended",
        "resumed",
        # What was announced, and then did not happen or may not have.
        "overtaken",
        "store_unavailable",
        "unknown",
    }
)
# Reasons of the kind `assumption` that do not end one.
_NO_ENDS: Final = frozenset({"entered", "started", "asked", "approved", "handed_over"})
_ASKINGS: Final = frozenset({"asked"})
_BROKEN: Final = frozenset({"missing", "unreadable", "replaced"})
_MENDED: Final = ("audit", "evidence_mended")
_ALTERED: Final = frozenset({("journal", "history_altered"), ("audit", "evidence_broken")})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN: Final = _EPOCH
"""When something happened that does not say when, or says no time that can be."""
_LONGEST_ACCOUNT: Final = 500
"""Characters: no account has more, and a store could not look for more."""
Name = EventName | Literal["mended"]
"""What an event is called: as the configuration has it, and what nobody can choose by itself."""
CHOSEN_AS: Final[Mapping[Name, EventName]] = MappingProxyType({"mended": "evidence"})
"""With what else somebody chooses it: whoever is told that the evidence is broken is told that it is whole again."""
TO_ALL: Final[frozenset[Name]] = frozenset({"kill_switch", "evidence", "mended"})
"""What is no account's own, and concerns many."""
_TEXTS: Final[tuple[str, ...]] = (
    "subject",
    "ticket",
    "stated_reason",
    "assumption",
    "expires_at",
    "duration",
    "granted_by",
    "by",
    "since",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that somebody is told of."""

    name: Name
    account: str = ""
    """Whose administrators are told, too; empty: it is no account's own."""
    to_all: bool = False
    """Whether the administrators of each account are told that it concerns."""
    at: datetime
    facts: dict[str, str] = field(default_factory=dict)
    """What there is to say of it. Some of it is in strangers' words, as they are."""


def read_event(entry: Entry) -> Event | None:
    """Return what a record tells people; None for most. Never raises, whatever somebody has made of the entry."""
    name = _name(entry)
    if name is None:
        return None
    to_all = name in TO_ALL
    account = "" if to_all else _text(entry.get("account", ""))[:_LONGEST_ACCOUNT]
    return Event(name=name, account=account, to_all=to_all, at=_moment(entry), facts=_facts(entry))


def is_unread(entry: Entry) -> bool:
    """Tell whether an entry is no record, but says that whoever reads the journal has found a part of it broken."""
    return _text(entry.get("kind", "")) == "sink" and _name(entry) == "evidence"


def _name(entry: Entry) -> Name | None:
    kind, reason, decision = (_text(entry.get(key, "")) for key in ("kind", "reason", "decision"))
    if (kind, reason) == _MENDED:
        return "mended"
    found: dict[str, tuple[Name, bool]] = {
        "grant": ("setting", reason in _CHANGES and "account" in entry),
        "token": ("begun", decision == "allow" and "assumption" in entry),
        "assumption": ("ended", decision != "deny" and reason not in _NO_ENDS and "assumption" in entry),
        ASKED: ("asked", decision != "deny" and reason in _ASKINGS and "account" in entry),
        "kill_switch": ("kill_switch", True),
    }
    name, tells = found.get(kind, ("evidence", _is_broken(kind, reason, _text(entry.get("why", "")))))
    return name if tells else None


def _is_broken(kind: str, reason: str, why: str) -> bool:
    if kind == "sink":
        return reason == "gap" and why in _BROKEN
    return (kind, reason) in _ALTERED


def _facts(entry: Entry) -> dict[str, str]:
    actor = part(entry, "actor")
    facts: dict[str, str] = {name: _text(entry[name]) for name in _TEXTS if name in entry}
    facts["change"] = _text(entry.get("reason", ""))
    facts["record"] = f"{_text(entry.get('origin', ''))}:{_text(entry.get('seq', ''))}"
    if actor:
        facts["staff"] = _text(actor.get("name") or actor.get("subject") or "")
    for name in ("permissions", "scopes"):
        if isinstance(listed := entry.get(name), list):
            facts[name] = " ".join(_text(each) for each in listed)
    if "why" in entry:
        facts["why"] = _text(entry["why"])
    return facts


def _moment(entry: Entry) -> datetime:
    at = entry.get("at")
    found = read_time(at) if isinstance(at, str) else None
    try:
        return _EPOCH + timedelta(microseconds=found or 0)
    except OverflowError:
        # Behind the last year there is, in a zone of its own.
        return UNKNOWN


def _text(value: Any) -> str:
    """Return a value as text that every store can hold: half of a surrogate pair becomes its escape, as NUL does."""
    return plain(value).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()

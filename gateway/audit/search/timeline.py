"""One assumption from its beginning to its end, as its records tell it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.audit.formats.text import printable
from gateway.audit.search.render import render
from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry
from gateway.audit.times import time_of

GAP_SECONDS = 300
"""A silence that is worth a line of its own."""
READING = "audit"
"""The kind of the records about reading the log: they are no part of what is read, or asking for it would change it."""
_ONCE = ("account", "subject", "ticket", "stated_reason", "granted_by", "grant_id")


@dataclass(frozen=True, slots=True)
class Step:
    """One record, with the record of how that exchange ended if there is one."""

    entry: Entry
    completion: Entry | None
    silent_seconds: int
    """How long nothing was on the record before it, if that is a gap; else 0."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Who stood in for whom, why, until when, and what they did."""

    about: dict[str, Any]
    """`sid`, `actor`, the fields that say whom, where and why, `began_at`, `expires_at`, `ended`, and counts."""
    steps: tuple[Step, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        steps = [
            {"record": step.entry, "completion": step.completion, "silent_seconds": step.silent_seconds}
            for step in self.steps
        ]
        return {**self.about, "records": steps}

    def lines(self) -> Iterator[str]:
        """Yield it as lines for a terminal."""
        for name, value in self.about.items():
            if value is not None:
                yield f"{name.replace('_', ' ')}: {printable(str(value))}"
        for step in self.steps:
            if step.silent_seconds:
                yield f"         … nothing for {_length(step.silent_seconds)}"
            yield render(step.entry) + _outcome(step.completion)


def build_timeline(entries: Iterable[Entry], sid: str) -> Timeline | None:
    """Return what the records of an assumption, in the order of time, tell of it; None if there are none."""
    own = [entry for entry in entries if is_of(entry, sid)]
    completions = {_place(one, "completes"): one for one in own if one.get("kind") == "completion"}
    told = [entry for entry in own if entry.get("kind") != "completion"]
    if not told:
        return None
    steps, previous = [], None
    for entry in told:
        at = time_of(entry)
        silent = 0 if at is None or previous is None else (at - previous) // 1_000_000
        steps.append(Step(entry, completions.get(_place(entry, "seq")), silent if silent >= GAP_SECONDS else 0))
        completion = steps[-1].completion
        previous = max((time for time in (previous, at, completion and time_of(completion)) if time), default=None)
    return Timeline(_about(told, completions.values(), sid), tuple(steps))


def is_of(entry: Entry, sid: str) -> bool:
    """Tell whether a record is one of what was done in an assumption, and not of somebody's reading about it."""
    return entry.get("assumption") == sid and entry.get("kind") != READING


def _about(told: list[Entry], completions: Iterable[Entry], sid: str) -> dict[str, Any]:
    decisions = [entry.get("decision") for entry in told if entry.get("kind") == "decision"]
    end = next((entry for entry in reversed(told) if entry.get("reason") == "ended"), None)
    expiries = [str(entry["expires_at"]) for entry in told if "expires_at" in entry]
    return {
        "sid": sid,
        "actor": next((" ".join(actor_of(entry)) for entry in told if actor_of(entry)), None),
        **{name: next((entry[name] for entry in told if name in entry), None) for name in _ONCE},
        "began_at": told[0].get("at"),
        "expires_at": max(expiries, default=None),
        "ended": None if end is None else f"{end.get('at')} by {end.get('by', 'nobody who is named')}",
        "last_record_at": told[-1].get("at"),
        "allowed": decisions.count("allow"),
        "denied": decisions.count("deny"),
        "cut": sum(one.get("ended") == "cut" for one in completions),
    }


def _place(entry: Entry, number: str) -> tuple[str, str]:
    return str(entry.get("origin")), str(entry.get(number))


def _outcome(completion: Entry | None) -> str:
    if completion is None:
        return ""
    status, ended = completion.get("status"), printable(str(completion.get("ended")))
    how = "" if ended == "complete" else f", {ended}"
    micros = completion.get("duration_us")
    took = f", {micros / 1000:.0f} ms" if isinstance(micros, int) else ""
    sent = completion.get("bytes_sent")
    size = f", {sent} bytes" if isinstance(sent, int) else ""
    return f"  → {printable(str(status)) if status is not None else 'no answer'}{how}{took}{size}"


def _length(seconds: int) -> str:
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"

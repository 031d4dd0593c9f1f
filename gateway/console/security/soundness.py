"""How sound this gateway is, part by part, in words: what health and metrics read, for people."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from gateway.audit.evidence.verdict import Kept
from gateway.audit.index.order import Told
from gateway.audit.sinks.status import Status
from gateway.audit.witnesses.showing import Witnesses
from gateway.config.model import Config
from gateway.console.security.heads import Head
from gateway.metrics.reading import Reading
from gateway.state import State
from gateway.stores.holding import Hold
from gateway.stores.nodes import Node
from gateway.stores.store import KillSwitch
from gateway.tokens.listing import Listed

How = Literal["ok", "degraded", "failing", "off"]
_OLD_INDEX_SECONDS = 30.0
_OLD_SECONDS = 10.0
_LATE_TIMES = 2
"""After so many times the usual hours a verdict is an old one: a long journal takes its time, and so do starts."""
_SILENT_SECONDS = 60.0
_GONE_SECONDS = 24 * 3600.0
"""Whoever is away for so long was taken away on purpose, or has been shown as missing for long enough."""
_MOST_NAME = 200
_MOST_SHOWN = 200
_MOST_SAID = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, and how it is."""

    title: str
    how: How
    said: str
    """In a sentence: what that means."""
    facts: Sequence[tuple[str, str]] = ()


def describe_heads(heads: Sequence[Head] | None, config: Config, *, now: datetime) -> Part:
    """Return how far the journal is sealed."""
    if heads is None:
        return Part(title="Checkpoints", how="failing", said="The journal’s directory could not be read in time.")
    wrong = [head.origin for head in heads if head.wrong]
    seconds = config.audit.checkpoint_seconds
    facts = [("Made", f"every {seconds:g} s while there are new records"), ("Origins", str(len(heads)))]
    newest = max((head.at for head in heads if head.at is not None), default=None)
    if newest is not None:
        facts.append(("Newest", _time(newest)))
    if wrong:
        return Part(title="Checkpoints", how="failing", said=f"Not every one counts: {', '.join(wrong)}.", facts=facts)
    if not heads:
        return Part(title="Checkpoints", how="degraded", said="There is none yet: nothing is sealed.", facts=facts)
    said = f"Each newest one is signed by the journal’s key. Read {_time(now)}."
    return Part(title="Checkpoints", how="ok", said=said, facts=facts)


def describe_verified(kept: Kept | None, config: Config, *, now: datetime) -> Part:
    """Return until where the gateway has found its own journal to be as it was written."""
    hours, title = config.audit.verify_hours, "Verified"
    usual = f"every {hours:g} h" if hours else "never by the gateway: audit.verify_hours is 0"
    if kept is None:
        said = "The gateway has not verified this journal yet." if hours else "The gateway does not verify its journal."
        return Part(title=title, how="degraded" if hours else "off", said=said, facts=[("Verified", usual)])
    verdict, age = kept.verdict, now - kept.at
    facts = [("Verified", usual), ("Last", f"{_time(kept.at)}, within {_hours(age)}")]
    facts += [
        (origin, f"verified until record {count}" if count else "nothing is covered by a checkpoint")
        for origin, count in sorted(verdict.covered.items())[:_MOST_SHOWN]
    ]
    if verdict.count:
        said = f"{verdict.count} finding{'' if verdict.count == 1 else 's'}, the first: {verdict.first[:_MOST_SAID]}"
        return Part(title=title, how="failing", said=f"{said}. Run locum audit verify.", facts=facts)
    if hours and age > timedelta(hours=hours * _LATE_TIMES):
        return Part(title=title, how="degraded", said="It should have been verified again by now.", facts=facts)
    said = "All that was recorded until then was as it was written."
    return Part(title=title, how="ok", said=said, facts=facts)


def describe_state(state: State, switch: KillSwitch | None, config: Config) -> list[Part]:
    """Return what `/readyz` tells of, and why."""
    journal, follower, back = state.journal, state.follower, state.seconds_set_back()
    fetches = ", ".join(f"{count} of {kind}" for kind, count in sorted(state.facts.fetches().items())) or "none"
    return [
        Part(
            title="Store",
            how="failing" if switch is None or follower.is_stale else "ok",
            said="It does not answer, so staff are kept out."
            if switch is None
            else "It is an older copy of itself, so staff are kept out: run locum recover."
            if follower.is_stale
            else "It answers.",
            facts=[
                ("Kind", "embedded" if config.store.address is None else "shared"),
                ("Position", f"{follower.position}"),
            ],
        ),
        Part(
            title="Journal",
            how="ok" if journal.healthy else "failing",
            said="It could be written the last time."
            if journal.healthy
            else "It cannot be written, so staff are kept out.",
            facts=[
                ("Records here", f"{journal.size}"),
                ("Failures since the start", f"{journal.failures}"),
                ("Ends waiting", f"{journal.notes_waiting}"),
                ("Ends lost", f"{journal.notes_lost}"),
                (
                    "Survives",
                    "a crash of the machine" if config.audit.durability == "power" else "a crash of the process",
                ),
            ],
        ),
        Part(
            title="Push",
            how="degraded" if follower.is_lost else "ok",
            said=f"Changes are not heard of as they are made, but within {config.grants.fact_ttl_seconds:g} s."
            if follower.is_lost
            else "Changes are heard of as they are made.",
            facts=[("Losses since the start", f"{follower.losses}")],
        ),
        Part(
            title="Clock",
            how="degraded" if back else "ok",
            said=f"The wall clock is {back:.0f} s behind the time that has gone by: set it by NTP."
            if back
            else "It has not gone back.",
        ),
        Part(
            title="Facts",
            how="ok",
            said=f"Nothing is decided by facts older than {config.grants.fact_ttl_seconds:g} s.",
            facts=[("Fetched since the start", fetches), ("Open exchanges", f"{len(state.live)}")],
        ),
    ]


def describe_witnesses(
    witnesses: Witnesses, heads: Sequence[Head] | None, readings: Mapping[str, Reading | None]
) -> Part:
    """Return who holds checkpoints elsewhere; of the workers of a machine one shows them, whichever."""
    title, now = "Witnesses", witnesses.ticks()
    if not witnesses.tallies:
        said = "There is none: whoever has this machine and its key could make another history of it."
        return Part(title=title, how="degraded", said=said)
    others = {
        labels[0]
        for reading in readings.values()
        if reading is not None
        for labels, value in reading.samples.get("locum_witness_conflicts_total", ())
        if value and labels
    }
    conflicts = [name for name, tally in witnesses.tallies.items() if tally.conflicts or name in others]
    late = [name for name, tally in witnesses.tallies.items() if tally.lag_seconds(now) > _OLD_SECONDS]
    facts = []
    for name, tally in witnesses.tallies.items():
        held = ", ".join(
            f"{head.taken[name]} of {head.size} of {head.origin}" for head in heads or () if name in head.taken
        )
        lag = tally.lag_seconds(now)
        facts.append((name, f"has {held or 'nothing yet'}" + (f"; waited for since {lag:.0f} s" if lag else "")))
    if conflicts:
        said = f"Another history is known to {', '.join(conflicts)}: verify the journal."
        return Part(title=title, how="failing", said=said, facts=facts)
    if late:
        return Part(title=title, how="degraded", said=f"Late: {', '.join(late)}.", facts=facts)
    return Part(title=title, how="ok", said="Each is shown every new checkpoint.", facts=facts)


def describe_sinks(statuses: Sequence[Status], *, now: datetime) -> Part:
    """Return how records leave the machine."""
    if not statuses:
        return Part(title="Sinks", how="off", said="Records are sent nowhere: there is no [[audit.sinks]].")
    facts = []
    for status in statuses:
        waits = 0.0 if status.waiting_since is None else max(0.0, now.timestamp() - status.waiting_since)
        last = (
            ""
            if status.succeeded_at is None
            else f", last taken {_time(datetime.fromtimestamp(status.succeeded_at, UTC))}"
        )
        behind = f"{status.bytes_behind} bytes behind" + (f" for {waits:.0f} s" if waits else "")
        facts.append((f"{status.name} ({status.kind})", f"{status.state}, {behind}{last}; {status.sent} sent"))
    failing = [status.name for status in statuses if status.state == "failing"]
    if failing:
        said = f"Nothing is lost, but these get nothing now: {', '.join(failing)}."
        return Part(title="Sinks", how="degraded", said=said, facts=facts)
    return Part(title="Sinks", how="ok", said="Each takes what it is sent.", facts=facts)


def describe_index(told: Told | None, readings: Mapping[str, Reading | None], *, is_on: bool) -> Part:
    """Return how far the index is; whichever worker sees to it, tells."""
    if not is_on:
        return Part(
            title="Index", how="off", said="There is none, so nothing can be searched here: set index in [audit]."
        )
    found = told or _told_of(readings)
    if found is None:
        return Part(title="Index", how="degraded", said="No worker here says how far it is: it may just be starting.")
    facts = [("Not in it yet", f"{found.behind_bytes} bytes"), ("For", f"{found.behind_seconds:.1f} s")]
    if found.unread_lines or found.unread_files:
        facts.append(("Cannot be read", f"{found.unread_lines} lines, {found.unread_files} files"))
        said = "Searches miss what cannot be read of the journal. Run locum audit verify."
        return Part(title="Index", how="failing", said=said, facts=facts)
    late = found.behind_seconds > _OLD_INDEX_SECONDS
    said = "Searches miss the newest records." if late else "Searches find what was recorded a moment ago."
    return Part(title="Index", how="degraded" if late else "ok", said=said, facts=facts)


def describe_workers(own: str, readings: Mapping[str, Reading | None], state: State) -> Part:
    """Return who serves beside this process."""
    facts = [(f"{own} (answers you)", _worker(float(state.journal.healthy), float(not state.follower.is_lost)))]
    silent = []
    for origin, reading in readings.items():
        if reading is None:
            silent.append(origin)
            facts.append((origin, "does not answer"))
        else:
            samples = reading.samples
            facts.append((origin, _worker(_first(samples, "locum_journal_up"), _first(samples, "locum_push_up"))))
    said = f"No answer from {', '.join(silent)}." if silent else "All that serve on this machine answer."
    return Part(title="Workers", how="degraded" if silent else "ok", said=said, facts=facts)


def describe_nodes(own: str, nodes: Sequence[Node] | None, config: Config) -> Part:
    """Return which machines keep journals under the shared store; None of `nodes` if it does not say."""
    title = "Nodes"
    if config.store.address is None:
        said = "This one only: its store is embedded."
        return Part(title=title, how="ok", said=said, facts=[(f"{own} (answers you)", "answers")])
    if not config.audit.index:
        said = "Nodes are known by what they ship to the index, and there is none: set index in [audit]."
        return Part(title=title, how="off", said=said)
    if nodes is None:
        return Part(title=title, how="degraded", said="The store does not say in time which there are.")
    facts, late = [], []
    for node in nodes[:_MOST_SHOWN]:
        name = f"{', '.join(node.origins) or 'nothing shipped'} ({node.name})"[:_MOST_NAME]
        through = "nothing yet" if node.through is None else _time(node.through)
        facts.append((name, f"heard {_time(node.heard_at)}, has shipped up to {through}"))
        if _SILENT_SECONDS < node.silent_seconds < _GONE_SECONDS:
            late.append(name)
    if late:
        said = f"Not heard of for more than {_SILENT_SECONDS:.0f} s: {', '.join(late)}."
        return Part(title=title, how="degraded", said=said, facts=facts)
    if not any(own in node.origins for node in nodes):
        said = f"{own} has not shipped anything yet: it may just be starting."
        return Part(title=title, how="degraded", said=said, facts=facts)
    return Part(title=title, how="ok", said="Each that was here within a day has shipped just now.", facts=facts)


def describe_keys(listed: Sequence[Listed], *, now: datetime) -> Part:
    """Return what signs, and how old it is."""
    facts = []
    for key in listed:
        if not key.signs:
            continue
        age = "of unknown age, given by the configuration"
        if key.created_at is not None:
            age = f"made {_time(key.created_at)}, {_days(now - key.created_at)}"
        facts.append((", ".join(key.signs), f"{key.algorithm} {key.id}: {age}"))
    signs = {use for key in listed for use in key.signs}
    if not {"tokens", "assertions"} <= signs:
        return Part(title="Keys", how="failing", said="Something cannot be signed now.", facts=facts)
    return Part(title="Keys", how="ok", said="Everything that is signed has a key that counts.", facts=facts)


def describe_retention(config: Config, holds: Sequence[Hold]) -> Part:
    """Return how long content is kept, and for whom it is longer."""
    section = config.audit.retention
    usual = f"{section.days} days" if section.days else "for ever"
    facts = [("Kept", usual)]
    if section.account_mib:
        facts.append(("At most", f"{section.account_mib} MiB of an account"))
    facts += [
        (f"For {one.account}", f"{one.days or 0} days" if one.days else "for ever") for one in section.accounts[:50]
    ]
    facts += [
        (f"Legal hold on {hold.account}", f"by {hold.by}, since {_time(hold.at)}: {hold.reason}") for hold in holds
    ]
    said = f"{len(holds)} legal hold{'' if len(holds) == 1 else 's'}. Hashes stay, whatever is taken away."
    return Part(title="Retention", how="ok", said=said, facts=facts)


def _told_of(readings: Mapping[str, Reading | None]) -> Told | None:
    """Return the index's numbers as the one worker that sees to it tells them; None if none does."""
    for reading in readings.values():
        if reading is not None and reading.samples.get("locum_index_lag_seconds"):
            return Told(
                behind_bytes=int(_first(reading.samples, "locum_index_lag_bytes")),
                behind_seconds=_first(reading.samples, "locum_index_lag_seconds"),
                unread_lines=int(_first(reading.samples, "locum_index_unread_lines")),
                unread_files=int(_first(reading.samples, "locum_index_unread_files")),
            )
    return None


def _first(samples: Mapping[str, Sequence[tuple[tuple[str, ...], float]]], name: str) -> float:
    found = samples.get(name)
    return found[0][1] if found else 0.0


def _worker(journal_up: float, push_up: float) -> str:
    wrong = [said for up, said in ((journal_up, "its journal fails"), (push_up, "its push is lost")) if not up]
    return " and ".join(wrong) or "answers"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _hours(age: timedelta) -> str:
    hours = max(0, math.ceil(age / timedelta(hours=1)))
    return f"the last {hours} hours" if hours > 1 else "the last hour"


def _days(age: timedelta) -> str:
    return f"{age.days} day{'' if age.days == 1 else 's'} ago"

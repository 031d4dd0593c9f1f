"""One assumption of an account as its administrators read it: who, for whom, why, what was done, and how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.audit.search.timeline import build_timeline
from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry
from gateway.console.account.admission import CONSOLE
from gateway.console.account.log_view import Row, StepRow, describe, describe_step, short, text, time
from policy.model import Assumption, Grant

STEPS_A_PAGE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What there is to say of it; `steps` are those of one page, oldest first."""

    sid: str
    head: Row
    """Who, for whom, why: of the first record that says it."""
    granted_by: str
    began: datetime | None
    until: datetime | None
    """When it ends, or has ended, by itself or because the account's setting did; None if that is not known."""
    end: str
    """How it ended, if it has."""
    allowed: int
    refused: int
    steps: Sequence[StepRow]
    page: int
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the store knows of an assumption; None: nothing (any more)."""

    assumption: Assumption | None = None
    grant: Grant | None = None

    @property
    def until(self) -> datetime | None:
        """When it ends at the latest."""
        ends = [self.assumption.expires_at] if self.assumption else []
        ends += [at for at in (self.grant.expires_at, self.grant.revoked_at) if at] if self.grant else []
        return min(ends, default=None)


def tell(
    entries: Sequence[Entry], sid: str, *, first: Sequence[Entry], kept: Kept, now: datetime, page: int
) -> Story | None:
    """Return what an assumption's records tell, in the order of time; None if there are none.

    `first` are its very first ones, where `entries` do not begin with them.
    """
    timeline = build_timeline(entries, sid)
    if timeline is None:
        return None
    told = [entry for entry in (*first, *(step.entry for step in timeline.steps)) if entry.get("kind") != "completion"]
    head = next((entry for entry in told if actor_of(entry)), told[0])
    expiries = [at for at in (time(entry.get("expires_at")) for entry in told) if at]
    until = kept.until or max(expiries, default=None)
    pages = max(1, -(-len(timeline.steps) // STEPS_A_PAGE))
    page = min(max(1, page), pages)
    steps = timeline.steps[(page - 1) * STEPS_A_PAGE : page * STEPS_A_PAGE]
    return Story(
        sid=short(sid),
        head=describe(_whole(head, told)),
        granted_by=next((text(entry, "granted_by") for entry in told if "granted_by" in entry), ""),
        began=time(told[0].get("at")),
        until=until,
        end=_end(told, until, kept=kept, now=now),
        allowed=timeline.about["allowed"],
        refused=timeline.about["denied"],
        steps=[describe_step(step) for step in steps],
        page=page,
        pages=pages,
    )


def _whole(head: Entry, told: Sequence[Entry]) -> Entry:
    """Return the record with what only others say of the same: none has to say everything."""
    names = ("subject", "ticket", "stated_reason")
    more = {name: next((entry[name] for entry in told if name in entry), None) for name in names if name not in head}
    return {**head, **{name: value for name, value in more.items() if value is not None}}


def _end(told: Sequence[Entry], until: datetime | None, *, kept: Kept, now: datetime) -> str:
    ended = next(
        (one for one in reversed(told) if one.get("kind") == "assumption" and one.get("reason") == "ended"), None
    )
    if ended is not None:
        return _ended_by(ended)
    if kept.assumption is not None and (at := kept.assumption.ended_at) is not None and (until is None or at < until):
        return "Ended"
    if until is None or until > now:
        return ""
    if kept.grant is not None and kept.grant.revoked_at == until:
        return "Ended because account assumption was turned off"
    return "Ended by itself, when its time was over"


def _ended_by(ended: Entry) -> str:
    by, actor = text(ended, "by"), ended.get("actor")
    issuer = text(actor, "issuer") if isinstance(actor, Mapping) else ""
    if by and ended.get("client_id") != CONSOLE:
        if by == issuer:
            return "Ended because the staff member was signed out"
        if by in map(short, actor_of(ended)):
            return "Ended by the staff member"
    return f"Ended by {by}" if by else "Ended"

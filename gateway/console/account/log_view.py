"""Records of an account as its administrators read them: who, for whom, what, and what came of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.audit.formats.text import printable
from gateway.audit.search.account_part import their_part
from gateway.audit.search.timeline import Step
from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry
from gateway.audit.times import read_time
from gateway.refusals import REFUSALS
from policy.model import DenyReason
from policy.provider_administrators import Barred

_SID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
_LONGEST: Final = 300
"""Characters of any one text: more is in the receipt, and nobody reads it on a page."""
_MOST_NAMES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STRANGER: Final = "Not known"
_ERASED: Final = "Erased"
WHY: Final[Mapping[DenyReason, str]] = {
    DenyReason.TOKEN_MISSING: "Came without anything that lets staff in",
    DenyReason.TOKEN_INVALID: "What it came with is not good here",
    DenyReason.TOKEN_EXPIRED: "Its time was over",
    DenyReason.COOKIE_UNKNOWN: "The assumption in that browser was over, or never begun",
    DenyReason.COOKIE_IDLE: "The assumption in that browser was not used for too long",
    DenyReason.PROOF_MISSING: "Came without the proof that it was the one who had begun",
    DenyReason.PROOF_INVALID: "Could not prove that it was the one who had begun",
    DenyReason.PROOF_NONCE: "Its proof was not of now, and had to be made anew",
    DenyReason.WRONG_ACCOUNT: "Was sent to an address that is not your account’s",
    DenyReason.GRANT_OFF: "Account assumption was off",
    DenyReason.GRANT_REVOKED: "Your account had turned it off",
    DenyReason.GRANT_EXPIRED: "The time that your account allowed was over",
    DenyReason.GRANT_STALE: "Your setting could not be checked just then",
    DenyReason.STAFF_DISABLED: "This staff member is locked out",
    DenyReason.STAFF_AUTHENTICATION_WEAK: "Had not signed in strongly enough, or too long ago",
    DenyReason.STAFF_SIGNED_OUT: "Had been signed out by then",
    DenyReason.AGENT_ADMINISTRATOR: "The agent is an administrator, and your account allows agents only",
    DenyReason.ASSUMPTION_UNKNOWN: "The assumption is not known",
    DenyReason.ASSUMPTION_ENDED: "The assumption had ended",
    DenyReason.METHOD_OVERRIDE: "Asked for something else in disguise",
    DenyReason.CROSS_SITE: "Nothing said that a page of your app had sent it",
    DenyReason.NO_ROUTE_RULE: "Is not among what staff can reach",
    DenyReason.NEVER_ALLOWED: "Staff never may do this in a customer’s place",
    DenyReason.INSUFFICIENT_SCOPE: "This assumption was not begun for that",
    DenyReason.PERMISSION_NOT_GRANTED: "Your account does not allow that",
    DenyReason.TICKET_MISSING: "Named no ticket",
    DenyReason.REASON_MISSING: "Gave no reason",
    DenyReason.STORE_UNAVAILABLE: "Your setting could not be checked just then",
    DenyReason.JOURNAL_UNAVAILABLE: "It could not be recorded, so it was not done",
}
"""Why staff were refused, said to the customer, where what staff are told does not fit."""
_ENDED: Final[Mapping[str, str]] = {
    "complete": "",
    "cut": "cut off while it was open",
    "refused": "taken back before anything was sent to the app",
    "client_gone": "broken off by the staff member’s side",
    "upstream_failed": "the app did not answer it to the end",
    "stopped": "broken off, for the gateway was stopped",
    "failed": "broken off by an error of the gateway",
}
_EVENTS: Final[Mapping[tuple[str, str], str]] = {
    ("assumption", "entered"): "Took it over in a browser",
    ("assumption", "ended"): "Ended",
    ("assumption", "expired"): "Ended by itself, when its time was over",
    ("assumption", "grant_over"): "Ended because account assumption was off, or its time over",
    ("audit", "searched"): "Searched this log",
    ("audit", "shown"): "Looked at an assumption in this log",
    ("audit", "counted"): "Counted in this log",
    ("audit", "receipt"): "Asked for a receipt",
    ("audit", "signed_in"): "Signed in to this account’s page",
    ("audit", "signed_out"): "Signed out of this account’s page",
    **{("audit", reason): "Wanted to sign in to this account’s page" for reason in (*Barred, "code_refused")},
}
_SUBJECTS: Final[Mapping[str, str]] = {
    "account": "Account",
    "assumption": "Assumption",
    "audit": "This log",
    "erasure": "Erasure",
    "grant": "Setting",
    "grant_request": "Request to the account",
    "notice": "Notice",
    "token": "Assumption",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record; every text is short, of one line, and holds nothing that could reorder what is around it."""

    at: datetime | None
    who: str
    who_id: str
    """By which the staff member is looked for; empty if it is nobody of the staff."""
    whom: str
    what: str
    refused: bool
    allowed: bool
    why: str
    """Why it was refused, in plain words."""
    ticket: str
    reason: str
    """What staff gave as theirs."""
    sid: str
    """Empty if it names none."""
    request: bool
    """Whether it is a request to the app."""

    @property
    def said(self) -> str:
        """What came of it, in a word."""
        return "Refused" if self.refused else "Allowed" if self.allowed else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One record of a timeline, with how that request ended."""

    row: Row
    status: str
    size: str
    took: str
    ended: str
    """What there is to say of the end, if it was not the usual one."""
    silent: str
    """How long nothing happened before, if that was long."""


def describe(entry: Entry) -> Row:
    """Return a record in words; whatever somebody has written into one, this raises nothing."""
    entry = their_part(entry)
    kind, decision = text(entry, "kind"), entry.get("decision")
    actor = actor_of(entry)
    refused = decision == "deny"
    return Row(
        at=time(entry.get("at")),
        who=_who(entry, actor),
        who_id=short(actor[-1]) if actor else "",
        whom=_or_erased(entry, "subject", "agent"),
        what=_what(entry, kind),
        refused=refused,
        allowed=decision == "allow",
        why=why(entry.get("reason")) if refused else "",
        ticket=_or_erased(entry, "ticket", "words"),
        reason=_or_erased(entry, "stated_reason", "words"),
        sid=sid if isinstance(sid := entry.get("assumption"), str) and is_sid(sid) else "",
        request=kind == "decision",
    )


def describe_step(step: Step) -> StepRow:
    """Return a step of a timeline in words."""
    end = step.completion or {}
    row = describe(step.entry)
    is_open = row.request and row.allowed and step.completion is None
    status = end.get("status") if step.completion else step.entry.get("status")
    return StepRow(
        row=row,
        status=str(status) if isinstance(status, int) else "",
        size=size(end.get("bytes_sent")),
        took=_length(end.get("duration_us")),
        ended="no end of it is on the record yet" if is_open else _how(end),
        silent=_silence(step.silent_seconds),
    )


def is_sid(text: str) -> bool:
    """Tell whether it may be an assumption's id, by which no address, header or file's name could be broken."""
    return _SID.fullmatch(text) is not None


def why(reason: Any) -> str:
    """Return why something was refused, in plain words."""
    try:
        known = DenyReason(reason)
    except ValueError:
        return _spaced(reason) if isinstance(reason, str) else ""
    if known in WHY:
        return WHY[known]
    title = REFUSALS[known].title.partition(":")[0]
    return title[:1].upper() + title[1:]


def text(entry: Mapping[str, Any], name: str) -> str:
    """Return a field as it can be shown; empty if it is not there."""
    value = entry.get(name)
    return "" if value is None else short(str(value))


def short(value: str) -> str:
    """Return a text of one line in which nothing steers or reorders anything, with its end cut off if it is long."""
    shown = printable(value[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def time(value: Any) -> datetime | None:
    """Return when that was, None if it is no time."""
    found = read_time(value) if isinstance(value, str) else None
    return None if found is None else _EPOCH + timedelta(microseconds=found)


def size(count: Any) -> str:
    """Return so many bytes in the unit that people read; empty if it is no number."""
    if not isinstance(count, int) or count < 0:
        return ""
    if count < 1000:
        return f"{count} bytes" if count != 1 else "1 byte"
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if count < factor * 1000:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"


def _who(entry: Entry, actor: list[str]) -> str:
    if actor:
        return short(actor[0])
    for name in ("by", "granted_by"):
        if name in entry:
            return text(entry, name)
    erased = entry.get("erased")
    if isinstance(erased, list) and {"actor", "giver"} & {str(one) for one in erased}:
        return _ERASED
    return text(entry, "client_id") or _STRANGER


def _or_erased(entry: Entry, name: str, group: str) -> str:
    erased = entry.get("erased")
    if name not in entry and isinstance(erased, list) and group in erased:
        return _ERASED
    return text(entry, name)


def _what(entry: Entry, kind: str) -> str:
    if "method" in entry or "path" in entry:
        return " ".join(filter(None, (text(entry, "method"), _target(entry))))
    reason = text(entry, "reason")
    if kind == "decision":
        count = entry.get("count")
        return f"{count} requests of strangers" if isinstance(count, int) else "A request"
    if kind == "token":
        return "Began" if entry.get("decision") == "allow" else "Wanted to begin"
    if (kind, reason) in _EVENTS:
        return _EVENTS[kind, reason]
    subject = _SUBJECTS.get(kind, _spaced(kind))
    said = [_spaced(text(entry, name)).lower() for name in ("reason", "event", "duration", "channel") if name in entry]
    return f"{subject}: {', '.join(said)}" if said else subject


def _target(entry: Entry) -> str:
    values = _texts(entry, "query_values")
    known = {value.partition("=")[0] for value in values}
    fields = [*values, *(name for name in _texts(entry, "query_names") if name not in known)]
    return short(text(entry, "path") + (f"?{'&'.join(fields)}" if fields else ""))


def _texts(entry: Entry, name: str) -> list[str]:
    value = entry.get(name)
    return [str(one) for one in value[:_MOST_NAMES]] if isinstance(value, list) else []


def _how(end: Mapping[str, Any]) -> str:
    said = _ENDED.get(str(end.get("ended")), text(end, "ended")) if end else ""
    because = why(end.get("reason")) if said and "reason" in end else ""
    return f"{said}: {because[:1].lower()}{because[1:]}" if because else said


def _length(micros: Any) -> str:
    if not isinstance(micros, int) or micros < 0:
        return ""
    if micros < 1_000_000:
        return f"{max(1, round(micros / 1000))} ms"
    return f"{micros / 1e6:.1f} s"


def _silence(seconds: int) -> str:
    minutes = seconds // 60
    if not minutes:
        return ""
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"


def _spaced(word: Any) -> str:
    said = short(str(word)).replace("_", " ")
    return said[:1].upper() + said[1:]

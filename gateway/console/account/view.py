"""What the account's page shows, in words for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.pages.words import DURATIONS, PERMISSIONS
from gateway.stores.store import AccountRecord, GrantEvent
from policy.grants import Change, GrantState, expiry, state
from policy.model import Assumption, Duration, Grant, Permission

KEEP: Final = "keep"
"""What is chosen in place of a duration to leave the end where it is."""
_CHANGES: Final[Mapping[Change, str]] = {
    Change.ENABLED: "Turned on",
    Change.EXTENDED: "Extended",
    Change.REDUCED: "Shortened",
    Change.PERMISSIONS_CHANGED: "Changed what staff may do",
    Change.ATTRIBUTES_CHANGED: "Details of the account changed",
    Change.TURNED_OFF: "Turned off",
    Change.CONVERTED: "The trial became a paid account, which is off until somebody turns it on",
    Change.SUSPENDED: "The account was suspended",
    Change.RESUMED: "The account was resumed",
}
_GIVES = frozenset({Change.ENABLED, Change.EXTENDED, Change.REDUCED, Change.PERMISSIONS_CHANGED})
_HARDLY = timedelta(minutes=2)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """Somebody of the vendor's who is in now."""

    assumption: Assumption
    name: str
    until: datetime


def describe_setting(record: AccountRecord, grant: Grant | None, now: datetime) -> dict[str, Any]:
    """Return where the account stands; `grant` is the one in force, the trial's own included."""
    where = state(record.account, record.grant, now)
    live = where in (GrantState.ON, GrantState.TRIAL) and grant is not None
    held = grant.permissions if live and grant is not None else frozenset()
    return {
        "state": str(where),
        "suspended": record.account.suspended,
        "epoch": record.account.epoch,
        "until": grant.expires_at if where is GrantState.ON and grant is not None else None,
        "was_until": record.grant.expires_at if where is GrantState.EXPIRED and record.grant is not None else None,
        "by": grant.given_by if where is GrantState.ON and grant is not None else None,
        "held": [PERMISSIONS[each] for each in PERMISSIONS if each in held],
        "permissions": permissions_of(held),
        "durations": durations_of(grant if where is GrantState.ON else None, now),
    }


def describe_history(events: Sequence[GrantEvent]) -> list[dict[str, Any]]:
    """Return the lines of the account's history, newest first as they come."""
    return [
        {
            "at": event.at,
            "by": event.by,
            "said": _CHANGES.get(event.change, str(event.change)),
            "ends": event.grant is not None and event.change in _GIVES,
            "until": event.grant.expires_at if event.grant is not None else None,
            "held": [PERMISSIONS[each][0] for each in PERMISSIONS if event.grant and each in event.grant.permissions],
        }
        for event in events
    ]


def permissions_of(
    checked: frozenset[Permission], *, asked: frozenset[Permission] = frozenset()
) -> list[dict[str, Any]]:
    """Return the choices there are beside looking: which are `checked` at first, and which were `asked` for."""
    return [
        {"value": str(each), "label": label, "means": means, "checked": each in checked, "asked": each in asked}
        for each, (label, means) in PERMISSIONS.items()
        if each is not Permission.READ
    ]


def durations_of(
    current: Grant | None, now: datetime, *, wished: Duration = Duration.DAY, longer: bool = False
) -> list[dict[str, Any]]:
    """Return the choices there are; what is on can be left to end when it would.

    Chosen at first is what is `wished`; while a grant is on only if `longer` time is what it is about, and it is that.
    """
    choices: list[dict[str, Any]] = []
    extends = current is not None and longer and (expiry(wished, now) or _FOR_EVER) > (current.expires_at or _FOR_EVER)
    if current is not None:
        kept = {"value": KEEP, "label": "As it is", "until": current.expires_at, "effect": "", "checked": not extends}
        choices.append(kept)
    for duration, label in DURATIONS.items():
        until = expiry(duration, now)
        choices.append(
            {
                "value": str(duration),
                "label": label,
                "until": until,
                "effect": _effect(current, until),
                "checked": (current is None or extends) and duration is wished,
            }
        )
    return choices


def _effect(current: Grant | None, until: datetime | None) -> str:
    if current is None:
        return ""
    was, will = current.expires_at or _FOR_EVER, until or _FOR_EVER
    if abs(will - was) < _HARDLY:
        return ""
    return "longer than now" if will > was else "shorter than now"

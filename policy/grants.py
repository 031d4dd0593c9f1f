"""The grant's life: who may change it, what each choice does to it, and when it ends.

The states and the choices are a table; what is not in the table cannot happen. Expiry is no event but a fact
about `now`.
"""

import calendar
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique

from policy.model import Account, AccountType, Assumption, Duration, Grant, GrantId, Pairs, Permission, Roles
from policy.setting import Setting

_TRIAL = "trial"
# An end that moves by less is left where it was: the shorter time is the safe one.
_SLIP = timedelta(minutes=1)


@unique
class GrantState(StrEnum):
    """Where an account stands at one moment."""

    TRIAL = "trial"
    OFF = "off"
    ON = "on"
    EXPIRED = "expired"


@unique
class Choice(StrEnum):
    """What can be asked of a grant."""

    ENABLE = "enable"
    TURN_OFF = "turn_off"
    CONVERT = "convert"


@unique
class Change(StrEnum):
    """What a choice did."""

    ENABLED = "enabled"
    EXTENDED = "extended"
    REDUCED = "reduced"
    PERMISSIONS_CHANGED = "permissions_changed"
    ATTRIBUTES_CHANGED = "attributes_changed"
    TURNED_OFF = "turned_off"
    CONVERTED = "converted"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    UNCHANGED = "unchanged"


@unique
class GrantRefusal(StrEnum):
    """Why a choice was refused."""

    NOT_ADMINISTRATOR = "not_administrator"
    TRIAL_ACCOUNT = "trial_account"
    NOT_A_TRIAL = "not_a_trial"
    ACTING_STAFF = "acting_staff"
    UNKNOWN_DURATION = "unknown_duration"
    UNKNOWN_PERMISSION = "unknown_permission"
    OVERTAKEN = "overtaken"
    """What it was made of is not so any more."""
    ACCOUNT_SUSPENDED = "account_suspended"
    """Of an approval: nothing is given while nobody could use it."""
    WOULD_SHORTEN = "would_shorten"
    """Of an approval: the grant would end earlier than it does, and nobody has said that it shall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """Who makes the choice: a person of the customer, with a role in each product."""

    id: str
    roles: Roles
    is_acting_staff: bool = False
    """The person is a staff member standing in; they can never open, extend or approve anything."""

    def may_change(self, accepted: frozenset[str]) -> bool:
        """Tell whether a role in *any* product is one of the accepted ones."""
        return any(role in accepted for role in self.roles.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantChange:
    """The account and grant as they are to be stored together, in one transaction."""

    change: Change
    account: Account
    grant: Grant | None
    """The newest grant, ended or not; None where the account never had one."""


def state(account: Account, grant: Grant | None, now: datetime) -> GrantState:
    """Return where the account stands; a stored grant of a trial account has no meaning."""
    if account.type is AccountType.TRIAL:
        return GrantState.TRIAL
    if grant is None or grant.revoked_at is not None:
        return GrantState.OFF
    return GrantState.EXPIRED if grant.is_expired(now) else GrantState.ON


def grant_in_force(account: Account, stored: Grant | None, trial: frozenset[Permission]) -> Grant | None:
    """Return the grant that decides: for a trial account the implicit one, for a paid one the stored one.

    The implicit grant has an id of its own, so that nothing issued under it outlives the conversion; a trial that comes
    after one has the id that was stored for it.
    """
    if account.type is not AccountType.TRIAL:
        return stored
    again = stored is not None and stored.given_by == _TRIAL
    return Grant(
        id=stored.id if stored is not None and again else GrantId(f"trial_{account.id}"),
        account=account.id,
        epoch=account.epoch,
        duration=Duration.ALWAYS,
        permissions=trial,
        not_before=datetime.min.replace(tzinfo=UTC),
        expires_at=None,
        given_by=_TRIAL,
    )


def end_of(assumption: Assumption, grant: Grant) -> datetime:
    """Return when an assumption ends by itself under a grant."""
    return min(assumption.expires_at, _end(grant))


def choose(
    account: Account,
    current: Grant | None,
    *,
    duration: Duration,
    permissions: frozenset[Permission],
    administrator: Administrator,
    accepted_roles: frozenset[str],
    new_id: GrantId,
    now: datetime,
    keeps_end: bool = False,
) -> GrantChange | GrantRefusal:
    """Return the change that an administrator's choice of a duration makes, or why it is refused.

    The end counts from `now`. While a grant is on, choosing again extends or reduces it under its id; after it
    was off or had expired, enabling makes a new grant, so that no older token comes to life again. With `keeps_end`
    the grant, which must be on, ends when it would have, whatever `duration` says.
    """
    if administrator.is_acting_staff:
        return GrantRefusal.ACTING_STAFF
    if not administrator.may_change(accepted_roles):
        return GrantRefusal.NOT_ADMINISTRATOR
    choice = Choice.TURN_OFF if duration is Duration.OFF else Choice.ENABLE
    step = _TABLE[state(account, current, now), choice]
    if isinstance(step, GrantRefusal):
        return step
    kept = current if keeps_end and state(account, current, now) is GrantState.ON else None
    if keeps_end and kept is None:
        return GrantRefusal.OVERTAKEN
    after = replace(account, epoch=account.epoch + 1)
    wanted = Grant(
        id=new_id,
        account=account.id,
        epoch=after.epoch,
        duration=kept.duration if kept else duration,
        permissions=permissions | {Permission.READ},
        not_before=now,
        expires_at=kept.expires_at if kept else expiry(duration, now),
        given_by=administrator.id,
    )
    change, grant = step(current, wanted, now)
    return GrantChange(change=change, account=account if change is Change.UNCHANGED else after, grant=grant)


def convert(account: Account, current: Grant | None, *, now: datetime) -> GrantChange | GrantRefusal:
    """Return the change that a trial's conversion to a paid account makes: off, until the customer chooses."""
    step = _TABLE[state(account, current, now), Choice.CONVERT]
    if isinstance(step, GrantRefusal):
        return step
    after = replace(account, type=AccountType.PAID, epoch=account.epoch + 1)
    return GrantChange(change=Change.CONVERTED, account=after, grant=None)


def withdraw(account: Account, current: Grant | None, *, now: datetime) -> GrantChange | GrantRefusal | None:
    """Return the change by which the vendor's operator takes a grant away; None if none is on.

    Nobody but the customer ever gives one, so it stays off until they choose again.
    """
    where = state(account, current, now)
    if where is GrantState.TRIAL:
        return GrantRefusal.TRIAL_ACCOUNT
    if where is not GrantState.ON or current is None:
        return None
    after = replace(account, epoch=account.epoch + 1)
    revoked = replace(current, epoch=after.epoch, revoked_at=now)
    return GrantChange(change=Change.TURNED_OFF, account=after, grant=revoked)


def adopt(
    account: Account, current: Grant | None, said: Setting, *, by: str, new_id: GrantId, now: datetime
) -> GrantChange | None:
    """Return the next change towards what the app says, or None if there is nothing to change.

    Ask again after each: what takes power away comes before what gives some, so nobody ever sees more than one of
    the two. As with a choice of ours, whatever is given after it was off goes under a new id.
    """
    after = replace(account, epoch=account.epoch + 1)
    if said.suspended and (change := suspend(account, current, suspended=True)) is not None:
        return change
    step = _follow(account, current, said, by=by, new_id=new_id, now=now)
    if step is not None:
        # In one step with the attributes: nobody may ever see one as it is now with the other as it was.
        described = replace(after, type=said.type, attributes=said.attributes)
        return GrantChange(change=step[0], account=described, grant=step[1])
    if (change := describe(account, current, said.attributes)) is not None:
        return change
    return suspend(account, current, suspended=said.suspended)


def describe(account: Account, current: Grant | None, attributes: Pairs) -> GrantChange | None:
    """Return the change that gives an account these attributes and no others, or None if it has them."""
    if account.attributes == attributes:
        return None
    after = replace(account, attributes=attributes, epoch=account.epoch + 1)
    return GrantChange(change=Change.ATTRIBUTES_CHANGED, account=after, grant=current)


def suspend(account: Account, current: Grant | None, *, suspended: bool) -> GrantChange | None:
    """Return the change that suspends an account or resumes it, or None if it is so already.

    Its grant stays as it is, and counts again when the account is resumed.
    """
    if account.suspended == suspended:
        return None
    after = replace(account, suspended=suspended, epoch=account.epoch + 1)
    return GrantChange(change=Change.SUSPENDED if suspended else Change.RESUMED, account=after, grant=current)


def _follow(
    account: Account, current: Grant | None, said: Setting, *, by: str, new_id: GrantId, now: datetime
) -> tuple[Change, Grant | None] | None:
    """Return what changes of the grant; a conversion first leaves the account without one."""
    was_trial, trial = account.type is AccountType.TRIAL, said.type is AccountType.TRIAL
    if was_trial:
        return None if trial else (Change.CONVERTED, None)
    wanted = Grant(
        id=new_id,
        account=account.id,
        epoch=account.epoch + 1,
        duration=said.duration,
        permissions=said.permissions,
        not_before=now,
        expires_at=said.expires_at,
        given_by=_TRIAL if trial else by,
    )
    if trial:
        return Change.ENABLED, wanted
    is_on = state(account, current, now) is GrantState.ON
    if not said.is_on(now):
        return _turn_off(current, wanted, now) if is_on else None
    if not is_on:
        return Change.ENABLED, wanted
    change, grant = _again(current, wanted, now)
    if change is Change.UNCHANGED or (change is Change.EXTENDED and _is_slip(current, wanted)):
        return None
    return change, grant


def _is_slip(current: Grant | None, wanted: Grant) -> bool:
    """Tell whether all that is new is a little more time, as from an app that counts the end anew for each answer."""
    if current is None or current.permissions != wanted.permissions:
        return False
    return current.expires_at is not None and _end(wanted) - current.expires_at < _SLIP


def expiry(duration: Duration, start: datetime) -> datetime | None:
    """Return when a grant of this duration ends, or None for one without an end.

    A month and a year are calendar ones in UTC, clipped to the month's last day: 31 January + 1 month is
    28 or 29 February.
    """
    start = start.astimezone(UTC)
    match duration:
        case Duration.DAY:
            return start + timedelta(days=1)
        case Duration.WEEK:
            return start + timedelta(weeks=1)
        case Duration.MONTH:
            return _months_later(start, 1)
        case Duration.YEAR:
            return _months_later(start, 12)
        case Duration.OFF:
            return start
        case Duration.ALWAYS:
            return None


def _months_later(start: datetime, months: int) -> datetime:
    years, month = divmod(start.month - 1 + months, 12)
    year = start.year + years
    last = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last))


_Step = Callable[[Grant | None, Grant, datetime], tuple[Change, Grant | None]]


def _enable(_current: Grant | None, wanted: Grant, _now: datetime) -> tuple[Change, Grant | None]:
    return Change.ENABLED, wanted


def _again(current: Grant | None, wanted: Grant, _now: datetime) -> tuple[Change, Grant | None]:
    assert current is not None  # noqa: S101 - the state ON is only ever read off a grant
    grant = replace(wanted, id=current.id, not_before=current.not_before)
    if _end(grant) == _end(current):
        same = grant.permissions == current.permissions
        return (Change.UNCHANGED, current) if same else (Change.PERMISSIONS_CHANGED, grant)
    return (Change.EXTENDED if _end(grant) > _end(current) else Change.REDUCED), grant


def _turn_off(current: Grant | None, wanted: Grant, now: datetime) -> tuple[Change, Grant | None]:
    assert current is not None  # noqa: S101 - the state ON is only ever read off a grant
    return Change.TURNED_OFF, replace(current, epoch=wanted.epoch, revoked_at=now)


def _leave(current: Grant | None, _wanted: Grant, _now: datetime) -> tuple[Change, Grant | None]:
    return Change.UNCHANGED, current


def _convert(_current: Grant | None, _wanted: Grant, _now: datetime) -> tuple[Change, Grant | None]:
    return Change.CONVERTED, None


def _end(grant: Grant) -> datetime:
    return grant.expires_at or datetime.max.replace(tzinfo=UTC)


_TABLE: dict[tuple[GrantState, Choice], _Step | GrantRefusal] = {
    (GrantState.TRIAL, Choice.ENABLE): GrantRefusal.TRIAL_ACCOUNT,
    (GrantState.TRIAL, Choice.TURN_OFF): GrantRefusal.TRIAL_ACCOUNT,
    (GrantState.TRIAL, Choice.CONVERT): _convert,
    (GrantState.OFF, Choice.ENABLE): _enable,
    (GrantState.OFF, Choice.TURN_OFF): _leave,
    (GrantState.OFF, Choice.CONVERT): GrantRefusal.NOT_A_TRIAL,
    (GrantState.ON, Choice.ENABLE): _again,
    (GrantState.ON, Choice.TURN_OFF): _turn_off,
    (GrantState.ON, Choice.CONVERT): GrantRefusal.NOT_A_TRIAL,
    (GrantState.EXPIRED, Choice.ENABLE): _enable,
    (GrantState.EXPIRED, Choice.TURN_OFF): _leave,
    (GrantState.EXPIRED, Choice.CONVERT): GrantRefusal.NOT_A_TRIAL,
}

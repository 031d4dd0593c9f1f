"""The grant's life: every state with every choice, every boundary to the microsecond."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest

from policy.grants import (
    Administrator,
    Change,
    Choice,
    GrantChange,
    GrantRefusal,
    GrantState,
    choose,
    convert,
    expiry,
    grant_in_force,
    state,
)
from policy.model import Account, AccountId, AccountType, Duration, Grant, GrantId, Permission

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
TICK = timedelta(microseconds=1)
READ = frozenset({Permission.READ})
TESTING = READ | {Permission.TEST_TICKETS}
PAID = Account(id=AccountId("acme"), type=AccountType.PAID, epoch=7)
TRIAL = replace(PAID, type=AccountType.TRIAL)
ADMINISTRATOR = Administrator(id="admin-7", roles={"support": "admin"})
GRANT = Grant(
    id=GrantId("g-old"),
    account=PAID.id,
    epoch=7,
    duration=Duration.WEEK,
    permissions=TESTING,
    not_before=NOW - timedelta(days=3),
    expires_at=NOW + timedelta(days=4),
    given_by="admin-1",
)
REVOKED = replace(GRANT, revoked_at=NOW - TICK)
EXPIRED = replace(GRANT, expires_at=NOW)
STANDING = {
    GrantState.TRIAL: (TRIAL, None),
    GrantState.OFF: (PAID, REVOKED),
    GrantState.ON: (PAID, GRANT),
    GrantState.EXPIRED: (PAID, EXPIRED),
}


def ask(
    account: Account = PAID,
    current: Grant | None = GRANT,
    *,
    duration: Duration = Duration.DAY,
    permissions: frozenset[Permission] = TESTING,
    administrator: Administrator = ADMINISTRATOR,
    now: datetime = NOW,
) -> GrantChange | GrantRefusal:
    return choose(
        account,
        current,
        duration=duration,
        permissions=permissions,
        administrator=administrator,
        accepted_roles=frozenset({"admin", "owner"}),
        new_id=GrantId("g-new"),
        now=now,
    )


def changed(outcome: GrantChange | GrantRefusal) -> GrantChange:
    assert isinstance(outcome, GrantChange), outcome
    return outcome


# The table.

OUTCOMES = {
    (GrantState.TRIAL, Choice.ENABLE): GrantRefusal.TRIAL_ACCOUNT,
    (GrantState.TRIAL, Choice.TURN_OFF): GrantRefusal.TRIAL_ACCOUNT,
    (GrantState.TRIAL, Choice.CONVERT): Change.CONVERTED,
    (GrantState.OFF, Choice.ENABLE): Change.ENABLED,
    (GrantState.OFF, Choice.TURN_OFF): Change.UNCHANGED,
    (GrantState.OFF, Choice.CONVERT): GrantRefusal.NOT_A_TRIAL,
    (GrantState.ON, Choice.ENABLE): Change.REDUCED,
    (GrantState.ON, Choice.TURN_OFF): Change.TURNED_OFF,
    (GrantState.ON, Choice.CONVERT): GrantRefusal.NOT_A_TRIAL,
    (GrantState.EXPIRED, Choice.ENABLE): Change.ENABLED,
    (GrantState.EXPIRED, Choice.TURN_OFF): Change.UNCHANGED,
    (GrantState.EXPIRED, Choice.CONVERT): GrantRefusal.NOT_A_TRIAL,
}


def test_every_state_is_tried_with_every_choice():
    """The cases below leave no pair out."""
    assert set(product(GrantState, Choice)) == set(OUTCOMES)


@pytest.mark.parametrize(("standing", "choice"), OUTCOMES)
def test_each_choice_in_each_state_does_what_the_table_says(standing: GrantState, choice: Choice):
    """Each pair has one outcome, a change or a named refusal; a change raises the epoch by one, no change by none."""
    account, current = STANDING[standing]
    assert standing is state(account, current, NOW)
    match choice:
        case Choice.ENABLE:
            outcome = ask(account, current, duration=Duration.DAY)
        case Choice.TURN_OFF:
            outcome = ask(account, current, duration=Duration.OFF)
        case Choice.CONVERT:
            outcome = convert(account, current, now=NOW)
    if isinstance(outcome, GrantRefusal):
        assert OUTCOMES[standing, choice] is outcome
        return
    assert OUTCOMES[standing, choice] is outcome.change
    if outcome.change is Change.UNCHANGED:
        assert GrantChange(change=Change.UNCHANGED, account=account, grant=current) == outcome
        return
    assert account.epoch + 1 == outcome.account.epoch
    assert outcome.grant is None or outcome.grant.epoch == outcome.account.epoch


def test_an_account_that_never_chose_is_off():
    """No record means no: off by default, and turning it off changes nothing."""
    assert GrantState.OFF is state(PAID, None, NOW)
    assert Change.UNCHANGED is changed(ask(PAID, None, duration=Duration.OFF)).change


# Enabling.


@pytest.mark.parametrize(
    ("duration", "lasts"),
    [
        (Duration.DAY, timedelta(days=1)),
        (Duration.WEEK, timedelta(days=7)),
        (Duration.MONTH, timedelta(days=31)),
        (Duration.YEAR, timedelta(days=365)),
        (Duration.ALWAYS, None),
    ],
)
@pytest.mark.parametrize("current", [None, REVOKED, EXPIRED], ids=["never", "off", "expired"])
def test_enabling_makes_a_new_grant_from_now(current: Grant | None, duration: Duration, lasts: timedelta | None):
    """The new grant has its own id, begins now, ends after the duration, and says who gave it."""
    expected = Grant(
        id=GrantId("g-new"),
        account=PAID.id,
        epoch=PAID.epoch + 1,
        duration=duration,
        permissions=TESTING,
        not_before=NOW,
        expires_at=None if lasts is None else NOW + lasts,
        given_by="admin-7",
    )
    assert expected == changed(ask(PAID, current, duration=duration)).grant


@pytest.mark.parametrize("permissions", [frozenset(), READ, TESTING, frozenset({Permission.WRITE})])
def test_what_is_granted_is_what_was_asked_and_reading(permissions: frozenset[Permission]):
    """Reading comes with every grant; nothing else does, and nothing is left over from the grant before."""
    assert permissions | READ == changed(ask(PAID, REVOKED, permissions=permissions)).grant.permissions
    assert permissions | READ == changed(ask(PAID, GRANT, permissions=permissions)).grant.permissions


# Choosing again while it is on.


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (Duration.DAY, Change.REDUCED),
        (Duration.WEEK, Change.EXTENDED),
        (Duration.MONTH, Change.EXTENDED),
        (Duration.YEAR, Change.EXTENDED),
        (Duration.ALWAYS, Change.EXTENDED),
    ],
)
def test_choosing_again_counts_from_now_under_the_same_grant(duration: Duration, expected: Change):
    """The end is the new duration from now, the id and the beginning stay, the administrator is the new one."""
    change = changed(ask(duration=duration))
    assert expected is change.change
    again = replace(GRANT, epoch=8, duration=duration, expires_at=expiry(duration, NOW), given_by="admin-7")
    assert again == change.grant


@pytest.mark.parametrize("duration", [Duration.DAY, Duration.WEEK, Duration.MONTH, Duration.YEAR])
def test_a_grant_without_end_can_be_given_one(duration: Duration):
    """Every duration reduces "always"."""
    always = replace(GRANT, duration=Duration.ALWAYS, expires_at=None)
    change = changed(ask(PAID, always, duration=duration))
    assert Change.REDUCED is change.change
    assert expiry(duration, NOW) == change.grant.expires_at


@pytest.mark.parametrize(
    ("moved", "expected"), [(-TICK, Change.EXTENDED), (timedelta(0), Change.UNCHANGED), (TICK, Change.REDUCED)]
)
def test_a_microsecond_tells_extending_from_reducing(moved: timedelta, expected: Change):
    """The ends are compared exactly."""
    current = replace(GRANT, duration=Duration.DAY, expires_at=NOW + timedelta(days=1) + moved)
    change = changed(ask(PAID, current, duration=Duration.DAY))
    assert expected is change.change
    assert NOW + timedelta(days=1) == change.grant.expires_at


@pytest.mark.parametrize("permissions", [READ, TESTING | {Permission.WRITE}], ids=["fewer", "more"])
def test_other_permissions_with_the_same_end_are_a_change_of_their_own(permissions: frozenset[Permission]):
    """Permissions can be taken and given without touching the end."""
    always = replace(GRANT, duration=Duration.ALWAYS, expires_at=None)
    change = changed(ask(PAID, always, duration=Duration.ALWAYS, permissions=permissions))
    assert Change.PERMISSIONS_CHANGED is change.change
    assert replace(always, epoch=8, permissions=permissions, given_by="admin-7") == change.grant


def test_the_same_choice_again_changes_nothing():
    """Neither epoch nor grant moves, so nobody is cut off by a repeated click."""
    always = replace(GRANT, duration=Duration.ALWAYS, expires_at=None)
    unchanged = GrantChange(change=Change.UNCHANGED, account=PAID, grant=always)
    assert unchanged == ask(PAID, always, duration=Duration.ALWAYS)


# Ending.


@pytest.mark.parametrize("permissions", [frozenset(), frozenset(Permission)])
def test_turning_off_revokes_at_once_and_gives_nothing(permissions: frozenset[Permission]):
    """The grant keeps its story and is revoked now; permissions sent along are ignored."""
    change = changed(ask(duration=Duration.OFF, permissions=permissions))
    assert replace(GRANT, epoch=8, revoked_at=NOW) == change.grant
    assert not change.grant.is_live(NOW)
    assert GrantState.OFF is state(change.account, change.grant, NOW)


@pytest.mark.parametrize(("moment", "live"), [(-TICK, False), (timedelta(0), True), (TICK, True)])
def test_a_grant_is_live_from_its_first_microsecond(moment: timedelta, live: bool):
    """`not_before` itself is in; the microsecond before is not."""
    assert live is GRANT.is_live(GRANT.not_before + moment)


@pytest.mark.parametrize(
    ("moment", "live", "standing"),
    [
        (-TICK, True, GrantState.ON),
        (timedelta(0), False, GrantState.EXPIRED),
        (TICK, False, GrantState.EXPIRED),
    ],
)
def test_a_grant_is_over_at_its_last_microsecond(moment: timedelta, live: bool, standing: GrantState):
    """`expires_at` itself is out; the microsecond before is in."""
    now = GRANT.expires_at + moment
    assert live is GRANT.is_live(now)
    assert standing is state(PAID, GRANT, now)
    assert (GrantId("g-old") if live else GrantId("g-new")) == changed(ask(now=now)).grant.id


def test_a_revoked_grant_is_off_before_and_after_its_end():
    """Off is off: the clock turns it neither into expired nor back into on."""
    for now in (REVOKED.not_before, NOW, REVOKED.expires_at - TICK, REVOKED.expires_at + TICK):
        assert not REVOKED.is_live(now)
        assert GrantState.OFF is state(PAID, REVOKED, now)


def test_a_grant_without_end_stays_live_until_it_is_switched_off():
    """ "Always" has no last microsecond."""
    always = replace(GRANT, duration=Duration.ALWAYS, expires_at=None)
    end_of_time = datetime.max.replace(tzinfo=UTC)
    assert always.is_live(end_of_time)
    assert not changed(ask(PAID, always, duration=Duration.OFF, now=end_of_time)).grant.is_live(end_of_time)


# Calendar months and years.


@pytest.mark.parametrize(
    ("duration", "start", "end"),
    [
        (Duration.MONTH, "2026-01-31T23:59:59.999999+00:00", "2026-02-28T23:59:59.999999+00:00"),
        (Duration.MONTH, "2028-01-31T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        (Duration.MONTH, "2028-01-30T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        (Duration.MONTH, "2028-01-28T00:00:00+00:00", "2028-02-28T00:00:00+00:00"),
        (Duration.MONTH, "2100-01-29T00:00:00+00:00", "2100-02-28T00:00:00+00:00"),
        (Duration.MONTH, "2000-01-31T00:00:00+00:00", "2000-02-29T00:00:00+00:00"),
        (Duration.MONTH, "2026-02-28T00:00:00+00:00", "2026-03-28T00:00:00+00:00"),
        (Duration.MONTH, "2026-03-31T00:00:00+00:00", "2026-04-30T00:00:00+00:00"),
        (Duration.MONTH, "2026-11-30T00:00:00+00:00", "2026-12-30T00:00:00+00:00"),
        (Duration.MONTH, "2026-12-31T00:00:00+00:00", "2027-01-31T00:00:00+00:00"),
        (Duration.YEAR, "2028-02-29T12:00:00+00:00", "2029-02-28T12:00:00+00:00"),
        (Duration.YEAR, "2027-02-28T12:00:00+00:00", "2028-02-28T12:00:00+00:00"),
        (Duration.YEAR, "2026-12-31T00:00:00+00:00", "2027-12-31T00:00:00+00:00"),
        (Duration.DAY, "2028-02-28T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        (Duration.WEEK, "2026-12-28T00:00:00+00:00", "2027-01-04T00:00:00+00:00"),
        # In UTC, whatever the zone of the clock: here it is already February, there already April.
        (Duration.MONTH, "2026-01-31T23:30:00-05:00", "2026-03-01T04:30:00+00:00"),
        (Duration.MONTH, "2026-03-01T00:30:00+09:00", "2026-03-28T15:30:00+00:00"),
        # A day is 24 hours, also when clocks in Berlin go forward.
        (Duration.DAY, "2026-03-28T12:00:00+01:00", "2026-03-29T11:00:00+00:00"),
    ],
)
def test_durations_end_on_the_calendar_in_utc(duration: Duration, start: str, end: str):
    """A month and a year keep the day, clipped to the month's last; a day and a week are hours."""
    ends = expiry(duration, datetime.fromisoformat(start))
    assert datetime.fromisoformat(end) == ends
    assert UTC is ends.tzinfo


def test_always_never_ends_and_off_has_no_length():
    """The two durations that are none."""
    assert None is expiry(Duration.ALWAYS, NOW)
    assert NOW == expiry(Duration.OFF, NOW.astimezone(timezone(timedelta(hours=5))))


# Trials.


def test_a_trial_is_always_assumable_whatever_is_stored():
    """The implicit grant decides, with the vendor's permissions, from ever until the conversion."""
    for stored in (None, REVOKED, EXPIRED, GRANT):
        grant = grant_in_force(TRIAL, stored, TESTING)
        assert grant.is_live(NOW)
        assert grant.is_live(datetime.max.replace(tzinfo=UTC))
        assert (TESTING, TRIAL.epoch, TRIAL.id) == (grant.permissions, grant.epoch, grant.account)
        assert GrantState.TRIAL is state(TRIAL, stored, NOW)


def test_a_paid_account_has_the_grant_that_is_stored_and_no_other():
    """The trial's permissions mean nothing to it."""
    assert None is grant_in_force(PAID, None, frozenset(Permission))
    assert GRANT is grant_in_force(PAID, GRANT, frozenset(Permission))


@pytest.mark.parametrize("stored", [None, GRANT, REVOKED])
def test_a_conversion_switches_off_until_the_customer_chooses(stored: Grant | None):
    """After it nothing is in force, even if a live grant was stored beside the trial; what comes next is new."""
    trial_grant = grant_in_force(TRIAL, stored, READ)
    converted = changed(convert(TRIAL, stored, now=NOW))
    assert replace(PAID, epoch=8) == converted.account
    assert None is grant_in_force(converted.account, converted.grant, READ)
    assert GrantState.OFF is state(converted.account, converted.grant, NOW)
    chosen = changed(ask(converted.account, converted.grant))
    assert Change.ENABLED is chosen.change
    assert chosen.grant.id != trial_grant.id
    assert trial_grant.epoch < converted.account.epoch < chosen.grant.epoch


# Who may choose.

EVERY_DURATION = pytest.mark.parametrize("duration", Duration)


@EVERY_DURATION
@pytest.mark.parametrize(
    "roles",
    [
        {"support": "agent", "explore": "admin"},
        {"guide": "owner"},
        {"support": "light_agent", "chat": "agent", "talk": "admin"},
    ],
)
def test_an_administrator_of_any_product_may_choose(roles: dict[str, str], duration: Duration):
    """One accepted role in one product suffices, whatever the others are."""
    administrator = Administrator(id="a", roles=roles)
    assert isinstance(ask(administrator=administrator, duration=duration), GrantChange)


@EVERY_DURATION
@pytest.mark.parametrize(
    "roles",
    [{}, {"support": "agent"}, {"admin": "agent"}, {"support": "Admin"}, {"support": "admin "}, {"support": ""}],
)
def test_nobody_else_may_choose_not_even_off(roles: dict[str, str], duration: Duration):
    """A role must be an accepted one letter for letter; a product's name is no role."""
    administrator = Administrator(id="a", roles=roles)
    assert GrantRefusal.NOT_ADMINISTRATOR is ask(administrator=administrator, duration=duration)


@EVERY_DURATION
@pytest.mark.parametrize("standing", GrantState)
def test_staff_who_stand_in_may_choose_nothing(standing: GrantState, duration: Duration):
    """Standing in for an administrator gives no say over the grant one stands on, in no state and for no duration."""
    account, current = STANDING[standing]
    acting = replace(ADMINISTRATOR, is_acting_staff=True)
    assert GrantRefusal.ACTING_STAFF is ask(account, current, administrator=acting, duration=duration)


def test_no_accepted_role_means_nobody():
    """An empty list of accepted roles admits no one."""
    assert not ADMINISTRATOR.may_change(frozenset())

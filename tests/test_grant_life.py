"""Lives of one account's grant, played at random over a store and checked against a model of three facts."""

import asyncio
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Store, StoreConflict
from policy.grants import (
    Administrator,
    Change,
    GrantChange,
    GrantRefusal,
    choose,
    convert,
    expiry,
    grant_in_force,
)
from policy.model import Account, AccountId, AccountType, Duration, Grant, GrantId, Permission
from tests.memory_store import MemoryStore

START = datetime(2027, 12, 30, tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)
TICK = timedelta(microseconds=1)
ACME = AccountId("acme")
TRIAL_PERMISSIONS = frozenset({Permission.READ})
EVERYTHING = frozenset(Permission)
ROLES = frozenset({"admin"})
ADMINISTRATOR = Administrator(id="admin-7", roles={"guide": "agent", "explore": "admin"})
OTHERS = [
    Administrator(id="agent", roles={"support": "agent"}),
    Administrator(id="staff", roles={"support": "admin"}, is_acting_staff=True),
]

permission_sets = st.frozensets(st.sampled_from(Permission))


class GrantLife(RuleBasedStateMachine):
    """The model: is it a trial, until when did the customer last say yes, to what."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store: Store = self.runner.run(self.open_store())
        self.now = START
        self.trial = False
        self.open_until = START
        self.allowed = frozenset[Permission]()
        self.ids = 0
        self.epochs: list[int] = []
        self.in_force: Grant | None = None
        self.ended: set[GrantId] = set()
        self.stale: tuple[Account, Grant | None] | None = None

    async def open_store(self) -> Store:
        return MemoryStore()

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    @initialize(kind=st.sampled_from(AccountType))
    def begin(self, kind: AccountType) -> None:
        self.trial = kind is AccountType.TRIAL
        self.runner.run(self.store.add_account(Account(id=ACME, type=kind)))

    @rule(duration=st.sampled_from(Duration), permissions=permission_sets)
    def the_customer_chooses(self, duration: Duration, permissions: frozenset[Permission]) -> None:
        outcome = self.choose(*self.read(), duration, permissions, ADMINISTRATOR)
        if self.trial:
            assert GrantRefusal.TRIAL_ACCOUNT is outcome
            return
        if duration is not Duration.OFF:
            self.open_until = expiry(duration, self.now) or FOREVER
            self.allowed = permissions | {Permission.READ}
        elif self.open_until > self.now:
            self.open_until = self.now
        self.save(outcome)

    @rule(duration=st.sampled_from(Duration), person=st.sampled_from(OTHERS))
    def somebody_else_chooses(self, duration: Duration, person: Administrator) -> None:
        outcome = self.choose(*self.read(), duration, EVERYTHING, person)
        assert outcome in (GrantRefusal.NOT_ADMINISTRATOR, GrantRefusal.ACTING_STAFF)

    @rule()
    def the_account_is_converted(self) -> None:
        outcome = convert(*self.read(), now=self.now)
        if not self.trial:
            assert GrantRefusal.NOT_A_TRIAL is outcome
            return
        self.trial, self.open_until = False, self.now
        self.save(outcome)

    @rule(hours=st.integers(min_value=0, max_value=24 * 40), rest=st.sampled_from([timedelta(0), TICK]))
    def time_passes(self, hours: int, rest: timedelta) -> None:
        self.now += timedelta(hours=hours) + rest

    @precondition(lambda self: self.now + TICK < self.open_until < FOREVER)
    @rule(short_by=st.sampled_from([timedelta(0), TICK]))
    def time_passes_up_to_the_end(self, short_by: timedelta) -> None:
        self.now = self.open_until - short_by

    @rule()
    def somebody_reads_and_thinks_it_over(self) -> None:
        self.stale = self.read()

    @precondition(lambda self: self.stale is not None and self.stale[0].epoch < self.epochs[-1])
    @rule(duration=st.sampled_from(Duration))
    def somebody_decides_on_what_was_read_then(self, duration: Duration) -> None:
        outcome = self.choose(*self.stale, duration, EVERYTHING, ADMINISTRATOR)
        if isinstance(outcome, GrantChange) and outcome.change is not Change.UNCHANGED:
            with pytest.raises(StoreConflict):
                self.runner.run(self.store.save_change(outcome, by="late", at=self.now))

    @invariant()
    def staff_are_let_in_exactly_while_the_customer_says_so(self) -> None:
        """Trial: always. Else: until the end last chosen, never past it, with no more than was allowed."""
        account, stored = self.read()
        assert self.trial is (account.type is AccountType.TRIAL)
        grant = grant_in_force(account, stored, TRIAL_PERMISSIONS)
        live = grant is not None and grant.is_live(self.now)
        assert live is (self.trial or self.now < self.open_until)
        if live:
            assert (FOREVER if self.trial else self.open_until) == (grant.expires_at or FOREVER)
            assert (TRIAL_PERMISSIONS if self.trial else self.allowed) == grant.permissions

    @invariant()
    def what_has_ended_never_begins_again(self) -> None:
        """Once a grant that was in force is not live, or gave way to another, its id is never live again."""
        account, stored = self.read()
        grant = grant_in_force(account, stored, TRIAL_PERMISSIONS)
        live_id = grant.id if grant is not None and grant.is_live(self.now) else None
        if self.in_force is not None and self.in_force.id != live_id:
            self.ended.add(self.in_force.id)
        assert live_id not in self.ended
        self.in_force = grant if live_id is not None else None

    @invariant()
    def epochs_and_history_only_go_forwards(self) -> None:
        """The epoch never falls, counts the lines of history, and the newest line is what is stored."""
        account, stored = self.read()
        assert not self.epochs or account.epoch >= self.epochs[-1]
        self.epochs.append(account.epoch)
        events = self.runner.run(self.store.list_changes(ACME))
        assert list(range(account.epoch, 0, -1)) == [event.epoch for event in events]
        assert stored == (events[0].grant if events else None)

    def read(self) -> tuple[Account, Grant | None]:
        record = self.runner.run(self.store.find_account(ACME))
        return record.account, record.grant

    def choose(
        self,
        account: Account,
        grant: Grant | None,
        duration: Duration,
        permissions: frozenset[Permission],
        person: Administrator,
    ) -> GrantChange | GrantRefusal:
        self.ids += 1
        return choose(
            account,
            grant,
            duration=duration,
            permissions=permissions,
            administrator=person,
            accepted_roles=ROLES,
            new_id=GrantId(f"g{self.ids}"),
            now=self.now,
        )

    def save(self, outcome: GrantChange | GrantRefusal) -> None:
        assert isinstance(outcome, GrantChange), outcome
        before, _ = self.read()
        if outcome.change is Change.UNCHANGED:
            assert before == outcome.account
            return
        assert replace(before, type=outcome.account.type, epoch=before.epoch + 1) == outcome.account
        assert outcome.grant is None or outcome.account.epoch == outcome.grant.epoch
        self.runner.run(self.store.save_change(outcome, by="admin-7", at=self.now))


class GrantLifeOnDisk(GrantLife):
    async def open_store(self) -> Store:
        self.directory = tempfile.TemporaryDirectory()
        return await open_sqlite(Path(self.directory.name) / "locum.db")

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


TestInMemory = GrantLife.TestCase
TestInMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, report_multiple_bugs=False)
TestOnDisk = GrantLifeOnDisk.TestCase
TestOnDisk.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

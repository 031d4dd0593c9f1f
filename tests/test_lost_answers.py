"""A change whose answer is lost: the record says what became of it, and where nobody can tell, it says that."""

import asyncio

import pytest

from gateway.audit.log import JournalError
from gateway.grants.service import ChangeRequest, GrantService, Uncertain
from gateway.stores.store import StoreConflict, StoreError
from policy.grants import Administrator, Change
from policy.model import Account, AccountId, AccountType, Duration, Permission
from tests.fact_scene import NOON
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS

ACME = Account(id=AccountId("acme"), type=AccountType.PAID)
LOST = StoreError("the database does not answer in time")


class Losing(MemoryStore):
    """Its next write is made, or not, or somebody else's is; whichever, its answer is lost. Then it is `away` or not."""

    def __init__(self):
        super().__init__()
        self.loses = None
        self.away = 0

    async def save_change(self, change, *, by, at):
        how, self.loses = self.loses, None
        if how == "made":
            await super().save_change(change, by=by, at=at)
        elif how == "overtaken":
            await super().save_change(change, by="somebody else", at=at)
        elif how is None:
            return await super().save_change(change, by=by, at=at)
        raise LOST

    async def add_account(self, account):
        how, self.loses = self.loses, None
        if how != "not made":
            await super().add_account(account)
        if how is not None:
            raise LOST

    async def list_changes(self, account):
        self._be_away()
        return await super().list_changes(account)

    async def find_account(self, account):
        self._be_away()
        return await super().find_account(account)

    def _be_away(self):
        if self.away and self.loses is None:
            self.away -= 1
            raise LOST


class Notes:
    """An audit log that keeps its records, or cannot: implements AuditLog."""

    healthy = True

    def __init__(self):
        self.records = []
        self.broken = False

    async def append(self, record, *, durable=False):
        if self.broken:
            raise JournalError("the disk is full")
        self.records.append(record)
        return len(self.records)

    async def close(self):
        pass


class Office:
    def __init__(self):
        self.store, self.notes, self.told = Losing(), Notes(), []
        self.service = GrantService(
            self.store,
            self.notes,
            accepted_roles=frozenset({"admin"}),
            clock=lambda: NOON,
            changed=lambda record: self.told.append(record) or 0,
        )

    def choose(self, duration):
        owner = Administrator(id="owner", roles={"support": "admin"})
        reading = frozenset({Permission.READ})
        return self.service.choose(
            ChangeRequest(account=ACME.id, duration=duration, permissions=reading, administrator=owner)
        )

    @property
    def said(self):
        return [(record.decision, record.reason) for record in self.notes.records]


@pytest.fixture
async def office():
    office = Office()
    await office.store.add_account(ACME)
    return office


@pytest.mark.parametrize("away", [0, 3])
async def test_a_change_that_is_in_is_a_change_that_was_made(office, away):
    """Whoever holds what it is about is told, and no denial is on the record; the store may need a moment to say so."""
    office.store.loses, office.store.away = "made", away
    outcome = await office.choose(Duration.DAY)
    assert Change.ENABLED is outcome.change
    assert [("allow", "enabled")] == office.said
    assert [outcome.account] == [record.account for record in office.told]


async def test_a_change_that_is_not_in_was_not_made(office):
    """That is on the record, and nobody is told of a change."""
    office.store.loses = "not made"
    with pytest.raises(StoreError) as failed:
        await office.choose(Duration.DAY)
    assert not isinstance(failed.value, Uncertain)
    assert [("allow", "enabled"), ("deny", "store_unavailable")] == office.said
    assert [] == office.told


async def test_what_somebody_else_has_stored_is_not_taken_for_ours(office):
    """The same change at the same moment, by another hand: ours is decided again on theirs."""
    office.store.loses = "overtaken"
    outcome = await office.choose(Duration.DAY)
    assert Change.UNCHANGED is outcome.change
    assert [("allow", "enabled"), ("deny", "overtaken"), ("allow", "unchanged")] == office.said


async def test_what_nobody_can_tell_is_on_the_record_as_that(office):
    """The store stays away: the caller hears it within a moment, and the record denies nothing."""
    office.store.loses, office.store.away = "made", 10**6
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Uncertain, match="look at the account again"):
            await office.choose(Duration.DAY)
    assert [("allow", "enabled"), (None, "unknown")] == office.said
    assert [] == office.told


async def test_a_customer_s_no_that_could_neither_be_recorded_nor_answered_is_owed(office):
    """As what it is: a change of which nobody knows."""
    await office.choose(Duration.DAY)
    office.notes.broken, office.store.loses, office.store.away = True, "made", 10**6
    with pytest.raises(Uncertain):
        await office.choose(Duration.OFF)
    office.notes.broken = False
    await office.service.debts.settle()
    assert [("allow", "enabled"), (None, "unknown")] == office.said


ADDED = {
    "made": (None, None),
    "not made": (StoreError, ("deny", "store_unavailable")),
}


@pytest.mark.parametrize("how", ADDED)
async def test_an_account_whose_answer_is_lost_is_looked_for(office, how):
    """Added or not, the record says which."""
    error, said = ADDED[how]
    account = Account(id=AccountId("beta"), type=AccountType.TRIAL)
    office.store.loses = how
    if error is None:
        await office.service.add(account, by="me")
    else:
        with pytest.raises(error):
            await office.service.add(account, by="me")
    assert [(None, "added_trial"), said][: 1 if said is None else 2] == office.said
    with pytest.raises(StoreConflict):
        await office.service.add(ACME, by="me")

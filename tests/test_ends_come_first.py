"""Whoever ends what staff may do is not put off by others who change the account at the same time."""

import asyncio

import pytest

from gateway.audit.writing.journal import Journal
from gateway.clock import utc_now
from gateway.grants.service import ChangeRequest, GrantService
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import StoreConflict
from policy.grants import Administrator, Change
from policy.model import Account, AccountId, AccountType, Duration, Permission
from tests.asking_world import Notes
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS

ACME = AccountId("acme")
MANY = 200


def wish(duration, *permissions):
    return ChangeRequest(
        account=ACME,
        duration=duration,
        permissions=frozenset(permissions),
        administrator=Administrator(id="olga", roles={"support": "admin"}),
    )


OFF = wish(Duration.OFF)
DAY = wish(Duration.DAY, Permission.READ, Permission.TEST_TICKETS)
WEEK = wish(Duration.WEEK, Permission.READ)


def service_on(store, journal):
    return GrantService(store, journal, accepted_roles=frozenset({"admin"}), clock=utc_now)


async def a_store(kind=MemoryStore):
    store = kind()
    await store.add_account(Account(id=ACME, type=AccountType.PAID))
    return store


async def test_of_two_hundred_changes_at_once_none_is_given_up_and_off_is_off(tmp_path):
    """With disk and journal: each of them is carried out, one after another, and what turns off is among the first."""
    store = await open_sqlite(tmp_path / "locum.sqlite3")
    journal = await Journal.open(
        tmp_path / "journal", origin="test", clock=utc_now, signer=None, patience_seconds=PATIENCE_SECONDS
    )
    try:
        await store.add_account(Account(id=ACME, type=AccountType.PAID))
        service = service_on(store, journal)
        for _ in range(3):
            await service.choose(WEEK)
            before = (await service.find(ACME)).account.epoch
            asked = [service.choose((DAY, WEEK)[number % 2]) for number in range(MANY)]
            asked.insert(MANY // 2, service.choose(OFF))
            off = (await asyncio.gather(*asked))[MANY // 2]
            assert Change.TURNED_OFF == off.change
            assert before + 2 >= off.account.epoch, "one of the others was under way, no more"
    finally:
        await journal.close()
        await store.close()


class Busy(MemoryStore):
    """Another process is faster, so many times."""

    times = 10

    async def save_change(self, change, *, by, at):
        if change.change is Change.TURNED_OFF and self.times:
            self.times -= 1
            raise StoreConflict("the account has changed meanwhile")
        await super().save_change(change, by=by, at=at)


@pytest.mark.parametrize("how", ["customer", "vendor"])
async def test_what_other_processes_change_all_the_time_is_turned_off_all_the_same(how):
    """By the customer and by the vendor: after ten others it is the eleventh."""
    store = await a_store(Busy)
    service = service_on(store, Notes())
    await service.choose(WEEK)
    if how == "customer":
        outcome = await service.choose(OFF)
    else:
        outcome = await service.turn_off(ACME, by="sam", client=None, client_ip=None, request_id="r")
    assert Change.TURNED_OFF == outcome.change
    assert 0 == store.times


class Held(MemoryStore):
    """Keeps changes of one kind waiting."""

    holds = None

    def __init__(self):
        super().__init__()
        self.came, self.let_go = asyncio.Event(), asyncio.Event()

    async def save_change(self, change, *, by, at):
        if change.change is self.holds:
            self.came.set()
            await self.let_go.wait()
        await super().save_change(change, by=by, at=at)


async def test_turning_off_waits_for_nobody():
    """Not for a change that hangs, nor for all that wait behind it."""
    store = await a_store(Held)
    service = service_on(store, Notes())
    await service.choose(WEEK)
    store.holds = Change.REDUCED
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        others = [group.create_task(service.choose(DAY)) for _ in range(5)]
        await store.came.wait()
        assert Change.TURNED_OFF == (await service.choose(OFF)).change
        assert not any(task.done() for task in others)
        store.let_go.set()


async def test_what_comes_while_it_is_turned_off_waits():
    """Or it would overtake it again and again; then it is carried out."""
    store = await a_store(Held)
    service = service_on(store, Notes())
    await service.choose(WEEK)
    store.holds = Change.TURNED_OFF
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        end = group.create_task(service.choose(OFF))
        await store.came.wait()
        other = group.create_task(service.choose(DAY))
        other_account = group.create_task(store.add_account(Account(id=AccountId("globex"), type=AccountType.PAID)))
        await other_account
        assert not other.done()
        store.let_go.set()
    assert Change.TURNED_OFF == end.result().change
    assert Change.ENABLED == other.result().change

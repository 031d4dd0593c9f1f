"""Whoever was told that an assumption began is told once that it has ended, also where nobody has ended it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.store import StoreError
from gateway.telling.ends import Ends
from gateway.telling.events import read_event
from policy.grants import Change
from policy.model import AssumptionId
from tests.memory_store import MemoryStore
from tests.store_examples import ACME, ASSUMPTION, NOW, a_change, a_grant, begin
from tests.telling_world import ANN, Log, Relay, Time, notices, recorded, telling

END = ASSUMPTION.expires_at


class SlowLog(Log):
    """Lets others come in between, as a disk does."""

    async def append(self, record, *, durable=False, instead=None):
        await asyncio.sleep(0)
        return await super().append(record, durable=durable, instead=instead)


class StaleStore(MemoryStore):
    """Lists what it is told to, as somebody slow would have it in hand."""

    listed = None

    async def list_over(self, **terms):
        return self.listed or await super().list_over(**terms)


class Scene:
    """A store with one assumption under a grant, and any number of processes that look after it."""

    def __init__(self, *, full=0):
        self.store, self.log, self.time = StaleStore(), SlowLog(full=full), Time()
        self.time.now = NOW

    async def furnish(self):
        await self.store.add_account(ACME)
        self.on = a_change(ACME, grant=a_grant(ACME))
        await self.store.save_change(self.on, by="x", at=NOW)
        await begin(self.store, ASSUMPTION)
        return self

    def process(self, store=None):
        return Ends(store or self.store, self.log, clock=self.time)

    @property
    def said(self):
        return [(record.reason, record.assumption) for record in self.log.records]

    async def ended_at(self):
        return (await self.store.find_assumption(ASSUMPTION.id)).ended_at


async def test_an_end_by_time_is_told(tmp_path):
    """By the gateway itself, with who, for whom and how; and once, for all that looks again."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay), mail=[ANN]) as world:
            assert 200 == (await world.choose())[0]
            await world.token()
            await recorded(world, event="begun", reason="sent")
            world.clock.forward(hours=1)
            await recorded(world, event="ended", reason="sent")
            await Ends(world.gateway.store, world.gateway.journal, clock=world.clock.utc).look()
            [record] = world.records(kind="assumption", reason="expired")
    [told] = [mail for mail in relay.mails_to(ANN) if "has ended" in str(mail["Subject"])]
    for words in ("Staff member: dana", "Stood in for: maria", "Ticket: SUP-1", "How: its time was over"):
        assert words in told.get_content()
    assert ("acme", False) == (record["account"], "by" in record)


async def test_one_of_many_processes_tells_it():
    """To the microsecond, and marked as ended when it was, so that it is never looked at again."""
    scene = await Scene().furnish()
    many = [scene.process() for _ in range(5)]
    scene.time.now = END - timedelta(microseconds=1)
    await asyncio.gather(*(one.look() for one in many))
    assert [] == scene.said
    scene.time.now = END
    await asyncio.gather(*(one.look() for one in many))
    scene.time.now = END + timedelta(minutes=2)
    await asyncio.gather(*(one.look() for one in many))
    assert [("expired", ASSUMPTION.id)] == scene.said
    assert END == await scene.ended_at()
    scene.store.listed = [ASSUMPTION]
    await scene.process().look()
    assert [("expired", ASSUMPTION.id)] == scene.said, "nor by one that has had it in hand for long"


async def test_what_the_setting_ends_is_told_as_that():
    """At once, though its own time goes on; and neither what somebody has ended, nor what was over the day before."""
    scene = await Scene().furnish()
    by_hand = replace(ASSUMPTION, id=AssumptionId("by hand"))
    await begin(scene.store, by_hand)
    await scene.store.end_assumption(by_hand.id, at=NOW)
    long_ago = replace(ASSUMPTION, id=AssumptionId("long ago"), expires_at=NOW - timedelta(days=1))
    await begin(scene.store, long_ago)
    off = a_change(scene.on.account, Change.TURNED_OFF, grant=replace(scene.on.grant, revoked_at=NOW))
    await scene.store.save_change(off, by="x", at=NOW)
    await scene.process().look()
    assert [("grant_over", ASSUMPTION.id)] == scene.said
    assert NOW == await scene.ended_at()


async def test_what_could_not_be_recorded_is_told_later(caplog):
    """By another process, once whoever had it in hand has had a minute; until then it is not marked as ended."""
    scene = await Scene(full=1).furnish()
    scene.time.now = END
    await scene.process().look()
    assert "cannot be recorded yet" in caplog.text
    await scene.process().look()
    assert ([], None) == (scene.said, await scene.ended_at())
    scene.time.now = END + timedelta(minutes=1)
    await scene.process().look()
    assert [("expired", ASSUMPTION.id)] == scene.said


async def test_a_store_that_fails_ends_nothing_and_stops_nobody(caplog):
    """The next look finds it."""

    class Failing(MemoryStore):
        async def list_over(self, **_terms):
            raise StoreError("away")

    scene = await Scene().furnish()
    scene.time.now = END
    await scene.process(Failing()).look()
    assert ("cannot be recorded yet" in caplog.text, []) == (True, scene.said)
    await scene.process().look()
    assert [("expired", ASSUMPTION.id)] == scene.said


@pytest.mark.parametrize("reason", ["expired", "grant_over"])
def test_such_a_record_is_an_end(reason):
    """For the account that it was in."""
    entry = {"at": "2026-11-23T12:00:00.000000Z", "kind": "assumption", "account": "acme", "assumption": "a1"}
    event = read_event(entry | {"reason": reason})
    assert ("ended", "acme") == (event.name, event.account)

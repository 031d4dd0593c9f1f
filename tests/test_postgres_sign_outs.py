"""A sign-out on one node and an exchange on another that overlap: whichever comes second sees the first."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from policy.model import ActorId
from tests.gateway_world import open_world
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import asyncpg, open_store
from tests.store_examples import ASSUMPTION, begin

_GATE = """
    CREATE FUNCTION locum.wait() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$;
    CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON locum.assumptions FOR EACH ROW EXECUTE FUNCTION locum.wait();
"""
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = $2"


@pytest.fixture
async def nodes(tmp_path, postgres):
    """A gateway, a second node's store, and a gate that whatever writes an assumption waits at while it is shut."""
    database = await postgres.new_database()

    def change(document):
        document["store"] = {"url": postgres.url(database), "write_timeout_seconds": PATIENCE_SECONDS}

    async with open_world(tmp_path, change=change) as world:
        other = await open_store(postgres, database)
        keeper = await asyncpg.connect(postgres.url(database))
        try:
            await keeper.execute(_GATE)
            await world.choose("day")
            assert 200 == (await world.ask())[0]
            yield Nodes(world, other, keeper, postgres, database)
        finally:
            await keeper.close()
            await other.close()


class Nodes:
    def __init__(self, world, other, keeper, postgres, database):
        self.world, self.other = world, other
        self._keeper, self._postgres, self._database = keeper, postgres, database

    @asynccontextmanager
    async def shut(self):
        await self._keeper.execute("SELECT pg_advisory_lock(42)")
        yield
        await self._keeper.execute("SELECT pg_advisory_unlock(42)")

    async def until_waiting(self, event):
        """Return once somebody waits: `advisory` at the gate, `transactionid` for another's row."""
        await self._postgres.until(lambda found: found[0][0] > 0, _WAITING, self._database, event)

    @property
    def dana(self):
        return ActorId(issuer=self.world.issuer.issuer, subject="dana")

    async def sign_out(self, since):
        return await self.other.sign_out(self.dana, since=since, at=self.world.clock.now)


async def test_a_sign_out_that_is_being_stored_is_waited_for(nodes):
    """The exchange is decided again on it, and refused: nothing has begun that the sign-out did not see."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with nodes.shut():
            telling = asyncio.ensure_future(nodes.sign_out(nodes.world.clock.now + timedelta(seconds=1)))
            await nodes.until_waiting("advisory")
            asking = asyncio.ensure_future(nodes.world.ask())
            await nodes.until_waiting("transactionid")
        assert 1 == len(await telling)
        status, document = await asking
    assert (400, "staff_signed_out") == (status, document["reason"])
    assert [] == list(await nodes.other.list_assumptions(at=nodes.world.clock.now))


async def test_a_newer_sign_in_begins_in_spite_of_a_sign_out_that_is_being_stored(nodes):
    """The second decision is on what holds by then, and a sign-in that came after the sign-out counts."""
    since = nodes.world.clock.now - timedelta(minutes=1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begin(nodes.other, replace(ASSUMPTION, actor=nodes.dana, signed_in_at=since))
        async with nodes.shut():
            telling = asyncio.ensure_future(nodes.sign_out(since))
            await nodes.until_waiting("advisory")
            asking = asyncio.ensure_future(nodes.world.ask())
            await nodes.until_waiting("transactionid")
        assert [ASSUMPTION.id] == [ended.id for ended in await telling]
        assert 200 == (await asking)[0]
    assert 2 == len(await nodes.other.list_assumptions(at=nodes.world.clock.now))


async def test_an_exchange_that_is_being_stored_is_ended_by_the_sign_out(nodes):
    """The sign-out waits for it and ends it with the rest, so that a token that was issued is worth nothing."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with nodes.shut():
            asking = asyncio.ensure_future(nodes.world.ask())
            await nodes.until_waiting("advisory")
            telling = asyncio.ensure_future(nodes.sign_out(nodes.world.clock.now + timedelta(seconds=1)))
            await nodes.until_waiting("transactionid")
        assert 2 == len(await telling)
        await asking
    assert [] == list(await nodes.other.list_assumptions(at=nodes.world.clock.now))

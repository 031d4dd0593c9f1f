"""An assumption that nobody ends ends by itself: it permits nothing any more, and nobody has to tidy up behind it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from policy.decide import decide
from policy.model import AssumptionId, Deny, Permit
from tests.fact_scene import NOON, assumption_of
from tests.follow_scene import PROFILE, FollowScene
from tests.gateway_world import open_world
from tests.sign_out_world import logout_token, tell
from tests.store_examples import begin

MOMENT = timedelta(microseconds=1)


@pytest.fixture
async def scene(tmp_path):
    scene = FollowScene(tmp_path)
    await scene.furnish("acme")
    await scene.open_up()
    yield scene
    await scene.close()


async def test_behind_its_end_nothing_is_permitted_whatever_the_token_says(scene):
    """On or after its end; and until then no permit is for longer."""
    end = NOON + timedelta(minutes=5)
    request, facts, _ = await scene.decide()
    facts = replace(facts, assumption=assumption_of("acme", expires_at=end))
    before = decide(request, facts, PROFILE, now=end - MOMENT)
    assert isinstance(before, Permit)
    assert end == before.ends_at < request.claims.expires_at
    for now in (end, end + MOMENT):
        after = decide(request, facts, PROFILE, now=now)
        assert isinstance(after, Deny)
        assert "assumption_ended" == after.reason


async def test_it_is_as_long_as_its_token_and_not_listed_behind_that(tmp_path):
    """Also where the grant ends before the token would."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        _, document = await world.ask()
        store, clock = world.gateway.store, world.clock
        [begun] = await store.list_assumptions(at=clock.now)
        assert clock.now + timedelta(seconds=document["expires_in"]) == begun.expires_at
        clock.forward(seconds=document["expires_in"] - 1)
        assert [begun] == list(await store.list_assumptions(at=clock.now))
        clock.forward(seconds=1)
        assert [] == list(await store.list_assumptions(at=clock.now))
        clock.forward(seconds=24 * 3600 - document["expires_in"] - 60)
        assert 60 >= (await world.ask())[1]["expires_in"]
        [late] = await store.list_assumptions(at=clock.now)
        assert clock.now + timedelta(seconds=60) == late.expires_at


async def test_a_sign_out_says_nothing_of_what_had_ended_by_itself(tmp_path):
    """It is on the record for what it has ended, and for no more."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        assert 200 == (await world.ask())[0]
        [begun] = await world.gateway.store.list_assumptions(at=world.clock.now)
        old = replace(begun, id=AssumptionId("as_old"), expires_at=world.clock.now)
        await begin(world.gateway.store, old)
        assert 200 == (await tell(world, logout_token(world)))[0]
        ended = [record["assumption"] for record in world.records(kind="assumption", reason="ended")]
        assert [begun.id] == ended
        assert (await world.gateway.store.find_assumption(old.id)).ended_at is not None

"""Facts that are at hand without waiting: the same as those that are waited for, no older, and gone with each of them."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.model import Permission
from tests.fact_scene import DANA, Scene, claims_of, turns


@pytest.fixture
async def scene():
    scene = Scene()
    await scene.furnish()
    yield scene
    await scene.tasks.close()


def at_hand(scene, account="acme"):
    return scene.cache.at_hand(account, claims_of(account))


async def test_nothing_is_at_hand_that_was_never_fetched(scene):
    """A fact that is missing is waited for, not taken for absent."""
    assert at_hand(scene) is None


async def test_what_is_at_hand_is_what_would_be_waited_for(scene):
    """Not equal only: put together once, and the same until something changes."""
    facts = await scene.of()
    assert facts == at_hand(scene)
    assert at_hand(scene) is at_hand(scene)


@pytest.mark.parametrize("asked_every", [0.1, 0.7, 1.9])
async def test_no_hit_makes_facts_younger(scene, asked_every):
    """They end two seconds after their fetch began, however often they were put together meanwhile."""
    scene.store.hold_accounts = asyncio.Event()
    asking = asyncio.ensure_future(scene.of())
    await turns()
    scene.ticks.now = 1.0  # the answer took a second
    scene.store.hold_accounts.set()
    await asking
    while scene.ticks.now < 2.0:
        assert at_hand(scene) is not None, scene.ticks.now
        scene.ticks.now += asked_every
    assert at_hand(scene) is None


async def test_the_oldest_of_them_decides(scene):
    """The account is fetched anew; the others are as old as they were."""
    await scene.of()
    scene.ticks.now = 1.5
    scene.cache.forget_account("acme")
    await scene.of()
    assert at_hand(scene) is not None
    scene.ticks.now = 2.0
    assert at_hand(scene) is None


FORGETTING = {
    "account": lambda cache: cache.forget_account("acme"),
    "assumption": lambda cache: cache.forget_assumption(claims_of("acme").assumption),
    "staff": lambda cache: cache.forget_staff(DANA),
    "all": lambda cache: cache.forget_all(),
    "reload": lambda cache: cache.renew({Permission.READ}),
}


@pytest.mark.parametrize("forget", FORGETTING.values(), ids=FORGETTING)
async def test_a_change_of_any_of_them_counts_at_once(scene, forget):
    """Nothing that was put together outlives what it was put together from."""
    await scene.of()
    assert at_hand(scene) is not None
    forget(scene.cache)
    assert at_hand(scene) is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sleep"), st.floats(0.01, 1.5)),
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("revoke"), st.just(0)),
        st.tuples(st.just("told"), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_a_revoke_is_known_within_the_time_to_live(steps):
    """By pushes that come or do not: at hand is what the store says, or what it said less than two seconds ago."""

    async def play():
        scene = Scene()
        await scene.furnish()
        revoked_at = None
        for step, value in steps:
            if step == "sleep":
                scene.ticks.now += value
            elif step == "ask":
                facts = at_hand(scene) or await scene.of()
                if revoked_at is not None and scene.ticks.now >= revoked_at + 2:
                    assert facts.grant.revoked_at is not None
            elif step == "revoke":
                await scene.revoke()
                revoked_at = scene.ticks.now if revoked_at is None else revoked_at
            else:
                scene.cache.forget_account("acme")
                if revoked_at is not None:
                    assert (at_hand(scene) or await scene.of()).grant.revoked_at is not None
        await scene.tasks.close()

    asyncio.run(play())

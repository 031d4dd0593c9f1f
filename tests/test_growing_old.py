"""While no change is heard of, what is open ends when its own facts grow old: no sooner, and within a moment."""

import asyncio
from datetime import timedelta

import pytest

from gateway.clock import boot_seconds
from gateway.stores.store import StoreError
from tests.fact_scene import NOON, claims_of
from tests.follow_scene import TTL, FollowScene, until
from tests.patience import unless_it_stalls, within

LATE_SECONDS = 0.25
"""Behind that moment, on a machine that has other things to do; one that has not needs 0.05."""


@pytest.fixture
async def scene(tmp_path):
    scene = FollowScene(tmp_path)
    await scene.furnish("acme", "beta")
    await scene.open_up()
    yield scene
    await scene.close()


async def test_the_next_look_is_when_the_first_facts_grow_old(scene):
    """And not a quarter of a second behind: with nothing open it is at the next beat."""
    assert 0.25 == scene.follower.beat()
    await scene.stream("acme")
    scene.ticks.now = 1.0
    await scene.stream("beta")
    scene.ticks.now = TTL - 0.1
    assert 0.1 == pytest.approx(scene.follower.beat())
    assert 0.1 == pytest.approx(scene.follower.beat())


async def test_what_is_opened_between_two_looks_is_looked_at_in_time(scene):
    """Its facts may be older than those of all that was open before."""
    await scene.ask("acme")
    scene.ticks.now = 1.0
    await scene.ask("beta")
    scene.ticks.now = 2.0
    await scene.stream("acme")
    scene.ticks.now = 2.9
    scene.follower.beat()
    assert not scene.follower._beat_sooner.is_set()
    await scene.stream("beta")
    assert scene.follower._beat_sooner.is_set()


async def test_one_that_rests_on_older_facts_than_another_request_is_looked_at(scene):
    """Somebody else's request has had the facts fetched anew; the stream goes by what they say, and not by its own."""
    stream = await scene.stream()
    scene.store.deaf = True
    await scene.revoke()
    scene.ticks.now = TTL
    assert "grant_revoked" == await scene.ask()
    assert None is stream.cut
    scene.follower.beat()
    await scene.follower.look()
    assert "grant_revoked" == stream.cut


async def test_what_is_old_is_asked_for_once_for_all_that_is_open_of_it(scene):
    """A hundred streams of one assumption are one question of each kind, and none before the facts are old."""
    await scene.ask()
    streams = [await scene.stream() for _ in range(100)]
    scene.store.fetched.clear()
    for _ in range(5):
        scene.ticks.now += TTL / 5 - 0.001
        scene.follower.beat()
        await scene.follower.look()
    assert [] == scene.store.fetched
    scene.ticks.now += 0.01
    for _ in range(2):
        scene.follower.beat()
        await scene.follower.look()
        assert len(set(scene.store.fetched)) == len(scene.store.fetched) > 0
    assert {None} == {stream.cut for stream in streams}


@unless_it_stalls
async def test_with_the_store_gone_streams_end_as_their_facts_do(tmp_path):
    """On real clocks: the facts of two accounts were fetched half a second apart, and so are the ends."""
    scene = FollowScene(tmp_path, ticks=RealTicks())
    await scene.furnish("acme", "beta")
    await scene.open_up()
    scene.follow()
    await until(lambda: scene.store.pushes)
    began, ends = {}, {}
    for account in ("acme", "beta"):
        began[account] = boot_seconds()
        stream = await scene.stream(account)
        stream._abort = None
        stream.exchange.begin(lambda account=account: ends.setdefault(account, boot_seconds()))
        await asyncio.sleep(0.5)
    scene.store.fail_with = StoreError("away")
    scene.store.lose_pushes()
    await until(lambda: len(ends) == 2)
    for account, opened in began.items():
        # What they share was fetched with the first.
        assert TTL - 0.6 < ends[account] - opened < TTL + LATE_SECONDS
    await scene.close()


class RealTicks:
    """The real time since boot; `now` is what the scene's wall clock goes by."""

    def __init__(self):
        self._began = boot_seconds()

    @property
    def now(self):
        return boot_seconds() - self._began

    def __call__(self):
        return boot_seconds()


async def test_a_thousand_that_expire_together_leave_others_their_turn(scene):
    """They are cut in slices; and those that do not expire are not looked at."""
    streams = [await scene.stream() for _ in range(1000)]
    other = await scene.stream("beta")
    others = 0

    async def somebody_else():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    for stream in streams:
        exchange = stream.exchange
        exchange.request = exchange.request._replace(claims=claims_of("acme", expires_at=NOON + timedelta(minutes=2)))
        scene.live._recheck(exchange)
    scene.ticks.now = 59.9
    scene.live._look()
    assert {None} == {stream.cut for stream in streams}
    scene.ticks.now = 60.0
    busy = asyncio.ensure_future(somebody_else())
    scene.live._look()
    await until(lambda: all(stream.cut for stream in streams))
    busy.cancel()
    assert ({"token_expired"}, None) == ({stream.cut for stream in streams}, other.cut)
    assert others >= 1000 // 64


async def test_a_look_at_those_that_go_on_decides_nothing(scene):
    """Once a second: time alone changes nothing for them, so that none is decided anew."""
    await scene.ask()
    streams = [await scene.stream() for _ in range(1000)]
    facts = [stream.exchange.facts for stream in streams]
    permits = [stream.exchange.permit for stream in streams]
    scene.ticks.now = 1.0
    scene.live._look()
    assert all(one is stream.exchange.permit for one, stream in zip(permits, streams, strict=True))
    scene.follower.look_at_all()
    await scene.follower.look()
    assert all(one is stream.exchange.facts for one, stream in zip(facts, streams, strict=True))


async def test_another_profile_is_gone_by_within_a_second_even_if_nobody_looks(scene):
    """The look that a reload takes may fail: the one of each second decides anew about all."""
    stream = await scene.stream()
    permit = stream.exchange.permit
    scene.live.renew(scene.live._profile, scene.live._keys)
    scene.live._look()
    assert permit is not stream.exchange.permit
    permit = stream.exchange.permit
    scene.live._look()
    assert permit is stream.exchange.permit


async def test_a_process_that_goes_on_looks_at_once(scene):
    """As SIGCONT has it do: though the push says that all is well, and before the next beat."""
    stream = await scene.stream()
    scene.follow()
    await until(lambda: scene.store.pushes)
    scene.store.deaf = True
    await scene.revoke()
    scene.ticks.now += TTL
    async with within(LATE_SECONDS):
        scene.follower.look_at_all()
        await until(lambda: stream.cut)
    assert "grant_revoked" == stream.cut

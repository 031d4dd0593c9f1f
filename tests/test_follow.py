"""A worker follows the store: every change is heard of, at its own level, never backwards, and never too late."""

import asyncio
import logging

import pytest

from gateway.stores.store import StoreError
from policy.model import Account, AccountType, ActorId
from tests.fact_scene import DANA, NOON, CountingStore, claims_of, staff_of, turns
from tests.follow_scene import TTL, FollowScene, until
from tests.patience import within


@pytest.fixture
async def scene(tmp_path):
    scene = FollowScene(tmp_path)
    await scene.furnish("acme", "beta")
    await scene.open_up()
    yield scene
    await scene.close()


# --- what a change reaches ---

LEVELS = {
    "account": (lambda scene: scene.revoke(), "grant_revoked", False),
    "suspension": (lambda scene: scene.change(suspended=True), "account_suspended", False),
    "assumption": (lambda scene: scene.store.end_assumption("as-acme", at=NOON), "assumption_ended", False),
    "staff": (lambda scene: scene.store.disable_staff(DANA, disabled=True), "staff_disabled", True),
    "everything": (lambda scene: scene.stop_everything(), "kill_switch", True),
}


@pytest.mark.parametrize("level", LEVELS)
async def test_a_change_is_heard_of_and_cuts_what_it_is_about(scene, level):
    """Told by the store alone: the next request is refused, what is open is cut, and nobody else notices."""
    change, reason, reaches_beta = LEVELS[level]
    acme, beta = await scene.stream("acme"), await scene.stream("beta")
    scene.follow()
    await until(lambda: scene.store.pushes)
    await change(scene)
    await until(lambda: acme.cut)
    assert reason == acme.cut == await scene.ask("acme")
    assert (reason if reaches_beta else None) == beta.cut
    assert (reason if reaches_beta else "permit") == await scene.ask("beta")


async def test_a_change_of_others_costs_no_fetch(scene):
    """A thousand changes of other accounts, assumptions and people: what is known here is still known."""
    stream = await scene.stream()
    scene.store.fetched.clear()
    for number in range(1000):
        await scene.store.add_account(Account(id=f"other{number}", type=AccountType.PAID))
    await scene.store.end_assumption("as-beta", at=NOON)
    await scene.store.touch_account("beta")
    await scene.step()
    scene.store.fail_with = StoreError("nobody needs it")
    assert "permit" == await scene.ask()
    assert stream.cut is None
    assert [] == scene.store.fetched


async def test_a_flood_of_changes_leaves_everybody_their_turn(tmp_path):
    """Of what is known here, a thousand changes at once: others run in between. Of strangers they cost no turn at all."""
    scene = FollowScene(tmp_path)
    await scene.furnish("acme")
    await scene.open_up()
    known = [f"other{number}" for number in range(1000)]
    for name in known:
        await scene.facts.of_request(name, claims_of(name))
    others = 0

    async def somebody_else():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(somebody_else())
    for name in known:
        await scene.store.touch_account(name)
    others = 0
    await scene.follower.hear()
    assert others >= 1000 // 64
    for number in range(4000):
        await scene.store.touch_account(f"stranger{number}")
    others = 0
    await scene.follower.hear()
    busy.cancel()
    assert others <= 3
    assert "permit" == await scene.ask()
    await scene.close()


async def test_after_more_changes_than_are_kept_everything_is_looked_at(scene):
    """They cannot be named any more, and one of them was about us."""
    stream = await scene.stream()
    await scene.revoke()
    for number in range(5000):
        await scene.store.touch_account(f"other{number}")
    await scene.step()
    assert "grant_revoked" == stream.cut == await scene.ask()


async def test_hints_without_a_change_do_nothing(scene):
    """Forged, doubled or late, each is read behind, and nothing is forgotten."""
    stream = await scene.stream()
    scene.follow()
    await until(lambda: scene.store.pushes)
    scene.store.fetched.clear()
    for _ in range(20):
        for push in scene.store.pushes:
            push.heard.set()
        await turns()
    assert "permit" == await scene.ask()
    assert (None, []) == (stream.cut, scene.store.fetched)


async def test_a_fetch_that_a_change_overtook_serves_nobody(scene):
    """The account is read, the customer says no and we hear of it, the old answer arrives: it is asked for again."""
    scene.store.hold_accounts = asyncio.Event()
    asking = asyncio.ensure_future(scene.ask())
    await turns()
    found = scene.store.hold_accounts
    scene.store.hold_accounts = None
    await scene.revoke()
    await scene.follower.hear()
    found.set()
    assert "grant_revoked" == await asking == await scene.ask()


async def test_one_that_cannot_be_aborted_keeps_no_other_open(scene):
    """A fault of ours in one cut is logged, and all the others of the account are cut behind it."""

    def fail():
        raise RuntimeError("it cannot be aborted")

    streams = [await scene.stream() for _ in range(4)]
    for stream in streams[:2]:
        stream.exchange.begin(fail)
    await scene.revoke()
    await scene.step()
    assert ["grant_revoked"] * 4 == [str(stream.exchange.verdict().reason) for stream in streams]
    assert [False, False, True, True] == [stream.aborted for stream in streams]


# --- when the channel or the store is lost ---


async def test_a_lost_channel_is_said_once_and_found_again(scene, caplog):
    """It is listened for again after growing pauses; what changed meanwhile is made up for by name."""
    caplog.set_level(logging.INFO)
    acme, beta = await scene.stream("acme"), await scene.stream("beta")
    scene.follow()
    await until(lambda: scene.store.pushes)
    scene.store.deaf, scene.store.fail_with = True, StoreError("away")
    scene.store.lose_pushes()
    await until(lambda: scene.follower.is_lost)
    before = scene.store.listened
    await until(lambda: scene.store.listened == before + 2)
    scene.store.fail_with = None
    await scene.revoke("acme")
    await until(lambda: not scene.follower.is_lost)
    await until(lambda: acme.cut)
    assert ("grant_revoked", None) == (acme.cut, beta.cut)
    [lost, found] = [record.message for record in caplog.records]
    assert lost.startswith("no change of the store is heard of")
    assert "changes of the store are heard of again" == found


async def test_with_the_channel_lost_what_is_open_ends_as_facts_grow_old(scene):
    """The store cannot be asked: for the time to live all goes on, and then nothing does."""
    stream = await scene.stream()
    scene.store.fail_with = StoreError("away")
    scene.ticks.now = TTL - 0.01
    scene.follower.beat()
    await scene.follower.look()
    assert (None, "permit") == (stream.cut, await scene.ask())
    scene.ticks.now = TTL
    scene.follower.beat()
    await scene.follower.look()
    assert "store_unavailable" == stream.cut
    with pytest.raises(StoreError):
        await scene.ask()


async def test_a_push_that_tells_nothing_is_not_waited_for(scene):
    """The channel is there and silent: the changes are read each second all the same."""
    stream = await scene.stream()
    scene.follow()
    await until(lambda: scene.store.pushes)
    scene.store.deaf = True
    await scene.revoke()
    await until(lambda: stream.cut)
    assert ("grant_revoked", False) == (stream.cut, scene.follower.is_lost)


async def test_a_worker_that_stood_still_looks_at_what_is_open_first(scene):
    """Stopped for longer than facts are good, with a change meanwhile: the beat looks though the push says all is well."""
    stream = await scene.stream()
    scene.follow()
    await until(lambda: scene.store.pushes)
    scene.follower.beat()
    scene.store.deaf = True
    await scene.revoke()
    scene.ticks.now += TTL + 0.01
    scene.follower.beat()
    await scene.settle()
    assert "grant_revoked" == stream.cut


async def test_a_fault_of_ours_is_not_the_last_change_heard_of(scene):
    """Whatever goes wrong while a change is applied, it is applied in the end."""
    stream = await scene.stream()
    real, faults = scene.facts.forget_account, []

    def forget(account):
        if not faults:
            faults.append(account)
            raise ZeroDivisionError("a fault of ours")
        real(account)

    scene.facts.forget_account = forget
    scene.follow()
    await until(lambda: scene.store.pushes)
    await scene.revoke()
    await until(lambda: stream.cut)
    assert ("grant_revoked", ["acme"]) == (stream.cut, faults)


class Hanging(CountingStore):
    """A store that never answers for some accounts."""

    def __init__(self):
        super().__init__()
        self.silent = ()

    async def find_account(self, account):
        if account in self.silent:
            await asyncio.Event().wait()
        return await super().find_account(account)


@pytest.mark.parametrize(("silent", "cut"), [(("acme",), None), (("acme", "beta"), "store_unavailable")])
async def test_who_cannot_be_looked_at_in_time_is_cut(tmp_path, silent, cut):
    """A store that hangs is no reason to let anybody go on; one account that hangs is no reason to cut another."""
    scene = FollowScene(tmp_path, Hanging())
    await scene.furnish("acme", "beta")
    await scene.open_up()
    acme, beta = [await scene.stream("acme") for _ in range(40)], await scene.stream("beta")
    await scene.stop_everything(on=False)
    scene.store.silent = silent
    await scene.follower.hear()
    async with within(2):
        await scene.follower.look()
    assert ({"store_unavailable"}, cut) == ({stream.cut for stream in acme}, beta.cut)
    await scene.close()


# --- bounds ---


async def test_strangers_and_friends_cost_bounded_memory(tmp_path):
    """Ten thousand accounts that do not exist, and half as many that do: entries have a bound, and none is lost by it."""
    scene = FollowScene(tmp_path)
    await scene.furnish("acme")
    await scene.open_up()
    for number in range(10_000):
        name = f"stranger{number}"
        assert (await scene.facts.of_request(name, claims_of(name))).account is None
    for number in range(5_000):
        scene.store._accounts[f"friend{number}"] = scene.store._accounts["acme"]
        name = f"friend{number}"
        await scene.facts.of_request(name, claims_of("acme"))
        scene.facts.at_hand(name, claims_of("acme"))
    # Found and absent ones of four kinds, and what was put together.
    assert len(scene.facts) <= 9 * 4096
    assert "permit" == await scene.ask()
    await scene.close()


async def test_what_nothing_is_open_of_is_let_go(scene):
    """Ten thousand assumptions, one request each: a second later nothing is left of them."""
    for _ in range(10):
        exchange = (await scene.stream()).exchange
        scene.live.close(exchange)
    assert 1 == len(scene.live._open)
    scene.live._look()
    assert ({}, {}, {}, {}) == (scene.live._open, scene.live._whose, scene.live._of_account, scene.live._of_actor)


async def test_a_person_of_another_issuer_is_another_person(scene):
    """The same name from somebody else's identity provider ends nothing of hers."""
    stream = await scene.stream()
    other = ActorId(issuer="https://elsewhere.example", subject="dana")
    await scene.store.save_staff(staff_of(other), at=NOON)
    await scene.store.disable_staff(other, disabled=True)
    await scene.step()
    assert (None, "permit") == (stream.cut, await scene.ask())

"""The fact cache is never the reason why somebody is let in: facts grow old, change, fail and are overtaken."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.grants.facts import FactCache
from gateway.profiles import load_profile
from gateway.stores.store import AccountRecord, StoreError
from gateway.tasks import Tasks
from policy.decide import decide
from policy.grants import grant_in_force
from policy.model import AccessRequest, Account, AccountType, ActorId, Deny, DenyReason, Facts, Permission
from policy.scopes import parse_scopes
from policy.target import parse_target
from tests.fact_scene import DANA, NOON, READ, Scene, assumption_of, claims_of, grant_of, staff_of, turns
from tests.journals import Ticks
from tests.lenient_rules import AS_LAST_SEEN
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
async def scene():
    scene = Scene()
    await scene.furnish()
    scene.store.fetched.clear()
    yield scene
    await scene.tasks.close()


PROFILE = load_profile("demo-helpdesk")


async def verdict_of(scene):
    return judge(await scene.of())


def judge(facts, account="acme", target=b"/tickets/1", method="GET", claims=None):
    request = AccessRequest(
        method=method,
        target=parse_target(target),
        account=account,
        audience=f"{account}.helpdesk.example",
        claims=claims or claims_of(account),
    )
    outcome = decide(request, facts, PROFILE, now=NOON + timedelta(minutes=1))
    return outcome.reason if isinstance(outcome, Deny) else "permit"


async def test_a_fact_is_fetched_once_and_then_known(scene):
    """The second asker is answered without the store, also while it is away."""
    assert "permit" == await verdict_of(scene)
    scene.store.fail_with = StoreError("away")
    assert "permit" == await verdict_of(scene)
    assert 1 == scene.store.count()


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "permit"), (5, "permit"), (6, DenyReason.TOKEN_EXPIRED)])
async def test_the_clock_of_whoever_signed_may_be_a_little_ahead(scene, ahead, verdict):
    """Another node's, and so a token that is fresh is not refused; it does not last longer for that."""
    issued_at = NOON + timedelta(minutes=1, seconds=ahead)
    claims = replace(claims_of("acme"), issued_at=issued_at)
    assert verdict == judge(await scene.of(), claims=claims)
    ended = replace(claims, expires_at=NOON + timedelta(minutes=1))
    assert DenyReason.TOKEN_EXPIRED == judge(await scene.of(), claims=ended)


async def test_hits_never_make_a_fact_younger(scene):
    """Asked three times per time to live for ten times its length, with nobody telling of the revoke."""
    verdicts = []
    for step in range(30):
        scene.ticks.now = step * 2 / 3
        if step == 6:
            await scene.revoke()
        verdicts.append(await verdict_of(scene))
    first = verdicts.index(DenyReason.GRANT_REVOKED)
    assert 6 <= first <= 9, "no later than one time to live after the revoke"
    assert {DenyReason.GRANT_REVOKED} == set(verdicts[first:])
    assert 10 == scene.store.count()


async def test_age_counts_from_the_start_of_the_fetch(scene):
    """A slow answer is old when it comes: what it says was true when it was asked for, at the best."""
    scene.store.hold = asyncio.Event()
    asking = asyncio.ensure_future(scene.of())
    await turns()
    scene.ticks.now = 1.9
    scene.store.hold.set()
    await asking
    scene.ticks.now = 1.99
    await scene.of()
    assert 1 == scene.store.count()
    scene.ticks.now = 2.0
    await scene.of()
    assert 2 == scene.store.count()


async def test_an_answer_older_than_its_time_to_live_is_not_kept(scene):
    """It serves those who waited for it and nobody after."""
    scene.store.hold = asyncio.Event()
    asking = asyncio.ensure_future(scene.of())
    await turns()
    scene.ticks.now = 5
    scene.store.hold.set()
    assert (await asking).account is not None
    await scene.of()
    assert 2 == scene.store.count()


async def test_an_absent_fact_is_absent_for_a_second_only(scene):
    """What the customer adds or opens counts soon, though nobody tells."""
    for tick, fetched in ((0, 1), (0.99, 1), (1.0, 2)):
        scene.ticks.now = tick
        assert (await scene.of("late")).account is None
        assert fetched == scene.store.count("late")
    await scene.store.add_account(Account(id="late", type=AccountType.TRIAL))
    scene.ticks.now = 2.0
    facts = await scene.of("late")
    assert ("late", "trial_late") == (facts.account.id, facts.grant.id)


async def test_many_askers_make_one_fetch(scene):
    """Fifty at once ask the store once; another key never shares the answer."""
    scene.store.hold = asyncio.Event()
    asking = [asyncio.ensure_future(scene.of()) for _ in range(50)]
    other = asyncio.ensure_future(scene.of("other"))
    await asyncio.sleep(0)
    scene.store.hold.set()
    found = await asyncio.gather(*asking)
    assert 1 == scene.store.count()
    assert {"acme"} == {facts.account.id for facts in found}
    assert (await other).account is None


async def test_who_goes_away_takes_nothing_along(scene):
    """The first asker is cancelled while it waits; the others get the fact, and it is kept."""
    scene.store.hold = asyncio.Event()
    first, second = (asyncio.ensure_future(scene.of()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    scene.store.hold.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert "acme" == (await second).account.id
    await scene.of()
    assert 1 == scene.store.count()


async def test_a_failed_fetch_is_nobody_s_yes(scene):
    """Everybody who waits hears of it, nothing is kept, and the next asker asks anew."""
    scene.store.hold, scene.store.fail_with = asyncio.Event(), StoreError("away")
    asking = [asyncio.ensure_future(scene.of()) for _ in range(3)]
    await asyncio.sleep(0)
    scene.store.hold.set()
    assert [StoreError] * 3 == [type(found) for found in await asyncio.gather(*asking, return_exceptions=True)]
    assert 1 == scene.store.count()
    scene.store.fail_with = None
    assert "permit" == await verdict_of(scene)
    assert 2 == scene.store.count()


async def test_a_fault_in_the_store_s_code_reaches_the_asker(scene):
    """Also what is no StoreError ends the wait, and nobody waits for ever."""
    scene.store.fail_with = ZeroDivisionError("a fault of ours")
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(ZeroDivisionError):
            await scene.of()


async def test_an_old_fact_ends_though_the_store_is_away(scene):
    """Growing old is not put off because nothing newer can be had."""
    await scene.of()
    scene.store.fail_with = StoreError("away")
    scene.ticks.now = 2
    with pytest.raises(StoreError):
        await scene.of()


async def test_a_forgotten_fact_is_fetched_anew(scene):
    """After a change is told of, the old fact serves nobody."""
    await scene.of()
    await scene.revoke()
    assert "permit" == await verdict_of(scene)
    scene.cache.forget_account("acme")
    assert DenyReason.GRANT_REVOKED == await verdict_of(scene)


async def test_an_overtaken_fetch_serves_nobody(scene):
    """The store was read before the change and answers after it: those who waited ask again."""
    scene.store.hold_accounts = asyncio.Event()
    asking = asyncio.ensure_future(verdict_of(scene))
    await turns()
    await scene.revoke()
    scene.cache.forget_account("acme")
    scene.store.hold_accounts.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert DenyReason.GRANT_REVOKED == await asking
    assert DenyReason.GRANT_REVOKED == await verdict_of(scene)
    assert 2 == scene.store.count()


async def test_a_fact_at_hand_may_grow_old_while_another_is_awaited(scene):
    """Nobody told of the revoke, and the assumption takes its time: the account's fact is not used past its time."""
    await scene.of()
    await scene.revoke()
    scene.ticks.now += 1.9
    scene.cache.forget_assumption("as-acme")
    scene.store.hold_assumptions = asyncio.Event()
    asking = asyncio.ensure_future(verdict_of(scene))
    await turns(5)
    scene.ticks.now += 0.45
    scene.store.hold_assumptions.set()
    assert "grant_revoked" == await asking


@pytest.mark.parametrize("how", ["forget_account", "forget_all"])
async def test_a_fact_at_hand_may_change_while_another_is_awaited(scene, how):
    """The account is known, its assumption is being fetched, the customer says no: the answer is no."""
    scene.store.hold_assumptions = asyncio.Event()
    asking = asyncio.ensure_future(verdict_of(scene))
    await turns()
    assert 1 == scene.store.count()
    await scene.revoke()
    getattr(scene.cache, how)(*(["acme"] if how == "forget_account" else []))
    scene.store.hold_assumptions.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert DenyReason.GRANT_REVOKED == await asking


async def test_a_change_in_the_very_step_of_the_answer_counts(scene):
    """However many turns of the loop lie between the fetch's end and its asker's turn, none lets an old fact through."""
    for count in range(14):
        account = f"race{count}"
        await scene.furnish(account)
        asking = asyncio.ensure_future(scene.of(account))
        await turns(count)
        await scene.change(replace(grant_of(account), revoked_at=NOON))
        scene.cache.forget_account(account)
        # Whoever had the facts before the change may have decided on them; whoever has them after it has the new ones.
        if asking.done():
            assert "permit" == judge(asking.result(), account)
        else:
            assert DenyReason.GRANT_REVOKED == judge(await asking, account), count


async def test_strangers_push_out_nobody(scene):
    """Ten thousand accounts that do not exist cost bounded memory, and not one fact about those that do."""
    await scene.of()
    for number in range(10_000):
        await scene.of(f"stranger-{number}")
    await scene.of()
    assert 1 == scene.store.count()
    scene.store.fetched.clear()
    for number in range(10_000 - 4096):
        await scene.of(f"stranger-{number}")
    assert 10_000 - 4096 == len(scene.store.fetched), "no more than 4096 of them were remembered"


async def test_closing_leaves_nobody_waiting(scene):
    """The end of the gateway ends every wait with an error, never with a fact."""
    scene.store.hold = asyncio.Event()
    asking = asyncio.ensure_future(scene.of())
    await turns()
    await scene.tasks.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(StoreError):
            await asking


async def test_staff_and_assumptions_are_forgotten_by_name(scene):
    """A lock and an end count as soon as they are told of."""
    await scene.of()
    await scene.store.disable_staff(DANA, disabled=True)
    await scene.store.end_assumption("as-acme", at=NOON)
    assert "permit" == await verdict_of(scene)
    scene.cache.forget_staff(DANA)
    assert DenyReason.STAFF_DISABLED == await verdict_of(scene)
    scene.cache.forget_assumption("as-acme")
    await scene.store.disable_staff(DANA, disabled=False)
    scene.cache.forget_staff(DANA)
    assert DenyReason.ASSUMPTION_ENDED == await verdict_of(scene)


# Ids that become equal when they are joined, cut, folded or normalised.
ODD_IDS = [
    "ab",
    "a",
    "b",
    "abc",
    "c",
    "bc",
    "a:b",
    "a\x00b",
    "a:",
    ":b",
    "A",
    "\u00e9",
    "e\u0301",
    "a ",
    "",
    "None",
    "trial_a",
]
ids = st.sampled_from(ODD_IDS)
actors = st.builds(ActorId, issuer=ids, subject=ids)
permissions = st.frozensets(st.sampled_from(Permission))
scopes = st.sampled_from(["tickets:read", "tickets:write", "tickets:write:test", "tickets:read tickets:write"]).map(
    parse_scopes
)
grants = st.builds(
    grant_of, ids, id=ids, permissions=permissions, epoch=st.integers(0, 2), revoked_at=st.sampled_from([None, None, NOON]),
    expires_at=st.sampled_from([None, NOON, NOON + timedelta(days=1)]),
)  # fmt: skip
requests = st.tuples(
    st.builds(
        claims_of,
        ids,
        assumption=ids,
        actor=actors,
        grant_id=ids,
        grant_epoch=st.integers(0, 2),
        scopes=scopes,
        subject=ids,
    ),
    st.sampled_from([(b"/tickets/1", "GET"), (b"/tickets", "POST"), (b"/tickets/test", "POST"), (b"/admin", "GET")]),
)


class Shelf(MemoryStore):
    """A store of random facts."""

    def __init__(self, accounts, assumptions, staff):
        super().__init__()
        self.rows = {"account": accounts, "assumption": assumptions, "staff": staff}

    def facts(self, claims):
        record = self.rows["account"].get(claims.account)
        return Facts(
            account=record.account if record else None,
            grant=grant_in_force(record.account, record.grant, READ) if record else None,
            assumption=self.rows["assumption"].get(claims.assumption),
            staff=self.rows["staff"].get(claims.actor),
            halted=None,
            rules=AS_LAST_SEEN,
        )

    async def find_account(self, account):
        return self.rows["account"].get(account)

    async def find_assumption(self, assumption):
        return self.rows["assumption"].get(assumption)

    async def find_staff(self, actor):
        return self.rows["staff"].get(actor)


@st.composite
def shelves(draw):
    accounts = {
        name: AccountRecord(
            account=Account(id=name, type=draw(st.sampled_from(AccountType)), suspended=draw(st.booleans())),
            grant=draw(st.none() | grants.map(lambda grant, name=name: replace(grant, account=name))),
        )
        for name in draw(st.sets(ids, min_size=4))
    }
    wanted = draw(st.lists(requests, min_size=5, max_size=30))
    assumptions, staff = {}, {}
    for claims, _ in wanted:
        if draw(st.booleans()):
            assumptions[claims.assumption] = assumption_of(
                claims.account,
                id=claims.assumption,
                subject=claims.subject,
                actor=claims.actor,
                grant_id=claims.grant_id,
            )
        staff[claims.actor] = staff_of(claims.actor, draw(permissions))
    return Shelf(accounts, assumptions, staff), wanted


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shelves())
def test_a_warm_cache_decides_like_none(shelf_and_requests):
    """Whatever is asked in whatever order, the decision is the one that fresh facts give: only facts are kept."""
    shelf, wanted = shelf_and_requests

    async def play():
        tasks = Tasks()
        terms = {"ttl_seconds": 2, "absent_ttl_seconds": 1, "trial_permissions": READ, "rules": AS_LAST_SEEN}
        warm = FactCache(shelf, ticks=Ticks(), tasks=tasks, **terms)
        for claims, (target, method) in [*wanted, *reversed(wanted)]:
            expected = shelf.facts(claims)
            actual = await warm.of_request(claims.account, claims)
            assert expected == actual
            judged = [judge(facts, claims.account, target, method, claims) for facts in (expected, actual)]
            assert judged[0] == judged[1]
        await tasks.close()

    asyncio.run(play())

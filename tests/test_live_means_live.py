"""Lives of two accounts under a worker that follows the store by an unreliable push, in time that is simulated.

The reference is the decision on what the store holds at that moment. Whoever was let in, or is still in, was permitted by
it less than one time to live before, whatever the push has lost, repeated or brought late; and at once where it has not.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.grants.mark import Mark, Place
from gateway.stores.store import StoreError
from policy.decide import decide
from policy.grants import Administrator, Change, GrantChange, GrantRefusal, choose, convert, grant_in_force
from policy.model import Account, AccountType, Deny, DenyReason, Duration, Facts, Permission
from policy.scopes import parse_scopes
from policy.target import parse_target
from tests.fact_scene import DANA, NOON, READ, assumption_of, claims_of, staff_of
from tests.follow_scene import PROFILE, TTL, FollowScene, Stream
from tests.lenient_rules import AS_LAST_SEEN
from tests.store_examples import begin
from tests.virtual_loop import VirtualLoop

BEAT = 0.3
"""A beat is a quarter of a second, and looking takes its turn."""
FACTS_SECONDS = 0.5
"""As long as a request waits for its facts."""
ACCOUNTS = ("acme", "young")
NO_FAULT = (None, DenyReason.STORE_UNAVAILABLE, DenyReason.GRANT_EXPIRED)
"""How a stream may end while the store says yes: an extension is not heard of in time, or the store says nothing."""
WRITE = READ | {Permission.WRITE}
accounts = st.sampled_from(ACCOUNTS)
OLGA = Administrator(id="olga", roles={"support": "admin"})


class Token:
    """A token, the request that needs all of it, and since when the store says no to that."""

    def __init__(self, account, number, grant, now, *, writes):
        self.account = account
        self.method, self.path = ("POST", b"/tickets/1/reply") if writes else ("GET", b"/tickets/1")
        self.sid = f"as-{account}-{number}"
        self.grant_id = grant.id
        self.claims = claims_of(
            account,
            assumption=self.sid,
            grant_id=grant.id,
            grant_epoch=grant.epoch,
            scopes=parse_scopes("tickets:read tickets:write" if writes else "tickets:read"),
            issued_at=now,
            expires_at=now + timedelta(days=3650),
        )
        self.refused_since = None
        self.refusals = 0


class Unwritten(Mark):
    """A mark that needs no thread, whose time is not the loop's."""

    is_written = True


class Worker(FollowScene):
    """With the loop's time on both clocks."""

    def __init__(self, loop):
        self.loop = loop
        super().__init__(Unwritten(Path("nowhere"), Place(0)), ticks=loop.time)

    def clock(self):
        return NOON + timedelta(seconds=self.loop.time() - 1000)


class LiveMeansLive(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = VirtualLoop()
        self.tokens, self.streams, self.numbers, self.turn = [], [], 0, 0
        self.sure = True
        """Whether every hint since the last settling has come."""
        self.run(self.start())

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def start(self):
        self.worker = Worker(self.loop)
        self.store = self.worker.store
        await self.store.save_staff(staff_of(DANA, frozenset(Permission)), at=NOON)
        await self.store.add_account(Account(id="acme", type=AccountType.PAID))
        await self.store.add_account(Account(id="young", type=AccountType.TRIAL))
        await self.worker.open_up()
        self.worker.follow()

    def teardown(self):
        self.run(self.worker.close())
        self.loop.close()

    # --- the truth ---

    def record(self, account):
        return self.store._accounts[account]

    def truth(self, token):
        record = self.record(token.account)
        facts = Facts(
            account=record.account,
            grant=grant_in_force(record.account, record.grant, READ),
            assumption=self.store._assumptions.get(token.sid),
            staff=self.store._staff.get(DANA),
            halted=DenyReason.KILL_SWITCH if self.store._kill_switch.on else None,
            rules=AS_LAST_SEEN,
        )
        return decide(self.request_of(token), facts, PROFILE, now=self.worker.clock())

    def request_of(self, token):
        asked = self.worker.request(token.account)
        return asked._replace(method=token.method, target=parse_target(token.path), claims=token.claims)

    def note(self):
        """Write down whom the store refuses by now."""
        for token in self.tokens:
            if isinstance(self.truth(token), Deny):
                token.refusals += token.refused_since is None
                token.refused_since = self.loop.time() if token.refused_since is None else token.refused_since
            else:
                token.refused_since = None

    def changed(self):
        self.sure = self.sure and not self.store.deaf and self.store.fail_with is None and bool(self.store.pushes)
        self.note()

    # --- what customers, the vendor and operators do ---

    def save(self, account, outcome):
        if isinstance(outcome, GrantChange) and outcome.change is not Change.UNCHANGED and self.store.fail_with is None:
            self.run(self.store.save_change(outcome, by="x", at=self.worker.clock()))
        self.changed()

    @rule(account=accounts, duration=st.sampled_from(Duration), permissions=st.sampled_from([READ, WRITE]))
    def the_customer_chooses(self, account, duration, permissions):
        record = self.record(account)
        self.numbers += 1
        outcome = choose(
            record.account,
            record.grant,
            duration=duration,
            permissions=permissions,
            administrator=OLGA,
            accepted_roles=frozenset({"admin"}),
            new_id=f"grant-{self.numbers}",
            now=self.worker.clock(),
        )
        assert isinstance(outcome, GrantRefusal) == (record.account.type is AccountType.TRIAL)
        self.save(account, outcome)

    @rule(account=accounts, duration=st.sampled_from([Duration.WEEK, Duration.ALWAYS]))
    def the_customer_takes_writing_back(self, account, duration):
        """Whoever reads goes on, whoever writes is out, also where the end moves with it."""
        grant = self.record(account).grant
        if grant is not None and Permission.WRITE in grant.permissions:
            self.the_customer_chooses(account, duration, READ)

    @rule()
    def the_trial_is_converted(self):
        record = self.record("young")
        self.save("young", convert(record.account, record.grant, now=self.worker.clock()))

    @rule(account=accounts, suspended=st.sampled_from([True, True, False]))
    def the_account_is_suspended_or_not(self, account, suspended):
        record = self.record(account)
        after = replace(record.account, epoch=record.account.epoch + 1, suspended=suspended)
        change = Change.SUSPENDED if suspended else Change.RESUMED
        self.save(account, GrantChange(change=change, account=after, grant=record.grant))

    @rule(on=st.sampled_from([True, True, False]))
    def the_kill_switch_is_set(self, on):
        if self.store.fail_with is None:
            self.run(self.worker.stop_everything(on=on))
        self.changed()

    @rule(disabled=st.sampled_from([True, True, False]))
    def the_person_is_locked_out_or_not(self, disabled):
        if self.store.fail_with is None:
            self.run(self.store.disable_staff(DANA, disabled=disabled))
        self.changed()

    @rule(account=accounts, writes=st.booleans())
    def somebody_stands_in(self, account, writes):
        record = self.record(account)
        grant = grant_in_force(record.account, record.grant, READ)
        if grant is None or self.store.fail_with is not None:
            return
        self.numbers += 1
        writes = writes and Permission.WRITE in grant.permissions
        token = Token(account, self.numbers, grant, self.worker.clock(), writes=writes)
        assumption = assumption_of(account, id=token.sid, grant_id=grant.id)
        self.run(begin(self.store, assumption))
        self.tokens.append(token)
        self.changed()

    @rule(which=st.integers(0, 99))
    def an_assumption_ends(self, which):
        if self.tokens and self.store.fail_with is None:
            self.run(self.store.end_assumption(self.tokens[which % len(self.tokens)].sid, at=NOON))
        self.changed()

    # --- what happens to the worker ---

    @rule()
    def no_hint_comes_any_more(self):
        self.store.deaf = True

    @rule()
    def hints_come_again(self):
        self.store.deaf = False

    @rule()
    def a_hint_comes_for_nothing_or_late(self):
        for push in self.store.pushes:
            push.heard.set()

    @rule()
    def the_channel_is_lost(self):
        self.sure = False
        self.store.lose_pushes()

    @rule(account=accounts)
    def all_breaks_behind_a_change(self, account):
        self.no_hint_comes_any_more()
        self.the_account_is_suspended_or_not(account, True)
        self.the_store_is_away_or_back(True)
        self.the_channel_is_lost()
        self.time_passes(2.1)

    @rule(away=st.booleans())
    def the_store_is_away_or_back(self, away):
        self.sure = self.sure and not away
        self.store.fail_with = StoreError("away") if away else None

    @rule(seconds=st.sampled_from([0.01, 0.2, 0.7, 1.1, 2.1]))
    def time_passes(self, seconds):
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            self.run(asyncio.sleep(min(0.1, max(end - self.loop.time(), 0.001))))
            self.note()

    @rule(seconds=st.sampled_from([0.5, 1.9, 2.5, 86_400, 7 * 86_400]))
    def the_worker_is_stopped_for_a_while(self, seconds):
        self.loop.jump(seconds)
        self.note()
        self.run(asyncio.sleep(0.01))

    # --- what staff do ---

    async def ask(self, token, *, stays=False):
        request = self.request_of(token)
        try:
            async with asyncio.timeout(FACTS_SECONDS):
                facts = self.worker.facts.at_hand(token.account, token.claims)
                facts = facts or await self.worker.facts.of_request(token.account, token.claims)
        except (StoreError, TimeoutError):
            return Deny(reason=DenyReason.STORE_UNAVAILABLE)
        decision = decide(request, facts, PROFILE, now=self.worker.clock())
        self.note()
        if not isinstance(decision, Deny):
            assert decision.ends_at > self.worker.clock()
            assert token.refused_since is None or self.loop.time() - token.refused_since < TTL
            if stays:
                refusals = token.refusals - (token.refused_since is not None)
                self.streams.append((token, refusals, Stream(self.worker.live.open(request, facts, decision))))
        return decision

    @rule(stays=st.booleans())
    def everybody_asks(self, stays):
        for token in self.tokens[-6:]:
            self.run(self.ask(token, stays=stays))

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 99))
    def a_stream_is_over(self, which):
        _, _, stream = self.streams.pop(which % len(self.streams))
        self.worker.live.close(stream.exchange)

    # --- what must hold ---

    @invariant()
    def every_other_time_it_is_heard_at_once(self):
        self.turn += 1
        if self.turn % 2:
            self.all_hints_have_come_and_nothing_has_changed_since()

    @rule()
    def all_hints_have_come_and_nothing_has_changed_since(self):
        """A hundredth of a second later the worker says what the store says, of requests and of streams."""
        if not self.sure or self.store.fail_with is not None:
            return
        self.run(asyncio.sleep(0.01))
        self.note()
        for token in self.tokens:
            decision, expected = self.run(self.ask(token)), self.truth(token)
            assert type(expected) is type(decision), (expected, decision)
        for token, _, stream in self.streams:
            assert (stream.cut is not None) or token.refused_since is None

    @initialize()
    def begin(self):
        self.everything_is_well_again()

    @rule()
    def everything_is_well_again(self):
        """Soon after the last fault is over, all is as the store says; then all is allowed again, and people are in."""
        self.store.fail_with, self.store.deaf = None, False
        self.time_passes(2.1)
        self.time_passes(1.1)
        self.sure = True
        self.all_hints_have_come_and_nothing_has_changed_since()
        self.the_kill_switch_is_set(False)
        self.the_person_is_locked_out_or_not(False)
        for account in ACCOUNTS:
            self.the_account_is_suspended_or_not(account, False)
            if self.record(account).account.type is AccountType.PAID:
                self.the_customer_chooses(account, Duration.WEEK, WRITE)
            for writes in (False, True):
                self.somebody_stands_in(account, writes)
        self.all_hints_have_come_and_nothing_has_changed_since()
        self.everybody_asks(True)
        assert self.tokens[-1].refused_since is None

    @invariant()
    def nobody_is_in_longer_than_facts_are_good(self):
        for token, refusals, stream in self.streams:
            if stream.cut is None:
                assert token.refused_since is None or self.loop.time() - token.refused_since < TTL + BEAT
            if stream.cut not in NO_FAULT:
                assert token.refused_since is not None or token.refusals > refusals, "cut without a reason"

    @invariant()
    def entries_are_bounded(self):
        assert len(self.worker.facts) <= 9 * 4096


LiveMeansLive.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLiveMeansLive = LiveMeansLive.TestCase

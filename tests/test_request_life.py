"""Lives of an account's requests, played at random over a service and a store, and checked against a small model."""

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.grants.service import ChangeRequest
from gateway.stores.request_room import Room
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Store
from policy.asking import LATELY, MOST_WAITING, GrantRequest, RequestRefusal, RequestState, state_of
from policy.grants import Change, GrantChange, expiry
from policy.model import AccountId, Duration, Permission
from tests.asking_world import OWNER, Desk
from tests.memory_store import MemoryStore

ROOM = Room(per_staff_and_account=3, per_account=5, per_staff=4)
PEOPLE = {"dana": ("support",), "lee": ("leads",)}
ACCOUNTS = ("acme", "globex")
accounts, people, durations = st.sampled_from(ACCOUNTS), st.sampled_from(sorted(PEOPLE)), st.sampled_from(Duration)
permission_sets = st.frozensets(st.sampled_from(Permission))


class RequestLife(RuleBasedStateMachine):
    """The model: what each account has said last, and what came of each question."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.desk = Desk(self.runner.run(self.open_store()), room=ROOM)
        self.asked: list[GrantRequest] = []
        self.answers: dict[str, RequestState] = {}
        self.given: dict[str, tuple[frozenset[Permission], object] | None] = dict.fromkeys(ACCOUNTS)

    async def open_store(self) -> Store:
        return MemoryStore()

    def teardown(self) -> None:
        self.runner.run(self.desk.store.close())
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        self.runner.run(self.desk.open(*ACCOUNTS))

    @rule(hours=st.sampled_from([1, 12, 25, 95, 97]))
    def time_passes(self, hours: int) -> None:
        self.desk.clock.forward(hours=hours)

    @rule(account=accounts, who=people, wanted=permission_sets, duration=durations.filter(lambda one: one != "off"))
    def somebody_asks(self, account: str, who: str, wanted: frozenset[Permission], duration: Duration) -> None:
        person = self.desk.person(who, *PEOPLE[who])
        outcome = self.runner.run(self.desk.ask(*wanted, account=account, person=person, duration=duration))
        now = self.desk.clock.now
        counted = [one for one in self.asked if now - one.asked_at < LATELY or self.state(one) is RequestState.WAITING]
        mine = [one for one in counted if one.actor.subject == who]
        is_full = (
            sum(one.account == account for one in mine) >= ROOM.per_staff_and_account
            or sum(one.account == account for one in counted) >= ROOM.per_account
            or len(mine) >= ROOM.per_staff
        )
        beyond = who == "dana" and not wanted <= {Permission.READ, Permission.TEST_TICKETS}
        held = self.held(account)
        is_idle = held is not None and wanted | {Permission.READ} <= held[0] and not is_before(held[1], duration, now)
        assert (is_full or beyond or is_idle) == isinstance(outcome, RequestRefusal), outcome
        if isinstance(outcome, GrantRequest):
            assert now + MOST_WAITING == outcome.expires_at
            self.asked.append(outcome)

    @rule(data=st.data(), to=accounts, duration=durations, chosen=permission_sets, shortens=st.booleans())
    def somebody_approves(
        self, data: st.DataObject, to: str, duration: Duration, chosen: frozenset[Permission], shortens: bool
    ) -> None:
        if not self.asked:
            return
        asked = data.draw(st.sampled_from(self.asked))
        now, held = self.desk.clock.now, self.held(to)
        outcome = self.runner.run(self.desk.approve(asked, duration, *chosen, account=to, shortens=shortens))
        good = asked.account == to and self.state(asked) is RequestState.WAITING and duration is not Duration.OFF
        if good and held is not None and not shortens and is_before(expiry(duration, now), held[1]):
            good = False
        assert good == isinstance(outcome, GrantChange), outcome
        if good:
            self.answers[asked.id] = RequestState.APPROVED
            self.given[to] = (chosen | {Permission.READ}, expiry(duration, now))

    @rule(data=st.data(), to=accounts)
    def somebody_declines(self, data: st.DataObject, to: str) -> None:
        if self.asked:
            asked = data.draw(st.sampled_from(self.asked))
            outcome = self.runner.run(self.desk.decline(asked, account=to))
            self.settle(asked, outcome, RequestState.DECLINED, may=asked.account == to)

    @rule(data=st.data(), who=people)
    def somebody_withdraws(self, data: st.DataObject, who: str) -> None:
        if self.asked:
            asked = data.draw(st.sampled_from(self.asked))
            outcome = self.runner.run(self.desk.withdraw(asked, person=self.desk.person(who)))
            self.settle(asked, outcome, RequestState.WITHDRAWN, may=asked.actor.subject == who)

    @rule(account=accounts, duration=durations, chosen=permission_sets)
    def the_customer_chooses_by_themselves(
        self, account: str, duration: Duration, chosen: frozenset[Permission]
    ) -> None:
        wish = ChangeRequest(account=AccountId(account), duration=duration, permissions=chosen, administrator=OWNER)
        outcome = self.runner.run(self.desk.grants.choose(wish))
        assert isinstance(outcome, GrantChange)
        if duration is Duration.OFF:
            self.given[account] = None
        elif outcome.change is not Change.UNCHANGED:
            self.given[account] = (chosen | {Permission.READ}, expiry(duration, self.desk.clock.now))

    @invariant()
    def staff_have_what_was_chosen_and_nothing_else(self) -> None:
        for account in ACCOUNTS if self.asked else ():
            grant, held = self.runner.run(self.desk.grant(account)), self.held(account)
            is_live = grant is not None and grant.is_live(self.desk.clock.now)
            assert held == ((grant.permissions, grant.expires_at) if is_live else None)

    @invariant()
    def what_waits_is_what_nobody_has_answered(self) -> None:
        for account in ACCOUNTS:
            waiting = [
                one.id for one in self.asked if one.account == account and self.state(one) is RequestState.WAITING
            ]
            assert sorted(waiting) == sorted(self.runner.run(self.desk.waiting(account)))

    def settle(self, asked: GrantRequest, outcome: object, answer: RequestState, *, may: bool) -> None:
        good = may and self.state(asked) is RequestState.WAITING
        assert good == isinstance(outcome, GrantRequest), outcome
        if good:
            assert state_of(outcome, self.desk.clock.now) is answer
            self.answers[asked.id] = answer

    def state(self, asked: GrantRequest) -> RequestState:
        said = self.answers.get(asked.id, RequestState.WAITING)
        is_over = said is RequestState.WAITING and self.desk.clock.now - asked.asked_at >= timedelta(days=4)
        return RequestState.EXPIRED if is_over else said

    def held(self, account: str) -> tuple[frozenset[Permission], object] | None:
        held = self.given[account]
        return held if held is None or held[1] is None or held[1] > self.desk.clock.now else None


def is_before(one: object, other: object, now: object = None) -> bool:
    """Tell whether an end is before another; None is no end, and a duration's is counted from `now`."""
    other = expiry(other, now) if isinstance(other, Duration) else other
    return one is not None and (other is None or one < other)


class RequestLifeOnDisk(RequestLife):
    async def open_store(self) -> Store:
        self.directory = tempfile.TemporaryDirectory()
        return await open_sqlite(Path(self.directory.name) / "locum.db")

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


TestInMemory = RequestLife.TestCase
TestInMemory.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, report_multiple_bugs=False)
TestOnDisk = RequestLifeOnDisk.TestCase
TestOnDisk.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

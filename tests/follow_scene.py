"""A worker's facts and open exchanges behind a store that they follow, with time in the test's hands."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from gateway.grants.facts import FactCache
from gateway.grants.follow import Follower
from gateway.grants.mark import Mark
from gateway.profiles import load_profile
from gateway.proxy.live import Live
from gateway.stores.store import KillSwitch
from gateway.tasks import Tasks
from policy.decide import decide
from policy.grants import Change, GrantChange
from policy.model import AccessRequest, Account, AccountType, Deny
from policy.target import parse_target
from tests.fact_scene import DANA, NOON, READ, CountingStore, assumption_of, claims_of, grant_of, staff_of, turns
from tests.journals import Ticks
from tests.lenient_rules import AS_LAST_SEEN
from tests.patience import PATIENCE_SECONDS
from tests.store_examples import begin

PROFILE = load_profile("demo-helpdesk")

TTL = 2.0


class Stream:
    """Something open, and how it ended."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.aborted = False
        assert exchange.begin(self._abort) is None

    def _abort(self):
        self.aborted = True

    @property
    def cut(self):
        """Why it was cut, or None."""
        verdict = self.exchange.verdict()
        assert self.aborted == (verdict is not None)
        return None if verdict is None else str(verdict.reason)


class FollowScene:
    """One worker with its mark, or the directory for one: `open_up` first; `follow` runs it, or `hear`, `beat` and `look` move it step by step."""

    def __init__(self, mark, store=None, *, origin="gateway", ticks=None):
        self.store = store or CountingStore()
        self.tasks = Tasks()
        self.ticks = ticks or Ticks()
        self.facts = FactCache(
            self.store,
            ttl_seconds=TTL,
            absent_ttl_seconds=1,
            trial_permissions=READ,
            rules=AS_LAST_SEEN,
            ticks=self.ticks,
            tasks=self.tasks,
        )
        self.live = Live(PROFILE, self.clock)
        self.mark = mark if isinstance(mark, Mark) else Mark.open(mark, origin)
        self.follower = Follower(
            self.store,
            facts=self.facts,
            live=self.live,
            mark=self.mark,
            ticks=self.ticks,
            ttl_seconds=TTL,
            read_keys=self.read_keys,
        )
        self.keys_read = 0

    async def read_keys(self):
        self.keys_read += 1

    def clock(self):
        return NOON + timedelta(minutes=1, seconds=self.ticks.now)

    async def furnish(self, *accounts):
        for account in accounts:
            await self.store.add_account(Account(id=account, type=AccountType.PAID))
            await self.change(account)
            await begin(self.store, assumption_of(account))
        await self.store.save_staff(staff_of(DANA), at=NOON)

    async def open_up(self):
        await self.follower.begin()

    def follow(self):
        self.follower.start(self.tasks)

    async def change(self, account="acme", *, suspended=False, **changes):
        stored = (await self.store.find_account(account)).account
        after = replace(stored, epoch=stored.epoch + 1, suspended=suspended)
        grant = grant_of(account, **({"epoch": after.epoch} | changes))
        await self.store.save_change(GrantChange(change=Change.ENABLED, account=after, grant=grant), by="o", at=NOON)

    async def revoke(self, account="acme"):
        await self.change(account, revoked_at=NOON)

    async def stop_everything(self, *, on=True):
        await self.store.set_kill_switch(KillSwitch(on=on, by="robin", reason="why", at=NOON))

    def request(self, account="acme"):
        return AccessRequest(
            method="GET",
            target=parse_target(b"/tickets/1"),
            account=account,
            audience=f"{account}.helpdesk.example",
            claims=claims_of(account),
        )

    async def decide(self, account="acme"):
        """Return the request, its facts and the decision on it, as the handler comes to it."""
        request = self.request(account)
        facts = self.facts.at_hand(account, request.claims) or await self.facts.of_request(account, request.claims)
        return request, facts, decide(request, facts, PROFILE, now=self.clock())

    async def ask(self, account="acme"):
        """Return "permit" or the reason."""
        _, _, decision = await self.decide(account)
        return str(decision.reason) if isinstance(decision, Deny) else "permit"

    async def stream(self, account="acme"):
        request, facts, decision = await self.decide(account)
        assert not isinstance(decision, Deny), decision
        return Stream(self.live.open(request, facts, decision))

    async def step(self):
        """Have it hear and look, as it does after a hint."""
        await self.follower.hear()
        await self.follower.look()

    async def settle(self):
        """Let what runs in the background do what there is to do."""
        await turns(50)

    async def close(self):
        await self.tasks.close()
        for exchange in self.live.all():
            self.live.close(exchange)


async def until(condition, seconds=PATIENCE_SECONDS):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it happens in the background, and there is nothing to wait on
            await asyncio.sleep(0.001)

"""A fact cache before a store that counts and can be held, and the facts of one good request."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.grants.facts import FactCache
from gateway.tasks import Tasks
from policy.grants import Change, GrantChange
from policy.model import (
    Account,
    AccountType,
    ActorId,
    Assumption,
    AssumptionClaims,
    Duration,
    Grant,
    Permission,
    Staff,
)
from policy.scopes import parse_scopes
from tests.journals import Ticks
from tests.lenient_rules import AS_LAST_SEEN
from tests.memory_store import MemoryStore
from tests.store_examples import begin

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
READ = frozenset({Permission.READ})
DANA = ActorId(issuer="https://idp.example", subject="dana")


class CountingStore(MemoryStore):
    """Counts what is fetched and how often it was listened to, and can hold back one kind of fetch."""

    def __init__(self):
        super().__init__()
        self.fetched = []
        self.listened = 0
        self.hold_accounts = None
        self.hold_assumptions = None

    def listen(self):
        self.listened += 1
        return super().listen()

    async def find_account(self, account):
        self.fetched.append(account)
        found = await super().find_account(account)
        if self.hold_accounts is not None:
            await self.hold_accounts.wait()
        return found

    async def find_assumption(self, assumption):
        found = await super().find_assumption(assumption)
        if self.hold_assumptions is not None:
            await self.hold_assumptions.wait()
        return found

    def count(self, account="acme"):
        return self.fetched.count(account)


class Scene:
    """A cache before a store, with an account that staff are in."""

    def __init__(self):
        self.store = CountingStore()
        self.tasks = Tasks()
        self.ticks = Ticks()
        self.cache = FactCache(
            self.store,
            ttl_seconds=2,
            absent_ttl_seconds=1,
            trial_permissions=READ,
            rules=AS_LAST_SEEN,
            ticks=self.ticks,
            tasks=self.tasks,
        )

    async def furnish(self, account="acme", permissions=READ):
        await self.store.add_account(Account(id=account, type=AccountType.PAID))
        await self.change(grant_of(account, permissions=permissions))
        await self.store.save_staff(staff_of(DANA), at=NOON)
        await begin(self.store, assumption_of(account))

    async def change(self, grant):
        stored = (await MemoryStore.find_account(self.store, grant.account)).account
        after = GrantChange(change=Change.ENABLED, account=replace(stored, epoch=stored.epoch + 1), grant=grant)
        await self.store.save_change(after, by="owner", at=NOON)

    async def revoke(self):
        await self.change(replace(grant_of("acme"), revoked_at=NOON))

    async def of(self, account="acme"):
        return await self.cache.of_request(account, claims_of(account))


def grant_of(account, **changes):
    return replace(
        Grant(
            id=f"grant-{account}",
            account=account,
            epoch=1,
            duration=Duration.WEEK,
            permissions=READ,
            not_before=NOON,
            expires_at=NOON + timedelta(weeks=1),
            given_by="owner",
        ),
        **changes,
    )


def staff_of(actor, permissions=READ):
    return Staff(id=actor, name="Dana", permissions=permissions)


def assumption_of(account, **changes):
    return replace(
        Assumption(
            id=f"as-{account}",
            account=account,
            subject="maria",
            actor=DANA,
            grant_id=f"grant-{account}",
            ticket="SUP-1",
            reason="why",
            scopes=parse_scopes("tickets:read tickets:write"),
            started_at=NOON,
            expires_at=NOON + timedelta(days=365),
        ),
        **changes,
    )


def claims_of(account, **changes):
    return replace(
        AssumptionClaims(
            token_id="t",
            client="app",
            account=account,
            audience=f"{account}.helpdesk.example",
            subject="maria",
            actor=DANA,
            assumption=f"as-{account}",
            grant_id=f"grant-{account}",
            grant_epoch=1,
            scopes=parse_scopes("tickets:read tickets:write"),
            issued_at=NOON,
            expires_at=NOON + timedelta(minutes=15),
        ),
        **changes,
    )


async def turns(count=10):
    """Let everybody else have their turn, so often."""
    for _ in range(count):
        await asyncio.sleep(0)

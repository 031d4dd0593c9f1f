"""Staff's requests on a store in memory, with a journal and a clock in the test's hands."""

import asyncio
from datetime import UTC, datetime, timedelta

from gateway.audit.log import JournalError
from gateway.caller import Caller
from gateway.grants.asking import Answerer, Approval, GrantRequests
from gateway.grants.service import GrantService
from gateway.staff.verify import SignedIn
from gateway.stores.request_room import Room
from policy.asking import AskingTerms, read_wish
from policy.grants import Administrator
from policy.model import Account, AccountId, AccountType, ActorId, Duration, Permission, Staff
from policy.rules import StaffRule, StandInRules
from tests.memory_store import MemoryStore

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ISSUER = "https://id.vendor.example"
CALLER = Caller(client_ip="192.0.2.7", user_agent="a browser", request_id="req_1")
OWNER = Administrator(id="owner", roles={"support": "admin"})
ACCEPTED = frozenset({"admin"})
RULES = StandInRules(
    rules=(
        StaffRule(permissions=frozenset({Permission.READ, Permission.TEST_TICKETS}), groups=frozenset({"support"})),
        StaffRule(permissions=frozenset(Permission), groups=frozenset({"leads"})),
        StaffRule(
            permissions=frozenset({Permission.READ}),
            groups=frozenset({"europe"}),
            account_attributes=frozenset({("region", "eu")}),
        ),
    )
)


class Notes:
    """An audit log that keeps its records, or cannot: implements AuditLog."""

    healthy = True

    def __init__(self):
        self.records = []
        self.broken = False
        self.when_appended = None
        """Called with each record that is kept, to do what somebody else does meanwhile."""

    async def append(self, record, *, durable=False, instead=None):
        # As a disk does, it lets others come in between.
        await asyncio.sleep(0)
        if self.broken:
            raise JournalError("the disk is full")
        self.records.append(record)
        if self.when_appended is not None:
            then, self.when_appended = self.when_appended, None
            await then()
        return len(self.records)

    def note(self, note):
        self.records.append(note)

    async def close(self):
        pass

    @property
    def said(self):
        return [(record.kind, record.decision, record.reason) for record in self.records]


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def forward(self, **delta):
        self.now += timedelta(**delta)


class Desk:
    """Whoever asks and whoever answers, before one service."""

    def __init__(self, store=None, *, room=None, terms=None):
        self.store = store or MemoryStore()
        self.journal = Notes()
        self.clock = Clock()
        self.grants = GrantService(self.store, self.journal, accepted_roles=ACCEPTED, clock=self.clock)
        self.requests = GrantRequests(
            self.store,
            self.journal,
            grants=self.grants,
            rules=RULES,
            terms=terms or AskingTerms(),
            room=room or Room(per_staff_and_account=50, per_account=50, per_staff=50),
            accepted_roles=ACCEPTED,
            clock=self.clock,
        )

    async def open(self, *accounts, kind=AccountType.PAID, **more):
        for account in accounts or ("acme",):
            await self.store.add_account(Account(id=AccountId(account), type=kind, **more))
        return self

    def person(self, subject="dana", *groups, at=None):
        staff = Staff(
            id=ActorId(ISSUER, subject),
            name=subject.title(),
            permissions=frozenset(),
            groups=frozenset(groups or ("support",)),
            told_at=self.clock.now,
        )
        return SignedIn(staff=staff, authentication={}, at=at or self.clock.now)

    async def ask(self, *permissions, account="acme", person=None, duration="week", ticket="SUP-7", reason="empty"):
        wish = read_wish(account=account, permissions=permissions, duration=duration, ticket=ticket, reason=reason)
        return await self.requests.ask(wish, person or self.person(), caller=CALLER)

    def answerer(self, account="acme", administrator=OWNER):
        return Answerer(account=AccountId(account), administrator=administrator, caller=CALLER)

    async def approve(self, request, duration=Duration.DAY, *permissions, account="acme", by=OWNER, **more):
        approval = Approval(duration=duration, permissions=frozenset({Permission.READ, *permissions}), **more)
        return await self.requests.approve(request.id, approval, self.answerer(account, by))

    async def decline(self, request, *, account="acme", by=OWNER):
        return await self.requests.decline(request.id, self.answerer(account, by))

    async def withdraw(self, request, *, person=None):
        return await self.requests.withdraw(request.id, person or self.person(), caller=CALLER)

    async def grant(self, account="acme"):
        return (await self.store.find_account(AccountId(account))).grant

    async def waiting(self, account="acme"):
        return [one.id for one in await self.requests.waiting(AccountId(account))]

"""Rows to store, each with something in it that a careless store would lose."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.stores.store import Client, Store, StoredKey
from policy.grants import Change, GrantChange
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Duration,
    Grant,
    GrantId,
    Permission,
    Scope,
    Staff,
)

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
ACME = Account(id=AccountId("acme"), type=AccountType.PAID)
OTHER = Account(id=AccountId("other"), type=AccountType.PAID)
ACTOR = ActorId(issuer="https://id.vendor.example", subject="u1")
AWKWARD = "'; DROP TABLE accounts; --\n\x00 \u202e Zoë 🦊"

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


def a_grant(account: Account, *, id: str = "g1", **changes) -> Grant:  # noqa: A002 - the field's own name
    grant = Grant(
        id=GrantId(id),
        account=account.id,
        epoch=account.epoch,
        duration=Duration.WEEK,
        permissions=frozenset({Permission.READ, Permission.TEST_TICKETS}),
        not_before=NOW,
        expires_at=NOW + timedelta(weeks=1),
        given_by="admin-7",
    )
    return replace(grant, **changes)


def a_change(account: Account, change: Change = Change.ENABLED, *, grant: Grant | None = None) -> GrantChange:
    """Return a change of `account`, read just now, that raises its epoch by one."""
    after = replace(account, epoch=account.epoch + 1)
    return GrantChange(change=change, account=after, grant=grant and replace(grant, epoch=after.epoch))


ASSUMPTION = Assumption(
    id=AssumptionId("s1"),
    account=ACME.id,
    subject=AgentId("agent-3"),
    actor=ACTOR,
    grant_id=GrantId("g1"),
    ticket="T-1001",
    reason=AWKWARD,
    scopes=frozenset({Scope(resource="tickets"), Scope(resource="tickets", write=True, test=True)}),
    started_at=NOW,
    expires_at=NOW + timedelta(minutes=15),
)
STAFF = Staff(
    id=ACTOR,
    name=AWKWARD,
    permissions=frozenset(Permission),
    groups=frozenset({"Tier 2, EMEA", '["x"]', "it's"}),
    claims=frozenset({("amr", "hwk"), ("amr", "pin"), ("department", AWKWARD), ("", "")}),
    told_at=NOW,
)
CLIENT = Client(
    id=ClientId("desk"),
    secret_digest=bytes(range(32)),
    roles=frozenset({"token", "grants"}),
    jwks=AWKWARD,
    dpop=True,
    account=AccountId(AWKWARD),
)
KEY = StoredKey(id="k1", algorithm="EdDSA", private_pem=b"-----BEGIN\x00\xff", created_at=NOW, signs_from=NOW)


async def begin(store: Store, assumption: Assumption) -> None:
    """Have its staff member begin an assumption, and end one that has ended."""
    staff = await store.find_staff(assumption.actor) or replace(STAFF, id=assumption.actor)
    await store.begin_assumption(replace(assumption, ended_at=None), staff, at=assumption.started_at)
    if assumption.ended_at is not None:
        await store.end_assumption(assumption.id, at=assumption.ended_at)

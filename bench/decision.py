"""The decision by itself: facts at hand, nothing read, nothing written."""

import time
from datetime import UTC, datetime, timedelta
from statistics import median

from gateway.profiles import load_profile
from policy.claims import build_token, check_token
from policy.decide import decide
from policy.model import (
    AccessRequest,
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Duration,
    Facts,
    Grant,
    GrantId,
    Permission,
    Permit,
    Staff,
    TokenId,
)
from policy.rules import StaffRule, StandInRules
from policy.scopes import parse_scopes
from policy.target import parse_target

_ISSUER = "https://assume.vendor.example"
_NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
_IN_A_BATCH = 100
_GROUPS = frozenset({"support"})


def decision_microseconds(*, batches: int = 100) -> float:
    """Return the median of the time that one decision takes, over batches of a hundred."""
    request, facts = _request(), _facts()
    profile = load_profile("demo-helpdesk")
    assert isinstance(decide(request, facts, profile, now=_NOW), Permit)
    each = []
    for _ in range(batches):
        started = time.perf_counter_ns()
        for _ in range(_IN_A_BATCH):
            decide(request, facts, profile, now=_NOW)
        each.append((time.perf_counter_ns() - started) / 1000 / _IN_A_BATCH)
    return median(each)


def _assumption() -> Assumption:
    return Assumption(
        id=AssumptionId("as_1"),
        account=AccountId("acme"),
        subject=AgentId("maria"),
        actor=ActorId(issuer="https://idp.vendor.example", subject="dana"),
        grant_id=GrantId("gr_1"),
        ticket="SUP-1",
        reason="cannot reproduce",
        scopes=parse_scopes("tickets:read"),
        started_at=_NOW,
        expires_at=_NOW + timedelta(minutes=15),
    )


def _facts() -> Facts:
    assumption = _assumption()
    permissions = frozenset({Permission.READ})
    grant = Grant(
        id=assumption.grant_id,
        account=assumption.account,
        epoch=1,
        duration=Duration.DAY,
        permissions=permissions,
        not_before=_NOW,
        expires_at=_NOW + timedelta(days=1),
        given_by="owner",
    )
    return Facts(
        account=Account(id=assumption.account, type=AccountType.PAID, epoch=1),
        grant=grant,
        assumption=assumption,
        staff=Staff(id=assumption.actor, name="Dana", permissions=permissions, groups=_GROUPS),
        halted=None,
        rules=StandInRules(rules=(StaffRule(permissions=permissions, groups=_GROUPS),)),
    )


def _request() -> AccessRequest:
    claims = build_token(
        _assumption(),
        issuer=_ISSUER,
        audience="acme.helpdesk.example",
        client=ClientId("bench"),
        token_id=TokenId("1"),
        grant_epoch=1,
        authentication={},
        now=_NOW,
        expires_at=_NOW + timedelta(seconds=900),
    )
    return AccessRequest(
        method="GET",
        target=parse_target(b"/tickets/1"),
        account=AccountId("acme"),
        audience="acme.helpdesk.example",
        claims=check_token(claims, issuer=_ISSUER),
    )

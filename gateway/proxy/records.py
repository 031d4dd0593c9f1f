"""What the journal says of a decision about a request."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import structs

from gateway.audit.record import Record, name_actor
from gateway.proxy import headers
from gateway.proxy.wire import RequestHead
from gateway.tokens.signing import OUR_BEGINNING
from policy.model import AccountId, AssumptionClaims, Deny, Facts, Permit, Scope
from policy.scopes import format_scopes

_ALLOWED: Final = "what the record of a permit says"
_LONGEST_REMEMBERED = 512


class _Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of a connection's permits have in common, as long as these are the very same."""

    claims: AssumptionClaims | None
    facts: Facts
    scopes: frozenset[Scope]
    record: Record


def record_decision(
    decision: Permit | Deny,
    head: RequestHead,
    facts: Facts,
    claims: AssumptionClaims | None,
    *,
    account: AccountId | None,
    client_ip: Callable[[], str | None],
    request_id: str,
) -> Record:
    """Return the record; of the query it holds the names only, of the headers none that could be a credential.

    `client_ip` is asked only where a record of the connection does not say it yet.
    """
    target = head.target
    path, names = _describe(target) if len(target) > _LONGEST_REMEMBERED else _describe_remembered(target)
    method = head.method.decode("latin-1")
    if isinstance(decision, Deny):
        record = _record(head, facts, claims, account=account, client_ip=client_ip)
        record.decision, record.reason, record.rule = "deny", str(decision.reason), decision.rule
        record.method, record.path, record.query_names, record.request_id = method, path, names, request_id
        return record
    allowed: _Allowed | None = head.kept.get(_ALLOWED)
    if (
        allowed is None
        or allowed.facts is not facts
        or allowed.claims is not claims
        or allowed.scopes != decision.scopes
    ):
        record = _record(head, facts, claims, account=account, client_ip=client_ip)
        record.decision, record.scopes = "allow", tuple(format_scopes(decision.scopes).split())
        allowed = _Allowed(claims=claims, facts=facts, scopes=decision.scopes, record=record)
        head.kept[_ALLOWED] = allowed
    rule = " ".join(decision.rules)
    return structs.replace(
        allowed.record, method=method, path=path, query_names=names, request_id=request_id, rule=rule
    )


def _describe(target: bytes) -> tuple[str, tuple[str, ...] | None]:
    """Return the path of a request target, and the names in its query if it has one."""
    path, _, query = _without_token(target).partition("?")
    return path, tuple(part.partition("=")[0] for part in query.split("&") if "=" in part) if query else None


# People look at the same pages again and again.
_describe_remembered = lru_cache(maxsize=4096)(_describe)


def _record(
    head: RequestHead,
    facts: Facts,
    claims: AssumptionClaims | None,
    *,
    account: AccountId | None,
    client_ip: Callable[[], str | None],
) -> Record:
    started, grant, staff = facts.assumption, facts.grant, facts.staff
    hosts, agents = headers.values(head.headers, b"host"), headers.values(head.headers, b"user-agent")
    return Record(
        kind="decision",
        actor=name_actor(claims.actor, staff.name if staff else None) if claims else None,
        subject=claims.subject if claims else None,
        account=account,
        grant_id=claims.grant_id if claims else None,
        grant_epoch=grant.epoch if grant else None,
        granted_by=grant.given_by if grant else None,
        ticket=started.ticket if started else None,
        stated_reason=started.reason if started else None,
        host=hosts[0].decode("latin-1") if hosts else None,
        client_ip=client_ip(),
        user_agent=_without_token(agents[0]) if agents else None,
        token_id=claims.token_id if claims else None,
        client_id=claims.client if claims else None,
        assumption=claims.assumption if claims else None,
    )


_TOKEN = re.compile(rb"[A-Za-z0-9_-]{0,20}" + OUR_BEGINNING + rb"[A-Za-z0-9_.=-]*")


def _without_token(text: bytes) -> str:
    """Return the text with any token of ours hidden, wherever somebody put it."""
    return (_TOKEN.sub(b"(token)", text) if OUR_BEGINNING in text else text).decode("latin-1")

"""What the journal says of a decision about a request."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import structs

from gateway import refusals
from gateway.audit.cutting import cut_text, mark_cut
from gateway.audit.record import Record, name_actor, seal, sealing_epoch
from gateway.caller import describe_agent
from gateway.proxy import headers
from gateway.proxy.wire import RequestHead
from gateway.tokens.hiding import hide_tokens
from policy.decide import reach
from policy.model import AccountId, AssumptionClaims, Deny, Facts, Permit, Scope
from policy.routes import read_field
from policy.scopes import format_scopes

_ALLOWED: Final = "what the record of a permit says"
_LONGEST_REMEMBERED = 512
_LONGEST_STRANGE = 256
_MOST_STRANGE_NAMES = 4
_LONGEST_HOST = 256
"""In bytes; a name has 253, and with it may stand a port."""


class _Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of a connection's permits have in common, as long as these are the very same."""

    claims: AssumptionClaims | None
    facts: Facts
    scopes: frozenset[Scope]
    record: Record
    epoch: int
    """In which the record was sealed."""


def record_decision(
    decision: Permit | Deny,
    head: RequestHead,
    facts: Facts,
    claims: AssumptionClaims | None,
    *,
    account: AccountId | None,
    client_ip: Callable[[], str | None],
    request_id: str,
    where: Callable[[RequestHead], str],
) -> Record:
    """Return the record; of the headers it holds none that could be a credential.

    Of the query it holds the names, and the values of those of which every rule says that they may be recorded, if the
    request is permitted. `client_ip` is asked only where a record of the connection does not say it yet; `where` only
    of a permit, to which address the request is sent.
    """
    target = head.target
    path, names = _describe(target) if len(target) > _LONGEST_REMEMBERED else _describe_remembered(target)
    method = head.method.decode("latin-1")
    if isinstance(decision, Deny):
        record = _record(head, facts, claims, account=account, client_ip=client_ip)
        record.decision, record.reason, record.rule = "deny", str(decision.reason), decision.rule
        if claims is None:
            # Of those who can send as many as they like; that they did matters more than what exactly.
            path = cut_text(path, _LONGEST_STRANGE)
            names = tuple(cut_text(name, _LONGEST_STRANGE) for name in names[:_MOST_STRANGE_NAMES]) if names else None
        record.method, record.path, record.query_names, record.request_id = method, path, names, request_id
        record.status = refusals.REFUSALS[decision.reason].status
        if claims is not None and claims.account == account:
            record.scopes = tuple(format_scopes(reach(claims, facts)).split())
        return record
    allowed: _Allowed | None = head.kept.get(_ALLOWED)
    if (
        allowed is None
        or allowed.facts is not facts
        or allowed.claims is not claims
        or allowed.scopes != decision.scopes
        or allowed.epoch != sealing_epoch()
    ):
        record = _record(head, facts, claims, account=account, client_ip=client_ip)
        record.decision, record.scopes = "allow", tuple(format_scopes(decision.scopes).split())
        seal(record)
        epoch = sealing_epoch()
        allowed = _Allowed(claims=claims, facts=facts, scopes=decision.scopes, record=record, epoch=epoch)
        head.kept[_ALLOWED] = allowed
    return structs.replace(
        allowed.record,
        method=method,
        path=path,
        query_names=names,
        query_values=_values(target, decision.query_recorded) if names and decision.query_recorded else None,
        request_id=request_id,
        rule=" ".join(decision.rules),
        upstream=where(head),
    )


def _describe(target: bytes) -> tuple[str, tuple[str, ...] | None]:
    """Return the path of a request target, and the names in its query if it has one."""
    path, _, query = hide_tokens(target).decode("latin-1").partition("?")
    return path, tuple(part.partition("=")[0] for part in query.split("&") if "=" in part) if query else None


def _values(target: bytes, recorded: frozenset[str]) -> tuple[str, ...] | None:
    """Return those fields of a permitted target's query, as they were sent, whose names are among `recorded`."""
    _, _, query = hide_tokens(target).decode("latin-1").partition("?")
    said = (part for part in query.split("&") if "=" in part)
    # All that frameworks may take a field's name for must be among them; one in escapes is taken for none.
    return tuple(part for part in said if read_field(part.partition("=")[0]) <= recorded) or None


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
    # The grant is of the account that is asked.
    is_own = claims is None or claims.account == account
    started, grant, staff = facts.assumption, facts.grant if is_own else None, facts.staff
    hosts, agents = headers.values(head.headers, b"host"), headers.values(head.headers, b"user-agent")
    parents = headers.values(head.headers, b"traceparent")
    return Record(
        kind="decision",
        actor=name_actor(claims.actor, staff.name if staff else None, facts.groups) if claims else None,
        subject=claims.subject if claims else None,
        account=claims.account if claims else account,
        asked_account=None if is_own else account,
        grant_id=claims.grant_id if claims else None,
        grant_epoch=grant.epoch if grant else None,
        granted_by=grant.given_by if grant else None,
        ticket=started.ticket if started else None,
        stated_reason=started.reason if started else None,
        host=_describe_host(hosts[0]) if hosts else None,
        client_ip=client_ip(),
        user_agent=describe_agent(agents[0]) if agents else None,
        token_id=claims.token_id if claims else None,
        traceparent=parents[0].decode("ascii") if len(parents) == 1 and _is_traceparent(parents[0]) else None,
        client_id=claims.client if claims else None,
        assumption=claims.assumption if claims else None,
    )


def _describe_host(value: bytes) -> str:
    text = hide_tokens(value[:_LONGEST_HOST]).decode("latin-1")
    return text if len(value) <= _LONGEST_HOST else text + mark_cut(value, len(value), "bytes")


# W3C Trace Context, section 3.2.2: of a later version more may follow, which is nobody's business here.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def _is_traceparent(text: bytes) -> bool:
    return _TRACEPARENT.fullmatch(text) is not None

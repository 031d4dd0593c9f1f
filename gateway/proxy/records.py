"""What the journal says of a decision about a request."""

import re
from functools import lru_cache
from typing import Final

from gateway.audit.record import Record, name_actor
from gateway.proxy import headers
from gateway.proxy.wire import Headers, RequestHead
from gateway.tokens.signing import OUR_BEGINNING
from policy.model import AccountId, AssumptionClaims, Deny, Facts, Permit, Scope
from policy.scopes import format_scopes


def record_decision(
    decision: Permit | Deny,
    head: RequestHead,
    facts: Facts,
    claims: AssumptionClaims | None,
    *,
    account: AccountId | None,
    client_ip: str | None,
    request_id: str,
) -> Record:
    """Return the record; of the query it holds the names only, of the headers none that could be a credential."""
    path, _, query = _without_token(head.target).partition("?")
    said = head.kept.get(_SAID)
    if said is None:
        said = head.kept[_SAID] = _read_said(head.headers)
    started, grant, staff = facts.assumption, facts.grant, facts.staff
    denied = isinstance(decision, Deny)
    rule = decision.rule if isinstance(decision, Deny) else " ".join(decision.rules)
    return Record(
        kind="decision",
        decision="deny" if denied else "allow",
        reason=str(decision.reason) if isinstance(decision, Deny) else None,
        rule=rule or None,
        actor=name_actor(claims.actor, staff.name if staff else None) if claims else None,
        subject=claims.subject if claims else None,
        account=account,
        grant_id=claims.grant_id if claims else None,
        grant_epoch=grant.epoch if grant else None,
        granted_by=grant.given_by if grant else None,
        ticket=started.ticket if started else None,
        stated_reason=started.reason if started else None,
        scopes=None if isinstance(decision, Deny) else _texts(decision.scopes),
        method=head.method.decode("latin-1"),
        path=path,
        query_names=tuple(part.partition("=")[0] for part in query.split("&") if "=" in part) if query else None,
        host=said[0],
        client_ip=client_ip,
        user_agent=said[1],
        token_id=claims.token_id if claims else None,
        client_id=claims.client if claims else None,
        assumption=claims.assumption if claims else None,
        request_id=request_id,
    )


_SAID: Final = "host and user agent for the record"


def _read_said(lines: Headers) -> tuple[str | None, str | None]:
    hosts, agents = headers.values(lines, b"host"), headers.values(lines, b"user-agent")
    return hosts[0].decode("latin-1") if hosts else None, _without_token(agents[0]) if agents else None


@lru_cache(maxsize=1024)
def _texts(scopes: frozenset[Scope]) -> tuple[str, ...]:
    return tuple(format_scopes(scopes).split())


_TOKEN = re.compile(OUR_BEGINNING + rb"[A-Za-z0-9_.=-]*")


def _without_token(text: bytes) -> str:
    """Return the text with any token of ours hidden, wherever somebody put it."""
    return (_TOKEN.sub(b"(token)", text) if OUR_BEGINNING in text else text).decode("latin-1")

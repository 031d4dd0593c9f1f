"""Token exchange: from an RFC 8693 request to the assumption and claims to sign, or a named refusal."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from policy.claims import DETAILS_TYPE, LONGEST_TOKEN, build_token
from policy.decide import check_account, check_grant, check_staff
from policy.model import (
    AccountId,
    Agent,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Deny,
    DenyReason,
    Facts,
    Permission,
    Scope,
    Staff,
    TokenId,
)
from policy.scopes import ScopeError, narrow, parse_scope, parse_scopes
from policy.staff import newest
from policy.unique import unique

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type identifier
AGENT_ID = "urn:locum:params:oauth:token-type:agent-id"
ACTOR_TYPES = frozenset({"urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt"})

_KNOWN = frozenset({
    "grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience", "resource",
    "scope", "requested_token_type", "authorization_details", "client_id",
})  # fmt: skip
_DETAIL_KEYS = frozenset({"type", "account", "ticket", "reason", "locations", "identifier"})
_IDENTIFIER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+:-]{0,126}[A-Za-z0-9_])?", re.ASCII)
# Line breaks of every kind, control characters, and halves of characters, which JSON's escapes can spell.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_ACCOUNT = 256
_LONGEST_TICKET = 128
_LONGEST_REASON = 1000


class ExchangeError(ValueError):
    """The request is not a token exchange that we serve; `error` is its OAuth code."""

    def __init__(self, message: str, *, error: str = "invalid_request") -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRequest:
    """What is asked for; the actor token is still unverified, and empty where staff have signed in otherwise."""

    actor_token: str
    subject: str
    audience: str
    account: str
    ticket: str
    reason: str
    scopes: frozenset[Scope]
    locations: tuple[str, ...] = ()
    """The hosts that it is wanted for, where that was said."""
    grant_id: str | None = None
    """The grant that it is wanted under, where that was said."""

    def __repr__(self) -> str:
        """Hide the actor token."""
        return f"ExchangeRequest(account={self.account!r}, subject={self.subject!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTerms:
    """What this installation asks of an exchange."""

    issuer: str
    lifetime: timedelta
    known_scopes: frozenset[Scope]
    most_assumptions: int = 10
    """So many may a staff member have open at once."""
    require_ticket: bool = True
    require_reason: bool = True
    longest: timedelta = LONGEST_TOKEN
    """No credential lives longer, whatever `lifetime` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """An assumption to start, with the claims to sign; only `exchange` makes one."""

    assumption: Assumption
    claims: Mapping[str, Any]
    expires_at: datetime


def read_request(fields: Iterable[tuple[str, str]]) -> ExchangeRequest:
    """Return the exchange that form fields ask for (RFC 8693 section 2.1), or raise ExchangeError.

    A parameter sent twice is refused, an unknown one ignored, one without a value counts as not sent (RFC 6749
    section 3.2).
    """
    form = _read_form(fields)
    if "grant_type" not in form:
        raise ExchangeError(f"name the `grant_type`: {GRANT_TYPE}")
    if form["grant_type"] != GRANT_TYPE:
        raise ExchangeError(f"the grant type must be {GRANT_TYPE}", error="unsupported_grant_type")
    if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise ExchangeError(f"only {ACCESS_TOKEN} is issued")
    if form.get("subject_token_type") != AGENT_ID or "subject_token" not in form:
        raise ExchangeError(f"`subject_token` must be the agent's id, and `subject_token_type` {AGENT_ID}")
    if form.get("actor_token_type") not in ACTOR_TYPES or "actor_token" not in form:
        raise ExchangeError("`actor_token` must be the staff member's ID token, with its `actor_token_type`")
    if "audience" not in form or "resource" in form:
        raise ExchangeError("name the account's host as `audience`, and no `resource`", error="invalid_target")
    try:
        scopes = parse_scopes(form.get("scope", ""))
    except ScopeError as exc:
        raise ExchangeError(str(exc), error="invalid_scope") from exc
    detail = _read_detail(form.get("authorization_details", ""))
    return ExchangeRequest(
        actor_token=form["actor_token"],
        subject=form["subject_token"],
        audience=form["audience"],
        account=detail["account"],
        ticket=detail.get("ticket", "").strip(),
        reason=detail.get("reason", "").strip(),
        scopes=scopes,
        locations=tuple(detail.get("locations", ())),
        grant_id=detail.get("identifier"),
    )


def request_of_form(
    *, account: str, subject: str, audience: str, ticket: str, reason: str, scopes: Iterable[str]
) -> ExchangeRequest:
    """Return what somebody who has signed in here asks for with a form, or raise ExchangeError.

    The same is asked of its texts as at the token endpoint.
    """
    texts = {"type": DETAILS_TYPE, "account": account, "ticket": ticket.strip(), "reason": reason.strip()}
    detail = _check_detail(texts)
    try:
        wanted = frozenset(parse_scope(scope) for scope in scopes)
    except ScopeError as exc:
        raise ExchangeError(str(exc), error="invalid_scope") from exc
    return ExchangeRequest(
        actor_token="",
        subject=subject,
        audience=audience,
        account=detail["account"],
        ticket=detail["ticket"],
        reason=detail["reason"],
        scopes=wanted,
    )


def request_of_device(fields: Iterable[tuple[str, str]]) -> ExchangeRequest:
    """Return what a device asks for (RFC 8628 section 3.1), without an audience, or raise ExchangeError.

    The one entry of `authorization_details` names the agent beside the rest; nobody has signed in yet.
    """
    form = _read_form(fields)
    try:
        scopes = parse_scopes(form.get("scope", ""))
    except ScopeError as exc:
        raise ExchangeError(str(exc), error="invalid_scope") from exc
    entry = _read_entry(form.get("authorization_details", ""))
    agent = entry.pop("agent", None)
    if not isinstance(agent, str) or _IDENTIFIER.fullmatch(agent) is None:
        raise ExchangeError("name the `agent` by their id in the app", error="invalid_authorization_details")
    detail = _check_detail(entry)
    if "identifier" in detail or detail["locations"]:
        raise ExchangeError(
            "say `type`, `account`, `agent`, `ticket` and `reason`", error="invalid_authorization_details"
        )
    return ExchangeRequest(
        actor_token="",
        subject=agent,
        audience="",
        account=detail["account"],
        ticket=detail.get("ticket", "").strip(),
        reason=detail.get("reason", "").strip(),
        scopes=scopes,
    )


def exchange(
    request: ExchangeRequest,
    *,
    facts: Facts,
    actor: Staff,
    terms: ExchangeTerms,
    audience: str,
    client: ClientId,
    assumption_id: AssumptionId,
    token_id: TokenId,
    authentication: Mapping[str, Any],
    signed_in_at: datetime,
    now: datetime,
    key: str | None = None,
    agent_roles: frozenset[str] | None = None,
    asking: bool = False,
) -> Issue | Deny:
    """Return what to sign, or the first reason against it; with the thumbprint of a `key`, for its holder only.

    `actor` comes from a verified actor token, `facts` are those of the request's account and may know something newer
    of the actor, `audience` is that account's host, `signed_in_at` the time of staff's own sign-in, `agent_roles` what
    the app has said of the agent. The same checks of account, grant, staff and agent as for each later request apply
    here. With `asking` the outcome is good for the question that tells the agent's role and for nothing else.
    """
    reason = (
        facts.halted
        or _check(request, terms, audience)
        or check_account(facts.account, AccountId(request.account))
        or check_grant(facts.grant, now)
        # Whoever was never seen before has no lock to find.
        or (_check_actor(facts.staff, signed_in_at) if facts.staff else None)
    )
    if reason is not None:
        return Deny(reason=reason)
    if facts.account is None or facts.grant is None or facts.rules is None:
        return Deny(reason=DenyReason.GRANT_OFF)
    if request.grant_id not in (None, facts.grant.id):
        # What is asked for under another grant than the one in force is not what the customer has allowed now.
        return Deny(reason=DenyReason.GRANT_REVOKED)
    agent = Agent(AgentId(request.subject), agent_roles)
    may = facts.rules.judge(newest(actor, facts.staff), facts.account, facts.grant, agent, asking=asking)
    scopes = Deny(reason=may) if isinstance(may, DenyReason) else _give(request, terms, facts.grant.permissions, may)
    if isinstance(scopes, Deny):
        return scopes
    end = now + min(terms.lifetime, terms.longest)
    expires_at = min(end, facts.grant.expires_at or end)
    assumption = Assumption(
        id=assumption_id,
        account=AccountId(request.account),
        subject=AgentId(request.subject),
        actor=actor.id,
        grant_id=facts.grant.id,
        ticket=request.ticket,
        reason=request.reason,
        scopes=scopes,
        started_at=now,
        expires_at=expires_at,
        signed_in_at=signed_in_at,
        agent_roles=agent_roles,
    )
    claims = build_token(
        assumption,
        issuer=terms.issuer,
        audience=audience,
        client=client,
        token_id=token_id,
        grant_epoch=facts.grant.epoch,
        authentication=authentication,
        now=now,
        expires_at=expires_at,
        key=key,
    )
    return Issue(assumption=assumption, claims=claims, expires_at=expires_at)


def _read_form(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    form: dict[str, str] = {}
    for name, value in fields:
        if name in form:
            raise ExchangeError(f"`{name}` is there twice: send it once")
        if name in _KNOWN:
            form[name] = value
    return {name: value for name, value in form.items() if value}


def _check(request: ExchangeRequest, terms: ExchangeTerms, audience: str) -> DenyReason | None:
    if request.audience != audience or not set(request.locations) <= {audience}:
        return DenyReason.INVALID_TARGET
    if _IDENTIFIER.fullmatch(request.subject) is None:
        return DenyReason.AGENT_INVALID
    if terms.require_ticket and not request.ticket:
        return DenyReason.TICKET_MISSING
    if terms.require_reason and not request.reason:
        return DenyReason.REASON_MISSING
    return None


def _give(
    request: ExchangeRequest, terms: ExchangeTerms, granted: frozenset[Permission], may: frozenset[Permission]
) -> frozenset[Scope] | Deny:
    """Return what of the scopes that are asked for is given; if none is asked for, of those that only read."""
    asked = request.scopes or frozenset(scope for scope in terms.known_scopes if not scope.write)
    if not asked <= terms.known_scopes:
        return Deny(reason=DenyReason.INVALID_SCOPE, needs=asked - terms.known_scopes)
    return narrow(asked, asked, granted, may) or Deny(reason=DenyReason.PERMISSION_NOT_GRANTED, needs=asked)


def _check_actor(staff: Staff, signed_in_at: datetime) -> DenyReason | None:
    if (reason := check_staff(staff)) is not None:
        return reason
    # Times of the provider are whole seconds, so the second of the sign-out itself is before it.
    signed_out = staff.signed_out_at is not None and signed_in_at <= staff.signed_out_at
    return DenyReason.STAFF_SIGNED_OUT if signed_out else None


def _read_detail(text: str) -> dict[str, Any]:
    """Return the one entry of `authorization_details` (RFC 9396 section 2), its texts checked."""
    return _check_detail(_read_entry(text))


def _read_entry(text: str) -> dict[str, Any]:

    def refuse(message: str) -> ExchangeError:
        return ExchangeError(message, error="invalid_authorization_details")

    try:
        details = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as exc:
        raise refuse("`authorization_details` must be a JSON array") from exc
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
        raise refuse("`authorization_details` must hold exactly one object")
    return dict(details[0])


def _check_detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    def refuse(message: str) -> ExchangeError:
        return ExchangeError(message, error="invalid_authorization_details")

    if detail.get("type") != "account_assumption" or not set(detail) <= _DETAIL_KEYS:
        raise refuse("`type` must be account_assumption, with `account`, `ticket` and `reason`")
    texts = {key: detail[key] for key in ("account", "ticket", "reason", "identifier") if key in detail}
    if not texts.get("account") or not all(isinstance(value, str) for value in texts.values()):
        raise refuse("`account`, `ticket`, `reason` and `identifier` must be texts, and `account` must be there")
    locations = detail.get("locations", [])
    if not isinstance(locations, list) or not all(isinstance(location, str) for location in locations):
        raise refuse("`locations` must be a list of hosts")
    if any(_CONTROL.search(value) for value in [*texts.values(), *locations]):
        raise refuse("`account`, `ticket` and `reason` must be one line of text each")
    # It is recorded also when it is refused, so that nobody may make it as long as they like.
    if len(texts["account"]) > _LONGEST_ACCOUNT:
        raise refuse(f"`account` may have {_LONGEST_ACCOUNT} characters")
    if len(texts.get("ticket", "")) > _LONGEST_TICKET or len(texts.get("reason", "")) > _LONGEST_REASON:
        raise refuse(f"`ticket` may have {_LONGEST_TICKET} characters and `reason` {_LONGEST_REASON}")
    return {**texts, "locations": locations}

"""The decision: may this request of a staff member go to the app?

Read it top down. `decide` walks an ordered list of rules; each looks at one thing and names the reason if it is
not so. Only a request that no rule objects to becomes a Permit, and this file is the only maker of one. What is
absent, unknown or undecidable is refused: there is no rule that allows, and no way to switch a rule off.
"""

from collections.abc import Sequence
from datetime import datetime

from policy.model import (
    AccessRequest,
    Account,
    AccountId,
    Assumption,
    AssumptionClaims,
    Decision,
    Deny,
    DenyReason,
    Facts,
    Grant,
    Permit,
    Scope,
    SignInDemand,
    Staff,
)
from policy.routes import METHODS, SAFE_METHODS, Profile, RouteRule
from policy.scopes import covers, narrow
from policy.times import LEEWAY


def decide(request: AccessRequest, facts: Facts, profile: Profile, *, now: datetime) -> Decision:
    """Return a Permit if every rule holds at `now`, else a Deny with the first reason.

    The power of a request is what staff's rules allow ∩ grant's permissions ∩ assumption's scopes ∩ token's scopes,
    taken anew each time; it can only have shrunk since the token was issued.
    """
    grant, assumption = facts.grant, facts.assumption
    reason = check_standing(
        request.claims, facts, account=request.account, audience=request.audience, now=now
    ) or _check_message(request, profile)
    if reason is not None:
        return Deny(reason=reason)
    if grant is None or assumption is None:
        # The rules above have refused these; said again for whoever changes them, and for the type checker.
        return Deny(reason=DenyReason.GRANT_OFF)

    matched = profile.match(request.method, request.target)
    granted = reach(request.claims, facts)
    refusal = _check_routes(matched.rules, request, granted)
    if refusal is not None:
        return refusal
    writes = matched.writes or request.upgrades or request.method not in SAFE_METHODS
    if writes and request.cross_site:
        # Reading is harmless: no other site's page gets to see the answer.
        return Deny(reason=DenyReason.CROSS_SITE)
    return Permit(
        account=request.account,
        subject=assumption.subject,
        actor=assumption.actor,
        assumption=assumption.id,
        grant_id=grant.id,
        grant_epoch=grant.epoch,
        scopes=granted,
        rules=matched.ids,
        writes=writes,
        ends_at=ends_at(request.claims, facts),
        query_recorded=matched.query_recorded,
    )


def reach(claims: AssumptionClaims, facts: Facts) -> frozenset[Scope]:
    """Return the scopes that staff's rules, the grant, the assumption and the token all allow now; none for no grant.

    Whether anything holds at all is for `check_standing` to say.
    """
    if facts.grant is None or facts.assumption is None or isinstance(facts.may, DenyReason):
        return frozenset()
    return narrow(facts.assumption.scopes, claims.scopes, facts.grant.permissions, facts.may)


def ends_at(claims: AssumptionClaims, facts: Facts) -> datetime:
    """Return when time alone will take the leave away."""
    ends = [claims.expires_at]
    if facts.assumption is not None:
        ends.append(facts.assumption.expires_at)
    if facts.grant is not None and facts.grant.expires_at is not None:
        ends.append(facts.grant.expires_at)
    if facts.sign_in is not None and facts.sign_in.until is not None:
        ends.append(facts.sign_in.until)
    return min(ends)


def check_standing(
    claims: AssumptionClaims, facts: Facts, *, account: AccountId, audience: str, now: datetime
) -> DenyReason | None:
    """What a token says holds at `now`, whatever it is used for; introspection asks this, too (RFC 7662)."""
    return (
        facts.halted
        or check_token(claims, account, audience, now)
        or check_account(facts.account, account)
        or check_grant(facts.grant, now, claims)
        or check_staff(facts.staff)
        or _check_assumption(facts.assumption, claims, now)
        or _check_rules(facts)
        or _check_sign_in(facts.sign_in, claims, now)
    )


def check_token(claims: AssumptionClaims, account: AccountId, audience: str, now: datetime) -> DenyReason | None:
    """The token is for this account's host, and its time has come and not passed."""
    # RFC 9068 section 4: a token for another resource is not accepted, whatever else it says.
    if claims.account != account or claims.audience != audience:
        return DenyReason.WRONG_ACCOUNT
    # Another node may have signed it, whose clock is ahead of ours; nobody's being behind makes it last longer.
    if not claims.issued_at - LEEWAY <= now < claims.expires_at:
        return DenyReason.TOKEN_EXPIRED
    return None


def check_account(account: Account | None, asked: AccountId) -> DenyReason | None:
    """The account exists, is the one that was asked about, and is not suspended."""
    if account is None or account.id != asked:
        return DenyReason.UNKNOWN_ACCOUNT
    if account.suspended:
        return DenyReason.ACCOUNT_SUSPENDED
    return None


def check_grant(grant: Grant | None, now: datetime, claims: AssumptionClaims | None = None) -> DenyReason | None:
    """The customer allows it at `now`; with `claims`, under the very grant that the token was issued for."""
    if grant is None:
        # A token proves that there was a grant; that there is none now means it was taken away.
        return DenyReason.GRANT_OFF if claims is None else DenyReason.GRANT_REVOKED
    if claims is not None and grant.epoch < claims.grant_epoch:
        # The store has forgotten what the token remembers: an older copy of it must not bring a grant back.
        return DenyReason.GRANT_STALE
    if claims is not None and grant.id != claims.grant_id:
        return DenyReason.GRANT_REVOKED
    if grant.revoked_at is not None:
        return DenyReason.GRANT_OFF if claims is None else DenyReason.GRANT_REVOKED
    if grant.is_expired(now):
        return DenyReason.GRANT_EXPIRED
    return None if grant.is_live(now) else DenyReason.GRANT_OFF


def check_staff(staff: Staff | None) -> DenyReason | None:
    """The staff member is known and still trusted by the vendor."""
    if staff is None:
        return DenyReason.STAFF_UNKNOWN
    return DenyReason.STAFF_DISABLED if staff.disabled else None


def _check_assumption(assumption: Assumption | None, claims: AssumptionClaims, now: datetime) -> DenyReason | None:
    """The assumption is the token's own, in every part, and has not ended."""
    if assumption is None:
        return DenyReason.ASSUMPTION_UNKNOWN
    stored = (assumption.id, assumption.account, assumption.subject, assumption.actor, assumption.grant_id)
    if stored != (claims.assumption, claims.account, claims.subject, claims.actor, claims.grant_id):
        return DenyReason.ASSUMPTION_UNKNOWN
    over = assumption.ended_at is not None or now >= assumption.expires_at
    return DenyReason.ASSUMPTION_ENDED if over else None


def _check_rules(facts: Facts) -> DenyReason | None:
    """The vendor's rules of now let this person stand in for this agent of this account: `policy.rules`."""
    return facts.may if isinstance(facts.may, DenyReason) else None


def _check_sign_in(demand: SignInDemand | None, claims: AssumptionClaims, now: datetime) -> DenyReason | None:
    """Staff's own sign-in is still as strong and as fresh as the vendor asks for (RFC 9470 section 3)."""
    if demand is None:
        return None
    strong = (not demand.acr or claims.acr in demand.acr) and demand.amr <= claims.amr
    fresh = demand.until is None or now < demand.until
    return None if strong and fresh else DenyReason.STAFF_AUTHENTICATION_WEAK


def _check_message(request: AccessRequest, profile: Profile) -> DenyReason | None:
    """The message means one thing: a known method, no second method in disguise, no body where none belongs."""
    if request.method not in METHODS:
        return DenyReason.METHOD_NOT_ALLOWED
    if request.overrides or profile.overrides_method(request.target):
        return DenyReason.METHOD_OVERRIDE
    if request.has_body and request.method in SAFE_METHODS:
        # Frameworks differ in whether they read it; RFC 9110 section 9.3.1 gives it no meaning.
        return DenyReason.BODY_NOT_ALLOWED
    return None


def _check_routes(routes: Sequence[RouteRule], request: AccessRequest, granted: frozenset[Scope]) -> Deny | None:
    """Every rule that speaks about the request is satisfied, and there is at least one."""
    if not routes:
        return Deny(reason=DenyReason.NO_ROUTE_RULE)
    for route in routes:
        if route.scope is None:
            return Deny(reason=DenyReason.NEVER_ALLOWED, rule=route.id, detail=route.never)
        if request.upgrades and not route.websocket:
            # Nothing that is sent on a WebSocket is judged, so each rule has to say that all of it fits its scope.
            return Deny(reason=DenyReason.UPGRADE_NOT_ALLOWED, rule=route.id)
    for route in routes:
        if route.scope is not None and not covers(granted, route.scope):
            in_token = covers(request.claims.scopes, route.scope)
            reason = DenyReason.PERMISSION_NOT_GRANTED if in_token else DenyReason.INSUFFICIENT_SCOPE
            return Deny(reason=reason, rule=route.id, needs=frozenset({route.scope}))
    return None

"""Which of the vendor's people may stand in, and how well they must have signed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from policy.model import ActorId, Deny, DenyReason, Permission, Staff
from policy.times import LEEWAY, is_time


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffRule:
    """Lets in whoever fits every condition that is set; a rule without a condition fits nobody."""

    permissions: frozenset[Permission]
    subject: str | None = None
    group: str | None = None
    claim: tuple[str, str] | None = None

    def fits(self, subject: str, groups: frozenset[str], claims: Mapping[str, Any]) -> bool:
        """Tell whether this rule speaks of the person; all comparisons are exact."""
        conditions = [
            self.subject is None or self.subject == subject,
            self.group is None or self.group in groups,
            self.claim is None or claims.get(self.claim[0]) == self.claim[1],
        ]
        return all(conditions) and (self.subject, self.group, self.claim) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInPolicy:
    """What staff's own sign-in must have been; an empty requirement is not checked."""

    groups_claim: str = "groups"
    acr: frozenset[str] = frozenset()
    """One of these authentication contexts."""
    amr: frozenset[str] = frozenset()
    """All of these methods (RFC 8176), such as `mfa`."""
    max_age: timedelta | None = None
    """The sign-in may be this old at the most."""


def admit(
    claims: Mapping[str, Any], rules: Sequence[StaffRule], policy: SignInPolicy, *, now: datetime
) -> Staff | Deny:
    """Return the staff member that verified identity claims speak of, or why they may not stand in.

    The permissions are those of every rule that fits, together.
    """
    if "act" in claims or "may_act" in claims:
        # Who is already acting for somebody is not the person themself; exchanging on would launder that.
        return Deny(reason=DenyReason.EXCHANGE_CHAINED)
    subject, issuer = str(claims["sub"]), str(claims["iss"])
    groups = _texts(claims.get(policy.groups_claim))
    fitting = [rule for rule in rules if rule.fits(subject, groups, claims)]
    if not fitting:
        return Deny(reason=DenyReason.STAFF_NOT_ALLOWED)
    if (detail := _weakness(claims, policy, now)) is not None:
        return Deny(reason=DenyReason.STAFF_AUTHENTICATION_WEAK, detail=detail)
    name = claims.get("name")
    return Staff(
        id=ActorId(issuer=issuer, subject=subject),
        name=name if isinstance(name, str) else subject,
        permissions=frozenset().union(*(rule.permissions for rule in fitting)),
        groups=groups,
    )


def signed_in_at(claims: Mapping[str, Any]) -> datetime:
    """Return when the sign-in was that verified identity claims speak of, the earliest time if they say it badly.

    A token may be issued anew for a sign-in of long ago, so where there is an `auth_time` it counts as well.
    """
    times = [claims[name] for name in ("iat", "auth_time") if name in claims]
    good = bool(times) and all(is_time(time) for time in times)
    return datetime.fromtimestamp(min(times) if good else 0, UTC)


def _weakness(claims: Mapping[str, Any], policy: SignInPolicy, now: datetime) -> str | None:
    if policy.acr and not policy.acr & _texts([claims.get("acr")]):
        return "the sign-in has not the required authentication context"
    if not policy.amr <= _texts(claims.get("amr")):
        return "the sign-in lacks a required method, such as a second factor"
    if policy.max_age is None:
        return None
    signed_in = claims.get("auth_time")
    if not is_time(signed_in):
        return "the sign-in does not say when it was"
    age = now - datetime.fromtimestamp(signed_in, UTC)
    if age < -LEEWAY:
        return "the sign-in is said to be still to come"
    return None if age <= policy.max_age else "the sign-in is too long ago"


def _texts(value: Any) -> frozenset[str]:
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()

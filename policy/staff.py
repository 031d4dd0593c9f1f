"""Which of the vendor's people may stand in, and how well they must have signed in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from policy.model import ActorId, Deny, DenyReason, Pairs, Staff
from policy.rules import SIGN_IN_METHODS, StandInRules
from policy.texts import one_line
from policy.times import LEEWAY, is_time

# In their own profile people may be able to choose it: it stands beside what customers decide about.
_LONGEST_NAME = 128


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


def read_staff(claims: Mapping[str, Any], rules: StandInRules, policy: SignInPolicy) -> Staff | Deny:
    """Return the staff member that verified identity claims speak of, whether they may stand in or not.

    The permissions are the most that the rules could give, in whichever account: see `StandInRules.judge`. They are
    none for whom no rule fits. A Deny is for claims that are nobody's own.
    """
    if "act" in claims or "may_act" in claims:
        # Who is already acting for somebody is not the person themself; exchanging on would launder that.
        return Deny(reason=DenyReason.EXCHANGE_CHAINED)
    name, subject = claims.get("name"), str(claims["sub"])
    staff = Staff(
        id=ActorId(issuer=str(claims["iss"]), subject=subject),
        name=(one_line(name, _LONGEST_NAME) if isinstance(name, str) else "") or one_line(subject, _LONGEST_NAME),
        permissions=frozenset(),
        groups=_texts(claims.get(policy.groups_claim)),
        claims=_kept(claims, rules.claims),
        told_at=_earliest(claims, "iat"),
    )
    return replace(staff, permissions=rules.most(staff))


def admit(
    said: Staff,
    known: Staff | None,
    claims: Mapping[str, Any],
    rules: StandInRules,
    policy: SignInPolicy,
    *,
    now: datetime,
) -> Deny | None:
    """Return why somebody may stand in for nobody whose claims `said` was read from; None if they may.

    `known` is what the store has of them.
    """
    if not rules.most(newest(said, known)):
        return Deny(reason=DenyReason.STAFF_NOT_ALLOWED)
    if (detail := weakness(claims, policy, now)) is not None:
        return Deny(reason=DenyReason.STAFF_AUTHENTICATION_WEAK, detail=detail)
    return None


def newest(said: Staff, known: Staff | None) -> Staff:
    """Return by what to judge somebody whose token `said` this, and of whom the store has `known`.

    What the provider has told last counts, so no older token brings back what a newer one has not. Of the methods of
    the sign-in those count that the token has as well: a weak sign-in gains nothing from a stronger one after it.
    """
    if known is None or not is_older(said, known):
        return said
    had = frozenset(pair for pair in known.claims if pair[0] != SIGN_IN_METHODS or pair in said.claims)
    return replace(known, claims=had)


def is_older(said: Staff, known: Staff) -> bool:
    """Tell whether what a token said was told before what is known."""
    return known.told_at is not None and (said.told_at is None or said.told_at < known.told_at)


def signed_in_at(claims: Mapping[str, Any]) -> datetime:
    """Return when the sign-in was that verified identity claims speak of, the earliest time if they say it badly.

    A token may be issued anew for a sign-in of long ago, so where there is an `auth_time` it counts as well.
    """
    return _earliest(claims, "iat", "auth_time")


def _earliest(claims: Mapping[str, Any], *names: str) -> datetime:
    times = [claims[name] for name in names if name in claims]
    good = bool(times) and all(is_time(time) for time in times)
    return datetime.fromtimestamp(min(times) if good else 0, UTC)


def weakness(claims: Mapping[str, Any], policy: SignInPolicy, now: datetime) -> str | None:
    """Return in what the sign-in that verified identity claims speak of falls short; None if it is as it must be."""
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


def _kept(claims: Mapping[str, Any], names: frozenset[str]) -> Pairs:
    """Return the named claims that are texts, and each method of the sign-in."""
    texts = {(name, claims[name]) for name in names if isinstance(claims.get(name), str) and name != SIGN_IN_METHODS}
    methods = _texts(claims.get(SIGN_IN_METHODS)) if SIGN_IN_METHODS in names else frozenset()
    return frozenset(texts | {(SIGN_IN_METHODS, method) for method in methods})


def _texts(value: Any) -> frozenset[str]:
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()

"""From a staff member's token to the person and what they may do, or a refusal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.clock import Clock
from gateway.config.model import StaffSection
from gateway.staff.issuer import Issuer, IssuerError
from gateway.tokens.compact import CompactError, read_compact
from gateway.tokens.signing import TokenRefused, verify_foreign
from policy.events import is_type
from policy.model import Deny, DenyReason, Staff
from policy.staff import SignInPolicy, StaffRule, admit, signed_in_at

_LONGEST_WORD = 128
_MOST_METHODS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A staff member whose token was verified."""

    staff: Staff
    authentication: Mapping[str, Any]
    """Those of `acr`, `amr` and `auth_time` that the token has."""
    at: datetime
    """When they signed in at the issuer."""


class StaffVerifier:
    """Verifies actor tokens against the issuer and the configured rules."""

    def __init__(self, issuer: Issuer, section: StaffSection, clock: Clock) -> None:
        self._issuer = issuer
        self._audience = section.audience
        self._clock = clock
        self._rules = read_rules(section)
        self._policy = SignInPolicy(
            groups_claim=section.groups_claim,
            acr=frozenset(section.require_acr),
            amr=frozenset(section.require_amr),
            max_age=None if section.max_age_seconds is None else timedelta(seconds=section.max_age_seconds),
        )

    async def verify(self, actor_token: str) -> SignedIn | Deny:
        """Return who presents the token, or why they may not stand in."""
        try:
            token = read_compact(actor_token)
            if "events" in token.payload or is_type(token.header, "logout+jwt", "secevent+jwt"):
                # Of the same issuer, key and audience as an ID token, and about the person, but no proof of being them.
                return Deny(reason=DenyReason.TOKEN_INVALID, detail="the actor token is refused: it tells of an event")
            keys = await self._issuer.keys_for(token)
            now = self._clock()
            claims = verify_foreign(token, keys, issuer=self._issuer.issuer, audience=self._audience, now=now)
        except IssuerError:
            return Deny(reason=DenyReason.ISSUER_UNAVAILABLE)
        except (CompactError, TokenRefused) as exc:
            return Deny(reason=DenyReason.TOKEN_INVALID, detail=f"the actor token is refused: {exc}")
        staff = admit(claims, self._rules, self._policy, now=now)
        if isinstance(staff, Deny):
            return staff
        return SignedIn(staff=staff, authentication=_authentication(claims), at=signed_in_at(claims))


def _authentication(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the sign-in, where it has the shape and size that a token can carry on."""
    acr, amr, auth_time = claims.get("acr"), claims.get("amr"), claims.get("auth_time")
    kept: dict[str, Any] = {}
    if isinstance(acr, str) and len(acr) <= _LONGEST_WORD:
        kept["acr"] = acr
    if isinstance(amr, list) and len(amr) <= _MOST_METHODS:
        kept["amr"] = [method for method in amr if isinstance(method, str) and len(method) <= _LONGEST_WORD]
    if type(auth_time) is int:
        kept["auth_time"] = auth_time
    return kept


def read_rules(section: StaffSection) -> Sequence[StaffRule]:
    """Return the configured rules as policy wants them."""
    return tuple(
        StaffRule(
            permissions=frozenset(rule.permissions),
            subject=rule.subject,
            group=rule.group,
            claim=None if rule.claim is None or rule.value is None else (rule.claim, rule.value),
        )
        for rule in section.rules
    )

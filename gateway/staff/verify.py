"""From a staff member's token to the person and what they may do, or a refusal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.clock import Clock
from gateway.config.model import StaffSection
from gateway.staff.issuer import Issuer, IssuerError
from gateway.stores.store import Store
from gateway.tokens.compact import CompactError, read_compact
from gateway.tokens.signing import TokenRefused, verify_foreign
from policy.events import is_type
from policy.model import ActorId, Deny, DenyReason, Staff
from policy.rules import StandInRules
from policy.staff import SignInPolicy, admit, is_older, read_staff, signed_in_at

_LONGEST_WORD = 128
_MOST_METHODS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A staff member whose token was verified."""

    staff: Staff
    """What the token says of them; the store may know something newer: see `policy.staff.newest`."""
    authentication: Mapping[str, Any]
    """Those of `acr`, `amr` and `auth_time` that the token has."""
    at: datetime
    """When they signed in at the issuer."""


class StaffVerifier:
    """Verifies actor tokens against the issuer and the configured rules, and keeps what the newest say."""

    def __init__(
        self,
        issuer: Issuer,
        section: StaffSection,
        rules: StandInRules,
        clock: Clock,
        *,
        store: Store,
        forget: Callable[[ActorId], None],
    ) -> None:
        """`forget` is told of whom the store knows something else from now on."""
        self._issuer = issuer
        self._audience = section.audience
        self._clock = clock
        self._store = store
        self._forget = forget
        self._rules = rules
        self._policy = SignInPolicy(
            groups_claim=section.groups_claim,
            acr=frozenset(section.require_acr),
            amr=frozenset(section.require_amr),
            max_age=None if section.max_age_seconds is None else timedelta(seconds=section.max_age_seconds),
        )

    async def verify(self, actor_token: str) -> SignedIn | Deny:
        """Return who presents the token, or why they may not stand in; raises StoreError, likewise below."""
        try:
            token = read_compact(actor_token)
            if "events" in token.payload or is_type(token.header, "logout+jwt", "secevent+jwt"):
                # Of the same issuer, key and audience as an ID token, and about the person, but no proof of being them.
                return Deny(reason=DenyReason.TOKEN_INVALID, detail="the actor token is refused: it tells of an event")
            keys = await self._issuer.keys_for(token)
            claims = verify_foreign(token, keys, issuer=self._issuer.issuer, audience=self._audience, now=self._clock())
        except IssuerError:
            return Deny(reason=DenyReason.ISSUER_UNAVAILABLE)
        except (CompactError, TokenRefused) as exc:
            return Deny(reason=DenyReason.TOKEN_INVALID, detail=f"the actor token is refused: {exc}")
        return await self.judge(claims)

    async def judge(self, claims: Mapping[str, Any]) -> SignedIn | Deny:
        """Return who verified identity claims speak of, or why they may not stand in by what is known of them by now.

        What the claims say of somebody who is known counts from now on for all that they have open, unless something
        newer has been said; also if they let nobody in: a person whose group was taken away is told of in no other way.
        """
        said = read_staff(claims, self._rules, self._policy)
        if isinstance(said, Deny):
            return said
        known = await self._store.find_staff(said.id)
        if known is not None and not is_older(said, known):
            await self._keep(said, known)
        refused = admit(said, known, claims, self._rules, self._policy, now=self._clock())
        if refused is not None:
            return refused
        return SignedIn(staff=said, authentication=_authentication(claims), at=signed_in_at(claims))

    async def _keep(self, said: Staff, known: Staff) -> None:
        kept = replace(said, disabled=known.disabled, signed_out_at=known.signed_out_at)
        if kept != known:
            await self._store.save_staff(kept, at=self._clock())
            self._forget(said.id)


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

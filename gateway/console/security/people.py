"""What somebody who has signed in to the security team's console may do, judged anew at each request."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from gateway.clients import AUDIT_ROLE, OPERATE_ROLE
from gateway.clock import Clock
from gateway.config.security import SecuritySignIn
from gateway.console.security.visit import AUDITOR, OPERATOR
from gateway.console.sessions import Kept
from gateway.stores.store import Client, Store
from policy.model import AccountId, ActorId, ClientId
from policy.staff import SignInPolicy, weakness

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who somebody is, and what they may do; without a role, nothing."""

    name: str
    roles: frozenset[str] = frozenset()
    account: AccountId | None = None
    why: str = ""
    """Why there is no role, for people."""


class People:
    """Judges sessions by the configuration, the clients and what the provider has told of its people."""

    def __init__(self, section: SecuritySignIn | None, *, issuer: str, store: Store, clock: Clock) -> None:
        """People sign in at `issuer` as `section` says; without it, nobody does."""
        self._section = section
        self._issuer = issuer
        self._store = store
        self._clock = clock

    async def judge(self, kept: Kept) -> Standing | None:
        """Return who a session is of, None if it is nobody's any more; raises StoreError.

        A client's roles are those of now. A person's are those of their sign-in, for nothing else tells of them; but
        whoever is locked out as staff, or was signed out by the provider since, is nobody here.
        """
        if kept.how == "client":
            client = await self._store.find_client(ClientId(kept.who))
            return None if client is None or proof_of(client) != kept.proof else self.of_client(client)
        if self._section is None or kept.issuer != self._issuer:
            return None
        known = await self._store.find_staff(ActorId(issuer=kept.issuer, subject=kept.who))
        if known is not None and known.signed_out_at is not None and kept.signed_in_at <= known.signed_out_at:
            return None
        standing = self.of_claims(kept.claims)
        if known is not None and known.disabled:
            return Standing(name=standing.name, why="You have been locked out.")
        return standing

    def of_client(self, client: Client) -> Standing:
        """Return what a client is here; one that is limited to an account only ever reads."""
        roles: set[str] = set()
        if AUDIT_ROLE in client.roles or OPERATE_ROLE in client.roles:
            roles.add(AUDITOR)
        if OPERATE_ROLE in client.roles and client.account is None:
            roles.add(OPERATOR)
        why = "" if roles else f"A client needs the role {AUDIT_ROLE} or {OPERATE_ROLE}."
        return Standing(name=client.id, roles=frozenset(roles), account=client.account, why=why)

    def of_claims(self, claims: Mapping[str, Any]) -> Standing:
        """Return what a person is here by what the provider said when they signed in."""
        name = claims.get("name")
        shown = name if isinstance(name, str) and name.strip() else str(claims.get("sub"))
        shown = shown[:_LONGEST_NAME]
        section = self._section
        if section is None or "act" in claims or "may_act" in claims:
            return Standing(name=shown, why="Nobody signs in here on behalf of somebody else.")
        held = _texts(claims.get(section.roles_claim))
        is_operator, is_auditor = bool(held & set(section.operators)), bool(held & set(section.auditors))
        if not (is_operator or is_auditor):
            return Standing(name=shown, why="The identity provider does not count you among those who may be here.")
        policy = SignInPolicy(
            acr=frozenset(section.require_acr),
            amr=frozenset(section.require_amr),
            max_age=None if section.max_age_seconds is None else timedelta(seconds=section.max_age_seconds),
        )
        weak = weakness(claims, policy, self._clock())
        if weak is not None:
            return Standing(name=shown, why=f"Sign in again: {weak}.")
        return Standing(name=shown, roles=frozenset({AUDITOR, OPERATOR} if is_operator else {AUDITOR}))


def proof_of(client: Client) -> str:
    """Return what ties a session to the client's secret of now, and tells nothing of it."""
    return sha256(b"security console proof\0" + client.secret_digest).hexdigest()


def _texts(value: Any) -> frozenset[str]:
    """Return the values of a claim: a text is one, and a list as many as it has texts."""
    if isinstance(value, str):
        return frozenset({value})
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()

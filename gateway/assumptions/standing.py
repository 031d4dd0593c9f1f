"""How an account stands for a staff member: whether they may be let in there, until when, and how far."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from policy.grants import GrantState, state
from policy.model import Account, AccountId, Grant, Permission, Scope
from policy.scopes import permits


@unique
class Where(StrEnum):
    """What is said of an account at one moment."""

    ON = "on"
    TRIAL = "trial"
    OFF = "off"
    ENDED = "ended"
    SUSPENDED = "suspended"


_WHERE: Final[Mapping[GrantState, Where]] = {
    GrantState.ON: Where.ON,
    GrantState.TRIAL: Where.TRIAL,
    GrantState.OFF: Where.OFF,
    GrantState.EXPIRED: Where.ENDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One account as one person may know it."""

    account: AccountId
    where: Where
    until: datetime | None
    """When it ends, or ended; None: it does not, or never was on."""
    held: frozenset[Permission]
    """What the account allows now."""
    may: frozenset[Permission]
    """What the vendor's rules let this person do there, whoever the agent is; never nothing."""

    @property
    def is_open(self) -> bool:
        """Whether an assumption may begin there now, as far as the account goes."""
        return self.where in (Where.ON, Where.TRIAL)

    @property
    def can_be_asked(self) -> bool:
        """Whether there is somebody of the account who could allow something: not of a trial, nor a suspended one."""
        return self.where not in (Where.TRIAL, Where.SUSPENDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeChoice:
    """One scope in the form, and whether it can be had there."""

    scope: str
    words: str
    lacks: str
    """Who does not allow it: `account` or `rules`; empty: it can be had."""
    checked: bool


def stand(account: Account, grant: Grant | None, may: frozenset[Permission], now: datetime) -> Standing:
    """Return how an account stands; `grant` is the one in force, a trial's own included."""
    where = Where.SUSPENDED if account.suspended else _WHERE[state(account, grant, now)]
    live = where in (Where.ON, Where.TRIAL) and grant is not None
    return Standing(
        account=account.id,
        where=where,
        until=grant.expires_at if grant is not None and where in (Where.ON, Where.ENDED) else None,
        held=grant.permissions if live and grant is not None else frozenset(),
        may=may,
    )


def choices(scopes: Mapping[Scope, str], standing: Standing | None, wanted: frozenset[str] | None) -> list[ScopeChoice]:
    """Return every scope there is; ticked are those `wanted`, and where nobody chose, those that only read.

    Where it is not known how the account stands, whatever is wanted may be asked for.
    """
    return [
        ScopeChoice(
            scope=str(scope),
            words=words,
            lacks=(lacks := "" if standing is None else _lacks(scope, standing)),
            checked=not lacks and (not scope.write if wanted is None else str(scope) in wanted),
        )
        for scope, words in scopes.items()
    ]


def _lacks(scope: Scope, standing: Standing) -> str:
    if not permits(standing.may, scope):
        return "rules"
    return "" if permits(standing.held, scope) else "account"

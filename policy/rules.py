"""Who may stand in for whom: the vendor's rules over a staff member, an account, and the agent whose place is taken.

A rule is a list of conditions, all of which have to fit, each compared whole. What a rule cannot know does not fit.
What a person may do is what every rule that fits says, together; without one it is nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from policy.model import (
    Account,
    AccountType,
    Agent,
    AgentId,
    Assumption,
    DenyReason,
    Grant,
    Pairs,
    Permission,
    SignInDemand,
    Staff,
)

SIGN_IN_METHODS = "amr"
"""The claim with the methods of a sign-in (RFC 8176), the one list among the claims that are kept."""

_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffRule:
    """Lets in whoever fits every condition that is set; a rule without a condition on the person fits nobody."""

    permissions: frozenset[Permission]
    issuer: str | None = None
    """Whose people it speaks of; None: any provider's."""
    subject: str | None = None
    groups: frozenset[str] = frozenset()
    """All of these."""
    claims: Pairs = frozenset()
    """All of these, as `Staff.claims` has them."""
    account_type: AccountType | None = None
    account_attributes: Pairs = frozenset()
    """All of these."""
    agent_roles: frozenset[str] = frozenset()
    """One of these, in the app's words; empty: whatever the role is, known or not."""

    def fits(self, staff: Staff) -> bool:
        """Tell whether this rule speaks of the person."""
        return (
            (self.subject is not None or bool(self.groups) or bool(self.claims))
            and self.issuer in (None, staff.id.issuer)
            and self.subject in (None, staff.id.subject)
            and self.groups <= staff.groups
            and self.claims <= staff.claims
        )

    def reaches(self, account: Account, agent: Agent, *, asking: bool) -> bool:
        """Tell whether it speaks of that agent of that account; for `asking` see `StandInRules.judge`."""
        return (
            self.account_type in (None, account.type)
            and self.account_attributes <= account.attributes
            and (
                not self.agent_roles
                or (asking and agent.roles is None)
                or (agent.roles is not None and not self.agent_roles.isdisjoint(agent.roles))
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInRules:
    """All of them together; without any, nobody may stand in for anybody."""

    rules: tuple[StaffRule, ...] = ()
    administrators: frozenset[str] = frozenset()
    """The roles that only a grant with `administrators` lets staff take."""
    agent_claim: tuple[str, str] | None = None
    """A provider, and the claim with the id that its people have as agents of the app; None: they have none there."""
    provider: str | None = None
    """Whose people's sign-in is asked for what follows; None: nobody's."""
    acr: frozenset[str] = frozenset()
    """One of these contexts; empty: any."""
    amr: frozenset[str] = frozenset()
    """All of these methods."""
    max_age: timedelta | None = None
    """It may be this old, also while an assumption goes on; None: any age."""

    def demand(self, assumption: Assumption) -> SignInDemand | None:
        """Return what the sign-in behind an assumption must be by now; one of an unknown time is too old for any."""
        if assumption.actor.issuer != self.provider or not (self.acr or self.amr or self.max_age is not None):
            return None
        begun = assumption.signed_in_at or assumption.started_at - (self.max_age or timedelta())
        until = None if self.max_age is None else begun + self.max_age
        return SignInDemand(acr=self.acr, amr=self.amr, until=until)

    @property
    def claims(self) -> frozenset[str]:
        """The names of the claims that the rules speak of."""
        named = {name for rule in self.rules for name, _ in rule.claims}
        return frozenset(named if self.agent_claim is None else named | {self.agent_claim[1]})

    def most(self, staff: Staff) -> frozenset[Permission]:
        """Return what a person may do at the most, whatever the account and the agent; nothing: they are no staff."""
        return _together(rule for rule in self.rules if rule.fits(staff))

    def most_in(self, staff: Staff, account: Account) -> frozenset[Permission]:
        """Return what a person may do in an account at the most, whoever the agent; nothing: no staff there."""
        claim = self.agent_claim
        if claim is not None and claim[0] == staff.id.issuer and not _agent_ids(staff, claim[1]):
            return frozenset()
        anybody = Agent(AgentId(""))
        fitting = (rule for rule in self.rules if rule.fits(staff))
        return _together(rule for rule in fitting if rule.reaches(account, anybody, asking=True))

    def judge(
        self, staff: Staff, account: Account, grant: Grant, agent: Agent, *, asking: bool = False
    ) -> frozenset[Permission] | DenyReason:
        """Return what a person may do in the place of that agent, or why they may not stand in.

        With `asking` the agent's role, if not known, is taken for one that fits: for the one question that tells it.
        """
        if self.agent_claim is not None and self.agent_claim[0] == staff.id.issuer:
            theirs = _agent_ids(staff, self.agent_claim[1])
            if not theirs:
                return DenyReason.STAFF_NOT_ALLOWED
            if agent.id.casefold() in theirs:
                return DenyReason.AGENT_IS_ACTOR
        may = _together(rule for rule in self.rules if rule.fits(staff) and rule.reaches(account, agent, asking=asking))
        if not may:
            return DenyReason.STAFF_NOT_ALLOWED
        if self._is_administrator(agent) and Permission.ADMINISTRATORS not in may & grant.permissions:
            return DenyReason.AGENT_ADMINISTRATOR
        return may

    def looked_at(self, staff: Staff, account: Account, agent: Agent, *, asking: bool = False) -> frozenset[str]:
        """Return the groups of a person that the rules looked at which let them stand in for that agent."""
        fitting = (rule for rule in self.rules if rule.fits(staff) and rule.reaches(account, agent, asking=asking))
        return frozenset(group for rule in fitting for group in rule.groups)

    def _is_administrator(self, agent: Agent) -> bool:
        if not agent.roles:
            return False
        # It only ever refuses, so case, about which apps differ, lets nobody through; likewise below.
        return not {role.casefold() for role in self.administrators}.isdisjoint(role.casefold() for role in agent.roles)


def _agent_ids(staff: Staff, claim: str) -> frozenset[str]:
    if claim == "sub":
        return frozenset({staff.id.subject.casefold()})
    return frozenset(value.casefold() for name, value in staff.claims if name == claim)


def is_attribute(name: str, value: str) -> bool:
    """Tell whether an account can have this attribute: a plain name, and a value of one line."""
    return _ATTRIBUTE.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def _together(rules: Iterable[StaffRule]) -> frozenset[Permission]:
    return frozenset(permission for rule in rules for permission in rule.permissions)

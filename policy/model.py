"""The nouns of Locum: what a decision is about, and how it comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import NamedTuple, NewType, Protocol

AccountId = NewType("AccountId", str)
AgentId = NewType("AgentId", str)
GrantId = NewType("GrantId", str)
AssumptionId = NewType("AssumptionId", str)
TokenId = NewType("TokenId", str)
ClientId = NewType("ClientId", str)

Pairs = frozenset[tuple[str, str]]
"""Names with their values; both are compared whole."""


class ActorId(NamedTuple):
    """The staff member who really acts: compared as the exact pair, never by e-mail address or name."""

    issuer: str
    subject: str


@unique
class AccountType(StrEnum):
    """Whether the customer pays yet; a trial is always assumable."""

    TRIAL = "trial"
    PAID = "paid"


@unique
class Duration(StrEnum):
    """How long the customer lets staff in; the values on the wire are Zendesk's own."""

    OFF = "off"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    ALWAYS = "always"


@unique
class Permission(StrEnum):
    """What a grant lets staff do beyond being there."""

    READ = "read"
    TEST_TICKETS = "test_tickets"
    WRITE = "write"
    ADMINISTRATORS = "administrators"
    """To take the place of an administrator of the account too; without it, of agents only."""


class Scope(NamedTuple):
    """One kind of access to one kind of resource; `test` narrows a write to test tickets."""

    resource: str
    write: bool = False
    test: bool = False

    def __str__(self) -> str:
        """Return the wire form, such as `tickets:write:test`."""
        return f"{self.resource}:{'write' if self.write else 'read'}{':test' if self.test else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The customer."""

    id: AccountId
    type: AccountType
    suspended: bool = False
    epoch: int = 0
    """Raised by every change of the account or its grant; a lower one is an older truth."""
    attributes: Pairs = frozenset()
    """What the vendor's rules may speak of, such as a region or a plan; each name is there once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The account's recorded permission to be assumed, from one enabling to its end."""

    id: GrantId
    account: AccountId
    epoch: int
    duration: Duration
    permissions: frozenset[Permission]
    not_before: datetime
    expires_at: datetime | None
    """None: until it is switched off."""
    given_by: str
    revoked_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Tell whether staff may be let in at `now`: `not_before <= now < expires_at`, and not revoked."""
        return self.revoked_at is None and self.not_before <= now and not self.is_expired(now)

    def is_expired(self, now: datetime) -> bool:
        """Tell whether the clock has passed the end; "on or after" is expired (RFC 7519 section 4.1.4)."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """A member of the vendor's support staff as last seen through the identity provider."""

    id: ActorId
    name: str
    permissions: frozenset[Permission]
    """The most this person might do in any account by the rules of then; what counts are the rules of now."""
    groups: frozenset[str] = frozenset()
    claims: Pairs = frozenset()
    """The claims that the rules spoke of, as far as their token had them; one of each method in `amr`."""
    disabled: bool = False
    signed_out_at: datetime | None = None
    """When the identity provider last ended their session: who signed in no later than that must do so again."""
    told_at: datetime | None = None
    """When the provider issued the token that said all this (its `iat`); None: not known, older than any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One stretch of acting under a grant, from start to end."""

    id: AssumptionId
    account: AccountId
    subject: AgentId
    actor: ActorId
    grant_id: GrantId
    ticket: str
    reason: str
    scopes: frozenset[Scope]
    started_at: datetime
    expires_at: datetime
    """When it ends by itself: no credential of it is good for longer."""
    ended_at: datetime | None = None
    signed_in_at: datetime | None = None
    """When the actor had signed in at the issuer; None if it is not known."""
    agent_roles: frozenset[str] | None = None
    """The subject's roles as the app told them at the start, in its words; None if it was not asked for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionClaims:
    """What a verified assumption token says; only `policy.claims.check` makes one."""

    token_id: TokenId
    client: ClientId
    account: AccountId
    audience: str
    subject: AgentId
    actor: ActorId
    assumption: AssumptionId
    grant_id: GrantId
    grant_epoch: int
    scopes: frozenset[Scope]
    issued_at: datetime
    expires_at: datetime
    key: str | None = None
    """The thumbprint of the key whose holder alone may use it (RFC 9449 section 6.1); None: whoever bears it."""
    acr: str | None = None
    """The context of staff's own sign-in, where their provider named one."""
    amr: frozenset[str] = frozenset()
    """The methods of staff's own sign-in, as far as their provider named them."""
    signed_by: str | None = None
    """The id of the key of ours that signed it; None: no signature was needed, because we have kept it ourselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A request target that has exactly one reading (see `policy.target`)."""

    raw: bytes
    """The very bytes that are sent on; what is judged is what is sent."""
    segments: tuple[str, ...]
    """The path's segments, percent-decoded once; `/` is `("",)`, a trailing slash ends in `""`."""
    query: tuple[tuple[str, str], ...]
    """Names and values in order, percent-decoded once."""

    @property
    def path(self) -> str:
        """The decoded path; no segment holds a slash, so it splits one way only."""
        return "/" + "/".join(self.segments)


class AccessRequest(NamedTuple):
    """One request of a staff member, parsed and with its token verified."""

    method: str
    target: Target
    account: AccountId
    """Whose host was asked, as the gateway read it; not what the token says."""
    audience: str
    """What a token for that account must be for: the account's host."""
    claims: AssumptionClaims
    has_body: bool = False
    overrides: bool = False
    """A header asks the app to take another method or path than the request line's."""
    upgrades: bool = False
    """It asks for a WebSocket, on which whatever is sent later cannot be judged."""
    cross_site: bool = False
    """Its credential came by itself, and nothing says that a page of that host has sent it."""


@unique
class DenyReason(StrEnum):
    """Why staff were not let through: the first rule that failed."""

    # Everybody.
    KILL_SWITCH = "kill_switch"
    # The credential.
    TOKEN_MISSING = "token_missing"  # noqa: S105 - a reason, not a secret
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a reason, not a secret
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a reason, not a secret
    PROOF_MISSING = "proof_missing"
    PROOF_INVALID = "proof_invalid"
    PROOF_NONCE = "proof_nonce"
    COOKIE_UNKNOWN = "cookie_unknown"
    COOKIE_IDLE = "cookie_idle"
    WRONG_ACCOUNT = "wrong_account"
    # The account and its grant.
    UNKNOWN_ACCOUNT = "unknown_account"
    ACCOUNT_SUSPENDED = "account_suspended"
    GRANT_OFF = "grant_off"
    GRANT_REVOKED = "grant_revoked"
    GRANT_EXPIRED = "grant_expired"
    GRANT_STALE = "grant_stale"
    # The people.
    STAFF_UNKNOWN = "staff_unknown"
    STAFF_DISABLED = "staff_disabled"
    STAFF_NOT_ALLOWED = "staff_not_allowed"
    STAFF_AUTHENTICATION_WEAK = "staff_authentication_weak"
    STAFF_SIGNED_OUT = "staff_signed_out"
    TOO_MANY_ASSUMPTIONS = "too_many_assumptions"
    AGENT_INVALID = "agent_invalid"
    AGENT_UNKNOWN = "agent_unknown"
    AGENT_IS_ACTOR = "agent_is_actor"
    AGENT_ADMINISTRATOR = "agent_administrator"
    ASSUMPTION_UNKNOWN = "assumption_unknown"
    ASSUMPTION_ENDED = "assumption_ended"
    # The request.
    AMBIGUOUS_TARGET = "ambiguous_target"
    AMBIGUOUS_HEADER = "ambiguous_header"
    FORGED_HEADER = "forged_header"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    METHOD_OVERRIDE = "method_override"
    CROSS_SITE = "cross_site"
    BODY_NOT_ALLOWED = "body_not_allowed"
    UPGRADE_NOT_ALLOWED = "upgrade_not_allowed"
    NO_ROUTE_RULE = "no_route_rule"
    NEVER_ALLOWED = "never_allowed"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    PERMISSION_NOT_GRANTED = "permission_not_granted"
    # The exchange.
    EXCHANGE_MALFORMED = "exchange_malformed"
    EXCHANGE_CHAINED = "exchange_chained"
    INVALID_TARGET = "invalid_target"
    INVALID_SCOPE = "invalid_scope"
    TICKET_MISSING = "ticket_missing"
    REASON_MISSING = "reason_missing"
    # Ourselves.
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_STALE = "store_stale"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    APP_UNAVAILABLE = "app_unavailable"


class Agent(NamedTuple):
    """Whose place is taken, as far as it is known."""

    id: AgentId
    roles: frozenset[str] | None = None
    """In the app's words; None: not known."""


class SignInDemand(NamedTuple):
    """What a staff member's own sign-in must be for what they began with it to go on (RFC 9470)."""

    acr: frozenset[str] = frozenset()
    """One of these authentication contexts; empty: any."""
    amr: frozenset[str] = frozenset()
    """All of these methods."""
    until: datetime | None = None
    """From then on it is too old; None: it never is."""


class Rules(Protocol):
    """Who may stand in for whom: `policy.rules`."""

    def demand(self, assumption: Assumption) -> SignInDemand | None:
        """Return what the sign-in behind an assumption must be by now; None: whatever it was."""

    def judge(
        self, staff: Staff, account: Account, grant: Grant, agent: Agent, *, asking: bool = False
    ) -> frozenset[Permission] | DenyReason:
        """Return what a person may do in the place of that agent, or why they may not stand in."""

    def looked_at(self, staff: Staff, account: Account, agent: Agent, *, asking: bool = False) -> frozenset[str]:
        """Return the groups of a person that the rules looked at which let them stand in for that agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the store says now about the parties of a request; None: it says nothing."""

    account: Account | None
    grant: Grant | None
    assumption: Assumption | None
    staff: Staff | None
    halted: DenyReason | None = DenyReason.STORE_UNAVAILABLE
    """Why nobody is let in, whatever the rest says; where nobody has said anything of it, nobody is."""
    rules: Rules | None = field(default=None, repr=False)
    """The vendor's rules now; without any, nobody may stand in for anybody."""
    asking: bool = False
    """These are for the one question that tells the agent's role: see `policy.rules`."""
    may: frozenset[Permission] | DenyReason = field(init=False)
    """What the rules let this person do in the place of this agent, or why not; of these facts, so always in step."""
    sign_in: SignInDemand | None = field(init=False)
    """What the rules demand of their sign-in; likewise."""

    def __post_init__(self) -> None:
        """Judge once for all requests that are decided on these facts."""
        object.__setattr__(self, "may", self._judge())
        if self.rules is None or self.assumption is None:
            object.__setattr__(self, "sign_in", None)
        else:
            object.__setattr__(self, "sign_in", self.rules.demand(self.assumption))

    @property
    def groups(self) -> frozenset[str]:
        """The groups of the person that the rules looked at which let them in, as far as all that is known."""
        account, assumption, staff = self.account, self.assumption, self.staff
        if self.rules is None or account is None or assumption is None or staff is None:
            return frozenset()
        agent = Agent(assumption.subject, assumption.agent_roles)
        return self.rules.looked_at(staff, account, agent, asking=self.asking)

    def _judge(self) -> frozenset[Permission] | DenyReason:
        account, grant, assumption, staff = self.account, self.grant, self.assumption, self.staff
        if self.rules is None or account is None or grant is None or assumption is None or staff is None:
            return DenyReason.STAFF_NOT_ALLOWED
        agent = Agent(assumption.subject, assumption.agent_roles)
        return self.rules.judge(staff, account, grant, agent, asking=self.asking)


class Permit(NamedTuple):
    """Leave to send one request on; only `policy.decide` makes one, and the upstream step demands it."""

    account: AccountId
    subject: AgentId
    actor: ActorId
    assumption: AssumptionId
    grant_id: GrantId
    grant_epoch: int
    scopes: frozenset[Scope]
    rules: tuple[str, ...]
    """The ids of the route rules that the request satisfied."""
    writes: bool
    ends_at: datetime
    """When this leave ends by itself: the earliest end of the token, the assumption, the grant and the sign-in's use.
    Until then time alone takes nothing away."""
    query_recorded: frozenset[str] = frozenset()
    """The folded names of the query's fields whose values may go on record: all those rules say so."""

    def __bool__(self) -> bool:
        """Refuse to be a flag."""
        raise TypeError("a decision has no truth value; match on its type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A refusal, with what may be told of it."""

    reason: DenyReason
    rule: str | None = None
    """The route rule that decided, where one did."""
    needs: frozenset[Scope] = frozenset()
    """The scopes that would have sufficed."""
    detail: str = ""
    """One line for people; holds no secret."""

    def __bool__(self) -> bool:
        """Refuse to be a flag."""
        raise TypeError("a decision has no truth value; match on its type")


Decision = Permit | Deny

Roles = Mapping[str, str]
"""A principal's role in each product: `{"support": "agent", "explore": "admin"}`."""

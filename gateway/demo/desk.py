"""The demo helpdesk's memory: accounts with their seats, agents, sign-ins and tickets."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

PASSWORD = "demo"
"""The password of every agent of every account."""


class Role(StrEnum):
    """What an agent may do inside the helpdesk."""

    AGENT = "agent"
    ADMIN = "admin"


class SeatsFullError(Exception):
    """The account has no seat left for one more agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer on a ticket."""

    by: str
    """Who wrote it: an agent, or the staff member who stood in for one."""
    subject: str | None
    """The agent in whose place it was written; None if the agent wrote it."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A customer's question; `test` marks one that nobody waits for."""

    id: int
    title: str
    requester: str
    status: str = "open"
    test: bool = False
    replies: tuple[Reply, ...] = ()


@dataclass(slots=True, kw_only=True)
class Account:
    """One customer of the helpdesk's vendor; every agent takes a seat, a requester takes none."""

    name: str
    seats: int
    agents: dict[str, Role]
    explore: dict[str, Role] = field(default_factory=dict)
    """Who has a role in the other product, Explore, which takes no seat."""
    requesters: set[str]
    tickets: dict[int, Ticket] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    """Session cookie -> agent."""
    logins: int = 0
    api_tokens: int = 0

    def sign_in(self, agent: str, password: str) -> str | None:
        """Return the cookie of a new session, or None if agent and password do not belong together."""
        if agent not in self.agents or not secrets.compare_digest(password.encode(), PASSWORD.encode()):
            return None
        return self.begin_session(agent)

    def begin_session(self, agent: str) -> str:
        """Count a login of the agent's, and return the cookie of a new session."""
        session = secrets.token_urlsafe(24)
        self.sessions[session] = agent
        self.logins += 1
        return session

    def add_agent(self, name: str) -> None:
        """Give a seat to a new agent, or raise SeatsFullError."""
        if len(self.agents) >= self.seats:
            raise SeatsFullError
        self.agents[name] = Role.AGENT

    def roles_of(self, agent: str) -> dict[str, str]:
        """Return an agent's role in each product."""
        found = {"support": self.agents.get(agent), "explore": self.explore.get(agent)}
        return {product: str(role) for product, role in found.items() if role is not None}

    def create_token(self) -> str:
        """Return a new API token, a credential that outlives whoever asked for it."""
        self.api_tokens += 1
        return secrets.token_urlsafe(24)

    def open_ticket(self, *, title: str, requester: str, test: bool = False) -> Ticket:
        """Add a ticket under the next free number."""
        ticket = Ticket(id=max(self.tickets, default=0) + 1, title=title, requester=requester, test=test)
        self.tickets[ticket.id] = ticket
        return ticket

    def set_status(self, ticket: Ticket, status: str) -> Ticket:
        """Store and return the ticket with this status."""
        self.tickets[ticket.id] = replace(ticket, status=status)
        return self.tickets[ticket.id]

    def add_reply(self, ticket: Ticket, reply: Reply) -> Ticket:
        """Store and return the ticket with this reply."""
        self.tickets[ticket.id] = replace(ticket, replies=(*ticket.replies, reply))
        return self.tickets[ticket.id]

    def figures(self) -> dict[str, int]:
        """Return what a licence is counted by; `available` are the seats still free."""
        return {
            "used": len(self.agents),
            "total": self.seats,
            "available": self.seats - len(self.agents),
            "users": len(self.agents) + len(self.requesters),
            "logins": self.logins,
            "sessions": len(self.sessions),
        }


def demo_accounts() -> dict[str, Account]:
    """Return fresh accounts: `acme` with every seat taken, `globex` with one left, and the trial `initech`."""
    acme = _account("acme", seats=5, agents=["maria", "ben", "chloe", "dev"])
    acme.explore["chloe"] = Role.ADMIN
    for title in ("Widget not loading", "Invoice shows the wrong address", "Cannot sign in from the new office"):
        acme.open_ticket(title=title, requester="walter")
    globex = _account("globex", seats=3, agents=["maria"])
    globex.open_ticket(title="Reactor dashboard is empty", requester="walter")
    initech = _account("initech", seats=2, agents=["peter"])
    initech.open_ticket(title="Printer is on fire", requester="walter")
    return {account.name: account for account in (acme, globex, initech)}


def _account(name: str, *, seats: int, agents: Iterable[str]) -> Account:
    roles = {"owner": Role.ADMIN} | dict.fromkeys(agents, Role.AGENT)
    return Account(name=name, seats=seats, agents=roles, requesters={"walter"})

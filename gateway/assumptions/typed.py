"""What somebody has typed into a form so far, or what a link has filled in."""

from dataclasses import dataclass
from urllib.parse import urlencode

from gateway.staff.sign_in.returning import HOME


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """As it was typed: nothing of it is checked."""

    account: str = ""
    agent: str = ""
    ticket: str = ""
    reason: str = ""
    scopes: frozenset[str] | None = None
    """None: nothing was chosen yet; likewise below."""
    permissions: frozenset[str] | None = None
    duration: str = ""

    def link(self, account: str, **more: str) -> str:
        """Return the address of the page with another account and the same in the fields that a link may fill in."""
        kept = {"agent": self.agent, "ticket": self.ticket, "reason": self.reason}
        said = {"account": account, **{name: value for name, value in kept.items() if value}, **more}
        return f"{HOME}?{urlencode(said)}"

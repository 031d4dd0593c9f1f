"""Who looks at the security team's console, and what they may do there."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.caller import Caller
from gateway.console.sessions import How
from policy.model import AccountId, ClientId

PATH: Final = "/console"
SIGN_IN: Final = f"{PATH}/sign-in"
SIGN_OUT: Final = f"{PATH}/sign-out"
AUDITOR: Final = "auditor"
"""Reads everything here, or what one account has."""
OPERATOR: Final = "operator"
"""Also ends assumptions, turns grants off, locks staff out, and sets the kill-switch."""
HOW: Final[Mapping[How, str]] = {"openid": "the identity provider", "client": "a client’s secret"}
"""How somebody signed in, in words."""
_CONSOLE: Final = ClientId("security-console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody who is signed in, by the rules of now."""

    id: str
    """The `sub` of a person, or the id of a client: who did it, for the record."""
    name: str
    """For people to read; a provider may have put anything in it."""
    roles: frozenset[str]
    """AUDITOR, and OPERATOR for whoever may change something too."""
    how: How
    account: AccountId | None
    """The one account of which they may know; None: all of them."""
    session: bytes
    """By what the store knows the session."""
    form_token: str
    """What each form of a page has to hold for them."""
    ends_at: datetime
    """When the session ends, however it is used."""
    caller: Caller

    @property
    def is_operator(self) -> bool:
        """Whether they may change something."""
        return OPERATOR in self.roles

    @property
    def person(self) -> str:
        """Whoever it is, by however many sessions: what one of them may take is counted by this."""
        return f"{self.how} {self.id}"

    @property
    def client(self) -> ClientId:
        """The client that stands in the record beside who did it."""
        return ClientId(self.id) if self.how == "client" else _CONSOLE

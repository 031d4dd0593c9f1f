"""What is wrong with a form that was refused: at which field that is said, and what to do next."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.grants.request_refusals import SAID
from gateway.refusals import REFUSALS
from policy.asking import RequestRefusal
from policy.model import Deny, DenyReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One refusal, as the form shows it."""

    field: str
    """The field that is to be changed: its id in the page; empty: none of them."""
    said: str
    next: str
    """What to do; empty where `said` says it."""
    status: int
    tells: bool
    """Whether it says something of the account."""
    reason: str
    request_id: str = ""

    @property
    def code(self) -> str:
        """For whoever is asked for help."""
        return " · ".join(part for part in (self.reason, self.request_id) if part)


TOO_OFTEN: Final = "You have looked for accounts very often within a minute. Wait a moment, then look again."
_MENDS: Final[Mapping[DenyReason, tuple[str, str]]] = {
    DenyReason.UNKNOWN_ACCOUNT: ("find", "Check how its id is spelled, or look for it by a part of that."),
    DenyReason.ACCOUNT_SUSPENDED: ("", "Nobody can stand in there until it is resumed."),
    DenyReason.AGENT_INVALID: ("agent", "Give their id in the app, such as “maria” or “42”: no name and no address."),
    DenyReason.AGENT_UNKNOWN: ("agent", "Look their id up in the app: it may be one of another account."),
    DenyReason.AGENT_IS_ACTOR: ("agent", "Choose another agent."),
    DenyReason.AGENT_ADMINISTRATOR: (
        "agent",
        "Choose an agent who is no administrator, or ask the customer to allow administrators.",
    ),
    DenyReason.STAFF_NOT_ALLOWED: (
        "agent",
        "Choose an agent whom your rules let you stand in for, or ask whoever keeps the vendor’s rules.",
    ),
    DenyReason.TICKET_MISSING: ("ticket", ""),
    DenyReason.REASON_MISSING: ("reason", ""),
    DenyReason.PERMISSION_NOT_GRANTED: ("scopes", "Choose less, or ask the customer to allow more."),
    DenyReason.INVALID_SCOPE: ("scopes", "Load the page again: what can be chosen has changed."),
    DenyReason.APP_UNAVAILABLE: ("", "What you have typed is still here: send it again."),
    DenyReason.STORE_UNAVAILABLE: ("", "What you have typed is still here: send it again."),
    DenyReason.JOURNAL_UNAVAILABLE: ("", "What you have typed is still here: send it again."),
}
_BEFORE_ACCOUNT: Final = frozenset(
    {
        DenyReason.EXCHANGE_MALFORMED,
        DenyReason.AGENT_INVALID,
        DenyReason.TICKET_MISSING,
        DenyReason.REASON_MISSING,
        DenyReason.STORE_UNAVAILABLE,
        DenyReason.JOURNAL_UNAVAILABLE,
    }
)
"""What is refused before anything of the account counts."""
_FIELDS_OF_REQUEST: Final[Mapping[RequestRefusal, str]] = {
    RequestRefusal.UNKNOWN_ACCOUNT: "find",
    RequestRefusal.PERMISSION_NOT_ALLOWED: "permissions",
    RequestRefusal.TICKET_MISSING: "ticket",
    RequestRefusal.REASON_MISSING: "reason",
}
_MISSING = frozenset({RequestRefusal.TICKET_MISSING, RequestRefusal.REASON_MISSING})


def mend(deny: Deny, *, request_id: str = "") -> Wrong:
    """Return how a refusal is said at the form."""
    refusal = REFUSALS[deny.reason]
    field, todo = _MENDS.get(deny.reason, ("", ""))
    # What is wrong with a form is said by the detail alone: the title is for programs.
    texts = (deny.detail,) if deny.reason is DenyReason.EXCHANGE_MALFORMED else (refusal.title, deny.detail)
    return Wrong(
        field=field,
        said=" ".join(f"{text[:1].upper()}{text[1:]}." for text in texts if text),
        next=todo,
        # 401 would need a challenge (RFC 9110 section 15.5.2); a person is told in words.
        status=403 if refusal.status == 401 else refusal.status,
        tells=deny.reason not in _BEFORE_ACCOUNT,
        reason=str(deny.reason),
        request_id=request_id,
    )


def too_often(*, request_id: str = "") -> Wrong:
    """Return how it is said that somebody has to wait before they ask on; nothing was looked at."""
    return Wrong(
        field="",
        said=TOO_OFTEN,
        next="What you have typed is still here: send it again then.",
        status=429,
        tells=False,
        reason="too_often",
        request_id=request_id,
    )


def mend_request(refusal: RequestRefusal, *, request_id: str = "") -> Wrong:
    """Return how it is said that an account cannot be asked; it tells of none that the person may not know of."""
    said = SAID[refusal]
    return Wrong(
        field=_FIELDS_OF_REQUEST.get(refusal, ""),
        said=f"{said[:1].upper()}{said[1:]}.",
        next="",
        status=400 if refusal in _MISSING else 403,
        tells=False,
        reason=str(refusal),
        request_id=request_id,
    )

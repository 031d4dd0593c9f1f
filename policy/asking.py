"""What staff ask an account's administrators for, and what may come of it.

A request waits until somebody answers it or its time is over; what is not in the table cannot happen. Expiry is no
event but a fact about `now`. An approval gives exactly what the administrator has chosen, whatever was asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Final, NewType

from policy.exchange import ExchangeError, request_of_form
from policy.grants import Administrator, GrantChange, GrantRefusal, GrantState, choose, expiry, state
from policy.model import Account, AccountId, AccountType, ActorId, Duration, Grant, GrantId, Permission, Staff

GrantRequestId = NewType("GrantRequestId", str)

MOST_WAITING: Final = timedelta(days=4)
"""So long a request waits; then it is over, and staff have to ask anew."""
LATELY: Final = timedelta(days=1)
"""A request counts against the bounds as long as it waits, and so long after it was made, whatever became of it."""
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@unique
class RequestState(StrEnum):
    """Where a request stands at one moment."""

    WAITING = "waiting"
    APPROVED = "approved"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@unique
class RequestRefusal(StrEnum):
    """Why staff may not ask, or why a request cannot be answered so."""

    # Asking.
    KEPT_BY_APP = "kept_by_app"
    UNKNOWN_ACCOUNT = "unknown_account"
    """There is none of this id in which this person may stand in; which of the two is not told."""
    TRIAL_ACCOUNT = "trial_account"
    ACCOUNT_SUSPENDED = "account_suspended"
    STAFF_DISABLED = "staff_disabled"
    STAFF_SIGNED_OUT = "staff_signed_out"
    PERMISSION_NOT_ALLOWED = "permission_not_allowed"
    ALREADY_ALLOWED = "already_allowed"
    TICKET_MISSING = "ticket_missing"
    REASON_MISSING = "reason_missing"
    TOO_MANY_OF_STAFF_IN_ACCOUNT = "too_many_of_staff_in_account"
    TOO_MANY_OF_ACCOUNT = "too_many_of_account"
    TOO_MANY_OF_STAFF = "too_many_of_staff"
    # Answering.
    REQUEST_UNKNOWN = "request_unknown"
    REQUEST_APPROVED = "request_approved"
    REQUEST_DECLINED = "request_declined"
    REQUEST_WITHDRAWN = "request_withdrawn"
    REQUEST_EXPIRED = "request_expired"
    ASKER_DISABLED = "asker_disabled"
    """The vendor has locked out whoever asked."""
    NOT_ADMINISTRATOR = "not_administrator"
    ACTING_STAFF = "acting_staff"
    OVERTAKEN = "overtaken"
    """The account is not any more as it was when they decided."""
    WOULD_SHORTEN = "would_shorten"
    """The grant would end earlier than it does, and nobody has said that it shall."""
    UNKNOWN_DURATION = "unknown_duration"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """A staff member's question to an account: for a grant, for more permissions, or for more time."""

    id: GrantRequestId
    account: AccountId
    actor: ActorId
    name: str
    """The actor's, as their provider said it when they asked."""
    permissions: frozenset[Permission]
    duration: Duration
    """How long they wish for; never `off`."""
    ticket: str
    reason: str
    asked_at: datetime
    expires_at: datetime
    """Until then it waits, if nobody answers."""
    answer: RequestState = RequestState.WAITING
    """What is stored of it, never `expired`; ask `state_of` where it stands."""
    answered_at: datetime | None = None
    answered_by: str | None = None
    """The administrator, or the actor who withdrew it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a staff member asks for; only `read_wish` makes one, so each text is one line of a bounded length."""

    account: AccountId
    permissions: frozenset[Permission]
    duration: Duration
    ticket: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingTerms:
    """What this installation asks of a request."""

    kept_by_app: bool = False
    require_ticket: bool = True
    require_reason: bool = True


def read_wish(*, account: str, permissions: Iterable[str], duration: str, ticket: str, reason: str) -> Wish:
    """Return what a form asks for, or raise ExchangeError; the same is asked of its texts as of an assumption's."""
    texts = request_of_form(account=account, subject="", audience="", ticket=ticket, reason=reason, scopes=())
    wanted = frozenset(permissions)
    if not wanted <= set(Permission):
        raise ExchangeError(f"`permission` must be some of {', '.join(Permission)}")
    if duration not in set(Duration) - {Duration.OFF}:
        raise ExchangeError(f"`duration` must be one of {', '.join(each for each in Duration if each != Duration.OFF)}")
    return Wish(
        account=AccountId(texts.account),
        permissions=frozenset(map(Permission, wanted)) | {Permission.READ},
        duration=Duration(duration),
        ticket=texts.ticket,
        reason=texts.reason,
    )


def ask(
    wish: Wish,
    *,
    staff: Staff,
    known: Staff | None,
    signed_in_at: datetime,
    may: frozenset[Permission],
    account: Account | None,
    grant: Grant | None,
    terms: AskingTerms,
    new_id: GrantRequestId,
    now: datetime,
) -> GrantRequest | RequestRefusal:
    """Return the request that a wish makes, or the first reason against it.

    `staff` is the person by the newest that was said of them, `known` as they are stored, `may` what the vendor's rules
    let them do in the account at the most, `account` with its `grant` what is stored, None: there is no such account.
    """
    refused = _check_person(known, signed_in_at) or _check_account(account, may, terms)
    if refused is not None:
        return refused
    if terms.require_ticket and not wish.ticket:
        return RequestRefusal.TICKET_MISSING
    if terms.require_reason and not wish.reason:
        return RequestRefusal.REASON_MISSING
    if not wish.permissions <= may:
        return RequestRefusal.PERMISSION_NOT_ALLOWED
    if _has_all(grant, wish, now):
        return RequestRefusal.ALREADY_ALLOWED
    return GrantRequest(
        id=new_id,
        account=wish.account,
        actor=staff.id,
        name=staff.name,
        permissions=wish.permissions,
        duration=wish.duration,
        ticket=wish.ticket,
        reason=wish.reason,
        asked_at=now,
        expires_at=now + MOST_WAITING,
    )


def state_of(request: GrantRequest, now: datetime) -> RequestState:
    """Return where a request stands; "on or after" the end it has expired."""
    is_over = request.answer is RequestState.WAITING and now >= request.expires_at
    return RequestState.EXPIRED if is_over else request.answer


def check_answer(request: GrantRequest, answer: RequestState, now: datetime) -> RequestRefusal | None:
    """Return why a request cannot be answered so by now; None: it can."""
    outcome = _TABLE.get((state_of(request, now), answer), RequestRefusal.REQUEST_UNKNOWN)
    return outcome if isinstance(outcome, RequestRefusal) else None


def check_administrator(administrator: Administrator, accepted_roles: frozenset[str]) -> RequestRefusal | None:
    """Return why somebody may not answer for the account; None: they may."""
    if administrator.is_acting_staff:
        return RequestRefusal.ACTING_STAFF
    return None if administrator.may_change(accepted_roles) else RequestRefusal.NOT_ADMINISTRATOR


def approve(
    request: GrantRequest,
    account: Account,
    current: Grant | None,
    *,
    duration: Duration,
    permissions: frozenset[Permission],
    administrator: Administrator,
    accepted_roles: frozenset[str],
    new_id: GrantId,
    now: datetime,
    keeps_end: bool = False,
    shortens: bool = False,
) -> GrantChange | GrantRefusal:
    """Return the change of the grant that an approval makes, or why it is refused: see `policy.grants.choose`.

    What is given is what the administrator chose, and nothing else. Without `shortens` a grant that is on ends no
    earlier than it did.
    """
    if request.account != account.id or check_answer(request, RequestState.APPROVED, now) is not None:
        return GrantRefusal.OVERTAKEN
    if duration is Duration.OFF:
        return GrantRefusal.UNKNOWN_DURATION
    outcome = choose(
        account,
        current,
        duration=duration,
        permissions=permissions,
        administrator=administrator,
        accepted_roles=accepted_roles,
        new_id=new_id,
        now=now,
        keeps_end=keeps_end,
    )
    if isinstance(outcome, GrantRefusal):
        return outcome
    if account.suspended:
        return GrantRefusal.ACCOUNT_SUSPENDED
    is_on = state(account, current, now) is GrantState.ON
    if is_on and not shortens and _end(outcome.grant) < _end(current):
        return GrantRefusal.WOULD_SHORTEN
    return outcome


def _check_person(known: Staff | None, signed_in_at: datetime) -> RequestRefusal | None:
    if known is None:
        # Whoever was never seen before has no lock to find.
        return None
    if known.disabled:
        return RequestRefusal.STAFF_DISABLED
    # As for an assumption: times of the provider are whole seconds, so the second of the sign-out itself is before it.
    is_out = known.signed_out_at is not None and signed_in_at <= known.signed_out_at
    return RequestRefusal.STAFF_SIGNED_OUT if is_out else None


def _check_account(account: Account | None, may: frozenset[Permission], terms: AskingTerms) -> RequestRefusal | None:
    if terms.kept_by_app:
        return RequestRefusal.KEPT_BY_APP
    if account is None or not may:
        return RequestRefusal.UNKNOWN_ACCOUNT
    if account.type is AccountType.TRIAL:
        return RequestRefusal.TRIAL_ACCOUNT
    return RequestRefusal.ACCOUNT_SUSPENDED if account.suspended else None


def _has_all(grant: Grant | None, wish: Wish, now: datetime) -> bool:
    """Tell whether the account allows already all that is wished for, for as long."""
    if grant is None or not grant.is_live(now):
        return False
    return wish.permissions <= grant.permissions and _end(grant) >= (expiry(wish.duration, now) or _FOR_EVER)


def _end(grant: Grant | None) -> datetime:
    return _FOR_EVER if grant is None or grant.expires_at is None else grant.expires_at


_OVER: Final = {
    RequestState.APPROVED: RequestRefusal.REQUEST_APPROVED,
    RequestState.DECLINED: RequestRefusal.REQUEST_DECLINED,
    RequestState.WITHDRAWN: RequestRefusal.REQUEST_WITHDRAWN,
    RequestState.EXPIRED: RequestRefusal.REQUEST_EXPIRED,
}
ANSWERS: Final = (RequestState.APPROVED, RequestState.DECLINED, RequestState.WITHDRAWN)
"""What somebody can make of a request; it expires by itself."""
_TABLE: Final[dict[tuple[RequestState, RequestState], RequestState | RequestRefusal]] = {
    **{(RequestState.WAITING, answer): answer for answer in ANSWERS},
    **{(over, answer): refusal for over, refusal in _OVER.items() for answer in ANSWERS},
}

"""One request of a device for an assumption (RFC 8628), from asking to the token: what may come after what."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from policy.asking import GrantRequest, GrantRequestId, Wish
from policy.exchange import ExchangeRequest
from policy.model import ClientId

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"
LIFETIME: Final = timedelta(minutes=10)
"""Long enough to sign in with a second factor, and short for whoever guesses."""
INTERVAL: Final = timedelta(seconds=5)
"""RFC 8628 section 3.2 takes it where nothing is said."""
SLOWER: Final = timedelta(seconds=5)
"""RFC 8628 section 3.5: by so much a device that asks too often has to wait longer, from then on."""
SLOWEST: Final = timedelta(seconds=60)
"""No device has to wait longer, so that one that has been hasty still hears of an approval in its time."""
NOTED: Final = timedelta(seconds=1)
"""Within so long of a question that was noted, another changes nothing: a flood would keep staff from answering."""


WAITS: Final = timedelta(hours=1)
"""So long at the most a device waits for the customer, whom staff have asked; the customer may take longer."""


class DeviceState(StrEnum):
    """What staff have said; that it has expired is a fact about the time, and what was redeemed is gone."""

    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    ASKED = "asked"
    """The account does not allow it yet, and its administrators were asked."""


class Word(StrEnum):
    """What a staff member says to it, and what comes of that."""

    APPROVE = "approve"
    DECLINE = "decline"
    ASK = "ask"
    """They have approved what the account does not allow, and so the account was asked."""


class PollError(StrEnum):
    """Why a device gets nothing yet, or nothing at all (RFC 8628 section 3.5)."""

    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    DECLINED = "access_denied"
    EXPIRED = "expired_token"
    ASKED = "customer_asked"
    """Of ours: staff have approved it, and the customer has not yet. Who does not know it stops, by that section."""


NEXT: Final = {
    (DeviceState.PENDING, Word.APPROVE): DeviceState.APPROVED,
    (DeviceState.PENDING, Word.DECLINE): DeviceState.DECLINED,
    (DeviceState.PENDING, Word.ASK): DeviceState.ASKED,
}
"""Nobody takes a word back: whoever has approved by mistake ends the assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """What a device asks for, and how far it has come."""

    client: ClientId
    asked: ExchangeRequest
    user_code: str
    address: str
    """Where it was asked from, and with which program; both as somebody unknown has it."""
    user_agent: str
    asked_at: datetime
    expires_at: datetime
    interval: timedelta = INTERVAL
    polled_at: datetime | None = None
    state: DeviceState = DeviceState.PENDING
    session: bytes = b""
    """The digest of the browser session in which it was approved: it has to stand until the token is fetched."""
    wish: Wish | None = None
    """What the account is asked for if it does not allow this; None: nothing."""
    asked_customer: GrantRequestId | None = None
    """By what the account was asked."""


def settle(
    request: DeviceRequest, word: Word, *, now: datetime, session: bytes = b"", asked: GrantRequest | None = None
) -> DeviceRequest | None:
    """Return the request as it is once staff have said that; None if it is too late for it.

    With `Word.ASK` comes what was `asked`: as long as that waits, but not for ever, the device may wait.
    """
    state = NEXT.get((request.state, word))
    if state is None or now >= request.expires_at or (state is DeviceState.ASKED) != (asked is not None):
        return None
    if asked is not None:
        return replace(
            request,
            state=state,
            session=session,
            asked_customer=asked.id,
            expires_at=min(asked.expires_at, request.asked_at + WAITS),
        )
    return replace(request, state=state, session=session if state is DeviceState.APPROVED else b"")


def poll(request: DeviceRequest, *, now: datetime) -> tuple[PollError | None, DeviceRequest]:
    """Return what a device that asks is told, None if it may have its token, and the request as it is thereafter.

    Whoever asks sooner than the interval after the last time has to wait longer from then on. It is the same request
    where there is nothing to store.
    """
    if now >= request.expires_at:
        return PollError.EXPIRED, request
    if request.state is DeviceState.APPROVED:
        return None, request
    if request.state is DeviceState.DECLINED:
        return PollError.DECLINED, request
    if request.polled_at is not None and now - request.polled_at < request.interval:
        if timedelta() <= now - request.polled_at < NOTED:
            return PollError.SLOW_DOWN, request
        return PollError.SLOW_DOWN, replace(request, polled_at=now, interval=min(request.interval + SLOWER, SLOWEST))
    waits_for = PollError.ASKED if request.state is DeviceState.ASKED else PollError.PENDING
    return waits_for, replace(request, polled_at=now)

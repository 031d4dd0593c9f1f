"""What is worked out of a staff member's request before it is decided, and what is kept of it between two requests."""

from datetime import datetime

import msgspec

from gateway.proxy import headers, names
from gateway.proxy.cookies import CookieCredential
from gateway.proxy.forward import Onward
from gateway.proxy.wire import Headers, RequestHead
from policy.model import AccountId, AssumptionClaims, Deny, DenyReason


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What goes on, and what is said back, as long as the identity and its end are the same."""

    identity: Headers
    ends_at: datetime
    lines: Onward
    """To the app, with the identity."""
    said: Headers
    """To staff, with every response."""


class Asker(msgspec.Struct, kw_only=True):
    """What the header lines of a staff member's request say: all but its method, target and body."""

    by: object
    """Who has worked it out."""
    claims: AssumptionClaims
    account: AccountId
    audience: str
    """The account's host."""
    lines: Headers
    """Those that go on, without the identity."""
    browser: CookieCredential | None
    """The cookie that it came with, None for a token."""
    bound: bool
    """Whether each request has to prove something more."""
    cross_site: bool
    onward: Standing | None = None


class Refused(Exception):
    """Carries a refusal out of parsing and loading."""

    def __init__(self, deny: Deny, claims: AssumptionClaims | None = None) -> None:
        super().__init__(deny.reason)
        self.deny = deny
        self.claims = claims


def judge_names(head: RequestHead, kinds: int) -> DenyReason | None:
    """Say what is wrong with the headers' names, or None: each must mean one thing, and none what only we may say."""
    if kinds & names.CONNECTION and headers.is_odd_nomination(head.headers):
        return DenyReason.AMBIGUOUS_HEADER
    if kinds & names.IDENTITY:
        return DenyReason.FORGED_HEADER
    if kinds & names.ODD:
        return DenyReason.AMBIGUOUS_HEADER
    return None

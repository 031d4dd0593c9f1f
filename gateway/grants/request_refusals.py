"""How a refusal of what staff ask an account for looks outside: to people, and in HTTP."""

from collections.abc import Mapping
from typing import Final

from policy.asking import RequestRefusal

SAID: Final[Mapping[RequestRefusal, str]] = {
    RequestRefusal.KEPT_BY_APP: "the app keeps this setting: ask the account's administrator to change it there",
    RequestRefusal.UNKNOWN_ACCOUNT: "there is no account of this name in which you may stand in",
    RequestRefusal.TRIAL_ACCOUNT: "a trial account needs no request: you can stand in there now",
    RequestRefusal.ACCOUNT_SUSPENDED: "the account is suspended: nobody can stand in there until it is resumed",
    RequestRefusal.STAFF_DISABLED: "you are locked out: ask whoever runs this gateway",
    RequestRefusal.STAFF_SIGNED_OUT: "you have signed out since: sign in again",
    RequestRefusal.PERMISSION_NOT_ALLOWED: "your own role does not let you do that there: ask for less",
    RequestRefusal.ALREADY_ALLOWED: "the account allows all of that already, and for as long: you can stand in now",
    RequestRefusal.TICKET_MISSING: "name the ticket that you work on",
    RequestRefusal.REASON_MISSING: "say for what you need it: the customer reads it",
    RequestRefusal.TOO_MANY_OF_STAFF_IN_ACCOUNT: (
        "you have asked this account as often as you may in a day: wait for an answer"
    ),
    RequestRefusal.TOO_MANY_OF_ACCOUNT: "this account is asked enough for a day: wait until it has answered",
    RequestRefusal.TOO_MANY_OF_STAFF: "you have asked as often as you may in a day",
    RequestRefusal.REQUEST_UNKNOWN: "there is no such request",
    RequestRefusal.REQUEST_APPROVED: "the request was approved already",
    RequestRefusal.REQUEST_DECLINED: "the request was declined already",
    RequestRefusal.REQUEST_WITHDRAWN: "whoever asked has withdrawn the request",
    RequestRefusal.REQUEST_EXPIRED: "the request has waited too long and is over",
    RequestRefusal.ASKER_DISABLED: "the vendor has locked out whoever asked: decline it",
    RequestRefusal.NOT_ADMINISTRATOR: "only an administrator of a product of the account may answer",
    RequestRefusal.ACTING_STAFF: "staff who stand in can never open, extend or approve anything",
    RequestRefusal.OVERTAKEN: "the account has changed meanwhile: look at it again, and decide anew",
    RequestRefusal.WOULD_SHORTEN: "the grant would end earlier than it does: choose longer, or say that it shall",
    RequestRefusal.UNKNOWN_DURATION: "an approval is for a day, a week, a month, a year or always",
}
"""What to say to people, and what they can do next."""
_STATUSES: Final = {
    RequestRefusal.REQUEST_UNKNOWN: 404,
    RequestRefusal.NOT_ADMINISTRATOR: 403,
    RequestRefusal.ACTING_STAFF: 403,
    RequestRefusal.UNKNOWN_DURATION: 422,
}


def status_of(refusal: RequestRefusal) -> int:
    """Return its status for whoever answers for the account: 409 where there is no other."""
    return _STATUSES.get(refusal, 409)

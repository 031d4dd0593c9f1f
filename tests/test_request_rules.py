"""The life of a request of staff's: every state with every answer, every boundary to the microsecond, who may ask."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from policy.asking import (
    ANSWERS,
    MOST_WAITING,
    AskingTerms,
    GrantRequest,
    GrantRequestId,
    RequestRefusal,
    RequestState,
    approve,
    ask,
    check_administrator,
    check_answer,
    read_wish,
    state_of,
)
from policy.exchange import ExchangeError
from policy.grants import Administrator, Change, GrantRefusal
from policy.model import Account, AccountId, AccountType, ActorId, Duration, Grant, GrantId, Permission, Staff
from tests.asking_world import ACCEPTED, NOON, OWNER

TICK = timedelta(microseconds=1)
READ, TESTING, WRITE = Permission.READ, Permission.TEST_TICKETS, Permission.WRITE
PAID = Account(id=AccountId("acme"), type=AccountType.PAID, epoch=3)
DANA = Staff(id=ActorId("https://id.vendor.example", "dana"), name="Dana", permissions=frozenset())
WISH = read_wish(account="acme", permissions=["test_tickets"], duration="week", ticket="SUP-7", reason="empty")
ASKED = GrantRequest(
    id=GrantRequestId("ask_1"),
    account=PAID.id,
    actor=DANA.id,
    name="Dana",
    permissions=frozenset({READ, TESTING}),
    duration=Duration.WEEK,
    ticket="SUP-7",
    reason="empty",
    asked_at=NOON,
    expires_at=NOON + MOST_WAITING,
)
GRANT = Grant(
    id=GrantId("g1"),
    account=PAID.id,
    epoch=3,
    duration=Duration.MONTH,
    permissions=frozenset({READ, WRITE}),
    not_before=NOON,
    expires_at=NOON + timedelta(days=20),
    given_by="owner",
)


def asking(wish=WISH, **changes):
    facts = {
        "staff": DANA,
        "known": None,
        "signed_in_at": NOON,
        "may": frozenset({READ, TESTING}),
        "account": PAID,
        "grant": None,
        "terms": AskingTerms(),
        "new_id": GrantRequestId("ask_1"),
        "now": NOON,
    }
    return ask(wish, **(facts | changes))


def answered(**changes):
    choice = {
        "duration": Duration.DAY,
        "permissions": frozenset({READ}),
        "administrator": OWNER,
        "accepted_roles": ACCEPTED,
        "new_id": GrantId("g2"),
        "now": NOON,
    } | changes
    request, account, current = (choice.pop(name, None) for name in ("request", "account", "current"))
    return approve(request or ASKED, account or PAID, current, **choice)


def test_a_wish_becomes_a_request_that_waits_four_days():
    """To the microsecond; and every text is as it was asked."""
    assert ASKED == asking()
    assert timedelta(days=4) == MOST_WAITING
    assert [RequestState.WAITING, RequestState.EXPIRED] == [
        state_of(ASKED, ASKED.expires_at - TICK), state_of(ASKED, ASKED.expires_at)
    ]  # fmt: skip


REFUSED = {
    "kept by the app": ({"terms": AskingTerms(kept_by_app=True)}, "kept_by_app"),
    "no such account": ({"account": None}, "unknown_account"),
    "no rule lets them in": ({"may": frozenset()}, "unknown_account"),
    "a trial": ({"account": replace(PAID, type=AccountType.TRIAL)}, "trial_account"),
    "suspended": ({"account": replace(PAID, suspended=True)}, "account_suspended"),
    "locked out": ({"known": replace(DANA, disabled=True)}, "staff_disabled"),
    "signed out since": ({"known": replace(DANA, signed_out_at=NOON)}, "staff_signed_out"),
    "more than their own": ({"may": frozenset({READ, WRITE})}, "permission_not_allowed"),
    "allowed already": ({"grant": replace(GRANT, permissions=frozenset({READ, TESTING}))}, "already_allowed"),
    "allowed for ever": (
        {"grant": replace(GRANT, permissions=frozenset(Permission), expires_at=None)},
        "already_allowed",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_whoever_may_not_ask_is_told_why(why):
    """What differs from a good question in one thing is refused for that."""
    changes, refusal = REFUSED[why]
    assert refusal == asking(**changes)


def test_ticket_and_reason_are_asked_for_where_an_assumption_needs_them():
    """A text of spaces is none."""
    for name, refusal in (("ticket", "ticket_missing"), ("reason", "reason_missing")):
        texts = {"ticket": "SUP-7", "reason": "empty"} | {name: "  "}
        wish = read_wish(account="acme", permissions=["test_tickets"], duration="week", **texts)
        assert refusal == asking(wish)
        terms = AskingTerms(require_ticket=name != "ticket", require_reason=name != "reason")
        assert isinstance(asking(wish, terms=terms), GrantRequest)


@pytest.mark.parametrize(
    "changes",
    [
        {"grant": GRANT},
        {"grant": replace(GRANT, permissions=frozenset(Permission), expires_at=NOON + timedelta(days=7) - TICK)},
        {"grant": replace(GRANT, permissions=frozenset(Permission), revoked_at=NOON)},
        {"grant": replace(GRANT, permissions=frozenset(Permission), expires_at=NOON)},
        {"known": replace(DANA, signed_out_at=NOON - TICK)},
        {"known": DANA},
    ],
)
def test_more_permissions_and_more_time_can_be_asked_for_while_it_is_on(changes):
    """As what is off or over can; an earlier sign-out is no hindrance."""
    assert isinstance(asking(**changes), GrantRequest)


@pytest.mark.parametrize(
    "changes",
    [
        {"permissions": ["root"]},
        {"duration": "off"},
        {"duration": "fortnight"},
        {"ticket": "a\nb"},
        {"reason": "a\u2028b"},
        {"reason": "\ud800"},
        {"ticket": "x" * 129},
        {"reason": "x" * 1001},
        {"account": ""},
        {"account": "x" * 257},
    ],
)
def test_what_is_no_wish_is_refused_at_the_door(changes):
    """Each text is one line of a bounded length, each word a known one."""
    good = {"account": "acme", "permissions": ["read"], "duration": "day", "ticket": "t", "reason": "r"}
    with pytest.raises(ExchangeError):
        read_wish(**(good | changes))


@pytest.mark.parametrize(("answer", "to"), [*product(RequestState, RequestState)])
def test_the_table_of_the_life(answer, to):
    """Of all pairs only three are good: from waiting to each answer; and nothing follows an answer."""
    for at in (NOON, ASKED.expires_at - TICK, ASKED.expires_at):
        where = state_of(replace(ASKED, answer=answer), at)
        refused = check_answer(replace(ASKED, answer=answer), to, at)
        good = where is RequestState.WAITING and to in ANSWERS
        assert good == (refused is None)
        if where is not RequestState.WAITING and to in ANSWERS:
            assert f"request_{where}" == refused


@pytest.mark.parametrize(
    ("who", "refusal"),
    [
        (OWNER, None),
        (Administrator(id="x", roles={"guide": "agent", "explore": "admin"}), None),
        (Administrator(id="x", roles={"support": "agent"}), RequestRefusal.NOT_ADMINISTRATOR),
        (Administrator(id="x", roles={}), RequestRefusal.NOT_ADMINISTRATOR),
        (replace(OWNER, is_acting_staff=True), RequestRefusal.ACTING_STAFF),
    ],
)
def test_only_an_administrator_in_person_answers(who, refusal):
    """Of any product; staff who stand in for one never."""
    assert refusal == check_administrator(who, ACCEPTED)
    if refusal is not None:
        assert str(refusal) == answered(administrator=who)


@pytest.mark.parametrize("duration", [each for each in Duration if each is not Duration.OFF])
@pytest.mark.parametrize("chosen", [{READ}, {TESTING}, {READ, WRITE}, set()])
def test_what_is_given_is_what_was_chosen(duration, chosen):
    """Never what was asked for beyond it: not its permissions, not its time."""
    given = answered(duration=duration, permissions=frozenset(chosen))
    assert Change.ENABLED is given.change
    assert (duration, chosen | {READ}, "owner") == (given.grant.duration, given.grant.permissions, given.grant.given_by)


def test_a_grant_that_is_on_is_not_shortened_unless_that_is_said():
    """Nor by a hair; an end that is kept, or is later, shortens nothing."""
    assert GrantRefusal.WOULD_SHORTEN is answered(current=GRANT)
    shorter = replace(GRANT, expires_at=NOON + timedelta(days=1) + TICK)
    assert GrantRefusal.WOULD_SHORTEN is answered(current=shorter)
    forever = replace(GRANT, expires_at=None)
    assert GrantRefusal.WOULD_SHORTEN is answered(current=forever, duration=Duration.YEAR)
    assert Change.REDUCED is answered(current=GRANT, shortens=True).change
    kept = answered(current=GRANT, keeps_end=True, permissions=frozenset({TESTING}))
    assert (Change.PERMISSIONS_CHANGED, GRANT.expires_at) == (kept.change, kept.grant.expires_at)
    assert Change.EXTENDED is answered(current=GRANT, duration=Duration.YEAR).change
    # What is over is not shortened by anything.
    assert Change.ENABLED is answered(current=replace(GRANT, expires_at=NOON)).change


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"duration": Duration.OFF}, GrantRefusal.UNKNOWN_DURATION),
        ({"account": replace(PAID, suspended=True)}, GrantRefusal.ACCOUNT_SUSPENDED),
        ({"account": replace(PAID, type=AccountType.TRIAL)}, GrantRefusal.TRIAL_ACCOUNT),
        ({"account": replace(PAID, id=AccountId("globex"))}, GrantRefusal.OVERTAKEN),
        ({"now": ASKED.expires_at}, GrantRefusal.OVERTAKEN),
        ({"request": replace(ASKED, answer=RequestState.WITHDRAWN)}, GrantRefusal.OVERTAKEN),
        ({"request": replace(ASKED, answer=RequestState.APPROVED)}, GrantRefusal.OVERTAKEN),
        ({"keeps_end": True}, GrantRefusal.OVERTAKEN),
    ],
)
def test_an_approval_that_is_not_good_gives_nothing(changes, refusal):
    """Of another account, of what is answered or over, of nothing to keep."""
    assert refusal is answered(**changes)

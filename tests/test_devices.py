"""The life of one device request, as a table: every state with every event, and both sides of each boundary."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devices.codes import LETTERS, new_user_code, read_user_code
from gateway.devices.desk import DeviceDesk
from gateway.devices.guesses import NetworkTries, Tries, network_of, site_of
from gateway.stores.store import StoreError
from policy.asking import GrantRequest, GrantRequestId, read_wish
from policy.devices import (
    INTERVAL,
    LIFETIME,
    NOTED,
    SLOWER,
    SLOWEST,
    WAITS,
    DeviceRequest,
    DeviceState,
    PollError,
    Word,
    poll,
    settle,
)
from policy.exchange import ExchangeRequest
from policy.model import ActorId, ClientId
from policy.scopes import parse_scopes
from tests.memory_store import MemoryStore
from tests.store_examples import AWKWARD, NOW

MOMENT = timedelta(microseconds=1)
ASKED = ExchangeRequest(
    actor_token="",
    subject="maria",
    audience="acme.helpdesk.example",
    account="acme",
    ticket="SUP-1",
    reason=AWKWARD.replace("\x00", ""),
    scopes=parse_scopes("tickets:read tickets:write:test"),
)
REQUEST = DeviceRequest(
    client=ClientId("locum-cli"),
    asked=ASKED,
    user_code="BCDF-GHJK",
    address="192.0.2.7",
    user_agent="locum-assume",
    asked_at=NOW,
    expires_at=NOW + LIFETIME,
)
SESSION = bytes(range(32))
WISH = read_wish(account="acme", permissions=["test_tickets"], duration="week", ticket="SUP-1", reason="a reason")
CUSTOMERS = GrantRequest(
    id=GrantRequestId("ask_1"),
    account=WISH.account,
    actor=ActorId("https://id.vendor.example", "dana"),
    name="Dana",
    permissions=WISH.permissions,
    duration=WISH.duration,
    ticket=WISH.ticket,
    reason=WISH.reason,
    asked_at=NOW,
    expires_at=NOW + timedelta(days=4),
)


@pytest.mark.parametrize(("state", "word"), list(product(DeviceState, Word)))
def test_what_was_said_once_is_said(state, word):
    """Only what waits can be approved or declined, and an approval alone has a session."""
    asked = CUSTOMERS if word is Word.ASK else None
    then = settle(replace(REQUEST, state=state), word, now=NOW, session=SESSION, asked=asked)
    if state is not DeviceState.PENDING:
        assert None is then
    elif word is Word.ASK:
        found = {"state": DeviceState.ASKED, "session": SESSION, "asked_customer": CUSTOMERS.id}
        assert replace(REQUEST, **found, expires_at=NOW + WAITS) == then
    elif word is Word.APPROVE:
        assert replace(REQUEST, state=DeviceState.APPROVED, session=SESSION) == then
    else:
        assert replace(REQUEST, state=DeviceState.DECLINED) == then


@pytest.mark.parametrize("word", Word)
def test_nothing_is_said_after_the_end(word):
    """At the end it is too late, a moment before it is not."""
    asked = CUSTOMERS if word is Word.ASK else None
    assert None is not settle(REQUEST, word, now=REQUEST.expires_at - MOMENT, asked=asked)
    assert None is settle(REQUEST, word, now=REQUEST.expires_at, asked=asked)


def test_a_device_waits_for_the_customer_no_longer_than_what_they_were_asked():
    """Nor for more than an hour; and nothing waits for somebody who was not asked, or is asked where nobody is to be."""
    soon = replace(CUSTOMERS, expires_at=NOW + MOMENT)
    assert NOW + MOMENT == settle(REQUEST, Word.ASK, now=NOW, asked=soon).expires_at
    assert None is settle(REQUEST, Word.ASK, now=NOW)
    assert None is settle(REQUEST, Word.APPROVE, now=NOW, asked=CUSTOMERS)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        (DeviceState.PENDING, PollError.PENDING, PollError.EXPIRED),
        (DeviceState.APPROVED, None, PollError.EXPIRED),
        (DeviceState.DECLINED, PollError.DECLINED, PollError.EXPIRED),
        (DeviceState.ASKED, PollError.ASKED, PollError.EXPIRED),
    ],
)
def test_what_a_device_is_told(state, before, after):
    """By state, and by time: an approval is good until the end and no longer."""
    request = replace(REQUEST, state=state)
    assert before == poll(request, now=REQUEST.expires_at - MOMENT)[0]
    assert after == poll(request, now=REQUEST.expires_at)[0]


def test_asking_too_soon_makes_the_wait_longer():
    """A moment too early costs five seconds more, counted from that question."""
    error, then = poll(REQUEST, now=NOW)
    assert (PollError.PENDING, replace(REQUEST, polled_at=NOW)) == (error, then)
    assert PollError.PENDING == poll(then, now=NOW + INTERVAL)[0]
    early = NOW + INTERVAL - MOMENT
    error, slow = poll(then, now=early)
    assert (PollError.SLOW_DOWN, INTERVAL + SLOWER, early) == (error, slow.interval, slow.polled_at)
    assert PollError.SLOW_DOWN == poll(slow, now=early + INTERVAL + SLOWER - MOMENT)[0]
    assert PollError.PENDING == poll(slow, now=early + INTERVAL + SLOWER)[0]
    assert None is poll(replace(slow, state=DeviceState.APPROVED), now=early)[0]


def test_a_flood_of_questions_changes_nothing():
    """Within a second of one that was noted the request stays as it is; a clock that was set back is no flood."""
    asked = replace(REQUEST, polled_at=NOW)
    for after in (timedelta(), NOTED - MOMENT):
        error, then = poll(asked, now=NOW + after)
        assert (PollError.SLOW_DOWN, True) == (error, then is asked)
    for after in (NOTED, -MOMENT):
        assert NOW + after == poll(asked, now=NOW + after)[1].polled_at


def test_no_device_waits_longer_than_a_minute():
    """However hasty it was."""
    hasty = REQUEST
    for seconds in range(60):
        hasty = poll(hasty, now=NOW + timedelta(seconds=seconds))[1]
    assert SLOWEST == hasty.interval


async def test_staff_are_heard_however_often_the_device_asks():
    """Each try to decline finds that the request has changed meanwhile, many times over; at last it is declined."""

    class Busy(MemoryStore):
        spoilt = 0

        async def swap_one_time(self, digest, payload, *, known, now):
            if self.spoilt < 50 and "declined" in payload:
                self.spoilt += 1
                return False
            return await super().swap_one_time(digest, payload, known=known, now=now)

    desk = DeviceDesk(Busy(), lambda: NOW)
    device_code, request = await desk.open(REQUEST.client, ASKED, address="", user_agent="")
    assert True is await desk.settle(request.user_code, Word.DECLINE)
    assert PollError.DECLINED == await desk.poll(device_code, REQUEST.client)


@given(st.text(max_size=50))
def test_what_is_typed_is_a_code_or_none(typed):
    """Whatever it is, what comes of it is a code that we could have made."""
    code = read_user_code(typed)
    assert code is None or (len(code) == 9 and set(code) <= {*LETTERS, "-"} and read_user_code(code) == code)


def test_codes_are_read_as_people_type_them():
    """Case, spaces and hyphens do not matter; a vowel, a digit, or one letter more is no code."""
    for _ in range(50):
        code = new_user_code()
        for typed in (code, code.lower(), code.replace("-", ""), f" {code.replace('-', ' - ')} "):
            assert code == read_user_code(typed)
    for typed in ("BCDF-GHJA", "BCDF-GHJ0", "BCDF-GHJKL", "BCDF-GHJ", "BCDF-GHJſ", "ＢCDF-GHJK", "B" * 1000):
        assert None is read_user_code(typed)


async def test_a_request_is_kept_as_it_is():
    """Every field comes back from the store, in each state."""
    store, times = MemoryStore(), [NOW]
    desk = DeviceDesk(store, lambda: times[0])
    device_code, request = await desk.open(REQUEST.client, ASKED, address=REQUEST.address, user_agent="locum-assume")
    assert replace(REQUEST, user_code=request.user_code) == request == await desk.find(request.user_code)
    assert PollError.PENDING == await desk.poll(device_code, REQUEST.client)
    assert True is await desk.settle(request.user_code, Word.APPROVE, session=SESSION)
    approved = replace(request, polled_at=NOW, state=DeviceState.APPROVED, session=SESSION)
    assert approved == await desk.poll(device_code, REQUEST.client)
    assert (None, None) == (await desk.find(request.user_code), await desk.poll(device_code, ClientId("other")))
    assert (approved, None) == (await desk.redeem(device_code), await desk.redeem(device_code))


async def test_a_faulty_store_is_no_approval():
    """Every step raises; nothing is taken for said."""
    store = MemoryStore()
    desk = DeviceDesk(store, lambda: NOW)
    device_code, request = await desk.open(REQUEST.client, ASKED, address="", user_agent="")
    store.fail_with = StoreError("away")
    for call in (
        lambda: desk.settle(request.user_code, Word.APPROVE, session=SESSION),
        lambda: desk.poll(device_code, REQUEST.client),
        lambda: desk.redeem(device_code),
        lambda: desk.withdraw(device_code, REQUEST.client),
    ):
        with pytest.raises(StoreError):
            await call()
    store.fail_with = None
    assert PollError.PENDING == await desk.poll(device_code, REQUEST.client)


async def test_tries_are_counted_by_key_and_in_time():
    """So many, of each key; a good one does not count; after the time it begins anew."""
    times = [NOW]
    tries = Tries(MemoryStore(), lambda: times[0], what="x", most=3, within=timedelta(minutes=1))
    assert [True, True, True, False, False] == [await tries.take("a") for _ in range(5)]
    assert True is await tries.take("b")
    await tries.forgive("a")
    await tries.forgive("nobody")
    assert [True, False] == [await tries.take("a") for _ in range(2)]
    times[0] += timedelta(minutes=1)
    assert True is await tries.take("a")


async def test_a_48_has_some_networks_shares_and_not_all_of_its_65536():
    """Then its other networks are refused, too, without being counted; who is elsewhere, or in IPv4, has a share."""
    tries = NetworkTries(MemoryStore(), lambda: NOW, what="x", most=3, within=timedelta(minutes=1))
    assert [True, True, True, False] == [await tries.take("2001:db8:1::1") for _ in range(4)]
    # What one network asks beyond its share is not the others'.
    assert 21 == sum([await tries.take(f"2001:db8:1:{n:x}::{m}") for n in range(1, 100) for m in range(3)])
    assert True is await tries.take("2001:db8:2::1")
    assert [True] * 3 == [await tries.take(f"192.0.2.{n}") for n in range(3)]
    await tries.forgive("2001:db8:1::1")
    assert [True, False] == [await tries.take("2001:db8:1:ffff::1") for _ in range(2)]
    await tries.forgive("2001:db8:1:ffff::1")
    assert [True, True] == [await tries.take(None), await tries.take("")]


def test_whoever_has_many_addresses_is_one_network():
    """Of IPv6 the first half tells networks apart; an IPv4 address in IPv6 clothes is itself."""
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert site_of("2001:db8::1") == site_of("2001:db8:0:1::1") != site_of("2001:db8:1::1")
    assert ("192.0.2.7", "192.0.2.7", "") == (site_of("::ffff:192.0.2.7"), site_of("192.0.2.7"), site_of(None))
    assert ("192.0.2.7", "192.0.2.7") == (network_of("::ffff:192.0.2.7"), network_of("192.0.2.7"))
    assert ("", "") == (network_of(None), network_of("unix:"))


async def test_what_the_customer_is_to_be_asked_for_comes_back_as_it_was_kept():
    """Beside the rest, and kept for as long as they may be waited for; its device is given it until it is fetched."""
    times, store = [NOW], MemoryStore()
    desk = DeviceDesk(store, lambda: times[0])
    asked = replace(ASKED, reason=WISH.reason)
    device_code, request = await desk.open(REQUEST.client, asked, address="", user_agent="", wish=WISH)
    assert WISH == (await desk.find(request.user_code)).wish
    assert True is await desk.settle(request.user_code, Word.ASK, session=SESSION, asked=CUSTOMERS)
    assert None is await desk.find(request.user_code)
    times[0] = NOW + WAITS - MOMENT
    found = await desk.poll(device_code, REQUEST.client)
    assert (DeviceState.ASKED, CUSTOMERS.id, WISH) == (found.state, found.asked_customer, found.wish)
    times[0] = NOW + WAITS
    assert PollError.EXPIRED == await desk.poll(device_code, REQUEST.client)

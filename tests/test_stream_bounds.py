"""What is open of our own pages leaves an office the app: event streams have a bound by address, and one of all."""

import asyncio
import html
import re
from contextlib import AsyncExitStack, ExitStack
from types import SimpleNamespace

import pytest

from gateway.console.stream_places import PART, StreamPlaces
from gateway.proxy.limits import ListenerLimits
from tests.browser_world import STAFF, STAFF_HOST, Browser
from tests.console_world import PATH, open_customer
from tests.gateway_world import HOST, parse
from tests.patience import PATIENCE_SECONDS
from tests.stream_world import asking, while_they_last

MOST = 2
"""Streams of one address here."""
SAME = "Sec-Fetch-Site: same-origin"


def open_office(directory, *, limits=None, proxied=False):
    """People who all come from one address, of which few requests may be under way."""

    def change(document):
        document["limits"] = limits or {"in_flight_per_peer": PART * MOST, "queue_timeout_seconds": 0.2}
        if proxied:
            document["server"]["trusted_proxies"] = ["127.0.0.1/32"]

    return open_customer(directory, change=change)


def live_of(page):
    return html.unescape(re.search(r'data-live="([^"]+)"', page.text)[1])


async def pages_of(olivia):
    """What asks for a stream of each of the three kinds of pages: target, host and cookie."""
    dana = Browser(olivia.world)
    await dana.sign_in()
    mine, theirs = f"Cookie: session={olivia.session}", f"Cookie: {STAFF}={dana.staff}"
    return [
        (live_of(await dana.home()), STAFF_HOST, theirs),
        (live_of(await olivia.page()), olivia.host, mine),
        (f"{PATH}/live/log?seen=0", olivia.host, mine),
    ]


@pytest.fixture
async def office(tmp_path):
    async with open_office(tmp_path) as olivia:
        yield SimpleNamespace(olivia=olivia, port=olivia.world.port, pages=await pages_of(olivia))


async def has_begun(port, page, *lines):
    async with asking(port, *page, *lines) as stream:
        return stream.has_begun


async def begin(stack, port, page):
    """Have a stream open until the stack ends, as soon as there is a place: who has left is noticed a little later."""
    while True:
        async with AsyncExitStack() as mine:
            if (await mine.enter_async_context(asking(port, *page))).has_begun:
                stack.push_async_exit(mine.pop_all())
                return


@while_they_last
async def test_an_offices_open_pages_leave_it_the_app(office):
    """The attack: as many streams as requests may be under way, of all three pages. A quarter begin, the app answers."""
    port, pages, olivia = office.port, office.pages, office.olivia
    async with AsyncExitStack() as open_:
        tried = [await open_.enter_async_context(asking(port, *pages[number % 3])) for number in range(2 * PART * MOST)]
        assert [True] * MOST + [False] * (len(tried) - MOST) == [each.has_begun for each in tried]
        raw = f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
        assert 200 == parse(await olivia.world.raw(raw))[0]
        # By this the pages go on.
        for target, host, cookie in pages[:2]:
            answer = await olivia.ask(f"{target}&once=on", SAME, host=host, cookie=cookie.partition(" ")[2])
            assert (200, b'{"changed": false}') == (answer.status, answer.body)


@while_they_last
async def test_who_has_left_makes_room(office):
    """Also for another kind of page, and no place is lost: neither by a stream that ends nor by one that is refused."""
    for _ in range(3):
        async with AsyncExitStack() as open_, asyncio.timeout(PATIENCE_SECONDS):
            for page in office.pages[:MOST]:
                await begin(open_, office.port, page)
            assert not await has_begun(office.port, office.pages[2])
        office.pages.reverse()


@while_they_last
async def test_behind_a_proxy_each_client_has_its_own(tmp_path):
    """Of one proxy that is trusted come many: who counts is the client that it names, an IPv6 network as one."""
    async with open_office(tmp_path, proxied=True) as olivia, AsyncExitStack() as open_:
        [page, *_] = await pages_of(olivia)
        for client in ("2001:db8::1", "2001:db8::2"):
            line = f"X-Forwarded-For: {client}"
            assert (await open_.enter_async_context(asking(olivia.world.port, *page, line))).has_begun
        begun = {
            client: await has_begun(olivia.world.port, page, f"X-Forwarded-For: {client}")
            for client in ("2001:db8::3", "2001:db8:0:1::3", "203.0.113.1")
        }
        assert {"2001:db8::3": False, "2001:db8:0:1::3": True, "203.0.113.1": True} == begun


@while_they_last
async def test_all_streams_leave_requests_their_room(tmp_path):
    """From however many addresses: a quarter of what may be under way at all."""
    async with open_office(tmp_path, limits={"max_in_flight": PART * MOST}, proxied=True) as olivia:
        [page, *_] = await pages_of(olivia)
        async with AsyncExitStack() as open_:
            begun = [
                (
                    await open_.enter_async_context(
                        asking(olivia.world.port, *page, f"X-Forwarded-For: 203.0.113.{number}")
                    )
                ).has_begun
                for number in range(MOST + 2)
            ]
        assert [True] * MOST + [False] * 2 == begun


def taken(places, *addresses):
    """Whether each gets a place, one after the other."""
    with ExitStack() as held:
        return [held.enter_context(places.place(address)) for address in addresses]


def test_whoever_may_be_anybody_is_counted_with_nobody():
    """Without an address, or by a proxy that names no client, the bound of all is the only one."""
    places = StreamPlaces(ListenerLimits(in_flight_per_peer=PART, max_in_flight=PART * 4), "192.0.2.1".__eq__)
    assert [True, True, True, True, False] == taken(places, "192.0.2.1", None, "192.0.2.1", "", None)
    assert [True, False, True] == taken(places, "192.0.2.2", "192.0.2.2", "192.0.2.3")
    few = StreamPlaces(ListenerLimits(in_flight_per_peer=PART - 1), "192.0.2.1".__eq__)
    assert [False] == taken(few, "192.0.2.2"), "of so few requests none may be a stream"

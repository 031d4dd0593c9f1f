"""Staff's open page is told that it is out of date, of what is their own and of nothing else."""

import asyncio
import html
import re
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.assumptions.live import MOST_STREAMS
from gateway.stores.store import KillSwitch
from policy.asking import RequestState
from policy.model import ActorId
from tests.browser_world import ISSUER, STAFF, STAFF_HOST, Browser, open_browser
from tests.patience import PATIENCE_SECONDS
from tests.stream_world import while_they_last
from tests.test_stand_in import token_of
from tests.test_stand_in_asking import ask, asked

SAME = "Sec-Fetch-Site: same-origin"


def many(document):
    """Have room for the streams of many people from one address."""
    document["limits"] = {"in_flight_per_peer": 1024}


@pytest.fixture
async def dana(tmp_path):
    async with open_browser(tmp_path, stand_in=False, change=many) as browser:
        await browser.sign_in()
        yield browser


def live_of(page):
    return html.unescape(re.search(r'data-live="([^"]+)"', page.text)[1])


async def address(browser):
    return live_of(await browser.home())


async def once(browser, live):
    """Return whether a page that asks is out of date."""
    answer = await browser.ask(f"{live}&once=on", SAME, host=STAFF_HOST)
    assert 200 == answer.status, answer.text
    return b'{"changed": true}' == answer.body


@asynccontextmanager
async def listening(browser, live):
    """A stream that has begun; yields what returns all that comes to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.world.port)
    lines = [f"GET {live} HTTP/1.1", f"Host: {STAFF_HOST}", f"Cookie: {STAFF}={browser.staff}", SAME]
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())

    async def rest():
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            begun = await reader.readuntil(b"retry: 2000\n\n")
        assert b"200 OK" in begun
        assert b"text/event-stream" in begun
        yield rest
    finally:
        writer.close()


async def test_what_happens_to_ones_own_is_told_to_an_open_page(dana):
    """An assumption that begins and ends, a request, the customer's answer, the kill-switch: without a word on what."""
    store, clock = dana.world.gateway.store, dana.world.clock

    async def answered():
        [request] = await asked(dana)
        assert await store.answer_grant_request(request.id, RequestState.DECLINED, by="olivia", at=clock.now)

    async def halted():
        await store.set_kill_switch(KillSwitch(on=True, reason="x", by="y", at=clock.now))

    for change in (
        dana.stand_in,
        lambda: dana.world.choose("off"),
        lambda: ask(dana),
        answered,
        halted,
    ):
        live = await address(dana)
        assert not await once(dana, live)
        async with listening(dana, live) as rest:
            await change()
            assert b"event: changed\ndata: 1\n\n" in await rest()
        assert await once(dana, live)


async def test_what_is_somebody_elses_is_not_told(dana):
    """Another staff member's assumption and request at the same account leave the page as it is."""
    live, erin = await address(dana), Browser(dana.world)
    await erin.sign_in("erin", name="Erin")
    other = await address(erin)
    await erin.stand_in(ticket="SUP-7")
    await ask(erin)
    assert (False, live) == (await once(dana, live), await address(dana))
    # Nor by another's address: it is of whoever asks.
    assert await once(erin, other)
    assert await once(dana, other)


async def test_nobody_else_may_listen(dana):
    """Nobody who is not signed in, by no other site, at no other host."""
    live = await address(dana)
    for query in ("", "&once=on"):
        target = f"{live}{query}"
        assert 403 == (await dana.ask(target, SAME, host=STAFF_HOST, cookie="")).status
        assert 404 == (await dana.ask(target, SAME, cookie=f"{STAFF}={dana.staff}")).status
        for site in ("cross-site", "same-site", "none"):
            assert 403 == (await dana.ask(target, f"Sec-Fetch-Site: {site}", host=STAFF_HOST)).status


async def test_who_is_signed_out_or_locked_out_hears_that_there_is_another_page(dana):
    """And the stream ends; whoever asks by themselves is refused."""
    store = dana.world.gateway.store
    for end in ("sign out", "lock"):
        await dana.sign_in()
        page = await dana.home()
        async with listening(dana, live_of(page)) as rest:
            if end == "lock":
                actor = ActorId(dana.world.issuer.issuer, "dana")
                assert await store.disable_staff(actor, disabled=True)
            else:
                fields = [("form_token", token_of(page))]
                assert 200 == (await dana.post("/.locum/sign-out", fields, host=STAFF_HOST, origin=ISSUER)).status
            assert b"event: changed" in await rest()
        assert 403 == (await dana.ask(f"{live_of(page)}&once=on", SAME, host=STAFF_HOST)).status


async def test_listening_is_no_use_of_the_session(tmp_path):
    """Who has gone home with the page open is signed out as if it were closed."""

    def short(document):
        document["staff"]["sign_in"]["idle_seconds"] = 600

    async with open_browser(tmp_path, stand_in=False, change=short) as dana:
        await dana.sign_in()
        live, clock = await address(dana), dana.world.clock
        for _ in range(2):
            clock.forward(seconds=299)
            assert not await once(dana, live)
        clock.forward(seconds=2)
        assert 403 == (await dana.ask(f"{live}&once=on", SAME, host=STAFF_HOST)).status


async def test_an_open_page_does_not_hold_up_a_stop(dana):
    """A gateway that ends has its streams end, and tells no change that there was not."""
    async with listening(dana, await address(dana)) as rest:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await dana.world.gateway.close_doors()
        assert b"changed" not in await rest()


async def refused(browser, live):
    """Return the status and when to come again, None for a stream."""
    answer = await browser.ask(live, SAME, host=STAFF_HOST)
    return None if answer.status == 200 else (answer.status, answer.headers["retry-after"])


@while_they_last
async def test_one_person_has_so_many_streams(dana):
    """One more is told to come later, by whichever session; others have theirs, and who has left makes room."""
    live, erin = await address(dana), Browser(dana.world)
    await erin.sign_in("erin")
    async with AsyncExitStack() as open_:
        for _ in range(MOST_STREAMS - 1):
            await open_.enter_async_context(listening(dana, live))
        await dana.sign_in()
        async with listening(dana, live):
            assert (503, "5") == await refused(dana, live)
            async with listening(erin, await address(erin)):
                pass
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await refused(dana, f"{live}x") is not None:
            pass


@while_they_last
async def test_an_offices_open_pages_keep_nobody_there_from_a_sign_in(dana):
    """A hundred streams from one address: the next person's page answers, whoever they are, and so does a sign-in."""
    people = [dana]
    for number in range(12):
        people.append(Browser(dana.world))
        await people[-1].sign_in(f"p{number}", name=f"P{number}")
    async with AsyncExitStack() as open_:
        for person in people:
            live = await address(person)
            for _ in range(MOST_STREAMS):
                await open_.enter_async_context(listening(person, live))
        assert 200 == (await dana.ask("/.locum/", SAME, host=STAFF_HOST)).status
        await Browser(dana.world).sign_in("erin", name="Erin")

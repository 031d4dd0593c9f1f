"""An open stream is its reader's: it ends within a second of their session, whatever ended that, and tells nothing."""

import asyncio
import html
import re
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.session_ends import SessionEnds
from gateway.stores.store import StoreError
from tests.browser_world import ISSUER, STAFF, STAFF_HOST, open_browser
from tests.console_world import OLIVIA, PATH, open_customer
from tests.customer_sign_in_world import SESSION, open_administrator
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS, within
from tests.store_examples import NOW
from tests.stream_world import asking
from tests.test_customer_sign_in_logout import tell, told
from tests.test_stand_in import token_of

SECONDS = 2.5
"""A look each half second, a hint that is a quarter of one old, and some time for the looks themselves: below the four
seconds after which each stream looks without any reason."""
APP_SECONDS = 10
"""Four seconds at most between two looks, and some for the questions: below the twenty of a stream."""
LOG_STREAM = f"{PATH}/live/log?seen=0"


def live_of(text):
    return html.unescape(re.search(r'data-live="([^"]+)"', text)[1])


@pytest.fixture
async def dana(tmp_path):
    def short(document):
        document["staff"]["sign_in"]["idle_seconds"] = 600

    async with open_browser(tmp_path, stand_in=False, change=short) as browser:
        await browser.sign_in()
        yield browser


@pytest.fixture
async def olivia(tmp_path):
    """Signed in at her company's own provider."""
    async with open_administrator(tmp_path) as administrator:
        await administrator.enter()
        yield administrator


@asynccontextmanager
async def both(port, host, cookie, live):
    """The streams of the account's page and of its log, of one session; yields what returns how each ended."""
    async with (
        asking(port, live, host, f"Cookie: {cookie}") as page,
        asking(port, LOG_STREAM, host, f"Cookie: {cookie}") as log,
    ):
        assert [True, True] == [page.has_begun, log.has_begun]
        yield lambda: asyncio.gather(page.rest(), log.rest())


def of(administrator, live):
    return both(administrator.world.port, administrator.host, f"{SESSION}={administrator.session}", live)


def said(ends):
    """Which words came on each stream."""
    return [re.findall(rb"event: (\w+)", end) for end in ends]


SIGN_IN_ALONE = [[b"changed"], []]
"""The page is loaded anew, and then asks to sign in; the list is told nothing."""


@pytest.mark.parametrize("end", ["sign out", "idle"])
async def test_a_staff_stream_ends_with_its_session(dana, end):
    """The attack: to leave a page open, and go on listening by a session that is over."""
    page = await dana.home()
    async with asking(dana.world.port, live_of(page.text), STAFF_HOST, f"Cookie: {STAFF}={dana.staff}") as stream:
        assert stream.has_begun
        async with within(SECONDS):
            if end == "idle":
                dana.world.clock.forward(seconds=601)
            else:
                fields = [("form_token", token_of(page))]
                assert 200 == (await dana.post("/.locum/sign-out", fields, host=STAFF_HOST, origin=ISSUER)).status
            assert b"event: changed" in await stream.rest()


@pytest.mark.parametrize("end", ["sign out", "provider", "idle"])
async def test_an_administrators_streams_end_with_their_session(olivia, end):
    """By a form of another page, by their provider's word, or by time; nobody else's do, who goes on working."""
    clock, busy, first = olivia.world.clock, olivia.another(), olivia.another()
    await busy.enter("oscar")
    await first.enter("omar")
    live = live_of((await olivia.page()).text)
    async with of(busy, live) as theirs, of(olivia, live) as ends, of(first, live) as earlier:
        # Once this is over, each has looked once, so that the next look needs a reason.
        assert 200 == (await first.leave()).status
        assert SIGN_IN_ALONE == said(await earlier())
        going_on = asyncio.ensure_future(theirs())
        if end == "idle":
            clock.forward(seconds=800)
            assert 200 == (await busy.page()).status
        async with within(SECONDS):
            match end:
                case "sign out":
                    assert 200 == (await olivia.leave()).status
                case "provider":
                    assert 200 == await tell(olivia, told(olivia))
                case "idle":
                    clock.forward(seconds=101)
            assert SIGN_IN_ALONE == said(await ends())
        assert not going_on.done()
        clock.forward(hours=9)
        assert SIGN_IN_ALONE == said(await going_on)


async def test_whom_the_app_takes_away_hears_no_more(tmp_path):
    """Only the app knows: it is asked as often as by pages, a few seconds apart.

    Where it cannot say, the streams end without a word; the pages come again, and stay as they were meanwhile.
    """
    becomes = {
        "signed out": None,
        "no administrator": OLIVIA | {"roles": {"support": "agent"}},
        "another person": OLIVIA | {"id": 70},
        "staff": OLIVIA | {"act": "dana"},
        "not known": {},
    }
    async with open_customer(tmp_path) as olivia, AsyncExitStack() as open_:
        live, people, world = live_of((await olivia.page()).text), olivia.world.app.people, olivia.world
        people |= dict.fromkeys(becomes, OLIVIA)
        ends = {
            why: await open_.enter_async_context(both(world.port, olivia.host, f"session={why}", live))
            for why in becomes
        }
        people |= becomes
        world.clock.forward(seconds=4)
        async with within(APP_SECONDS):
            found = dict(zip(ends, await asyncio.gather(*(end() for end in ends.values())), strict=True))
        told_of = {why: said(each) for why, each in found.items()}
        assert dict.fromkeys(becomes, SIGN_IN_ALONE) | {"not known": [[], []]} == told_of


class Counting(MemoryStore):
    """Counts how often it was asked for one value, and may be away."""

    reads = 0
    is_away = False

    async def find_one_time(self, digest, *, now):
        self.reads += 1
        return await super().find_one_time(digest, now=now)

    async def count(self, digest, **options):
        if self.is_away:
            raise StoreError("away")
        return await super().count(digest, **options)


async def test_all_streams_of_a_process_listen_by_one_read():
    """A thousand that look at once ask the store once; what another process tells is heard by the next look."""
    store = Counting()
    here, there = (SessionEnds(store, lambda: NOW, of="staff") for _ in range(2))
    heard = await asyncio.gather(*(here.heard() for _ in range(1000)))
    assert ({None}, 1) == (set(heard), store.reads)
    await there.tell()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (first := await here.heard()) is None:  # noqa: ASYNC110 - it is told by the store alone
            await asyncio.sleep(0.05)
        await there.tell()
        while await here.heard() == first:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)


async def test_a_sign_out_does_not_fail_because_nobody_can_be_told():
    """It is stored already; the streams find out by themselves."""
    store = Counting()
    store.is_away = True
    await SessionEnds(store, lambda: NOW, of="staff").tell()

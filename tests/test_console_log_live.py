"""What open pages are told by themselves, and that one account's searching is in nobody's way."""

import asyncio
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from gateway.audit.evidence.making import Ending
from gateway.audit.evidence.ordering import ReceiptMaker
from gateway.audit.index.asking import Busy, IndexTurns, LogIndex
from gateway.audit.index.finding import Found, Page, Tally
from gateway.audit.search import Query
from gateway.console.account.log_asking import AccountIndex
from gateway.console.account.log_live import MOST_NEWER, MOST_STREAMS, LastDeeds
from gateway.console.account.log_receipt import being_made
from gateway.console.account.log_receipts import ReceiptDesk, pauses_of
from gateway.console.account.log_turns import MOST_SECONDS, Turns
from gateway.pages.render import Pages
from gateway.tasks import Tasks
from tests.console_world import PATH, Customer
from tests.journals import Ticks
from tests.log_world import LOG, done, index, look, open_reader, receipt, requests, write
from tests.patience import PATIENCE_SECONDS
from tests.stream_world import while_they_last
from tests.upstream_client import eventually

ALL = Query(terms=())


@pytest.fixture
async def olivia(tmp_path):
    async with open_reader(tmp_path) as customer:
        await customer.choose("week")
        yield customer


def _live(page):
    return re.search(r'data-live="([^"]*)"', page.text)[1]


@asynccontextmanager
async def _open(customer, target):
    """A stream that has begun; yields its reader."""
    reader, writer = await asyncio.open_connection("127.0.0.1", customer.world.port)
    try:
        cookie = f"Cookie: session={customer.session}"
        lines = (f"GET {target} HTTP/1.1", f"Host: {customer.host}", cookie, "Accept: text/event-stream", "", "")
        raw = "\r\n".join(lines).encode()
        await customer.world.note_sent(raw)
        writer.write(raw)
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _told(customer, target):
    """The stream's first word with what came before it; then leave."""
    async with _open(customer, target) as reader, asyncio.timeout(PATIENCE_SECONDS):
        return await reader.readuntil(b"data: "), (await reader.readline()).strip().decode()


async def test_an_open_list_is_told_how_many_are_newer(olivia):
    """Of what it looks for, not of anything else; and not what they are."""
    world = olivia.world
    await done(world, ("GET", "/tickets/1"))
    everything, refused = await look(olivia), await look(olivia, "?decision=deny&ticket=SUP-1")
    await done(world, ("GET", "/tickets/2"), ("GET", "/tickets/3"), ("DELETE", "/admin/x"))
    head, newer = await _told(olivia, _live(everything))
    assert ("4", True, False) == (newer, b"text/event-stream" in head, b"tickets" in head)
    assert "no-store" in head.decode().lower()
    assert "1" == (await _told(olivia, _live(refused)))[1]


async def test_busy_staff_are_told_of_once(olivia):
    """From so many on it is only said that there are so many, and the stream has nothing more to say."""
    world = olivia.world
    index(world)
    live = _live(await look(olivia))
    world.clock.forward(minutes=5)
    write(world, requests(world, MOST_NEWER + 5))
    answer = await olivia.ask(live)
    assert f"event: newer\ndata: {MOST_NEWER}+\n\n" in answer.text, "and it has ended, for the answer is there"


async def test_an_older_page_is_told_nothing(olivia):
    """What is newer than it stands on pages that were left."""
    await done(olivia.world, ("GET", "/tickets/1"))
    assert "" == _live(await look(olivia, f"?before={2**62}"))


async def test_what_a_stream_cannot_mean_is_refused(olivia):
    """Before it is open."""
    for query in ("", "?seen=x", "?seen=1&seen=2x", "?seen=0&q=%22", f"?seen={2**63}"):
        assert 400 == (await olivia.ask(f"{PATH}/live/log{query}")).status, query


@while_they_last
async def test_streams_of_one_account_are_few(olivia):
    """One more is refused, another account's is not, and one that has ended makes room."""
    gina = Customer(olivia.world, session="s-gina", account="globex")
    target = f"{PATH}/live/log?seen=0"
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        for customer in (*[olivia] * MOST_STREAMS, gina):
            reader = await stack.enter_async_context(_open(customer, target))
            await reader.readuntil(b"retry: 5000")
            if customer is olivia:
                continue
            answer = await olivia.ask(target)
            assert (503, "5") == (answer.status, answer.headers["retry-after"])


# Turns.


class SlowIndex(LogIndex):
    """Answers with nothing once it is let, each question taking some seconds of the clock."""

    def __init__(self, ticks, *, seconds=0.0):
        self.ticks = ticks
        self.seconds = seconds
        self.asked = []
        self.let = asyncio.Event()
        self.let.set()

    async def search(self, query, *, limit, before, after, account):
        self.asked.append(account)
        self.ticks.now += self.seconds
        await self.let.wait()
        return Page(found=[], more=False), None

    async def stats(self, query, *, account, less=None):
        return Tally(), None

    async def overview(self, query, *, step, account, less=None):
        raise NotImplementedError


@pytest.fixture
def slow():
    ticks = Ticks()
    found = SlowIndex(ticks)
    return found, AccountIndex(found, Turns(ticks)), ticks


async def test_an_account_that_searches_without_end_waits_alone(slow):
    """It has had its share after some seconds, gets it back in a minute, and others are answered meanwhile."""
    found, own, ticks = slow
    found.seconds = 2.0
    for _ in range(round(MOST_SECONDS / 2) + 1):
        with suppress(Busy):
            await own.newest(ALL, account="acme", limit=1)
    with pytest.raises(Busy, match="your account has searched a lot"):
        await own.newest(ALL, account="acme", limit=1)
    heard = len(found.asked)
    await own.newest(ALL, account="globex", limit=1)
    assert heard + 1 == len(found.asked)
    ticks.now += 61
    await own.newest(ALL, account="acme", limit=1)


async def test_accounts_are_answered_in_turn(slow):
    """However many questions of one wait, the first of another comes behind one of them; and few of one may wait."""
    found, own, _ = slow
    found.let.clear()
    waiting = [asyncio.ensure_future(own.newest(ALL, account="acme", limit=1)) for _ in range(6)]
    await eventually(lambda: sum(one.done() for one in waiting) == 2)
    assert ["acme"] == found.asked, "one at a time"
    assert [Busy, Busy] == [type(one.exception()) for one in waiting if one.done()]
    other = asyncio.ensure_future(own.newest(ALL, account="globex", limit=1))
    await asyncio.sleep(0)
    found.let.set()
    await asyncio.wait([*waiting, other])
    assert ["acme", "globex", "acme", "acme", "acme"] == found.asked


async def test_what_a_page_asks_by_itself_is_in_nobodys_way(slow):
    """It has a turn only if nobody has one, and never the second half of the account's share."""
    found, own, _ = slow
    found.let.clear()
    searching = asyncio.ensure_future(own.newest(ALL, account="globex", limit=1))
    await eventually(lambda: found.asked)
    with pytest.raises(Busy):
        await own.newest(ALL, account="acme", limit=1, by_itself=True)
    found.let.set()
    await searching
    await own.newest(ALL, account="acme", limit=1, by_itself=True)
    found.seconds = MOST_SECONDS / 2
    await own.newest(ALL, account="acme", limit=1)
    with pytest.raises(Busy):
        await own.newest(ALL, account="acme", limit=1, by_itself=True)
    found.seconds = 0.0
    await own.newest(ALL, account="acme", limit=1)


async def test_a_page_waits_for_last_actions_no_longer_than_it_may(slow):
    """Without them it is shown all the same; and they are asked for once for all who look within two seconds."""
    found, own, ticks = slow
    last = LastDeeds(own, ticks, patience_seconds=0.05)
    found.let.clear()
    assert {} == await last.of("acme", ["as_1", "as_2"])
    assert ["acme"] == found.asked
    found.let.set()
    assert {} == await last.of("acme", ["as_1", "as_2"])
    assert ["acme"] == found.asked
    ticks.now += 3
    await last.of("acme", ["as_1", "as_2"])
    assert ["acme"] * 3 == found.asked


async def test_records_of_another_account_are_left_out_whatever_an_index_says(slow):
    """The account is looked at once more in each record."""
    found, own, _ = slow

    async def wrong(query, *, limit, before, after, account):
        entries = [{"account": "globex"}, {"account": "ACME"}, {}, {"account": ["acme"]}, {"account": "acme"}]
        return Page([Found(number, entry) for number, entry in enumerate(entries)], more=True), None

    found.search = wrong
    page = await own.newest(ALL, account="acme", limit=5)
    assert ([4], 4) == ([one.id for one in page.found], page.next)


async def test_too_many_readings_are_refused_before_they_are_recorded(olivia):
    """Nobody fills the journal by reading; ordinary use is far below that."""
    index(olivia.world)
    statuses = [(await look(olivia, f"/as_{number}")).status for number in range(210)]
    assert {404, 503} == set(statuses)
    assert 190 < len(olivia.world.records(kind="audit")) <= 201
    assert 200 == (await olivia.page()).status
    olivia.world.clock.forward(seconds=61)
    assert 404 == (await look(olivia, "/as_again")).status


# Receipts.


@pytest.fixture
async def desk(tmp_path):
    tasks, orders, let, ticks = Tasks(), [], asyncio.Event(), Ticks()
    turns, making = Turns(ticks), IndexTurns()

    async def make(order):
        orders.append((order.account, order.assumption))
        await let.wait()
        ticks.now += 3
        return Ending.MADE, json.dumps([order.account, order.assumption]).encode()

    maker = ReceiptMaker(tmp_path, tmp_path / "key", make=make)
    found = ReceiptDesk(maker, tasks=tasks, making=making, turns=turns, ticks=ticks, until_signed=())
    found.orders, found.let, found.turns, found.making = orders, let, turns, making
    yield found
    await tasks.close()


async def test_a_receipt_that_takes_long_is_fetched_later(desk):
    """It is made once, one at a time, and each account has one under way."""
    assert None is await desk.fetch("acme", "as_1", seconds=0)
    assert None is await desk.fetch("acme", "as_1", seconds=0)
    with pytest.raises(Busy):
        await desk.fetch("acme", "as_2", seconds=0)
    assert None is await desk.fetch("globex", "as_1", seconds=0)
    await eventually(lambda: desk.orders)
    assert [("acme", "as_1")] == desk.orders
    desk.let.set()
    assert (Ending.MADE, b'["acme", "as_1"]') == await desk.fetch("acme", "as_1")
    assert (Ending.MADE, b'["globex", "as_1"]') == await desk.fetch("globex", "as_1")
    assert [("acme", "as_1"), ("globex", "as_1")] == desk.orders


async def test_a_receipt_of_a_page_is_made_in_the_turns_of_the_api(desk):
    """Each making reads the whole journal, from whichever door it is asked for: the bound is one over both."""
    desk.let.set()
    await desk.making.take("globex")
    assert None is await desk.fetch("acme", "as_1", seconds=0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [] == desk.orders
    desk.making.give_back("globex")
    assert (Ending.MADE, b'["acme", "as_1"]') == await desk.fetch("acme", "as_1")
    await desk.making.take("globex")  # it was given back


@pytest.mark.parametrize(("unsigned", "status"), [(1, Ending.MADE), (2, Ending.MADE), (3, Ending.NOT_SIGNED_YET)])
async def test_a_receipt_waits_for_the_checkpoint_that_is_due(tmp_path, unsigned, status):
    """Whoever asks within the second after somebody came in is not told that there is nothing."""
    tasks, ticks, endings = Tasks(), Ticks(), [Ending.NOT_SIGNED_YET] * unsigned + [Ending.MADE]

    async def make(_order):
        return endings.pop(0), b""

    turns = Turns(ticks)
    desk = ReceiptDesk(
        ReceiptMaker(tmp_path, tmp_path / "key", make=make),
        tasks=tasks,
        making=IndexTurns(),
        turns=turns,
        ticks=ticks,
        until_signed=(0, 0),
    )
    try:
        assert (status, b"") == await desk.fetch("acme", "as_1")
    finally:
        await tasks.close()


@pytest.mark.parametrize(("every", "pauses"), [(0.25, (1, 2)), (1, (1, 2)), (7, (7, 14)), (10.5, ()), (3600, ())])
def test_the_wait_for_a_checkpoint_is_what_the_configuration_says(every, pauses):
    """The journal is read again once a checkpoint has to be there; where that is long, only for who asks again."""
    assert pauses == pauses_of(every)


async def test_the_wait_for_a_checkpoint_is_nobodys_reading(tmp_path):
    """However long it takes, it is not used up of the account's share: nothing is read meanwhile."""
    tasks, ticks, pauses = Tasks(), Ticks(), []

    def pause():
        pauses.append(3)
        ticks.now += 3

    async def make(_order):
        # Once this try is over: the desk waits for the next, and does nothing else.
        asyncio.get_running_loop().call_soon(pause)
        return Ending.NOT_SIGNED_YET, b""

    turns = Turns(ticks)
    desk = ReceiptDesk(
        ReceiptMaker(tmp_path, tmp_path / "key", make=make),
        tasks=tasks,
        making=IndexTurns(),
        turns=turns,
        ticks=ticks,
        until_signed=(0, 0),
    )
    try:
        assert (Ending.NOT_SIGNED_YET, b"") == await desk.fetch("acme", "as_1")
        assert 2 <= len(pauses)
        turns.charge("acme", MOST_SECONDS - 0.1)
        turns.charge("acme", 0.0)  # raises Busy if anything more was used
    finally:
        await tasks.close()


async def test_whoever_waits_for_a_checkpoint_has_no_turn(tmp_path):
    """Other accounts' receipts are made meanwhile."""
    tasks, ticks = Tasks(), Ticks()

    async def make(order):
        return Ending.NOT_SIGNED_YET if order.account == "acme" else Ending.MADE, b""

    turns = Turns(ticks)
    desk = ReceiptDesk(
        ReceiptMaker(tmp_path, tmp_path / "key", make=make),
        tasks=tasks,
        making=IndexTurns(),
        turns=turns,
        ticks=ticks,
        until_signed=(3600,),
    )
    try:
        assert None is await desk.fetch("acme", "as_1", seconds=0)
        assert (Ending.MADE, b"") == await desk.fetch("globex", "as_1")
    finally:
        await tasks.close()


async def test_a_receipt_is_made_out_of_the_accounts_share(desk):
    """Each counts like some seconds of searching: after a few there is none left for a while, and others have theirs."""
    desk.let.set()
    for number in range(4):
        desk.turns.charge("acme", 0.0)
        await desk.fetch("acme", f"as_{number}")
    with pytest.raises(Busy, match="your account has searched a lot"):
        desk.turns.charge("acme", 0.0)
    desk.turns.charge("globex", 0.0)


async def test_receipts_that_nobody_comes_for_make_room(desk):
    """As long as all are under way others wait; one that is made and not fetched gives way."""
    accounts = ["a", "b", "c", "d"]
    for account in accounts:
        assert None is await desk.fetch(account, "as_1", seconds=0)
    with pytest.raises(Busy, match="others"):
        await desk.fetch("e", "as_1", seconds=0)
    desk.let.set()
    await eventually(lambda: len(desk.orders) == 4)
    assert (Ending.MADE, b'["e", "as_1"]') == await desk.fetch("e", "as_1")
    assert len(desk.orders) == 5


async def test_a_receipt_that_cannot_be_made_is_no_fault_of_the_customers(olivia):
    """It is said, and may be asked for again at once."""
    world = olivia.world
    sid = await done(world, ("GET", "/tickets/1"))
    await world.gateway.journal.checkpoint()
    key = world.gateway.config.journal_key
    kept = key.read_bytes()
    key.unlink()
    answer = await receipt(olivia, sid)
    assert (503, True) == (answer.status, "could not be made now" in answer.text)
    key.write_bytes(kept)
    assert 200 == (await receipt(olivia, sid)).status


def test_the_page_about_a_receipt_that_is_being_made_leads_back():
    """By a link, and not by itself: nobody is taken away from what they read (WCAG 2.2.1)."""
    page = being_made(Pages(), "acme", "as_1")
    assert "refresh" not in page.text
    assert f'href="{LOG}/as_1/receipt"' in page.text
    assert "no-store" == page.headers["Cache-Control"]

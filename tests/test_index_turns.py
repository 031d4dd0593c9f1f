"""Whoever asks the log a lot waits for themselves: nobody else is kept from it."""

import asyncio
import base64
import cProfile
import pstats
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.audit.api.log import LogApi
from gateway.audit.api.receipts import ReceiptApi
from gateway.audit.evidence.making import Ending
from gateway.audit.evidence.ordering import ReceiptMaker
from gateway.audit.index.asking import AskersTurns, Busy, IndexTurns, LogIndex
from gateway.audit.index.finding import Found, Page, Tally
from gateway.clients import ClientAuthenticator, digest_of
from gateway.console.security.log_query import read_asked
from gateway.console.security.log_view import show_rows
from gateway.stores.store import Client
from policy.model import AccountId, ClientId
from tests.journals import NOON, Ticks, open_journal
from tests.memory_store import MemoryStore
from tests.security_log_world import make_entries
from tests.upstream_client import eventually


class SlowIndex(LogIndex):
    """Answers nothing before it is let, and knows who asks."""

    def __init__(self):
        self.asking = []
        self.let = asyncio.Event()

    async def search(self, query, *, limit, before, after, account):
        self.asking.append(account)
        await self.let.wait()
        return Page(found=[], more=False), None

    async def stats(self, query, *, account, less=None):
        return Tally(), None

    async def overview(self, query, *, step, account, less=None):
        raise NotImplementedError


async def test_those_of_one_account_leave_a_turn_to_everybody_else():
    """However many of them ask, of whichever accounts, whoever may see everything is let in at once."""
    turns = IndexTurns(seconds=0.01)
    await turns.take("acme")
    for account in ("acme", "globex"):
        with pytest.raises(Busy):
            await turns.take(account)
    await turns.take(None)
    with pytest.raises(Busy):
        await turns.take(None)
    turns.give_back(None)
    turns.give_back("acme")
    await turns.take("globex")


async def test_who_waited_in_vain_keeps_no_turn():
    """A limited visitor who gives up while all turns are taken is in no other one's way."""
    turns = IndexTurns(seconds=0.01)
    await turns.take(None)
    await turns.take(None)
    with pytest.raises(Busy):
        await turns.take("acme")
    turns.give_back(None)
    await turns.take("acme")


async def test_an_asker_has_one_turn_at_a_time():
    """Their second question waits, another's does not."""
    turns = AskersTurns(seconds=0.01)
    async with turns.turn("one"):
        async with turns.turn("other"):
            pass
        with pytest.raises(Busy):
            async with turns.turn("one"):
                raise AssertionError("they have two")
    async with turns.turn("one"):
        pass


@asynccontextmanager
async def _asking(api, accounts, path):
    """Yield what asks as one of these clients, each of which is limited to an account or None, for a status."""
    store = MemoryStore()
    for name, account in accounts.items():
        limited = None if account is None else AccountId(account)
        await store.add_client(
            Client(id=ClientId(name), secret_digest=digest_of("secret"), roles=frozenset({"audit"}), account=limited)
        )
    application = web.Application()
    application.add_routes(api(ClientAuthenticator(store)).routes())
    async with TestClient(TestServer(application)) as http:

        async def ask(name):
            known = base64.b64encode(f"{name}:secret".encode()).decode()
            async with http.get(path, headers={"Authorization": f"Basic {known}"}) as answer:
                return answer.status

        yield ask


async def test_at_the_api_a_client_asks_one_question_at_a_time(tmp_path):
    """As many as they send, the index hears of one, and of another client's at once."""
    journal, index = await open_journal(tmp_path / "own"), SlowIndex()
    api = lambda clients: LogApi(index, clients, journal, ticks=Ticks())  # noqa: E731 - of this test alone
    async with _asking(api, {"greedy": None, "other": "acme"}, "/.locum/log/records") as ask:
        asking = [asyncio.ensure_future(ask("greedy")) for _ in range(4)]
        await eventually(lambda: index.asking)
        asking.append(asyncio.ensure_future(ask("other")))
        await eventually(lambda: "acme" in index.asking)
        assert [None, "acme"] == index.asking
        index.let.set()
        assert [200] * 5 == await asyncio.gather(*asking)
    await journal.close()


async def test_a_client_of_one_account_keeps_nobody_from_receipts(tmp_path):
    """As many connections as it has, for what is not there: one is served, and whoever may read all gets theirs."""
    journal, making, let = await open_journal(tmp_path / "own"), [], asyncio.Event()

    async def make(order):
        making.append(order.account)
        if order.account is None:
            return Ending.MADE, b"{}"
        await let.wait()
        return Ending.NOTHING_TO_PROVE, b""

    maker = ReceiptMaker(tmp_path, tmp_path / "key", make=make)
    api = lambda clients: ReceiptApi(clients, journal, maker, making=IndexTurns())  # noqa: E731 - of this test alone
    async with _asking(api, {"greedy": "acme", "auditor": None}, "/.locum/log/receipts/as_nobody") as ask:
        asking = [asyncio.ensure_future(ask("greedy")) for _ in range(4)]
        await eventually(lambda: making)
        assert 200 == await ask("auditor")
        assert ["acme", None] == making
        let.set()
        assert [404] * 4 == await asyncio.gather(*asking)
    await journal.close()


def _calls(text):
    """Return how many calls it takes to make the rows of one page."""
    asked = read_asked({"q": text, "range": "all"}, round(NOON.timestamp() * 1e6))
    found = [Found(number, entry) for number, entry in enumerate(make_entries(50))]
    with cProfile.Profile() as profile:
        show_rows(found, {}, asked)
    return pstats.Stats(profile).total_calls


def test_the_links_of_a_page_cost_no_more_for_a_long_search():
    """What is made on the loop for a search of 32 terms is little more than for a short one."""
    _calls("kind:x")
    assert _calls(" ".join(f"-kind:xxxxxxxxxx{number}" for number in range(32))) < 2 * _calls("")

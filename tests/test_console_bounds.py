"""What one account, or one person of it, can cost the others: their forms, their questions to the log, their receipts."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.audit.index.asking import Busy
from gateway.audit.writing.strangers import AT_ONCE_OF_PERSON
from gateway.console.account.log_turns import Turns
from policy.model import Duration
from tests.console_world import PATH, Customer
from tests.journals import Ticks
from tests.log_world import done, index, look, open_reader, receipt, send, whats
from tests.upstream_client import eventually


@pytest.fixture
async def olivia(tmp_path):
    async with open_reader(tmp_path) as customer:
        yield customer


# Forms.


async def test_a_plain_agent_does_not_bury_the_log(olivia):
    """Some of their refused forms are on the record, and of the rest how many; the administrator's own are as ever."""
    world, ben = olivia.world, Customer(olivia.world, session="s-ben")
    for _ in range(AT_ONCE_OF_PERSON + 10):
        assert 403 == (await ben.post("off", [("form_token", "x")])).status
    refused = world.records(reason="cross_site")
    assert AT_ONCE_OF_PERSON <= len([one for one in refused if "count" not in one]) < AT_ONCE_OF_PERSON + 10
    await eventually(lambda: world.records(reason="cross_site")[-1].get("count"))
    assert "account" not in world.records(reason="cross_site")[-1]
    assert 403 == (await olivia.post("off", [("form_token", "x")])).status
    assert world.records(reason="cross_site", by="7")


async def test_turning_off_what_is_off_is_recorded_so_often_only(olivia):
    """But what is on is turned off in any case, and that is on the record."""
    world, form = olivia.world, await olivia.form()
    for _ in range(AT_ONCE_OF_PERSON + 10):
        assert 303 == (await olivia.do("off", form=form)).status
    said = len(world.records(kind="grant"))
    assert AT_ONCE_OF_PERSON <= said < AT_ONCE_OF_PERSON + 10
    await world.choose("week")
    assert 303 == (await olivia.do("off", form=form)).status
    assert ((await olivia.grant()).revoked_at is not None, "turned_off") == (
        True,
        world.records(kind="grant")[-1]["reason"],
    )


# Questions.


async def test_whoever_has_used_least_is_next():
    """Twelve accounts whose questions take long wait in line: one that hardly asks comes before all of them."""
    ticks, order = Ticks(), []
    turns = Turns(ticks)
    heavy = [f"trial{n}" for n in range(12)]
    for account in heavy:
        turns.spend(account, 2.0)
    # They have their shares back, and are known all the same.
    ticks.now += 60

    async def ask(account):
        async with turns.turn(account):
            order.append(account)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.turn("first"))
        waiting = [asyncio.ensure_future(ask(account)) for account in [*heavy, "acme"]]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert ["acme", *heavy] == order


async def test_who_leaves_the_line_takes_no_turn_along():
    """Whether it came while they left or not, the next one has it."""
    turns = Turns(Ticks())
    for leaves_late in (False, True):
        held = AsyncExitStack()
        await held.enter_async_context(turns.turn("a"))
        waiting = asyncio.ensure_future(_have(turns, "b"))
        behind = asyncio.ensure_future(_have(turns, "c"))
        await asyncio.sleep(0)
        if leaves_late:
            await held.aclose()
        waiting.cancel()
        if not leaves_late:
            await held.aclose()
        await behind
        await asyncio.wait([waiting])
        assert waiting.cancelled() or waiting.done()
        async with turns.spare("d"):
            pass
        with pytest.raises(Busy):
            async with turns.turn("a"), turns.spare("d"):
                pass


async def _have(turns, account):
    async with turns.turn(account):
        pass


async def test_few_words_may_only_begin_so(olivia):
    """Each stands for all words of everybody's records that begin so."""
    index(olivia.world)
    assert 200 == (await look(olivia, "?q=abc*+abd*")).status
    page = await look(olivia, "?q=abc*+abd*+-abe*")
    assert (400, True) == (page.status, "only 2 words may end with a star" in page.text.lower())


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?to=9999-12-31", 200),
        ("?from=9999-12-31", 200),
        ("?q=after:9999-12-31T23:59:59-14:00", 400),
        ("?q=before:9999-12-31T23:59:59.999999", 200),
    ],
)
async def test_the_end_of_all_years_is_a_day_like_others(olivia, query, status):
    """Behind it there is no time."""
    index(olivia.world)
    assert status == (await look(olivia, query)).status


async def test_how_many_pages_there_are_tells_nothing_of_another_account(olivia):
    """What may not be found by is not counted either: no older page is offered for what was left out."""
    world = olivia.world
    await olivia.choose("week", ["write"])
    await world.choose("week", account="globex")
    token = await world.token()
    for _ in range(60):
        assert 403 == await send(world, token, "GET", "/tickets/merger", account="globex")
    index(world)
    assert 'rel="next"' in (await look(olivia, "?decision=deny")).text
    for query in ("?q=merger", "?path=/tickets/merger", "?q=-other+merger"):
        page = await look(olivia, query)
        assert ([], False) == (whats(page), 'rel="next"' in page.text)


# Receipts.


async def test_a_made_up_assumption_has_no_receipt_made(olivia):
    """It is said at once that there is none; whose it is makes no difference, and the account's own one is made."""
    world = olivia.world
    await olivia.choose(str(Duration.WEEK), ["write"])
    sid = await done(world, ("GET", "/tickets/1"))
    await world.gateway.journal.checkpoint()
    index(world)
    # Whoever makes one reads the journal, and would fail over this.
    key = world.gateway.config.journal_key
    kept = key.read_bytes()
    key.unlink()
    gina = Customer(world, session="s-gina", account="globex")
    for customer, other in ((olivia, "as_made_up"), (gina, sid)):
        assert 404 == (await look(customer, f"/{other}/receipt")).status
    assert 503 == (await receipt(olivia, sid)).status
    key.write_bytes(kept)
    assert 200 == (await receipt(olivia, sid)).status
    assert f"{PATH}/log" in (await look(olivia, f"/{sid}")).text

"""An open page is told that it is out of date, and nothing more."""

import asyncio
import html
import re

import pytest

from gateway.console.account.live import MOST_STREAMS
from tests.console_world import BEN, PATH, Customer, asked, open_customer
from tests.patience import PATIENCE_SECONDS
from tests.stream_world import while_they_last
from tests.upstream_client import eventually


@pytest.fixture
async def olivia(tmp_path):
    def many(document):
        document["limits"] = {"in_flight_per_peer": 1024}

    async with open_customer(tmp_path, change=many) as customer:
        yield customer


async def address(customer):
    return html.unescape(re.search(r'data-live="([^"]+)"', (await customer.page()).text)[1])


async def following(customer):
    """A stream that is open: the app has been asked whose it is."""
    live = await address(customer)
    customer.world.clock.forward(seconds=4)
    before = len(asked(customer.world))
    stream = asyncio.ensure_future(customer.ask(live, "Accept: text/event-stream", "Sec-Fetch-Site: same-origin"))
    await eventually(lambda: len(asked(customer.world)) == before + 1)
    return stream


async def test_a_change_is_told_to_an_open_page(olivia):
    """A choice, somebody coming in, and their end; each once, without a word on what it is."""
    for change in (olivia.world.choose, olivia.world.token, lambda: olivia.do("end-all")):
        stream = await following(olivia)
        await change()
        answer = await stream
        assert (200, "text/event-stream", "no-store") == (
            answer.status,
            answer.headers["content-type"],
            answer.headers["cache-control"],
        )
        assert b"event: changed\ndata: 1\n\n" in answer.body


async def test_what_was_out_of_date_already_is_told_at_once(olivia):
    """Whatever changed between the page and the stream is not missed."""
    live = await address(olivia)
    await olivia.world.choose()
    answer = await olivia.ask(live)
    assert b"event: changed" in answer.body


async def test_a_page_without_a_stream_asks_whether_it_is_out_of_date(olivia):
    """It is answered at once, both ways; another account's change is none."""
    live = f"{await address(olivia)}&once=on"
    await olivia.world.choose(account="globex")
    same = await olivia.ask(live, "Sec-Fetch-Site: same-origin")
    assert (200, "no-store", b'{"changed": false}') == (same.status, same.headers["cache-control"], same.body)
    await olivia.world.choose()
    assert b'{"changed": true}' == (await olivia.ask(live, "Sec-Fetch-Site: same-origin")).body


async def test_without_scripts_the_page_is_loaded_again_if_somebody_wants_that(olivia):
    """A link begins it, and another one ends it."""
    page = await olivia.page()
    assert 'http-equiv="refresh"' not in page.text
    wanted = re.search(r'href="([^"]+)">Look again every 30 seconds', page.text)[1].removeprefix(PATH)
    page = await olivia.page(wanted)
    assert (200, True) == (page.status, '<meta http-equiv="refresh" content="30">' in page.text)
    assert f'<a href="{PATH}">Stop that</a>' in page.text


async def test_another_accounts_change_is_not_told(olivia):
    """What happens in globex leaves acme's page as it is: by its address the stream would wait as before."""
    await olivia.world.choose()
    live = await address(olivia)
    await olivia.world.choose(account="globex")
    await olivia.world.token(account="globex")
    assert live == await address(olivia)
    await olivia.world.token()
    assert live != await address(olivia)


async def test_nobody_else_may_listen(olivia):
    """No agent, nobody of another account, no other site, no stranger."""
    live = await address(olivia)
    olivia.world.app.people["s-ben"] = BEN
    for session in ("s-ben", "s-gina", "s-none"):
        answer = await Customer(olivia.world, session=session).ask(live)
        assert (403, False) == (answer.status, b"retry" in answer.body)
    for site in ("cross-site", "same-site", "none"):
        assert 403 == (await olivia.ask(live, f"Sec-Fetch-Site: {site}")).status
    for target in (f"{PATH}/live", f"{live}&once=on"):
        assert 403 == (await olivia.ask(target, cookie="")).status


async def test_an_open_page_does_not_hold_up_a_stop(tmp_path):
    """A gateway that ends has its streams end: nothing is under way that would have to be waited for."""

    def change(document):
        document["server"]["shutdown_seconds"] = 60

    async with open_customer(tmp_path, change=change) as olivia:
        stream = await following(olivia)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await olivia.world.gateway.close_doors()
        answer = await stream
    assert (200, False) == (answer.status, b"changed" in answer.body)


@while_they_last
async def test_one_account_has_so_many_streams(olivia):
    """One more is told to come later, which makes the page ask by itself instead; who has left makes room."""
    live = await address(olivia)
    begun = [asyncio.ensure_future(olivia.ask(live, "Sec-Fetch-Site: same-origin")) for _ in range(MOST_STREAMS + 3)]
    done, waiting = set(), set(begun)
    while len(done) < 3:
        over, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_SECONDS)
        done |= over
    assert {503} == {one.result().status for one in done}
    await olivia.world.choose()
    assert {200} == {(await one).status for one in waiting}
    assert 200 == (await olivia.ask(live, "Sec-Fetch-Site: same-origin")).status

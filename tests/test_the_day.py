"""The whole day on the demo, in three real browsers: a customer, staff, and the security team, with scripts and without."""

import asyncio
import csv
import io
from contextlib import suppress

import pytest

from gateway.demo.story.journal import check_whole
from tests import day_world as world
from tests.patience import PATIENCE_SECONDS, within

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150), pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize(("scripts", "width"), [(True, 1280), (False, 320)], ids=["with scripts", "small and without"])
async def test_the_whole_day_of_the_three(browser, tmp_path, scripts, width):
    """On for a day, asked for more, worked, watched and ended by the customer; staff are out; security has all of it."""
    async with world.open_day(
        browser, tmp_path / "demo", scripts=scripts, viewport={"width": width, "height": 800}
    ) as day:
        await world.owner_comes(day)
        await world.owner_enables(day)
        await world.dana_comes(day)
        await world.dana_finds(day)
        await world.dana_asks(day)
        await world.owner_approves(day)
        await world.sam_comes(day)
        await world.sam_follows(day)
        await world.dana_begins(day)
        await world.dana_enters(day)
        await world.dana_works(day)
        await the_customer_watches(day)
        await the_customer_ends_it(day)
        await security_has_seen_it(day)
        await security_finds_and_exports(day)
        await security_verifies(day)
        assert [] == day.faults


async def the_customer_watches(day):
    """Who is in, for which ticket, what was done last, and every step of it behind that."""
    page = day.owner
    await world.comes(day, page, page.get_by_text("Dana Reyes stands in for maria"))
    await world.comes(day, page, page.get_by_text("POST /tickets/1/reply"))
    await page.get_by_role("link", name="What Dana Reyes did").click()
    await page.get_by_role("heading", name="Dana Reyes in the place of maria").wait_for()
    shown = await page.locator("main").inner_text()
    assert [True] * 4 == [each in shown for each in (world.TICKET, world.REASON, "POST /tickets/1/reply", "Allowed by")]
    await page.get_by_role("link", name="Account assumption").click()


async def the_customer_ends_it(day):
    """Once it is answered, within the promised time, what is open ends; the next page says so, and is nobody's."""
    cut = await open_events(day)
    await day.owner.get_by_role("button", name="End now Dana Reyes").click()
    await day.owner.get_by_role("status").get_by_text("That person is out").wait_for()
    # Not from the click on: how long a browser takes to send it is no promise of ours.
    async with within(world.OUT_SECONDS):
        await cut
    await day.dana.goto(day.at("/tickets/1"))
    await day.dana.get_by_text("stands in for nobody any more").wait_for()
    await day.dana.goto(day.at("/tickets/1"))
    assert "sign_in_needed" in await day.dana.locator("h1").inner_text(), (
        "an ordinary visitor, whom the app does not know"
    )


async def open_events(day):
    """Follow the app's stream of events as dana's browser would, and return what is done once it has been cut."""
    cookies = await day.dana.context.cookies(day.at("/"))
    head = f"GET /events HTTP/1.1\r\nHost: {day.at('/').split('/')[2]}\r\n"
    head += f"Cookie: {'; '.join('{name}={value}'.format_map(one) for one in cookies)}\r\nSec-Fetch-Site: none\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(day.scene.gateway.public_url.rpartition(":")[2]))
    writer.write(head.encode())
    assert b" 200 " in await reader.readline()
    await reader.readuntil(b"data:")

    async def ends():
        try:
            with suppress(ConnectionError):
                while await reader.read(65536):
                    pass
        finally:
            writer.close()

    return asyncio.ensure_future(ends())


async def security_has_seen_it(day):
    """On the page that has followed the ticket all the while, or by the link on it."""
    page = day.sam
    reply = page.get_by_text("POST /tickets/1/reply").or_(page.get_by_text("/tickets/1/reply", exact=True))
    if not day.scripts:
        await page.get_by_role("link", name="Show what has come since").click()
    await world.comes(day, page, reply)


async def security_finds_and_exports(day):
    """One box finds what was refused to her afterwards, and it comes as a file."""
    page = day.sam
    await page.get_by_role("link", name="Access log").first.click()
    await page.get_by_label("Search", exact=True).fill(f"actor:dana ticket:{world.TICKET} decision:deny")
    await page.get_by_role("button", name="Search").click()
    await world.found(page, page.get_by_role("heading", name="1 record"))
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Export").click()
    text = await asyncio.to_thread((await (await waiting.value).path()).read_text)
    [refused] = csv.DictReader(io.StringIO(text))
    assert ("GET", "/tickets/1", "assumption_ended") == (refused["method"], refused["path"], refused["reason"])


async def security_verifies(day):
    """The evidence is sound by its page, and by the journal itself with a checkpoint that was held elsewhere."""
    await day.sam.get_by_role("link", name="Evidence").click()
    await day.sam.get_by_role("heading", name="Checkpoints, by origin").wait_for()
    await world.found(day.sam, day.sam.get_by_role("row", name="gateway").get_by_text("elsewhere:"))
    assert "good" in await day.sam.get_by_role("row", name="gateway").inner_text()
    async with asyncio.timeout(PATIENCE_SECONDS):
        # Whatever is recorded meanwhile is under the next one.
        while "ok, every record under a checkpoint" != (await check_whole(day.scene)).text:
            continue

"""A real browser on the account's log: found by keyboard and forms alone, told of what is new, never wider than a screen."""

import asyncio
import json
from datetime import timedelta

import pytest

from gateway.audit.index.building import Builder
from gateway.audit.index.database import beside
from gateway.audit.segment import build_line
from gateway.clock import utc_now
from tests.test_console_for_real import come_in, open_page, scene

__all__ = ["scene"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="session")]

LONG = 60_000
"""Milliseconds, for what is asked for every few seconds, or made behind everything else."""
BEGAN = utc_now() - timedelta(hours=1)
USUAL = {
    "account": "acme",
    "assumption": "asm_1",
    "actor": {"issuer": "i", "name": "Dana Reyes", "subject": "dana1"},
    "subject": "maria",
    "ticket": "SUP-" + "7" * 120,
    "kind": "decision",
    "decision": "allow",
    "origin": "odd",
    "method": "GET",
}


async def write(scene, *paths, first=0, **more):
    """Put requests into the journal, and into the index."""
    journal = scene.gateway.config.journal_directory
    entries = [
        {
            **USUAL,
            "path": path,
            "seq": first + number,
            "at": (BEGAN + timedelta(seconds=first + number)).isoformat(),
            **more,
        }
        for number, path in enumerate(paths)
    ]
    lines = b"".join(build_line(json.dumps(entry).encode())[1] for entry in entries)

    def work():
        with (journal / "odd-000000000000.jsonl").open("ab") as file:
            file.write(lines)
        with Builder(journal, beside(journal)) as builder:
            builder.catch_up()

    await asyncio.to_thread(work)


async def test_an_administrator_without_scripts_finds_what_was_done(scene):
    """From the account's page to the list, a search, an assumption, and its receipt's instructions, on a small screen."""
    await write(scene, "/tickets", "/tickets/1/" + "a" * 200)
    await write(scene, "/admin/x", first=2, decision="deny", reason="never_allowed", status=403)
    page = await open_page(scene)
    await page.get_by_role("link", name="See what they did").click()
    await page.get_by_text("By staff member, outcome").press("Enter")
    await page.get_by_label("Outcome").select_option("Refused")
    await page.get_by_role("button", name="Search").press("Enter")
    await page.get_by_text("Staff never may do this").wait_for()
    assert 1 == await page.locator("ol.log li").count()
    for width in (320, 800, 1600):
        await page.set_viewport_size({"width": width, "height": 800})
        await page.goto(page.url.partition("?")[0])
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width
    await page.get_by_role("link", name="This assumption").first.click()
    await page.get_by_role("heading", name="Dana Reyes in the place of maria").wait_for()
    await page.get_by_text("How to check it").press("Enter")
    await page.get_by_text("locum-verify receipt asm_1.receipt.json").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert [] == scene.faults


async def test_an_open_list_says_how_many_are_newer_and_shows_them_on_a_click(scene):
    """It is not changed under whoever reads it."""
    await write(scene, "/tickets/1")
    page = await open_page(scene, scripts=True, width=1600)
    await page.get_by_role("link", name="See what they did").click()
    await page.get_by_text("Times are in Europe/Berlin").wait_for()
    assert not await page.locator("#newer").is_visible()
    await write(scene, "/tickets/2", "/tickets/3", first=10)
    await page.get_by_text("2 newer.").wait_for(timeout=LONG)
    assert 1 == await page.locator("ol.log li").count()
    await page.get_by_role("status").get_by_role("link", name="Show").click()
    await page.get_by_text("GET /tickets/3").wait_for()
    assert 3 == await page.locator("ol.log li").count()
    assert [] == scene.faults


async def test_the_last_action_of_who_is_in_is_kept_up_to_date(scene):
    """By itself, without the page's being loaded anew."""
    page = await open_page(scene, scripts=True)
    await page.get_by_role("button", name="Turn on").click()
    await page.get_by_role("status").get_by_text("Saved.").wait_for()
    await write(scene, "/tickets/1")
    await come_in(scene, 1)
    await page.get_by_text("GET /tickets/1").wait_for(timeout=LONG)
    await page.evaluate("window.same = true")
    await write(scene, "/admin/x", first=5, decision="deny", reason="never_allowed")
    await page.get_by_text("GET /admin/x (refused)").wait_for(timeout=LONG)
    assert await page.evaluate("window.same")
    assert [] == scene.faults


async def test_a_receipt_is_downloaded_by_a_click(scene):
    """As a file, without leaving the page."""
    page = await open_page(scene)
    await page.get_by_role("button", name="Turn on").click()
    await come_in(scene, 1)
    await page.get_by_role("link", name="Look again").first.click()
    await page.get_by_role("button", name="End now").click()
    await page.get_by_text("That person is out").wait_for()
    await scene.gateway.journal.checkpoint()
    await page.goto(page.url.partition("?")[0] + "/log/asm_1")
    async with page.expect_download(timeout=LONG) as waiting:
        await page.get_by_role("link", name="Download the receipt").click()
    download = await waiting.value
    assert "asm_1.receipt.json" == download.suggested_filename
    assert "asm_1" == json.loads(await asyncio.to_thread((await download.path()).read_bytes))["assumption"]

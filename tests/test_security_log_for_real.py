"""A real browser on the access log: by keyboard and forms alone, and what scripts add; open to everybody, at any width."""

import asyncio
from datetime import timedelta

import pytest

from gateway import cookie_names
from gateway.console.security.export_process import Writer
from gateway.console.security.tail import TailTerms
from tests.accessibility import faults_of, named_templates
from tests.patience import PATIENCE_SECONDS
from tests.security_log_world import make_entries, open_security_log

__all__ = ["named_templates"]  # the fixture
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="session")]

LOG = "/console/log"
LONG = 1000 * PATIENCE_SECONDS
"""Milliseconds."""


async def open_page(browser, world, path, *, scripts=False, width=320, **options):
    """Return a page of a browser that is signed in."""
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        java_script_enabled=scripts,
        permissions=["clipboard-read", "clipboard-write"],
        **options,
    )
    name = cookie_names.named(cookie_names.SECURITY, secure=False)
    await context.add_cookies([{"name": name, "value": world.cookies["all"], "url": world.origin}])
    page = await context.new_page()
    page.set_default_timeout(LONG)
    page.faults = []
    page.on("console", lambda said: page.faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda fault: page.faults.append(str(fault)))
    await page.goto(world.origin + path)
    return page


async def test_without_scripts_everything_is_found(browser, tmp_path):
    """A search, a facet, a record, an assumption and an export, on a small screen that nothing is wider than."""
    async with open_security_log(tmp_path) as world:
        page = await open_page(browser, world, LOG)
        await page.get_by_label("Search", exact=True).fill("actor:person1")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**q=actor*")
        assert "15 records" in await page.locator("#over-time").inner_text()
        assert 320 >= await page.evaluate("document.documentElement.scrollWidth")
        await page.get_by_role("link", name="Refused", exact=True).click()
        await page.wait_for_url("**decision*")
        await page.locator(".log-table tbody a").first.click()
        await page.get_by_role("link", name="The whole assumption").click()
        await page.get_by_text("What happened").wait_for()
        await page.goto(world.origin + LOG)
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Export").click()
        assert (await download.value).suggested_filename.endswith(".csv")
        await page.context.close()


async def test_the_log_comes_live_and_can_be_paused(browser, tmp_path):
    """By keyboard; what came meanwhile is there once it is resumed."""
    async with open_security_log(tmp_path, tail=TailTerms(look_seconds=0.05)) as world:
        page = await open_page(browser, world, f"{LOG}/tail?q=account:acme", scripts=True, width=1280)
        await page.get_by_text("Live: what happens").wait_for()

        def come(number):
            at = (world.clock() - timedelta(seconds=4) + timedelta(milliseconds=number)).isoformat()
            world.add({"kind": "decision", "decision": "allow", "account": "acme", "path": f"/live/{number}", "at": at})

        come(1)
        await page.get_by_text("/live/1", exact=True).wait_for()
        await page.get_by_role("button", name="Pause").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("Paused.").wait_for()
        # Another page is told of both, the first long since, before it is said that this one was not.
        other = await open_page(browser, world, f"{LOG}/tail?q=account:acme", scripts=True, width=1280)
        await other.get_by_text("Live: what happens").wait_for()
        for number in (2, 3):
            come(number)
            await other.get_by_text(f"/live/{number}", exact=True).wait_for()
        await other.context.close()
        assert 0 == await page.get_by_text("/live/2", exact=True).count()
        await page.get_by_role("button", name="Resume").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("/live/2", exact=True).wait_for()
        assert 1 == await page.get_by_text("/live/1", exact=True).count()
        await world.people.end(world.cookies["all"])
        await page.get_by_text("It is over").wait_for()
        assert [] == page.faults
        await page.context.close()


async def test_an_export_is_watched_until_it_is_ready(browser, tmp_path):
    """The page shows how far it is by itself, and a record is copied."""
    ready = asyncio.Event()

    async def write(order):
        await ready.wait()
        await asyncio.to_thread(Writer(order).run)

    async with open_security_log(tmp_path, entries=make_entries(700), write=write) as world:
        page = await open_page(browser, world, LOG, scripts=True, width=1280)
        await page.get_by_role("button", name="Export").click()
        await page.get_by_text("It is being written").wait_for()
        ready.set()
        await page.get_by_role("link", name="Download").wait_for()
        await page.goto(world.origin + LOG)
        await page.locator(".log-table tbody a").first.click()
        await page.get_by_role("button", name="Copy").click()
        await page.get_by_text("Copied.").wait_for()
        assert '"kind": "decision"' in await page.evaluate("navigator.clipboard.readText()")
        assert [] == page.faults
        await page.context.close()


async def test_nobody_is_kept_out_of_any_page(browser, tmp_path):
    """In light and dark, and at every width; of an export while it is written, and once it is ready."""
    ready = asyncio.Event()

    async def write(order):
        await ready.wait()
        await asyncio.to_thread(Writer(order).run)

    async with open_security_log(tmp_path, entries=make_entries(9), write=write) as world:
        record = (await world.get(LOG, q="path:/tickets/8"))[1].partition(f'href="{LOG}/record/')[2].partition('"')[0]
        page = await open_page(browser, world, LOG, scripts=True)
        for path, template in (
            ("", "security_log.html"),
            ("?q=colour:red", "security_log.html"),
            (f"/record/{record}", "security_log_record.html"),
            (f"/record/{'0' * len(record)}", "security_log_message.html"),
            ("/assumption/as_acme", "security_log_assumption.html"),
            ("/export", "security_log_exports.html"),
        ):
            await page.goto(world.origin + LOG + path)
            assert [] == await faults_of(page, template), path
        await page.goto(f"{world.origin}{LOG}/tail")
        await page.get_by_text("Live: what happens").wait_for()
        at = (world.clock() - timedelta(seconds=4)).isoformat()
        world.add({"kind": "decision", "decision": "allow", "account": "acme", "path": "/live", "at": at})
        await page.get_by_text("/live", exact=True).wait_for()
        assert [] == await faults_of(page, "security_log_tail.html", "security_log_row.html")
        world.add(*make_entries(700))
        await page.goto(world.origin + LOG)
        await page.get_by_role("button", name="Export").click()
        await page.get_by_text("It is being written").wait_for()
        assert [] == await faults_of(page, "security_log_export.html"), "being written"
        ready.set()
        await page.get_by_role("link", name="Download").wait_for()
        assert [] == await faults_of(page, "security_log_export.html"), "ready"
        await page.context.close()

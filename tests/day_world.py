"""The three people's day on the demo's stage, in real browsers: what each of them does, one function for each part."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from playwright.async_api import TimeoutError as LateError

from gateway.console.account.door import PATH as ACCOUNT
from gateway.console.security.visit import PATH as CONSOLE
from gateway.demo.story.folder import open_folder
from gateway.demo.story.stage import Ports, free_port, open_helpdesk
from gateway.demo.story.visit import security_link, staff_link
from tests.patience import PATIENCE_SECONDS

TICKET = "SUP-7"
REASON = "The widget does not load, and we cannot reproduce it"
REPLY = "Fixed, please try again"
OUT_SECONDS = 1.0
"""Whoever is ended is out within this."""
_PATIENCE_MS = 1000 * PATIENCE_SECONDS
_GLANCE_MS = 300


@dataclass
class Day:
    """The stage, and a page in the browser of each of the three."""

    scene: object
    scripts: bool
    owner: object = None
    dana: object = None
    sam: object = None
    faults: list = field(default_factory=list)

    def at(self, path):
        """An address of acme's host."""
        return self.scene.account_url(path)

    def staff(self, path="/.locum/"):
        return self.scene.gateway.public_url + path

    def console(self, path=CONSOLE):
        return self.scene.gateway.admin_url + path


@asynccontextmanager
async def open_day(browser, folder, *, scripts=True, before=None, **options):
    """Run the demo until the block ends, with nobody signed in anywhere; what happens `before` is of the day before."""
    with open_folder(folder) as made:
        ports = Ports(public=free_port(0), admin=free_port(0))
        async with AsyncExitStack() as stack:
            scene = await stack.enter_async_context(open_helpdesk(made, ports))
            if before is not None:
                await before(scene)
            # The browser's own clock is the real one.
            scene.clock.catch_up()
            day = Day(scene=scene, scripts=scripts)
            for name in ("owner", "dana", "sam"):
                setattr(day, name, await open_page(stack, browser, day, **options))
            yield day


async def open_page(stack, browser, day, **options):
    """Return a page of one more browser; what it complains of, and whatever it asks of others, are faults."""
    usual = {"viewport": {"width": 1280, "height": 800}, "timezone_id": "Europe/Berlin"}
    context = await browser.new_context(java_script_enabled=day.scripts, **usual | options)
    stack.push_async_callback(context.close)
    context.set_default_timeout(_PATIENCE_MS)
    page = await context.new_page()
    page.on("console", lambda said: day.faults.append(said.text) if "Content Security" in said.text else None)
    page.on("pageerror", lambda fault: day.faults.append(str(fault)))
    page.on("request", lambda asked: None if _is_ours(asked.url) else day.faults.append(asked.url))
    return page


def _is_ours(url):
    host = url.partition("//")[2].partition("/")[0].partition(":")[0]
    return host == "127.0.0.1" or host.endswith(".localhost") or url.startswith(("data:", "blob:"))


async def comes(day, page, wanted):
    """Wait until something is on a page that is kept up to date: by itself with scripts, else by looking again."""
    if day.scripts:
        return await wanted.first.wait_for()
    return await found(page, wanted)


async def found(page, wanted):
    """Wait until something is on a page that stays as it was loaded, by looking again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(LateError):
                return await wanted.first.wait_for(timeout=_GLANCE_MS)
            await page.reload()


async def owner_comes(day):
    """By the link that `locum demo` prints."""
    await day.owner.goto(day.at(day.scene.app.desk.invite("acme", "owner", then=ACCOUNT)))
    await day.owner.get_by_role("heading", name="Account assumption").wait_for()


async def owner_enables(day):
    page = day.owner
    await page.get_by_label("One day").check()
    await page.get_by_role("button", name="Turn on").click()
    await page.get_by_role("status").get_by_text("Saved.").wait_for()


async def dana_comes(day):
    """By the link that `locum demo` prints."""
    await day.dana.goto(staff_link(day.scene))
    await day.dana.get_by_role("heading", name="Stand in").wait_for()


async def dana_finds(day):
    await day.dana.get_by_role("searchbox", name="Account").fill("acm")
    await day.dana.get_by_role("button", name="Find").click()
    await day.dana.get_by_role("link", name="acme").click()
    await day.dana.get_by_role("heading", name="Stand in for an agent").wait_for()


async def dana_asks(day):
    """For changes, which she has seen that the account does not allow."""
    page = day.dana
    await page.get_by_role("link", name="Ask the customer for more").click()
    await page.get_by_label("Changes").check()
    await page.get_by_role("textbox", name="Ticket").fill(TICKET)
    await page.get_by_role("textbox", name="Reason").fill(REASON)
    await page.get_by_role("button", name="Ask", exact=True).click()
    await page.get_by_role("heading", name="You have asked the customer").wait_for()


async def owner_approves(day):
    """On the page that has been open all the while."""
    page = day.owner
    if day.scripts:
        await page.get_by_role("heading", name="Waiting for your answer").wait_for()
    else:
        await page.get_by_role("link", name="Look again").first.click()
    await page.get_by_text("Approve…").click()
    await page.get_by_role("button", name="Approve", exact=True).click()
    await page.get_by_role("status").first.wait_for()
    await page.get_by_text("make changes").first.wait_for()


async def dana_begins(day):
    """Once her open page has shown the answer by itself; or it would load itself while it is being left."""
    page = day.dana
    if day.scripts:
        await page.get_by_text("Approved by the customer").first.wait_for()
    await page.goto(day.staff(f"/.locum/?account=acme&agent=maria&ticket={TICKET}"))
    await page.get_by_role("textbox", name="Reason").fill(REASON)
    await page.get_by_label("Reply to tickets").check()
    await page.get_by_role("button", name="Begin").click()
    await page.get_by_role("heading", name="Go on to acme").wait_for()


async def dana_enters(day):
    await day.dana.get_by_role("button", name="Go on as maria").click()
    await day.dana.get_by_role("heading", name="Tickets").wait_for()


async def dana_works(day):
    """She reads a ticket and answers it, under the banner that says who she is."""
    page = day.dana
    await page.get_by_role("link", name="Widget not loading").click()
    await page.get_by_role("region", name="Account assumption").get_by_text("Dana Reyes stands in for maria").wait_for()
    await page.get_by_label("Reply").fill(REPLY)
    await page.get_by_role("button", name="Send").click()
    await page.get_by_text(f"dana for maria: {REPLY}").wait_for()


async def sam_comes(day):
    """By the link that `locum demo` prints."""
    await day.sam.goto(security_link(day.scene))
    await day.sam.get_by_role("heading", name="Now", exact=True).wait_for()


async def sam_follows(day):
    """The log as it comes, of one ticket."""
    await day.sam.get_by_role("link", name="Access log").click()
    await day.sam.get_by_label("Search", exact=True).fill(f"ticket:{TICKET}")
    await day.sam.get_by_role("button", name="Search").click()
    await day.sam.get_by_role("link", name="Live").click()
    await day.sam.get_by_role("heading", name="Live").wait_for()

"""Takes the pictures of the docs, of the demo as it is: `python -m tests.pictures [FOLDER]`."""

import asyncio
import re
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from gateway.app import open_gateway
from gateway.cli.assume import CLIENT
from gateway.config.load import build
from gateway.console.account.door import PATH as ACCOUNT
from gateway.demo.story.moves import OWNER
from gateway.demo.story.stage import free_port
from gateway.remote.server import Server, Wish
from policy.model import Account, AccountId, AccountType
from tests import day_world as world
from tests.chromium import open_chromium
from tests.console_world import App, console
from tests.gateway_world import document
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream
from tests.telling_world import notices
from tests.test_browser_for_real import ISSUER

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
_WIDTH, _HEIGHT = 1280, 900
_STAFF = (
    ("noor", "Noor Haddad", "acme", "ben", "SUP-3"),
    ("kim", "Kim Larsen", "initech", "peter", "SUP-4"),
)
_PATHS = ("/tickets", "/tickets/1", "/tickets/2", "/tickets/3", "/admin", "/reports", "/tickets/1/hold")


async def main(folder: Path) -> None:
    """Go through the day once, and keep a picture of each page."""
    with tempfile.TemporaryDirectory() as place:
        async with (
            open_chromium() as browser,
            world.open_day(browser, Path(place) / "demo", before=work_for_a_day) as day,
        ):
            await take_all(day, folder)
        async with open_chromium() as browser:
            await take_what_the_demo_has_not(browser, Path(place), folder)


async def take_all(day, folder):
    """Take every picture, at the moment of the day when there is something to see on that page."""
    await world.owner_comes(day)
    await world.owner_enables(day)
    await others_work(day.scene)
    await world.dana_comes(day)
    await take_a_device(day, folder)
    await world.dana_finds(day)
    await day.dana.get_by_role("textbox", name="Agent").fill("maria")
    await day.dana.get_by_role("textbox", name="Ticket").fill(world.TICKET)
    await day.dana.get_by_role("textbox", name="Reason").fill(world.REASON)
    await take(day.dana, folder, "staff")
    await world.dana_asks(day)
    await day.owner.get_by_role("heading", name="Waiting for your answer").wait_for()
    await take(day.owner, folder, "waiting", dark=False)
    await world.owner_approves(day)
    await world.dana_begins(day)
    await world.dana_enters(day)
    await world.dana_works(day)
    await take(day.dana, folder, "helpdesk", dark=False, height=440)
    await day.dana.evaluate("fetch('/admin')")
    await world.comes(day, day.owner, day.owner.get_by_text("GET /admin"))
    await day.owner.goto(day.at(ACCOUNT))
    await take(day.owner, folder, "account")
    await day.owner.get_by_role("link", name="What Dana Reyes did").click()
    await take(day.owner, folder, "assumption", dark=False)
    await day.dana.goto(day.at("/.locum/session"))
    await take(day.dana, folder, "session", dark=False, height=640)
    await day.owner.get_by_role("link", name="What they did").click()
    await take(day.owner, folder, "log", dark=False)
    await world.sam_comes(day)
    await take(day.sam, folder, "security-now")
    await day.sam.get_by_role("link", name="Access log").click()
    await world.found(day.sam, day.sam.get_by_text("Noor Haddad"))
    await day.sam.get_by_role("link", name="Last 24 hours").click()
    await take(day.sam, folder, "security-log")
    await take_the_log(day, folder)
    await day.sam.get_by_role("link", name="Evidence").click()
    await world.found(day.sam, day.sam.get_by_text("Everything is as it should be."))
    await take(day.sam, folder, "security-evidence", dark=False, height=700)


async def take_what_the_demo_has_not(browser, place, folder):
    """Whom a customer has told, and an account whose administrators sign in at a provider of their own."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RecordingUpstream(App().script))
        wanted = document(place, upstream=upstream.url, issuer=ISSUER)
        console(wanted)
        port = free_port(0)
        wanted["server"] |= {"issuer": f"http://localhost:{port}", "listen": f"127.0.0.1:{port}"}
        wanted["accounts"] = {"host": "{account}.localhost"}
        table = {"issuer": "https://login.globex.example", "client_id": "locum", "client_secret": "s" * 32}
        table |= {"accounts": ["globex"], "claim": "sub", "administrators": ["olivia"]}
        wanted["console"]["account"]["sign_in"] = [table]
        wanted["notices"] = notices()
        gateway = await stack.enter_async_context(
            open_gateway(build(wanted, {}, base=place), patience_seconds=PATIENCE_SECONDS)
        )
        for name in ("acme", "globex"):
            await gateway.store.add_account(Account(id=AccountId(name), type=AccountType.PAID))
        context = await browser.new_context()
        stack.push_async_callback(context.close)
        acme = f"http://acme.localhost:{port}"
        await context.add_cookies([{"name": "session", "value": "s-olivia", "url": acme, "sameSite": "Lax"}])
        page = await context.new_page()
        await page.goto(acme + ACCOUNT)
        await page.get_by_role("link", name="See and change who is told").click()
        await page.get_by_label("Mail addresses").fill("ann@acme.example\nhttps://hooks.acme.example/in")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("heading", name="Secrets of the webhooks").wait_for()
        # Without the secret, which is shown after saving only.
        await page.goto(acme + ACCOUNT)
        await page.get_by_role("link", name="See and change who is told").click()
        await take(page, folder, "contacts", dark=False)
        await page.goto(f"http://globex.localhost:{port}{ACCOUNT}")
        await page.get_by_role("link", name="Sign in at login.globex.example").wait_for()
        await take(page, folder, "own-sign-in", dark=False, height=440)


async def take_a_device(day, folder):
    """What staff are asked who stand in from a command line; they answer no."""
    wish = Wish(
        account="initech", agent="peter", ticket="SUP-8", reason="The report is empty", scopes=("tickets:read",)
    )
    codes = await asyncio.to_thread(Server(day.staff(""), client=CLIENT).ask, wish)
    await day.dana.goto(codes.verification_uri_complete)
    await take(day.dana, folder, "device", dark=False, height=720)
    await day.dana.get_by_role("button", name="Decline").click()
    await day.dana.goto(day.staff())


async def take_the_log(day, folder):
    """One record, all of its assumption, the log as it comes, and an export."""
    page = day.sam
    here = page.url
    await page.goto(day.console("/console/log?q=actor:dana+decision:deny+path:/admin"))
    await page.locator(".log-table tbody a").first.click()
    await take(page, folder, "security-record", dark=False)
    await page.get_by_role("link", name="The whole assumption").click()
    await take(page, folder, "security-assumption", dark=False, height=820)
    await page.goto(day.console("/console/log/tail"))
    await page.get_by_text("Live: what happens").wait_for()
    await others_work(day.scene)
    await page.get_by_text("Noor Haddad").first.wait_for()
    await page.get_by_text("Kim Larsen").first.wait_for()
    await take(page, folder, "security-live", dark=False, height=560)
    # As many as are not downloaded at once.
    await work(day.scene, _STAFF[0], count=510)
    await page.goto(here)
    await world.found(page, page.get_by_text(re.compile(r"([5-9]\d\d|\d,?\d{3}) records")))
    await page.get_by_role("button", name="Export").click()
    await page.get_by_role("link", name="Download").wait_for()
    await take(page, folder, "security-export", dark=False, height=520)


async def work_for_a_day(scene):
    """The day before: some hours are busy, some are quiet, some requests are refused."""
    await scene.choose("week", by=OWNER)
    for hour in range(24):
        scene.clock.forward(timedelta(hours=1))
        if hour % 6 != 4:
            await work(scene, _STAFF[hour % 2], count=2 + (5 * hour) % 9)
    await scene.choose("off", by=OWNER)


async def others_work(scene):
    """Two more of the staff, with tokens of their tool's, so that there is something to look at."""
    for staff in _STAFF:
        await work(scene, staff, count=5)


async def work(scene, staff, *, count):
    """Open so many pages of an account, of which some are not for staff."""
    actor, name, account, agent, ticket = staff
    answer = await scene.exchange("tickets:read", subject=agent, account=account, actor=actor, name=name, ticket=ticket)
    for number in range(count):
        path = _PATHS[number % len(_PATHS)]
        await scene.send("GET", path, token=answer.document["access_token"], account=account)


async def take(page, folder, name, *, dark=True, height=_HEIGHT):
    """Keep what is seen of a page, in light and maybe in dark."""
    await page.set_viewport_size({"width": _WIDTH, "height": height})
    await page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    for scheme in ("light", "dark") if dark else ("light",):
        await page.emulate_media(color_scheme=scheme)
        await page.mouse.move(0, 0)
        path = folder / f"{name}-{scheme}.png"
        path.write_bytes(await page.screenshot())
    await page.emulate_media(color_scheme="light")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))

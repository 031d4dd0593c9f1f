"""Takes the pictures of the docs, of the demo as it is: `python -m tests.pictures [FOLDER]`."""

import asyncio
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from gateway.console.account.door import PATH as ACCOUNT
from gateway.demo.story.moves import OWNER
from tests import day_world as world
from tests.chromium import open_chromium

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


async def take_all(day, folder):
    """Take every picture, at the moment of the day when there is something to see on that page."""
    await world.owner_comes(day)
    await world.owner_enables(day)
    await others_work(day.scene)
    await world.dana_comes(day)
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
    await day.owner.get_by_role("link", name="What they did").click()
    await take(day.owner, folder, "log", dark=False)
    await world.sam_comes(day)
    await take(day.sam, folder, "security-now")
    await day.sam.get_by_role("link", name="Access log").click()
    await world.found(day.sam, day.sam.get_by_text("Noor Haddad"))
    await day.sam.get_by_role("link", name="Last 24 hours").click()
    await take(day.sam, folder, "security-log")
    await day.sam.get_by_role("link", name="Evidence").click()
    await world.found(day.sam, day.sam.get_by_text("Everything is as it should be."))
    await take(day.sam, folder, "security-evidence", dark=False, height=700)


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

"""A real browser on the security team's console: an operator's way through it, with scripts and without."""

from types import SimpleNamespace

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.patience import PATIENCE_SECONDS
from tests.security_world import PATH, open_guard

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="session")]
_PATIENCE_MS = 1000 * PATIENCE_SECONDS
expect.set_options(timeout=_PATIENCE_MS)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(tmp_path, browser):
    async with open_guard(tmp_path) as guard:
        await guard.world.choose("week")
        await guard.world.token()
        await guard.world.token(
            subject_token="bob", actor_token=guard.world.actor_token("erin", name="Erin " + "x" * 90)
        )
        secret = await guard.add_client("boss", "operate")
        scene = SimpleNamespace(browser=browser, guard=guard, world=guard.world, secret=secret, faults=[], open=[])
        yield scene
        for context in scene.open:
            await context.close()


async def open_page(scene, *, scripts=True, width=1280):
    """Return a page of somebody who has signed in by the form."""
    context = await scene.browser.new_context(java_script_enabled=scripts, viewport={"width": width, "height": 800})
    scene.open.append(context)
    page = await context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.on("console", lambda said: scene.faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda fault: scene.faults.append(str(fault)))
    page.on("request", lambda asked: None if asked.url.startswith(scene.guard.here) else scene.faults.append(asked.url))
    await page.goto(f"{scene.guard.here}{PATH}?account=acme")
    await page.get_by_label("Client id").fill("boss")
    await page.get_by_label("Secret", exact=True).fill(scene.secret)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Who stands in").wait_for()
    assert page.url.endswith(f"{PATH}?account=acme")
    return page


async def test_a_page_is_kept_up_to_date_under_its_policy(scene):
    """htmx and our own script run under `script-src 'self'` without a complaint: search as one types, live changes."""
    page = await open_page(scene)
    part = page.locator("#live-part")
    await page.get_by_label("Find").fill("erin")
    await expect(part).not_to_contain_text("maria")
    assert "q=erin" in page.url
    await page.get_by_label("Find").fill("")
    await expect(part).to_contain_text("maria")
    await scene.world.choose("off")
    await expect(part).to_contain_text("Nobody")
    # What somebody has opened is not taken away from them.
    await page.get_by_text("Stop all account assumption…").click()
    await page.get_by_label("Reason, for the record").fill("incident 7")
    await scene.world.choose("day")
    await expect(page.locator("#changed")).to_be_visible()
    assert "incident 7" == await page.get_by_label("Reason, for the record").input_value()
    await page.get_by_label("Everybody who stands in anywhere").check()
    await page.get_by_role("button", name="Stop everything now").click()
    await page.get_by_role("status").get_by_text("All account assumption is stopped.").wait_for()
    assert (await scene.world.gateway.store.find_kill_switch()).on
    assert [] == scene.faults


async def test_whoever_is_out_is_told_by_the_open_page(scene):
    """Once the session is over the page says that it knows nothing new, and its link leads to the sign-in."""
    page = await open_page(scene)
    await scene.world.gateway.store.remove_client("boss")
    await expect(page.locator("#lost")).to_be_visible()
    await page.locator("#lost").get_by_role("link", name="Look again").click()
    await page.get_by_label("Client id").wait_for()


async def test_it_works_by_keyboard_without_scripts_on_a_small_screen(scene):
    """Somebody is ended, and all are, by forms alone; no page is wider than its screen."""
    page = await open_page(scene, scripts=False, width=320)
    await page.get_by_role("button", name="End dana standing in for maria of acme").press("Enter")
    await page.get_by_text("Ended. That person is out.").wait_for()
    await page.get_by_text("More about Erin").press("Enter")
    await page.get_by_label("I mean this person, in every account.").check()
    await page.get_by_role("button", name="End all of theirs").click()
    await page.get_by_text("That person is out of every account.").wait_for()
    assert [] == list(await scene.world.gateway.store.list_assumptions(at=scene.world.clock.now))
    for place in (PATH, f"{PATH}/evidence"):
        await page.goto(f"{scene.guard.here}{place}")
        assert await page.locator("html").evaluate("(html) => html.scrollWidth <= html.clientWidth"), place
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_text("You are signed out.").wait_for()
    assert [] == scene.faults

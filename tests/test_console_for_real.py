"""A real browser on the account's page: an administrator's whole way through it, with scripts and without."""

import socket
from contextlib import AsyncExitStack
from datetime import timedelta
from types import SimpleNamespace

import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.config.load import build
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    Permission,
    Staff,
)
from tests.chromium import evaluate
from tests.console_world import App, console
from tests.gateway_world import TestClock, document
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream
from tests.test_browser_for_real import ISSUER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def scene(tmp_path, browser, request):
    async with AsyncExitStack() as stack:
        app = App()
        upstream = await stack.enter_async_context(RecordingUpstream(app.script))
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            wanted = document(tmp_path, upstream=upstream.url, issuer=ISSUER)
            console(wanted, remember_seconds=0.0)
            wanted["server"] |= {"issuer": f"http://localhost:{port}", "listen": f"127.0.0.1:{port}"}
            wanted["accounts"] = {"host": "{account}.localhost"}
            wanted |= getattr(request, "param", {})
            gateway = await stack.enter_async_context(
                open_gateway(build(wanted, {}, base=tmp_path), patience_seconds=PATIENCE_SECONDS)
            )
        await gateway.store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
        await gateway.store.add_account(Account(id=AccountId("globex"), type=AccountType.TRIAL))
        yield SimpleNamespace(browser=browser, port=port, gateway=gateway, stack=stack, faults=[], app=app)


async def open_page(scene, *, scripts=False, width=320, account="acme", session="s-olivia", **options):
    """Return a page of a browser that is signed in to the app."""
    context = await scene.browser.new_context(
        viewport={"width": width, "height": 800}, java_script_enabled=scripts, timezone_id="Europe/Berlin", **options
    )
    scene.stack.push_async_callback(context.close)
    url = f"http://{account}.localhost:{scene.port}"
    await context.add_cookies([{"name": "session", "value": session, "url": url, "sameSite": "Lax"}])
    page = await context.new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda said: scene.faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda fault: scene.faults.append(str(fault)))
    await page.goto(f"{url}/.locum/account")
    return page


async def come_in(scene, number, *, ticket="SUP-7"):
    """Have a staff member stand in, as an assumption in the store."""
    store, now = scene.gateway.store, TestClock().now
    actor = ActorId(issuer=ISSUER, subject=f"dana{number}")
    record = await store.find_account(AccountId("acme"))
    staff = Staff(id=actor, name="Dana Reyes", permissions=frozenset(Permission))
    assumption = Assumption(
        id=AssumptionId(f"asm_{number}"),
        account=AccountId("acme"),
        subject=AgentId("maria"),
        actor=actor,
        grant_id=record.grant.id,
        ticket=ticket,
        reason="The export of last week is empty, and we cannot reproduce it",
        scopes=frozenset(),
        started_at=now,
        expires_at=now + timedelta(hours=8),
    )
    await store.begin_assumption(assumption, staff, at=now)


async def test_an_administrator_without_scripts_turns_it_on_looks_and_turns_it_off(scene):
    """By keyboard and forms alone, on a small screen: on for a week, extended, somebody ended, all ended, off."""
    page = await open_page(scene)
    await page.get_by_text("nobody can stand in").wait_for()
    await page.get_by_label("One week").focus()
    await page.keyboard.press("Space")
    await page.get_by_label("Test tickets").check()
    await page.get_by_role("button", name="Turn on").press("Enter")
    await page.get_by_role("status").get_by_text("Saved.").wait_for()
    grant = (await scene.gateway.store.find_account("acme")).grant
    assert ("week", "7", {Permission.READ, Permission.TEST_TICKETS}) == (
        grant.duration,
        grant.given_by,
        grant.permissions,
    )
    await page.get_by_label("Indefinitely").check()
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("until somebody turns it off").first.wait_for()
    for number in range(3):
        await come_in(scene, number)
    await page.get_by_role("link", name="Look again", exact=True).click()
    await page.get_by_role("button", name="End now Dana Reyes standing in for maria").first.click()
    await page.get_by_role("button", name="End all 2 now").click()
    await page.get_by_text("Everybody is out.").wait_for()
    assert [] == await scene.gateway.store.list_assumptions(at=TestClock().now)
    await page.get_by_text("Turn off…").click()
    await page.get_by_role("button", name="Turn off now").click()
    await page.get_by_text("Account assumption is off.").wait_for()
    assert ["turned_off", "extended", "enabled"] == [
        change.change for change in await scene.gateway.store.list_changes("acme")
    ]
    assert [] == scene.faults


async def test_times_are_the_viewers_and_nothing_is_wider_than_the_screen(scene):
    """With scripts in the zone of the browser, under a policy that allows none but ours; from 320 to 1600 pixels."""
    page = await open_page(scene, scripts=True)
    await page.get_by_role("button", name="Turn on").click()
    await page.get_by_text("Times are in Europe/Berlin").wait_for()
    await come_in(scene, 1, ticket="SUP-" + "7" * 120)
    # It loads itself anew for what has just come in, and says its times a moment after that.
    await page.locator("time[title*=UTC]").filter(has_text="GMT+1").first.wait_for()
    for width in (320, 480, 800, 1600):
        await page.set_viewport_size({"width": width, "height": 800})
        await page.reload()
        assert await evaluate(page, "document.documentElement.scrollWidth <= window.innerWidth"), width
    await page.get_by_role("button", name="End now Dana").wait_for()
    assert [] == scene.faults


async def test_an_open_page_shows_who_comes_in_and_keeps_what_was_begun(scene):
    """By itself, without a click; but a choice that somebody has begun is not taken away from them."""
    page = await open_page(scene, scripts=True, width=1600)
    await page.get_by_role("button", name="Turn on").click()
    await page.get_by_role("status").get_by_text("Saved.").wait_for()
    await come_in(scene, 1)
    await page.get_by_role("button", name="End now Dana").wait_for()
    await page.get_by_label("One year").check()
    await come_in(scene, 2)
    await page.get_by_text("Something has changed since").wait_for()
    assert await page.get_by_label("One year").is_checked()
    await page.get_by_role("status").get_by_role("link", name="Look again").click()
    await page.get_by_role("button", name="End all 2 now").wait_for()
    assert [] == scene.faults


LOOKED_AT = """(hidden) => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_page_that_nobody_looks_at_listens_to_nothing(scene):
    """In the background its stream is closed, and opened anew in front; what happened meanwhile is shown then."""
    page = await open_page(scene, scripts=True)
    async with page.expect_request("**/live?*"):
        await page.get_by_role("button", name="Turn on").click()
    await page.get_by_role("status").get_by_text("Saved.").wait_for()
    async with page.expect_event("requestfailed", lambda request: "/live?" in request.url):
        await page.evaluate(LOOKED_AT, True)
    await come_in(scene, 1)
    async with page.expect_request("**/live?*"):
        await page.evaluate(LOOKED_AT, False)
    await page.get_by_role("button", name="End now Dana").wait_for()


async def test_a_page_that_is_told_nothing_any_more_says_so(scene):
    """Whoever has signed out of the app, or a gateway that cannot tell: who is in is not shown as if it were of now."""
    page = await open_page(scene, scripts=True)
    await page.get_by_text("nobody can stand in").wait_for()
    assert not await page.locator("#lost").is_visible()
    scene.app.people.clear()
    await page.evaluate(LOOKED_AT, True)
    await page.evaluate(LOOKED_AT, False)
    await page.get_by_text("is not kept up to date any more").wait_for()


HURRIED = "const slow = window.setInterval; window.setInterval = (work, pause) => slow(work, pause / 50);"


async def test_where_no_stream_gets_through_the_page_asks(scene):
    """Something between refuses streams, or the browser knows none: who comes in is shown all the same."""
    page = await open_page(scene, scripts=True)
    await page.get_by_role("button", name="Turn on").click()
    await page.get_by_role("status").get_by_text("Saved.").wait_for()
    await page.add_init_script(HURRIED)
    await page.route(
        "**/live?*", lambda route: route.continue_() if "once=on" in route.request.url else route.fulfill(status=502)
    )
    await page.reload()
    await come_in(scene, 1)
    await page.get_by_role("button", name="End now Dana").wait_for()
    await page.add_init_script("delete window.EventSource;")
    await page.unroute("**/live?*")
    await page.reload()
    await come_in(scene, 2)
    await page.get_by_role("button", name="End all 2 now").wait_for()
    assert not await page.locator("#lost").is_visible()


async def test_a_trial_has_no_setting(scene):
    """It says that it is always on, and why; there is nothing to press."""
    page = await open_page(scene, account="globex", session="s-gina")
    await page.get_by_text("Always on").wait_for()
    assert 0 == await page.get_by_role("button").count()
    assert [] == scene.faults

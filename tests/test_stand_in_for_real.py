"""A real browser on staff's page: by keyboard alone and without scripts, and with them the time that is left."""

import re
import socket
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.config.load import build
from gateway.stores.store import KillSwitch
from policy.asking import RequestState
from policy.model import Account, AccountId, AccountType, ActorId
from tests.accessibility import faults_of, named_templates
from tests.browser_world import Browser, signing_in
from tests.gateway_world import TestClock, document
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream, response
from tests.test_browser_for_real import ISSUER

__all__ = ["named_templates"]  # the fixture
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def scene(tmp_path, browser):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RecordingUpstream(lambda _request: response()))
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            wanted = document(tmp_path, upstream=upstream.url, issuer=ISSUER)
            signing_in(wanted)
            wanted["server"] |= {"issuer": f"http://localhost:{port}", "listen": f"127.0.0.1:{port}"}
            wanted["accounts"] = {"host": "{account}.localhost"}
            gateway = await stack.enter_async_context(
                open_gateway(build(wanted, {}, base=tmp_path), patience_seconds=PATIENCE_SECONDS)
            )
        for name, kind in (("acme", AccountType.TRIAL), ("acme-eu", AccountType.PAID), ("globex", AccountType.PAID)):
            await gateway.store.add_account(Account(id=AccountId(name), type=kind))
        world = SimpleNamespace(gateway=gateway, clock=TestClock(), issuer=SimpleNamespace(issuer=ISSUER))
        staff = Browser(world)
        await staff.sign_in()
        home = f"http://localhost:{port}/.locum/"
        yield SimpleNamespace(browser=browser, home=home, gateway=gateway, stack=stack, staff=staff.staff, faults=[])


async def open_page(scene, query="", *, scripts=False, width=320):
    """Return a page of a browser that is signed in at the staff origin."""
    context = await scene.browser.new_context(
        viewport={"width": width, "height": 800}, java_script_enabled=scripts, timezone_id="Europe/Berlin"
    )
    scene.stack.push_async_callback(context.close)
    session = {"name": "locum-staff", "value": scene.staff, "url": scene.home, "httpOnly": True, "sameSite": "Lax"}
    await context.add_cookies([session])
    page = await context.new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda said: scene.faults.append(said.text) if "Content Security" in said.text else None)
    page.on("pageerror", lambda fault: scene.faults.append(str(fault)))
    await page.goto(scene.home + query)
    return page


async def focused(page):
    """The id or the words of what has the focus."""
    return await page.locator("*:focus").evaluate("one => one.id || one.innerText")


async def tab_to(page, wanted):
    """Go on by the key until `wanted` has the focus, and by no more steps than a page has."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if wanted == await focused(page):
            return
    pytest.fail(f"no key leads to {wanted}")


async def test_by_keyboard_alone_and_without_scripts(scene):
    """Find, choose, be refused at the field, mend it there, begin, come back, end it all; then ask, and take it back."""
    page = await open_page(scene)
    await tab_to(page, "find")
    await page.keyboard.type("acm")
    await page.keyboard.press("Enter")
    await page.get_by_text("2 with “acm” in the id").wait_for()
    await tab_to(page, "acme")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Stand in for an agent").wait_for()
    for field, text in (("agent", "maria smith"), ("ticket", "SUP-1"), ("reason", "cannot reproduce")):
        await tab_to(page, field)
        await page.keyboard.type(text)
    await page.keyboard.press("Enter")
    await page.get_by_role("alert").wait_for()
    assert "agent" == await focused(page), "it goes on where something is wrong"
    assert "Give their id in the app" in await page.locator("#agent-wrong").inner_text()
    await page.keyboard.press("Control+a")
    await page.keyboard.type("maria")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Go on to acme").wait_for()
    await page.goto(scene.home)
    assert "As maria of acme" in await page.locator(".cards").inner_text()
    await page.get_by_role("button", name="End maria of acme").press("Enter")
    await page.get_by_text("None. Those that you begin").wait_for()
    await page.goto(f"{scene.home}?account=globex")
    await tab_to(page, "permission-test_tickets")
    await page.keyboard.press("Space")
    for field, text in (("ticket", "SUP-2"), ("reason", "the export fails")):
        await tab_to(page, field)
        await page.keyboard.type(text)
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="You have asked the customer").wait_for()
    await page.get_by_role("button", name="Withdraw what you asked of globex for").press("Enter")
    await page.get_by_text("Withdrawn by you").wait_for()
    assert [] == scene.faults


async def test_with_scripts_the_time_that_is_left_is_said(scene):
    """And every time in the viewer's own zone; without them it is in UTC, and nothing is said to be left."""
    page = await open_page(scene, "?account=acme&agent=maria&ticket=SUP-1&reason=look", scripts=True)
    await page.get_by_role("button", name="Begin").click()
    await page.get_by_role("heading", name="Go on to acme").wait_for()
    await page.goto(scene.home)
    assert re.fullmatch(r"7 h 5\d min left", await page.locator(".left").inner_text())
    assert "Times are in Europe/Berlin" in await page.locator("footer").inner_text()
    [begun] = await scene.gateway.store.list_assumptions(at=TestClock().now)
    shown = page.locator(".ends time").first
    assert f"{begun.expires_at:%Y-%m-%d %H:%M} UTC" == await shown.get_attribute("title") != await shown.inner_text()
    plain = await open_page(scene)
    assert not await plain.locator(".left").is_visible()
    assert f"{begun.expires_at:%Y-%m-%d %H:%M} UTC" == await plain.locator(".ends time").first.inner_text()
    assert [] == scene.faults


async def test_axe_finds_nothing_on_any_state_of_the_page(scene):
    """With things open, waiting and answered beside it: off to be asked, a list, and refused where it could begin."""
    store, now = scene.gateway.store, TestClock().now
    page = await open_page(scene, "?account=acme&agent=maria&ticket=SUP-1&reason=look", scripts=True)
    await page.get_by_role("button", name="Begin").click()
    await page.get_by_role("heading", name="Go on to acme").wait_for()
    for account in ("globex", "acme-eu"):  # the one is answered, the other waits
        await page.goto(f"{scene.home}?account={account}&ticket=SUP-2&reason=fails")
        await page.get_by_role("button", name="Ask", exact=True).click()
        await page.get_by_role("heading", name="You have asked the customer").wait_for()
    # Or what changes now would have the page load itself while it is being left.
    await page.goto("about:blank")
    [_, first] = await store.list_asked(ActorId(ISSUER, "dana"), since=now.replace(year=2000))
    await store.answer_grant_request(first.id, RequestState.DECLINED, by="olivia", at=now)
    await store.add_account(Account(id=AccountId("frozen"), type=AccountType.PAID, suspended=True))
    for query, *templates in (
        ("?account=globex", "home.html", "stand_in.html", "begun.html", "staff_live.html", "ask.html", "asked.html"),
        ("?account=acm",),
        ("?account=frozen",),
    ):
        await page.goto(scene.home + query)
        assert [] == await faults_of(page, *templates), query
    await page.goto(f"{scene.home}?account=acme")
    await page.get_by_role("textbox", name="Agent").fill("no id")
    await page.get_by_role("textbox", name="Ticket").fill("SUP-1")
    await page.get_by_role("textbox", name="Reason").fill("look")
    await page.get_by_role("button", name="Begin").click()
    await page.get_by_role("alert").wait_for()
    assert [] == await faults_of(page)


async def test_with_scripts_the_page_shows_by_itself_what_has_changed(scene):
    """The customer's answer, and whoever is in; but what somebody is writing stays, and the page says so instead."""
    store, now = scene.gateway.store, TestClock().now
    page = await open_page(scene, "?account=globex&ticket=SUP-2&reason=fails", scripts=True)
    await page.get_by_role("button", name="Ask", exact=True).click()
    await page.get_by_role("heading", name="You have asked the customer").wait_for()
    [asked] = await store.list_asked(ActorId(ISSUER, "dana"), since=now.replace(year=2000))
    await store.answer_grant_request(asked.id, RequestState.DECLINED, by="olivia", at=now)
    await page.get_by_role("region", name="Your requests").get_by_text("Declined by the customer").wait_for()
    assert page.url.endswith("?account=globex#asked") or page.url.endswith("?account=globex")
    await page.get_by_role("textbox", name="Reason").fill("it fails still")
    await store.set_kill_switch(KillSwitch(on=True, by="sam", reason="a drill", at=now))
    await page.get_by_text("Something has changed since this page was loaded").wait_for()
    assert "it fails still" == await page.get_by_role("textbox", name="Reason").input_value()
    assert not await page.get_by_text("Nothing can be begun now").is_visible()
    assert [] == await faults_of(page)
    await page.get_by_role("link", name="Show it as it is now").click()
    await page.get_by_text("Nothing can be begun now").wait_for()
    assert [] == scene.faults

"""Nobody is kept out of a page by how it is made: axe-core finds nothing on any of them."""

import asyncio

import pytest

from gateway.cli.assume import CLIENT
from gateway.console.account.door import PATH as ACCOUNT
from gateway.console.security.sign_in import BEGIN
from gateway.remote.server import Server, Wish
from tests import day_world
from tests.accessibility import faults_of
from tests.telling_world import notices
from tests.test_console_for_real import browser, come_in, open_page, scene

__all__ = ["browser", "scene"]  # the fixtures
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def test_axe_finds_what_is_wrong(browser):
    """Or its silence would say nothing: a field without a name, grey on grey, and a page that is too wide."""
    page = await browser.new_page()
    await page.set_content(
        '<html lang="en"><title>A</title><main><h1>A</h1><input><p style="color:#777;background:#888">Grey words</p>'
        '<div style="width:900px">C</div></main></html>'
    )
    found = " ".join(await faults_of(page))
    await page.close()
    assert "label: input" in found
    assert "color-contrast: p" in found
    assert "800: it is wider than the screen" in found
    assert "dark: color-contrast: p" in found


async def test_the_page_of_an_accounts_administrators(scene):
    """While it is off; while it is on and somebody is in; and of a trial, where there is no setting."""
    page = await open_page(scene, scripts=True)
    assert [] == await faults_of(page)
    await page.get_by_role("button", name="Turn on").click()
    await come_in(scene, 1)
    await page.goto(page.url)
    await page.get_by_text("Turn off…").click()
    assert [] == await faults_of(page)
    trial = await open_page(scene, scripts=True, account="globex", session="s-gina")
    assert [] == await faults_of(trial)
    stranger = await open_page(scene, scripts=True, session="s-ben")
    assert [] == await faults_of(stranger)


@pytest.mark.parametrize("scene", [{"notices": notices()}], indirect=True)
async def test_who_is_told(scene):
    """Nobody yet, and then somebody, with the secret of a webhook."""
    page = await open_page(scene, scripts=True)
    await page.get_by_role("link", name="See and change who is told").click()
    assert [] == await faults_of(page)
    await page.get_by_label("Mail addresses").fill("ann@acme.example\nhttps://hooks.acme.example/in")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("heading", name="Secrets of the webhooks").wait_for()
    assert [] == await faults_of(page)


async def test_every_page_of_a_day(browser, tmp_path):
    """Of the customer, staff and the security team, as they come to them on the demo, and the demo's own."""
    async with day_world.open_day(browser, tmp_path / "demo") as day:
        await whoever_is_not_signed_in(day)
        await the_customers_pages(day)
        await staffs_pages(day)
        await the_security_teams_pages(day)
        await what_is_over(day)
        assert [] == day.faults


async def whoever_is_not_signed_in(day):
    """Where each of the three begins, and the demo's own pages for that."""
    for page, url in (
        (day.owner, day.at(ACCOUNT)),
        (day.owner, day.at("/login")),
        (day.dana, day.staff()),
        (day.dana, day.staff("/.locum/sign-in")),
        (day.dana, day.at("/.locum/session")),
        (day.sam, day.console()),
    ):
        await page.goto(url)
        assert [] == await faults_of(page), url


async def the_customers_pages(day):
    """Somebody waits for an answer, which is being given; somebody is in; and what they have done."""
    await day_world.owner_comes(day)
    await day_world.owner_enables(day)
    await day_world.dana_comes(day)
    await day_world.dana_finds(day)
    await day_world.dana_asks(day)
    page = day.owner
    await page.get_by_text("Approve…").click()
    assert [] == await faults_of(page), "a request"
    await page.get_by_role("button", name="Approve", exact=True).click()
    await page.get_by_role("status").get_by_text("Approved").wait_for()
    await day_world.dana_begins(day)
    assert [] == await faults_of(day.dana), "on the way in"
    await day_world.dana_enters(day)
    await day_world.dana_works(day)
    await day_world.comes(page, page.get_by_text("POST /tickets/1/reply"))
    await page.get_by_role("link", name="What Dana Reyes did").click()
    await page.get_by_text("How to check it").click()
    assert [] == await faults_of(page), "an assumption"
    await page.get_by_role("link", name="What they did").click()
    await page.get_by_text("By staff member, outcome").click()
    assert [] == await faults_of(page), "the log"


async def staffs_pages(day):
    """In the app under the banner; what is held, and what is over; and the code of a command line."""
    page = day.dana
    assert [] == await faults_of(page), "the app with the banner"
    await page.goto(day.at("/.locum/session"))
    assert [] == await faults_of(page), "what is held"
    await page.goto(day.staff("/.locum/device"))
    assert [] == await faults_of(page), "a code"
    wish = Wish(account="acme", agent="maria", ticket="SUP-8", reason="look", scopes=("tickets:read",))
    codes = await asyncio.to_thread(Server(day.staff(""), client=CLIENT).ask, wish)
    await page.goto(codes.verification_uri_complete)
    await page.get_by_role("heading", name="Stand in for maria of acme?").wait_for()
    assert [] == await faults_of(page), "who asks"


async def the_security_teams_pages(day):
    """Who is in, with every question open; how sound the record is; and somebody for whom the console is not."""
    await day_world.sam_comes(day)
    page = day.sam
    for question in await page.locator("summary").all():
        await question.click()
    assert [] == await faults_of(page), "now"
    await page.get_by_role("link", name="Evidence").click()
    assert [] == await faults_of(page), "evidence"
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(day.console(BEGIN))
    await page.get_by_role("button", name="Dana Reyes").click()
    await page.get_by_role("heading", name="This console is not for you").wait_for()
    assert [] == await faults_of(page), "not for you"


async def what_is_over(day):
    """The customer ends it: the next page of the app, and the one that says who one stands in for."""
    page = day.dana
    await day.owner.goto(day.at(ACCOUNT))
    await day.owner.get_by_role("button", name="End now Dana Reyes").click()
    await day.owner.get_by_role("status").get_by_text("That person is out").wait_for()
    await page.goto(day.at("/tickets"))
    await page.get_by_text("stands in for nobody any more").wait_for()
    assert [] == await faults_of(page), "not let through"

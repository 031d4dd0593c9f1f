"""Nobody is kept out of a page by how it is made: axe-core finds nothing on any of them."""

import ast
import asyncio
import itertools
import re
from pathlib import Path

import pytest
from jinja2 import Environment, meta

from gateway import cookie_names
from gateway.cli.assume import CLIENT
from gateway.console.account.door import PATH as ACCOUNT
from gateway.console.account.log_receipt import being_made
from gateway.console.security.sign_in import BEGIN
from gateway.pages import render
from gateway.pages.render import Pages
from gateway.remote.server import Server, Wish
from gateway.staff.unseen import lock_unseen
from policy.model import Account, AccountId, AccountType, ActorId
from tests import day_world
from tests.accessibility import WIDTHS, faults_of, named_templates
from tests.console_world import OLIVIA
from tests.telling_world import notices
from tests.test_console_for_real import come_in, open_page, scene

__all__ = ["named_templates", "scene"]  # the fixtures
PAGES = Path(render.__file__).parent
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]
on_one_loop = pytest.mark.asyncio(loop_scope="session")


@on_one_loop
async def test_axe_finds_what_is_wrong(browser):
    """Or its silence would say nothing: a field without a name, grey on grey, and a page that is too wide."""
    page = await browser.new_page()
    await page.set_content(
        '<html lang="en"><title>A</title><main><h1>A</h1><input><p style="color:#777;background:#888">Grey words</p>'
        '<div style="width:900px">C</div></main></html>'
    )
    found = await faults_of(page, "base.html")
    await page.close()
    said = ("light, 320: label: input", "dark, 1600: label: input", "dark, 320: color-contrast: p")
    said += ("800: it is wider than the screen", "it is not made of base.html")
    assert set(said) <= set(found)


@on_one_loop
async def test_the_rules_are_asked_at_every_layout(browser):
    """Where a media query decides otherwise, in light and in dark, and not twice in between."""
    page = await browser.new_page()
    await page.set_content(
        '<html lang="en"><title>A</title><style>@media (width > 50rem) { i { display: none } }</style>'
        "<main><h1>A</h1><i><button></button></i></main></html>"
    )
    found = await faults_of(page)
    await page.close()
    assert [f"{scheme}, {at}: button-name: button" for at in (800, 320) for scheme in ("light", "dark")] == found


def test_there_is_a_width_between_any_two_layouts():
    """As our style sheets have them."""
    text = "".join(path.read_text() for path in (PAGES / "static").glob("*.css"))
    found = re.findall(r"@media \((?:min|max)-width: (\d+)rem\)", text)
    assert len(found) == len(re.findall(r"@media[^{]*width", text)), "one is written in another way"
    ends = [0, *sorted({16 * int(number) for number in found}), 10_000]
    assert 4 < len(ends)
    assert all(any(low < width < high for width in WIDTHS) for low, high in itertools.pairwise(ends))


def test_no_page_is_left_out():
    """Every template is among those that some test shows to axe-core, but those that others are made of."""
    texts = {path.name: path.read_text() for path in (PAGES / "templates").glob("*.html")}
    parse = Environment(autoescape=True).parse
    parts = {name for text in texts.values() for name in meta.find_referenced_templates(parse(text))}
    shown = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        text = path.read_text()
        if "import faults_of" in text or "import WIDTHS, faults_of" in text:
            constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            shown |= {value for value in constants if value in texts}
    assert "base.html" in parts
    assert set() == texts.keys() - parts - shown


@on_one_loop
async def test_the_page_of_an_accounts_administrators(scene):
    """While it is off; on, with somebody in; of a trial, where there is no setting; and of an account that is suspended."""
    page = await open_page(scene, scripts=True)
    assert [] == await faults_of(page, "account.html")
    await page.get_by_role("button", name="Turn on").click()
    await come_in(scene, 1)
    await page.goto(page.url)
    await page.get_by_text("Turn off…").click()
    assert [] == await faults_of(page)
    trial = await open_page(scene, scripts=True, account="globex", session="s-gina")
    assert [] == await faults_of(trial)
    await scene.gateway.store.add_account(Account(id=AccountId("frozen"), type=AccountType.PAID, suspended=True))
    scene.app.people["s-fay"] = OLIVIA | {"account": "frozen"}
    suspended = await open_page(scene, scripts=True, account="frozen", session="s-fay")
    await suspended.get_by_text("This account is suspended").wait_for()
    assert [] == await faults_of(suspended)
    stranger = await open_page(scene, scripts=True, session="s-ben")
    assert [] == await faults_of(stranger, "account_barred.html")


@on_one_loop
@pytest.mark.parametrize("scene", [{"notices": notices()}], indirect=True)
async def test_who_is_told(scene):
    """Nobody yet, and then somebody, with the secret of a webhook."""
    page = await open_page(scene, scripts=True)
    await page.get_by_role("link", name="See and change who is told").click()
    assert [] == await faults_of(page, "account_contacts.html")
    await page.get_by_label("Mail addresses").fill("ann@acme.example\nhttps://hooks.acme.example/in")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("heading", name="Secrets of the webhooks").wait_for()
    assert [] == await faults_of(page)


@on_one_loop
async def test_every_page_of_a_day(browser, tmp_path):
    """Of the customer, staff and the security team, as they come to them on the demo, and the demo's own."""
    async with day_world.open_day(browser, tmp_path / "demo") as day:
        await whoever_is_not_signed_in(day)
        await the_customers_pages(day)
        await staffs_pages(day)
        await the_security_teams_pages(day)
        await what_is_over(day)
        await when_all_is_stopped(day)
        assert [] == day.faults


async def whoever_is_not_signed_in(day):
    """Where each of the three begins, and the demo's own pages for that."""
    for page, url, *templates in (
        (day.owner, day.at(ACCOUNT), "account_sign_in.html"),
        (day.owner, day.at("/login")),
        (day.owner, day.at("/.locum/"), "elsewhere.html"),
        (day.dana, day.staff(), "home.html"),
        (day.dana, day.at("/.locum/session"), "session_over.html"),
        (day.sam, day.console(), "security_sign_in.html"),
        (day.dana, day.staff("/.locum/sign-in")),
    ):
        await page.goto(url)
        assert [] == await faults_of(page, *templates), url


async def the_customers_pages(day):
    """Somebody waits for an answer, which is being given; somebody is in; and what they have done."""
    await day_world.owner_comes(day)
    await day_world.owner_enables(day)
    await day_world.dana_comes(day)
    await day_world.dana_finds(day)
    await day_world.dana_asks(day)
    page = day.owner
    await page.get_by_text("Approve…").click()
    assert [] == await faults_of(page, "account.html"), "a request"
    await page.get_by_role("button", name="Approve", exact=True).click()
    await page.get_by_role("status").get_by_text("Approved").wait_for()
    await day_world.dana_begins(day)
    assert [] == await faults_of(day.dana, "hand_over.html"), "on the way in"
    await day_world.dana_enters(day)
    await day_world.dana_works(day)
    await day_world.comes(day, page, page.get_by_text("POST /tickets/1/reply"))
    await page.get_by_role("link", name="What Dana Reyes did").click()
    await page.get_by_text("How to check it").click()
    assert [] == await faults_of(page, "account_log_one.html"), "an assumption"
    await a_receipt_that_is_being_made(page)
    await page.get_by_role("link", name="What they did").click()
    await page.get_by_text("By staff member, outcome").click()
    assert [] == await faults_of(page, "account_log.html"), "the log"


async def a_receipt_that_is_being_made(page):
    """As it is shown after a quarter of a minute, which nobody waits for here."""
    here = page.url
    made = being_made(Pages(), "acme", "as_1")
    await page.route("**/receipt", lambda route: route.fulfill(body=made.text, content_type="text/html"))
    await page.goto(f"{here}/receipt")
    assert [] == await faults_of(page, "account_log_making.html"), "a receipt"
    await page.goto(here)


async def staffs_pages(day):
    """In the app under the banner; what is held, and what is over; and the code of a command line."""
    page = day.dana
    assert [] == await faults_of(page, "banner.html"), "the app with the banner"
    await page.goto(day.at("/.locum/session"))
    assert [] == await faults_of(page, "session.html"), "what is held"
    await page.goto(day.staff("/.locum/device"))
    assert [] == await faults_of(page, "device.html"), "a code"
    wish = Wish(account="acme", agent="maria", ticket="SUP-8", reason="look", scopes=("tickets:read",))
    codes = await asyncio.to_thread(Server(day.staff(""), client=CLIENT).ask, wish)
    await page.goto(codes.verification_uri_complete)
    await page.get_by_role("heading", name="Stand in for maria of acme?").wait_for()
    assert [] == await faults_of(page, "device_question.html"), "who asks"


async def the_security_teams_pages(day):
    """Who is in, with every question open; and how sound the record is."""
    await day_world.sam_comes(day)
    page = day.sam
    for question in await page.locator("summary").all():
        await question.click()
    assert [] == await faults_of(page, "security_now.html"), "now"
    await page.get_by_role("link", name="Evidence").click()
    assert [] == await faults_of(page, "security_evidence.html"), "evidence"


async def what_is_over(day):
    """The customer ends it: the next page of the app, and the one that says who one stands in for."""
    page = day.dana
    await day.owner.goto(day.at(ACCOUNT))
    await day.owner.get_by_role("button", name="End now Dana Reyes").click()
    await day.owner.get_by_role("status").get_by_text("That person is out").wait_for()
    await page.goto(day.at("/tickets"))
    await page.get_by_text("stands in for nobody any more").wait_for()
    assert [] == await faults_of(page), "not let through"


async def when_all_is_stopped(day):
    """What the security team sees then, and who is locked out or has two cookies; and somebody for whom the console is not."""
    page = day.sam
    await page.goto(day.console())
    await page.get_by_text("Stop all account assumption…").click()
    await page.get_by_label("Reason, for the record").fill("a drill")
    await page.get_by_role("checkbox", name="Everybody who stands in").check()
    await page.get_by_role("button", name="Stop everything now").click()
    await page.get_by_text("All account assumption is stopped").first.wait_for()
    assert [] == await faults_of(page, "security_now.html"), "stopped"
    sam = ActorId(day.scene.issuer.issuer, "sam")
    await lock_unseen(day.scene.gateway.store, sam, at=day.scene.clock.utc())
    await page.goto(day.console())
    await page.get_by_text("You have been locked out.").wait_for()
    assert [] == await faults_of(page, "security_barred.html"), "locked out of the console"
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(day.console(BEGIN))
    await page.get_by_role("button", name="Dana Reyes").click()
    await page.get_by_role("heading", name="This console is not for you").wait_for()
    assert [] == await faults_of(page, "message.html"), "not for you"
    page = day.dana
    tossed = {"name": cookie_names.named(cookie_names.STAFF, secure=False), "value": "x" * 43}
    await page.context.add_cookies([tossed | {"domain": "127.0.0.1", "path": "/.locum"}])
    await page.goto(day.staff())
    await page.get_by_role("heading", name="Not let in").wait_for()
    assert [] == await faults_of(page, "barred.html"), "two cookies"
    await page.context.clear_cookies(path="/.locum")
    await page.goto(day.staff())
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="Signed out").wait_for()
    assert [] == await faults_of(page, "signed_out.html"), "signed out"

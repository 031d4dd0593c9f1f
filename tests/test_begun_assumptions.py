"""The home page's list of what one has begun, its end buttons, and what it says when nothing can be begun."""

import html
import re

import pytest

from gateway.stores.store import KillSwitch
from tests.browser_world import ISSUER, STAFF_HOST, Browser, open_browser

PATH = "/.locum/assumptions/end"


def few(document):
    document["staff"]["max_assumptions"] = 2


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, change=few) as browser:
        yield browser


def token_of(page):
    return re.search(r'name="form_token" value="([^"]+)"', page.text)[1]


def listed(page):
    return re.findall(r'name="assumption" value="([^"]+)"', page.text)


async def end(browser, assumption, *lines, token=None, **more):
    token = token_of(await browser.home()) if token is None else token
    names = [("assumption", one) for one in ([assumption] if isinstance(assumption, str) else assumption)]
    return await browser.post(
        PATH, [("form_token", token), *names], *lines, host=STAFF_HOST, **{"origin": ISSUER} | more
    )


async def test_ones_own_are_listed_and_each_has_its_button(browser):
    """Also one that a program has begun; the button ends that one, on the record, and leads back."""
    await browser.world.token(reason="from a terminal", ticket="<b>")
    page = await browser.home()
    assert 2 == len(listed(page))
    first = (await browser.ask()).headers["x-locum-session"]
    assert ("SUP-1", True) == (
        html.unescape(re.search(r"ticket <bdi>(SUP[^<]*)", page.text)[1]),
        b"<b>" not in page.body,
    )
    answer = await end(browser, first)
    assert (303, "/.locum/") == (answer.status, answer.headers["location"])
    assert {first} == {*listed(page)} - {*listed(await browser.home())}
    assert 403 == (await browser.ask()).status
    [record] = browser.world.records(kind="assumption", reason="ended")
    assert (first, "dana", "browser") == (record["assumption"], record["by"], record["client_id"])
    assert 303 == (await end(browser, first)).status, "as often as one likes"


async def test_nobody_else_sees_or_ends_them(browser):
    """Not another staff member, not who is signed out, and of whatever there is not it is said alike."""
    [own] = listed(await browser.home())
    other = Browser(browser.world)
    await other.sign_in(subject="eve")
    assert [] == listed(await other.home())
    answers = [await end(other, one) for one in (own, "asm_nobody", [own, own], [])]
    assert {403} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})
    stranger = Browser(browser.world)
    assert 403 == (await end(stranger, own, token=token_of(await browser.home()))).status
    assert [own] == listed(await browser.home())


@pytest.mark.parametrize(
    "forged",
    [
        {"origin": "https://evil.example"},
        {"origin": ""},
        {"site": "cross-site"},
        {"token": ""},
        {"token": "A" * 43},
    ],
)
async def test_no_other_page_ends_any(browser, forged):
    """Neither another site's form, nor one without the token that this session was given."""
    [own] = listed(await browser.home())
    browser.lax = False
    assert 403 == (await end(browser, own, **forged)).status
    assert [own] == listed(await browser.home())


async def test_it_says_what_hinders(browser):
    """As many open as one may have, and the kill-switch with its reason; with neither nothing is said."""
    assert "Nothing can be begun now" not in (await browser.home()).text
    await browser.world.token()
    assert "as many assumptions open as they may" in (await browser.home()).text
    await browser.world.gateway.store.set_kill_switch(KillSwitch(on=True, by="ops", reason="<i>incident 7</i>"))
    page = await browser.home()
    assert (2, True) == (page.text.count("Nothing can be begun now"), b"&lt;i&gt;incident 7&lt;/i&gt;" in page.body)


async def test_what_the_customer_has_ended_is_not_listed(browser):
    """It counts no more, so there is nothing to end."""
    await browser.world.choose("off")
    assert [] == listed(await browser.home())

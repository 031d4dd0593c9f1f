"""What `/.locum/session` says of a browser's assumption is so: active, over, ended, or not to be told."""

import json
import sqlite3
from contextlib import closing

import pytest

from gateway.stores.store import KillSwitch
from tests.browser_world import ASSUMPTION, PAGE, open_browser
from tests.upstream_client import eventually

END = "/.locum/session/end"
AMBIGUOUS = ("t={name}", "{name}=", "x=1; {name}={held}", '{name}="{held}"')
SEEN = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
UNSEEN = {
    "fetch": ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"),
    "a hidden frame": ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
    "a page fetched ahead": (*SEEN, "Sec-Purpose: prefetch;prerender"),
    "an older one": (*SEEN, "Purpose: prefetch"),
}


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path) as browser:
        yield browser


async def end(browser):
    [one] = await browser.world.gateway.store.list_assumptions(at=browser.world.clock.now)
    await browser.world.gateway.store.end_assumption(one.id, at=browser.world.clock.now)
    await eventually(lambda: not browser.world.gateway.live.of_assumption(one.id))


@pytest.mark.parametrize("more", AMBIGUOUS)
async def test_what_cannot_be_told_is_not_said_to_have_ended(browser, more):
    """A neighbour's cookie beside ours: nothing is ended, the cookie stays, and nobody is told otherwise."""
    browser.cookies = more.format(name=ASSUMPTION, held=browser.held)
    for accept in ("application/json", PAGE):
        said = await browser.post(END, (), f"Accept: {accept}")
        assert (400, []) == (said.status, said.set_cookies)
        assert "ambiguous_header" in said.text
        asked = await browser.ask("/.locum/session", f"Accept: {accept}", *SEEN)
        assert (400, []) == (asked.status, asked.set_cookies)
        assert "ambiguous_header" in asked.text
    browser.cookies = ""
    assert 200 == (await browser.ask()).status
    said = await browser.post(END, (), f"Accept: {PAGE}")
    assert (200, True) == (said.status, "It has ended." in said.text)
    assert [f"{ASSUMPTION}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"] == [
        line for line in said.set_cookies if line.startswith(ASSUMPTION)
    ]
    assert 403 == (await browser.ask()).status


@pytest.mark.parametrize("held", ["x", "a" * 43, ""])
async def test_what_we_never_made_goes_when_it_is_ended(browser, held):
    """A value that counts nowhere is nobody's assumption: there is nothing to end, and it is taken away."""
    said = await browser.post(END, (), f"Accept: {PAGE}", cookie=f"{ASSUMPTION}={held}")
    assert (200, True) == (said.status, any(line.startswith(f"{ASSUMPTION}=;") for line in said.set_cookies))
    seen = await browser.ask("/.locum/session", f"Accept: {PAGE}", *SEEN, cookie=f"{ASSUMPTION}={held}")
    assert (200, True) == (seen.status, any(line.startswith(f"{ASSUMPTION}=;") for line in seen.set_cookies))


@pytest.mark.parametrize("case", UNSEEN)
async def test_only_a_person_is_told_that_it_is_over(browser, case):
    """The cookie goes with what a person sees, as in front of the app, and nobody is called an ordinary visitor before."""
    await end(browser)
    unseen = await browser.ask("/.locum/session", f"Accept: {PAGE}", *UNSEEN[case])
    assert (403, [], False) == (unseen.status, unseen.set_cookies, "ordinary visitor" in unseen.text)
    assert {"active": False} == json.loads((await browser.session()).body)
    seen = await browser.ask("/.locum/session", f"Accept: {PAGE}", *SEEN)
    assert (200, True) == (seen.status, "ordinary visitor" in seen.text)
    assert any(line.startswith(f"{ASSUMPTION}=;") for line in seen.set_cookies)


async def test_while_nobody_can_tell_nobody_is_an_ordinary_visitor(browser):
    """503: the cookie stays, and with it the assumption."""
    with closing(sqlite3.connect(browser.world.gateway.config.store_path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE browser_assumptions RENAME TO elsewhere")
        browser.world.clock.forward(seconds=30)
        for accept in ("application/json", PAGE):
            said = await browser.ask("/.locum/session", f"Accept: {accept}", *SEEN)
            assert (503, [], False) == (said.status, said.set_cookies, "ordinary visitor" in said.text)
            assert int(said.headers["retry-after"])
        connection.execute("ALTER TABLE elsewhere RENAME TO browser_assumptions")
    assert b'"active":true' in (await browser.session()).body


async def test_what_stops_for_now_takes_no_cookie_away(browser):
    """The kill-switch: nobody stands in, but the browser is not an ordinary visitor's, either."""
    store, now = browser.world.gateway.store, browser.world.clock.now
    await store.set_kill_switch(KillSwitch(on=True, by="operator", at=now))
    browser.world.clock.forward(seconds=30)
    assert {"active": False} == json.loads((await browser.session()).body)
    page = await browser.ask("/.locum/session", f"Accept: {PAGE}", *SEEN)
    assert (403, [], False) == (page.status, page.set_cookies, "ordinary visitor" in page.text)


async def test_answers_for_scripts_are_json_and_nothing_else(browser):
    """No browser guesses another kind, and none keeps them."""
    answers = [await browser.session(), await browser.post(END), await browser.session()]
    assert [(200, "nosniff", "no-store")] * 3 == [
        (one.status, one.headers["x-content-type-options"], one.headers["cache-control"]) for one in answers
    ]

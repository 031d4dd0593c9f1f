"""A form that was refused comes back as it was filled in, with what is wrong at its field and what to do next."""

import html
import re
import sqlite3
from contextlib import closing

import pytest

from gateway.stores.store import KillSwitch
from tests.browser_world import HOST, open_browser
from tests.gateway_world import profile_with_roles
from tests.live_world import caught_up
from tests.rawwire import response
from tests.test_stand_in import text_of, token_of

TYPED = {"agent": "peter", "ticket": "SUP-42", "reason": 'the <b>"wrong"</b> time zone'}


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, stand_in=False) as browser:
        await browser.sign_in()
        yield browser


def inputs(page):
    """The fields of the page's forms, each with its attributes."""
    tags = re.findall(r"<input ([^>]*)>", page.body.decode())
    found = [dict(re.findall(r'([\w-]+)(?:="([^"]*)")?', tag)) for tag in tags]
    return {one["name"]: one for one in found if one.get("type") not in ("hidden", "checkbox", "search")}


def ticked(page):
    return re.findall(r'name="scope" value="([^"]+)" checked', page.body.decode())


CASES = {
    "no agent's id": ({"agent": "peter smith"}, "agent", "agent_invalid", "no name and no address"),
    "no ticket": ({"ticket": " "}, "ticket", "ticket_missing", "Name the ticket"),
    "no reason": ({"reason": ""}, "reason", "reason_missing", "Say why"),
    "more than is granted": ({"scopes": ["tickets:write"]}, "scopes", "permission_not_granted", "ask the customer"),
    "an unknown scope": ({"scopes": ["root:write"]}, "scopes", "invalid_scope", "Load the page again"),
    "two lines": ({"ticket": "1\n2"}, "", "exchange_malformed", "must be one line of text each"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_stands_at_its_field(browser, case):
    """The rest is as it was typed; the field names its error for who cannot see it, and is where one goes on."""
    change, field, reason, said = CASES[case]
    await browser.world.choose("week", ["read"])
    form = TYPED | {"scopes": ["tickets:read"]} | change
    page = await browser.begin(**form)
    assert (page.status in (400, 403), "no-store") == (True, page.headers["cache-control"])
    assert said in text_of(page)
    assert f"{reason} · req_" in page.text
    shown = inputs(page)
    for name in ("agent", "ticket", "reason"):
        assert form[name].strip() == html.unescape(shown[name]["value"])
        assert (name == field) == (shown[name].get("aria-invalid") == "true") == ("autofocus" in shown[name])
    if field:
        assert f'href="#{field}"' in page.text
        assert 1 == page.text.count(f'id="{field}-wrong"')
        assert re.search(rf'<(input|fieldset) id="{field}"[^>]*aria-describedby="{field}-wrong', page.text)
    assert b"<b>" not in page.body
    assert "<title>Not done: Stand in · Locum</title>" in page.text
    assert [] == browser.world.records(kind="token", decision="allow")
    if "scopes" not in change:
        assert ["tickets:read"] == ticked(page)


async def test_a_refused_form_can_be_mended_and_sent(browser):
    """Its token is still good, and the account is in it."""
    page = await browser.begin(**TYPED | {"ticket": ""})
    assert 'name="account" value="acme"' in page.text
    mended = await browser.begin(**TYPED, token=token_of(page))
    assert (200, 'name="code"' in mended.text) == (mended.status, True)


async def test_off_since_the_page_was_loaded_leads_to_asking(browser):
    """The account is shown as it is now, and the question to the customer has the ticket and the reason already."""
    await browser.world.choose("off")
    page = await browser.begin(**TYPED)
    assert 403 == page.status
    assert "Account assumption is off: an administrator of the account has to enable it." in text_of(page)
    assert 'action="/.locum/requests"' in page.text
    assert 'action="/.locum/assumptions"' not in page.text
    shown = inputs(page)
    assert "SUP-42" == shown["ticket"]["value"]
    assert "the &lt;b&gt;" in shown["reason"]["value"]


async def test_an_unknown_account_is_said_where_accounts_are_found(browser):
    """With its spelling kept."""
    page = await browser.begin(account="acmee", **TYPED)
    assert 403 == page.status
    assert re.search(
        r'<input id="find"[^>]*value="acmee"[^>]*aria-describedby="find-wrong find-hint"[^>]*aria-invalid="true"',
        page.text,
    )
    assert "Check how its id is spelled" in text_of(page)


async def test_nothing_typed_is_lost_when_something_is_away(browser):
    """With the kill-switch on, and while the store cannot answer, the form is there again as it was."""
    store = browser.world.gateway.store
    await store.set_kill_switch(KillSwitch(on=True, by="ops", reason="incident 7"))
    await caught_up(browser.world)
    page = await browser.begin(**TYPED, scopes=["tickets:read", "tickets:write"])
    assert (403, True) == (page.status, "kill_switch" in page.text)
    assert ("peter", "SUP-42", ["tickets:read", "tickets:write"]) == (
        inputs(page)["agent"]["value"],
        inputs(page)["ticket"]["value"],
        ticked(page),
    )
    await store.set_kill_switch(KillSwitch(on=False, by="ops"))
    token = token_of(page)
    browser.world.clock.forward(seconds=3)
    with closing(sqlite3.connect(browser.world.gateway.config.store_path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE accounts RENAME TO elsewhere")
        page = await browser.begin(**TYPED, token=token)
        connection.execute("ALTER TABLE elsewhere RENAME TO accounts")
    assert (503, "peter") == (page.status, inputs(page)["agent"]["value"])
    assert "What you have typed is still here: send it again." in text_of(page)
    browser.world.clock.forward(seconds=3)
    assert 200 == (await browser.begin(**TYPED, token=token)).status


async def test_what_the_app_says_of_the_agent_stands_at_the_agent(tmp_path):
    """Unknown, an administrator, or not to be had because the app does not answer; each with what to do."""
    answers = {
        "ghost": response(status=b"404 Not Found"),
        "boss": response(b'{"role": "admin"}', headers=((b"Content-Type", b"application/json"),)),
        "slow": response(status=b"500 Oops"),
    }

    def app(request):
        return response() if request.target != b"/whoami" else answers[wanted[0]]

    def change(document):
        document["upstream"]["profile"] = str(profile_with_roles(tmp_path))

    async with open_browser(tmp_path, stand_in=False, script=app, change=change) as browser:
        await browser.sign_in()
        for agent, reason, said in (
            ("ghost", "agent_unknown", "it may be one of another account"),
            ("boss", "agent_administrator", "or ask the customer to allow administrators"),
            ("slow", "app_unavailable", "What you have typed is still here"),
        ):
            wanted = [agent]
            page = await browser.begin(**TYPED | {"agent": agent})
            assert (reason in page.text, said in text_of(page), agent) == (True, True, inputs(page)["agent"]["value"])
            assert (reason != "app_unavailable") == ("aria-invalid" in inputs(page)["agent"])
            assert 'href="/.locum/?account=acme&ask=1"' in page.text
            assert not re.search(r'href="[^"]*(SUP-42|zone)', page.text), "what was sent stands in no address"


async def test_a_form_of_nobodys_is_not_filled_in(browser):
    """What another site's page sends stands on no page of ours."""
    browser.lax = False
    for forged in ({"origin": "https://evil.example"}, {"site": "cross-site"}, {"token": "A" * 43}):
        page = await browser.begin(**{"reason": "call 555-EVIL", **forged})
        assert (403, False) == (page.status, "555-EVIL" in page.text)
    other = await browser.begin(host=HOST, token="x", reason="call 555-EVIL")
    assert "555-EVIL" not in other.text

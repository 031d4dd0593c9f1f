"""Staff's page: finding an account, how it stands, what can be ticked, and who is told that there is one at all."""

import html
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from policy.model import AccountType
from tests.browser_world import ISSUER, STAFF_HOST, Browser, open_browser
from tests.console_world import who
from tests.gateway_world import open_world
from tests.live_world import caught_up
from tests.rawwire import response

EU = frozenset({("region", "eu")})


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, stand_in=False) as browser:
        await browser.sign_in()
        yield browser


def by_region(document):
    document["staff"]["rules"] = [
        {"group": "support", "permissions": ["read"], "account_attributes": {"region": "eu"}},
        {"group": "trials", "permissions": ["read", "write"], "account_type": "trial"},
    ]


def listed(page):
    return re.findall(r'<li><a href="[^"]*"><bdi>([a-z0-9-]+)</bdi>', page.text)


def text_of(page):
    """What a person reads, in one line."""
    shown = re.sub(r"<(head|script)\b.*?</\1>", "", page.body.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


def token_of(page):
    return re.search(r'name="form_token" value="([^"]+)"', page.text)[1]


async def standing(browser, account):
    return text_of(await browser.home(f"?account={account}"))


async def test_an_account_says_how_it_stands(browser):
    """On and until when, off, over, always during the trial, suspended; and only where it is open it can begin."""
    world = browser.world
    for name, more in {
        "off": {},
        "trial": {"kind": AccountType.TRIAL},
        "shut": {"kind": AccountType.TRIAL, "suspended": True},
        "over": {},
        "ever": {},
    }.items():
        await world.add_account(name, **more)
    await world.choose("day", ["read"], account="over")
    ended = world.clock.now + timedelta(days=1)
    await world.choose("always", ["read"], account="ever")
    until = world.clock.now + timedelta(days=7)
    world.clock.forward(days=1)
    await browser.sign_in()
    assert f"On until {until:%Y-%m-%d %H:%M} UTC" in await standing(browser, "acme")
    assert "The account allows Look, Test tickets, Changes" in await standing(browser, "acme")
    assert "On until the customer turns it off" in await standing(browser, "ever")
    assert "Off the customer has not turned it on" in await standing(browser, "off")
    assert f"Off ended {ended:%Y-%m-%d %H:%M} UTC" in await standing(browser, "over")
    assert "Always on during the trial" in await standing(browser, "trial")
    assert "Suspended nobody can stand in" in await standing(browser, "shut")
    begins = {
        name: 'action="/.locum/assumptions"' in (await browser.home(f"?account={name}")).text
        for name in ("acme", "ever", "trial", "off", "over", "shut")
    }
    assert {"acme", "ever", "trial"} == {name for name, can in begins.items() if can}


async def test_only_what_can_be_given_can_be_ticked(tmp_path):
    """What the account or the vendor's rules do not allow says so; what only reads is ticked."""

    def reader(document):
        document["staff"]["rules"].append({"group": "readers", "permissions": ["read", "test_tickets"]})

    async with open_browser(tmp_path, stand_in=False, permissions=("read", "test_tickets"), change=reader) as browser:
        await browser.sign_in()
        page = await browser.home("?account=acme")
        ticks = dict(re.findall(r'name="scope" value="([^"]+)"([^>]*)>', page.text))
        assert {"tickets:read", "tickets:write", "tickets:write:test"} == set(ticks)
        assert ("checked" in ticks["tickets:read"], "") == (True, ticks["tickets:write:test"])
        assert ("disabled" in ticks["tickets:write"], "checked" in ticks["tickets:write"]) == (True, False)
        assert 1 == text_of(page).count("The account does not allow it.")
        await browser.world.choose("week", ["read", "test_tickets", "write"])
        await browser.sign_in("rita", groups=["readers"])
        assert 1 == (await standing(browser, "acme")).count("Your rules do not allow it.")


async def test_accounts_are_found_by_a_part_of_their_id(browser):
    """Each with how it stands, a link that keeps what was typed, and more pages where there are more."""
    names = [f"shop-{number:02}" for number in range(45)]
    for name in names:
        await browser.world.add_account(name)
    page = await browser.home("?account=CM&ticket=SUP-7")
    assert ["acme"] == listed(page)
    assert 'href="/.locum/?account=acme&ticket=SUP-7"' in page.text
    assert "Allows: look, test tickets, changes. You may: look, test tickets, changes." in text_of(page)
    seen, link = [], "?account=shop"
    while link:
        page = await browser.home(link)
        assert len(listed(page)) <= 20
        seen += listed(page)
        more = re.search(r'href="/\.locum/(\?[^"]*after=[^"]*)"', page.text)
        link = more and more[1]
    assert names == seen
    one = await browser.home("?account=shop-1")
    assert [f"shop-1{digit}" for digit in range(10)] == listed(one)
    await browser.world.add_account("shop")
    await caught_up(browser.world)
    exact = await browser.home("?account=shop")
    assert ([], True) == (listed(exact), '<h2 id="the-account" class="named"><bdi>shop</bdi>' in exact.text)
    assert "Also: shop-00 , shop-01 , shop-02 , shop-03 , shop-04" in text_of(exact)
    assert "shop" == listed(await browser.home(re.search(r'href="/\.locum/(\?[^"]*list=1)"', exact.text)[1]))[0]


def blanked(page, name):
    """What is said, whichever account it is said of and however the request is called."""
    said = re.sub(r"req_[0-9a-f]+", "", page.text).replace(name, "NAME")
    return re.sub(r'name="form_token" value="[^"]+"', "", said)


async def test_an_account_where_one_may_not_stand_in_is_not_there(tmp_path):
    """Neither by its id, nor by a part, nor by a form: the same is said as of one that nobody has."""
    async with open_browser(tmp_path, stand_in=False, change=by_region) as browser:
        await browser.sign_in()
        world = browser.world
        await world.add_account("corp-de", attributes=EU)
        for name in ("corp-us", "corp-jp"):
            await world.add_account(name)
            await world.choose("week", ["read"], account=name)
        assert ["corp-de"] == listed(await browser.home("?account=corp"))
        assert "corp-us" not in (await browser.home("?account=corp")).text
        unknown = blanked(await browser.home("?account=corp-xx"), "corp-xx")
        assert "There is no account “ NAME ”, or you may not stand in there." in text_of_html(unknown)
        for hidden in ("corp-us", "corp-jp"):
            assert unknown == blanked(await browser.home(f"?account={hidden}"), hidden)
        for change in ({}, {"ticket": ""}, {"agent": "no id!"}, {"scopes": ["tickets:write"]}):
            nobody = await browser.begin(account="corp-xx", **change)
            somebody = await browser.begin(account="corp-us", **change)
            assert (nobody.status, blanked(nobody, "corp-xx")) == (somebody.status, blanked(somebody, "corp-us"))
        assert {"staff_not_allowed", "unknown_account"} < {
            record["reason"] for record in world.records(decision="deny")
        }, "the record says what it was"
        await browser.sign_in("tom", groups=["trials"])
        assert [] == listed(await browser.home("?account=corp"))
        await world.add_account("corp-try", kind=AccountType.TRIAL)
        assert ["corp-try"] == listed(await browser.home("?account=corp"))


def text_of_html(text):
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


async def test_who_has_no_place_in_the_app_finds_no_account(tmp_path):
    """Where the rules ask who somebody is there, nobody without that can begin anywhere."""

    def by_claim(document):
        document["staff"]["agent_claim"] = "agent_id"

    async with open_browser(tmp_path, stand_in=False, change=by_claim) as browser:
        await browser.sign_in()
        assert "you may not stand in there" in await standing(browser, "acme")
        assert [] == listed(await browser.home("?account=ac"))
        await browser.sign_in(agent_id="a-17")
        assert "On until" in await standing(browser, "acme")


async def test_of_too_many_hidden_ones_none_is_named(tmp_path):
    """A search ends after so many that the person may not know of, and says so without naming one to go on behind."""
    async with open_browser(tmp_path, stand_in=False, change=by_region) as browser:
        await browser.sign_in()
        many = [(f"secret-{number:04}",) for number in range(1001)]
        with closing(sqlite3.connect(browser.world.gateway.config.store_path)) as connection, connection:
            connection.executemany("INSERT INTO accounts (id, type, suspended, epoch) VALUES (?, 'paid', 0, 0)", many)
        page = await browser.home("?account=secret")
        assert "There are too many accounts like that to look at. Type more of the id." in text_of(page)
        assert not re.search(r"secret-\d", page.text)


async def test_nobody_else_is_told_of_any_account(browser):
    """Not who is signed out, nor who is no staff by the rules of now, nor at an account's host."""
    stranger = Browser(browser.world)
    outsider = Browser(browser.world)
    await outsider.sign_in("otto", groups=["sales"])
    for one in (stranger, outsider):
        for query in ("?account=acme", "?account=ac", "?account=nobody"):
            page = await one.home(query)
            assert not re.search(r"acme|nobody|until the customer", page.text.partition("<body>")[2])
    assert b"acme-" not in (await browser.ask("/.locum/?account=acme", host="acme.helpdesk.example")).body


async def test_one_looks_for_accounts_so_often_a_minute(browser):
    """However many there are; nobody else waits for that, and after the minute it goes on."""
    for _ in range(120):
        page = await browser.home("?account=nobody-at-all")
    assert "There is no account “ nobody-at-all ”" in text_of(page)
    page = await browser.home("?account=acme")
    assert (True, False) == ("You have looked for accounts very often" in text_of(page), "Always on" in page.text)
    colleague = Browser(browser.world)
    await colleague.sign_in("erin")
    assert "On until" in await standing(colleague, "acme")
    browser.world.clock.forward(seconds=60)
    assert "On until" in await standing(browser, "acme")


def attributes_of(page):
    """Every attribute of every element, as a browser reads them."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda _tag, attributes: found.extend(attributes)
    parser.feed(page.body.decode())
    return found


HOSTILE = [
    "%3Cscript%3Ealert(1)%3C/script%3E", "%22%20autofocus%20onfocus=alert(1)%20x=%22", "%00", "%FF%FE", "%F0%9F%92%A9", "a" * 5000,
    "%25", "_", "*", "'%20OR%201=1--", "..%2F..%2F", "acme%0d%0aSet-Cookie:%20x=1", "%ED%A0%80", "{{7*7}}", "javascript:alert(1)",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_is_looked_for_is_text(browser, text):
    """In every place that a link can fill in; nothing is found by it, and nothing of it becomes markup."""
    for query in (
        f"?account={text}",
        f"?account=acme&agent={text}&ticket={text}&reason={text}",
        f"?account=ac&list=1&after={text}",
    ):
        page = await browser.home(query)
        assert 200 == page.status
        scripts = re.findall(r'<script src="/.locum/static/(\w+).js" defer></script>', page.text)
        assert (["live_page", "stand_in_live", "stand_in"], 3) == (scripts, page.body.count(b"<script"))
        attributes = attributes_of(page)
        assert not [name for name, _ in attributes if name.startswith("on") or name == "autofocus"]
        assert {"/.locum/"} == {link[:8] for name, link in attributes if name == "href"}
        assert "set-cookie" not in page.headers
    assert [] == listed(await browser.home(f"?account={text}"))


async def test_nothing_changes_by_get(browser):
    """Not by a link with all that a form would have."""
    assert 200 == (await browser.begin()).status
    begun = await browser.world.gateway.store.list_assumptions(at=browser.world.clock.now)
    query = "?account=acme&agent=maria&ticket=S&reason=r&scope=tickets:read&duration=day&form_token=" + token_of(
        await browser.home()
    )
    for target in ("assumptions", "assumptions/end", "assumptions/end-all", "requests", "requests/withdraw"):
        answer = await browser.ask(f"/.locum/{target}{query}&assumption={begun[0].id}", host=STAFF_HOST)
        assert 405 == answer.status
    assert begun == await browser.world.gateway.store.list_assumptions(at=browser.world.clock.now)


async def test_all_of_ones_own_end_with_one_button(browser):
    """Nobody else's, and not by another site's form; each on the record."""
    await browser.stand_in()
    await browser.world.token()
    colleague = Browser(browser.world)
    await colleague.sign_in("erin")
    await colleague.stand_in()
    page = await browser.home()
    assert 2 == page.text.count('name="assumption"')
    [link] = re.findall(r'href="(https://[^"]*)">Go there', page.text)
    assert "https://acme.helpdesk.example/.locum/session" == link, "of the one that a browser holds"
    form = [("form_token", token_of(page))]
    browser.lax = False
    for forged in ({"origin": "https://evil.example"}, {"site": "cross-site"}, {"fields": [("form_token", "A" * 43)]}):
        fields = forged.pop("fields", form)
        answer = await browser.post(
            "/.locum/assumptions/end-all", fields, host=STAFF_HOST, **{"origin": ISSUER} | forged
        )
        assert (403, 2) == (answer.status, (await browser.home()).text.count('name="assumption"'))
    for _ in range(2):
        answer = await browser.post("/.locum/assumptions/end-all", form, host=STAFF_HOST, origin=ISSUER)
        assert (303, "/.locum/") == (answer.status, answer.headers["location"])
    assert (403, 200) == ((await browser.ask()).status, (await colleague.ask()).status)
    ended = browser.world.records(kind="assumption", reason="ended")
    assert ["dana", "dana"] == [record["by"] for record in ended]
    assert "None. Those that you begin are listed here" in text_of(await browser.home())


async def test_where_the_app_keeps_the_accounts_only_a_whole_id_is_found(tmp_path):
    """The app is asked about that one; none is listed, and nobody is asked here."""
    setting = {
        "security_settings": {
            "assumable": False, "assumable_account_type": False, "assumption_duration": "off", "assumption_expiration": None,
        }
    }  # fmt: skip

    def change(document):
        document["staff"]["sign_in"] = {"client_id": "locum"}
        document["grants"] = {
            "source": "http",
            "http": {"url": document["upstream"]["url"] + "/accounts/{account}/settings"},
        }

    def app(request):
        return who(setting) if request.target == b"/accounts/acme/settings" else response(status=b"404 Not Found")

    async with open_world(tmp_path, script=app, change=change, account=None) as world:
        browser = Browser(world)
        await browser.sign_in()
        page = await browser.home("?account=acme")
        assert "Off the customer has not turned it on" in text_of(page)
        assert "Ask an administrator of the account to turn on account assumption in the app." in text_of(page)
        assert ("/.locum/requests" in page.text, "Your requests" in page.text) == (False, False)
        for part in ("ac", "acm", "other"):
            page = await browser.home(f"?account={part}")
            assert ([], True) == (listed(page), f"There is no account “ {part} ”" in text_of(page))
        assert b"/accounts/ac/settings" in [seen.target for seen in world.upstream.requests]

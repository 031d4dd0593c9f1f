"""Beginning an assumption in the browser: on the staff origin, by whoever is signed in, from our own form; once."""

import asyncio
import re
import secrets
import sqlite3
from contextlib import closing
from datetime import timedelta
from hashlib import sha256

import pytest

from gateway.assumptions.handing import HandOvers
from gateway.caller import Caller
from gateway.tasks import Tasks
from policy.exchange import Issue
from policy.model import ActorId, AssumptionId
from tests.browser_world import (
    EVERYTHING,
    HOST,
    ISSUER,
    PAGE,
    STAFF_HOST,
    Browser,
    code_of,
    open_browser,
    signing_in,
    value_of,
)
from tests.gateway_world import open_world
from tests.memory_store import MemoryStore
from tests.store_examples import ASSUMPTION, NOW
from tests.upstream_client import eventually


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, stand_in=False) as browser:
        await browser.sign_in()
        yield browser


def begun(browser):
    return browser.world.records(kind="token", decision="allow")


def ended_in(directory):
    with closing(sqlite3.connect(directory / "locum.sqlite3")) as connection:
        return [found for [found] in connection.execute("SELECT id FROM assumptions WHERE ended_at IS NOT NULL")]


def denied(browser):
    return [record["reason"] for record in browser.world.records(decision="deny")]


async def test_staff_begin_with_a_form_and_a_click(browser):
    """The page says for whom, why, until when and how far; the cookie is for the account's host and nobody's script."""
    home = await browser.home("?account=acme&agent=%22%3E%3Cb%3E&ticket=SUP-9")
    assert 'name="account" value="acme"' in home.text
    assert b"<b>" not in home.body
    page = await browser.begin(scopes=["tickets:write", "tickets:read"])
    for said in ("maria", "acme", "SUP-1", "cannot reproduce", "tickets:read, tickets:write"):
        assert said in page.text
    assert f'action="https://{HOST}/.locum/enter"' in page.text
    assert f"form-action 'self' https://{HOST};" in page.headers["content-security-policy"]
    assert ("no-store", "strict-origin") == (page.headers["cache-control"], page.headers["referrer-policy"])
    assert [] == page.set_cookies
    entered = await browser.enter(code_of(page))
    assert (303, "/") == (entered.status, entered.headers["location"])
    browser.held = value_of(entered)
    [line] = entered.set_cookies
    assert re.fullmatch(
        r"__Host-locum-assumption=[\w-]{43}; HttpOnly; Max-Age=633600; Path=/; SameSite=Lax; Secure", line
    )
    assert b'"scopes":["tickets:read","tickets:write"]' in (await browser.session()).body
    assert 200 == (await browser.ask()).status
    [first] = begun(browser)
    [second] = browser.world.records(kind="assumption", reason="entered")
    assert (first["assumption"], "browser", "maria") == (second["assumption"], second["client_id"], second["subject"])


async def test_no_secret_is_kept_or_written_down(browser):
    """Of cookie and code the store holds digests, the journal nothing, and no URL has either."""
    page = await browser.begin()
    code = code_of(page)
    value = value_of(await browser.enter(code))
    browser.held = value
    await browser.ask()
    files = [path for path in browser.world.directory.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        raw = path.read_bytes()
        assert value.encode() not in raw, path
        assert code.encode() not in raw, path
        assert browser.staff.encode() not in raw, path


FORMS = {
    "another site's page": ({"origin": "https://evil.example"}, "cross_site"),
    "a neighbour's page": ({"origin": f"https://{HOST}", "site": "same-site"}, "cross_site"),
    "a page without an origin": ({"origin": "null"}, "cross_site"),
    "no Origin": ({"origin": None}, "cross_site"),
    "another site by Sec-Fetch-Site": ({"site": "cross-site"}, "cross_site"),
    "a form token of nobody's": ({"token": "x" * 43}, "cross_site"),
    "no form token": ({"token": ""}, "cross_site"),
    "no account": ({"account": None}, "exchange_malformed"),
    "an unknown account": ({"account": "nobody"}, "unknown_account"),
    "an account with a path": ({"account": "acme.helpdesk.example/"}, "unknown_account"),
    "another host": ({"account": "evil.example#"}, "unknown_account"),
    "no agent": ({"agent": ""}, "agent_invalid"),
    "two lines of reason": ({"reason": "a\nb"}, "exchange_malformed"),
    "no ticket": ({"ticket": " "}, "ticket_missing"),
    "no reason": ({"reason": ""}, "reason_missing"),
    "a scope that nobody knows": ({"scopes": ["tickets:read", "root:write"]}, "invalid_scope"),
    "a scope that is none": ({"scopes": ["*"]}, "exchange_malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
async def test_a_form_that_is_not_ours_or_not_allowed_begins_nothing(browser, case):
    """Refused, and on the record with its reason."""
    change, reason = FORMS[case]
    browser.lax = False
    page = await browser.begin(**change)
    assert page.status in (400, 403)
    assert reason in page.text
    assert ([], [reason]) == (begun(browser), denied(browser))
    assert 'name="code"' not in page.text


async def test_a_field_that_is_there_twice_begins_nothing(browser):
    """Nobody says which of them the record would hold."""
    token = re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]
    pairs = [
        ("account", "acme"),
        ("agent", "maria"),
        ("agent", "root"),
        ("ticket", "1"),
        ("reason", "x"),
        ("form_token", token),
    ]
    page = await browser.post("/.locum/assumptions", pairs, host=STAFF_HOST, origin=ISSUER)
    assert (400, []) == (page.status, begun(browser))


async def test_nobody_begins_without_being_signed_in(browser):
    """Nor on another host, with a session that has ended, with two of them, or once locked out."""
    token = re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]
    mine = browser.staff
    for value in ("", secrets.token_urlsafe(32), f"{mine}; __Host-locum-staff={mine}"):
        browser.staff = value
        assert (
            403 == (await browser.begin(token=token)).status or "ambiguous" in (await browser.begin(token=token)).text
        )
    browser.staff = mine
    assert 404 == (await browser.begin(token=token, host=HOST)).status
    store = browser.world.gateway.store
    await store.disable_staff(ActorId(issuer=browser.world.issuer.issuer, subject="dana"), disabled=True)
    assert 403 == (await browser.begin(token=token)).status
    assert [] == begun(browser)


async def test_the_customers_setting_counts_when_it_begins(browser):
    """Off is off, and what is not granted is not got."""
    await browser.world.choose("off")
    assert "grant_off" in (await browser.begin()).text
    await browser.world.choose("day", ["read"])
    assert "permission_not_granted" in (await browser.begin(scopes=["tickets:write"])).text
    page = await browser.begin(scopes=["tickets:read", "tickets:write"])
    assert "<dd>tickets:read</dd>" in page.text
    browser.held = value_of(await browser.enter(code_of(page)))
    assert (200, 403) == ((await browser.ask()).status, (await browser.write()).status)


async def test_an_assumption_in_the_browser_ends_with_the_grant_or_the_working_day(tmp_path):
    """The earlier of both, by the page, the cookie and the rule."""
    async with open_browser(
        tmp_path, change=lambda document: document.update(browser={"lifetime_seconds": 7200})
    ) as browser:
        assert b'"seconds_left":7200' in (await browser.session()).body
        browser.world.clock.forward(seconds=7199)
        await keep_awake(browser)
        browser.world.clock.forward(seconds=1)
        assert 403 == (await browser.ask()).status


async def keep_awake(browser):
    """Have it count as used now, however long it was not."""
    held = browser.world.gateway.store
    await held.touch_browser(sha256(browser.held.encode()).digest(), at=browser.world.clock.now)
    assert 200 == (await browser.ask()).status


ENTRIES = {
    "a page of another site": {"origin": "https://evil.example"},
    "a page of the account's own": {"origin": f"https://{HOST}"},
    "a page without an origin": {"origin": "null"},
    "no Origin": {"origin": None},
    "the staff origin with a port": {"origin": f"{ISSUER}:443"},
    "the staff origin without TLS": {"origin": ISSUER.replace("https", "http")},
}


@pytest.mark.parametrize("case", ENTRIES)
async def test_nobody_elses_page_puts_a_browser_into_an_assumption(browser, case):
    """Only the staff origin's page may bring a code, so that nobody is pushed into what somebody else has begun."""
    code = code_of(await browser.begin())
    page = await browser.enter(code, **ENTRIES[case])
    assert (403, []) == (page.status, page.set_cookies)
    assert ["cross_site"] == denied(browser)
    assert 303 == (await browser.enter(code)).status


async def test_a_code_is_good_for_its_host_alone(browser):
    """At another account's host it gives nothing, and is used up."""
    await browser.world.add_account("other")
    await browser.world.choose("week", EVERYTHING, account="other")
    code = code_of(await browser.begin())
    page = await browser.enter(code, host="other.helpdesk.example")
    assert (403, [], ["wrong_account"]) == (page.status, page.set_cookies, denied(browser))
    assert [begun(browser)[0]["assumption"]] == [
        record["assumption"] for record in browser.world.records(kind="assumption", reason="ended")
    ]
    assert 403 == (await browser.enter(code)).status


@pytest.mark.parametrize("code", ["", "x", "a" * 43, "a" * 44, "é" * 43, "a" * 3000])
async def test_what_is_no_code_gives_nothing(browser, code):
    """Whatever it looks like."""
    page = await browser.enter(code)
    assert (page.status, page.set_cookies) in ((403, []), (400, []))
    assert 1 == len(denied(browser))


async def test_a_code_in_a_query_or_by_get_gives_nothing(browser):
    """It never stands in a URL, and none is read there."""
    code = code_of(await browser.begin())
    for method, target in (("GET", f"/.locum/enter?code={code}"), ("POST", f"/.locum/enter?code={code}")):
        page = await browser.ask(
            target, f"Origin: {ISSUER}", "Content-Type: application/x-www-form-urlencoded", method=method
        )
        assert (page.status in (400, 405), []) == (True, page.set_cookies)
    assert 303 == (await browser.enter(code)).status


async def test_of_two_hundred_who_bring_a_code_one_enters(browser):
    """At the same moment."""
    code = code_of(await browser.begin())
    answers = await asyncio.gather(*(browser.enter(code) for _ in range(200)))
    assert 1 == sum(303 == answer.status for answer in answers)
    assert 1 == sum(bool(answer.set_cookies) for answer in answers)
    assert 1 == len(browser.world.records(kind="assumption", reason="entered"))


async def test_a_code_is_good_for_two_minutes_at_the_most(browser):
    """And never after."""
    code = code_of(await browser.begin())
    browser.world.clock.forward(seconds=120)
    page = await browser.enter(code)
    assert (403, []) == (page.status, page.set_cookies)
    assert "took too long" in page.text


@pytest.mark.parametrize("lax", [True, False])
async def test_entering_again_ends_what_was_held_before(browser, lax):
    """It would go on with nobody to end it; also where the browser does not send its cookie with the code.

    What the same person has open by a token, in another account, or what somebody else has, goes on.
    """
    browser.lax = lax
    await browser.world.add_account("other")
    await browser.world.choose("week", EVERYTHING, account="other")
    token = await browser.world.token()
    await browser.stand_in(account="other")
    other = browser.held
    colleague = Browser(browser.world)
    await colleague.sign_in("erin")
    await colleague.stand_in()
    browser.held = ""
    await browser.stand_in()
    first = browser.held
    await browser.stand_in()
    assert first != browser.held
    assert 200 == (await browser.ask()).status
    assert 403 == (await browser.ask(cookie=f"__Host-locum-assumption={first}")).status
    [ended] = browser.world.records(kind="assumption", reason="ended")
    assert ("dana", "acme") == (ended["by"], ended["account"])
    assert 200 == (await browser.world.get(token))[0] == (await colleague.ask()).status
    there = f"__Host-locum-assumption={other}"
    assert 200 == (await browser.ask(host="other.helpdesk.example", cookie=there)).status


async def test_whoever_enters_ends_what_another_held_in_that_browser(browser):
    """Where both hosts are of one site, so that the browser sends the cookie that is about to go."""
    colleague = Browser(browser.world)
    await colleague.sign_in("erin")
    await colleague.stand_in()
    former = browser.held = colleague.held
    browser.lax = False
    await browser.stand_in()
    assert (200, 403) == ((await browser.ask()).status, (await colleague.ask()).status), former


async def test_a_code_that_cannot_be_redeemed_to_the_end_leaves_nothing_open(browser):
    """It is used up, so what it stood for is ended."""
    code, store = code_of(await browser.begin()), browser.world.gateway.store
    with closing(sqlite3.connect(browser.world.gateway.config.store_path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE browser_assumptions RENAME TO elsewhere")
        page = await browser.enter(code)
        connection.execute("ALTER TABLE elsewhere RENAME TO browser_assumptions")
    assert (503, []) == (page.status, page.set_cookies)
    assert () == tuple(await store.list_assumptions(at=browser.world.clock.now))
    assert 1 == len(browser.world.records(kind="assumption", reason="ended"))


async def test_nobody_begins_from_within_an_assumption(tmp_path):
    """Where one host is both, whoever stands in ends that first."""

    def one_host(document):
        document["server"]["issuer"] = f"https://{HOST}"

    async with open_browser(tmp_path, change=one_host, stand_in=False) as browser:
        await browser.sign_in()
        browser.cookies = f"__Host-locum-staff={browser.staff}"
        origin = f"https://{HOST}"
        home = await browser.ask("/.locum/", f"Accept: {PAGE}")
        token = re.search(r'name="form_token" value="([^"]+)"', home.text)[1]
        page = await browser.begin(token=token, host=HOST, origin=origin)
        browser.held = value_of(await browser.enter(code_of(page), origin=origin))
        assert 200 == (await browser.ask()).status
        again = await browser.begin(token=token, host=HOST, origin=origin)
        assert (403, ["exchange_chained"]) == (again.status, denied(browser))


async def test_what_nobody_takes_over_is_ended(tmp_path):
    """Nothing stands open for nobody."""
    store, tasks, ended = MemoryStore(), Tasks(), []

    class Ender:
        async def end(self, assumption, **_):
            ended.append(assumption)

    claims = {
        "iss": ISSUER, "aud": HOST, "sub": "maria", "act": {"sub": "dana", "iss": "i"}, "client_id": "browser", "jti": "j",
        "sid": ASSUMPTION.id, "scope": "tickets:read", "iat": 1, "nbf": 1, "exp": 2,
        "authorization_details": [{"type": "account_assumption", "account": "acme", "identifier": "g", "grant_epoch": 1}],
    }  # fmt: skip
    hand_overs = HandOvers(store, Ender(), issuer=ISSUER, clock=lambda: NOW, tasks=tasks, seconds=0.05)
    issue = Issue(assumption=ASSUMPTION, claims=claims, expires_at=NOW + timedelta(hours=8))
    caller = Caller(client_ip=None, user_agent=None, request_id="r")
    taken, left = await hand_overs.offer(issue, caller), await hand_overs.offer(issue, caller)
    assert AssumptionId(ASSUMPTION.id) == (await hand_overs.redeem(taken))[0].assumption
    await tasks.wait()
    assert [ASSUMPTION.id] == ended
    assert None is await hand_overs.redeem(left)


async def test_no_crash_leaves_one_open_that_nobody_comes_for(tmp_path):
    """That a browser is expected is stored before the assumption is: the store itself would not take another one."""
    async with open_browser(tmp_path, stand_in=False) as browser:
        with closing(sqlite3.connect(tmp_path / "locum.sqlite3", isolation_level=None)) as connection:
            connection.execute(
                "CREATE TRIGGER expected BEFORE INSERT ON assumptions "
                "WHEN NOT EXISTS (SELECT 1 FROM hand_overs WHERE assumption = NEW.id) "
                "BEGIN SELECT RAISE(ABORT, 'nobody is expected'); END"
            )
        await browser.stand_in()
        assert 200 == (await browser.ask()).status
        assert 503 == (await browser.world.ask())[0], "a program's has nobody to be expected"


async def test_what_nobody_takes_over_is_ended_by_whoever_comes_after(tmp_path):
    """The process that gave the code is gone, and its task with it; the next one finds what was left in the store."""
    async with open_browser(tmp_path, stand_in=False) as browser:
        await browser.stand_in()
        await browser.begin(agent="peter")
        names = {record["subject"]: AssumptionId(record["assumption"]) for record in begun(browser)}
    with closing(sqlite3.connect(tmp_path / "locum.sqlite3", isolation_level=None)) as connection:
        assert 2 == connection.execute("UPDATE hand_overs SET ends_at = 0").rowcount
        connection.execute("DELETE FROM clients")
    async with open_world(tmp_path, change=signing_in, account=None) as after:
        await eventually(lambda: ended_in(tmp_path))
        [record] = after.records(kind="assumption", reason="ended")
        assert ([names["peter"]], names["peter"]) == (ended_in(tmp_path), record["assumption"])
        assert "dana" == record["by"]


async def test_a_sign_out_ends_what_was_begun_in_the_browser(browser):
    """At the next request, with the page that says so."""
    await browser.stand_in()
    token = re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]
    out = await browser.post("/.locum/sign-out", [("form_token", token)], host=STAFF_HOST, origin=ISSUER)
    assert 200 == out.status
    await eventually(lambda: not len(browser.world.gateway.live))
    assert 403 == (await browser.ask()).status


async def test_the_form_is_for_whoever_is_signed_in(browser):
    """Nobody else gets it, and it names what the app's profile knows."""
    assert 'name="scope" value="tickets:read" checked' in (await browser.home("?account=acme")).text
    stranger = Browser(browser.world)
    assert 'name="scope"' not in (await stranger.home("?account=acme")).text
    assert "dana" not in (await stranger.home("?account=acme")).text

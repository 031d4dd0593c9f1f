"""An assumption by cookie before the app: the same judge as for a token, and what only browsers bring with them."""

import asyncio
import json
from dataclasses import replace
from hashlib import sha256

import pytest

from tests.browser_world import ASSUMPTION, EVERYTHING, HOST, ISSUER, ORIGIN, PAGE, Browser, open_browser
from tests.rawwire import response
from tests.upstream_client import eventually

WRITES = ("tickets:read", "tickets:write")
RULES = """
[[routes]]
id = "t-get-that-writes"
methods = ["GET"]
path = "/tickets/{id:int}/take"
scope = "tickets:write"

[[routes]]
id = "t-socket"
methods = ["GET"]
path = "/socket"
scope = "tickets:read"
websocket = true
"""
SOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def with_rules(tmp_path):
    def change(_document):
        path = tmp_path / "demo-helpdesk.toml"
        path.write_text(path.read_text() + RULES)

    return change


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, scopes=WRITES, change=with_rules(tmp_path)) as browser:
        yield browser


def why(browser):
    return browser.world.records(kind="decision")[-1].get("reason")


async def test_the_app_hears_who_is_there_and_nothing_of_our_cookie(browser):
    """Of the browser's line nothing goes on: not ours, and not what another session left in that browser."""
    browser.cookies = "session=of-somebody-else; theme=dark"
    answer = await browser.ask()
    [seen] = browser.world.upstream.requests
    assert (200, [], 1) == (answer.status, seen.values(b"cookie"), len(seen.values(b"x-locum-assertion")))
    assert ("no-store", 1) == (answer.headers["cache-control"], answer.raw.count(b"X-Locum-Expires: "))
    assert browser.held.encode() not in browser.world.upstream.connections[0].received


async def test_a_cookie_and_a_token_are_one_too_many(browser):
    """Whosever they are, in whichever order."""
    token = await browser.world.token()
    for lines in ((f"Authorization: Bearer {token}",), ("Authorization: Bearer " + token[:-2] + "AA",)):
        answer = await browser.ask("/tickets/1", *lines)
        assert (400, "ambiguous_header") == (answer.status, why(browser))
    assert [] == browser.world.upstream.requests
    # A bearer token of the app's own is not ours, but staff's requests bring nobody else's credentials.
    await browser.ask("/tickets/1", "Authorization: Bearer of-the-app")
    [seen] = browser.world.upstream.requests
    assert [] == seen.values(b"authorization")


async def test_a_cookie_is_good_at_its_own_host_alone(browser):
    """At another account's it is refused, however it got there."""
    await browser.world.add_account("other")
    await browser.world.choose("week", EVERYTHING, account="other")
    answer = await browser.ask(host="other.helpdesk.example")
    assert (403, "wrong_account", []) == (answer.status, why(browser), browser.world.upstream.requests)


@pytest.mark.parametrize("value", ["", "x", "A" * 43, "A" * 44, '"' + "A" * 43 + '"', "A" * 5000])
async def test_a_cookie_that_nobody_was_given_is_refused(browser, value):
    """Whatever it holds; it never becomes ordinary traffic, whose session may be in that browser."""
    browser.held, browser.cookies = value or " ", "session=of-a-customer"
    answer = await browser.ask(cookie=f"session=of-a-customer; {ASSUMPTION}={value}")
    assert (403, "cookie_unknown", []) == (answer.status, why(browser), browser.world.upstream.requests)


CROSS = {
    "another site": {"origin": "https://evil.example", "site": "cross-site"},
    "another site by origin alone": {"origin": "https://evil.example", "site": None},
    "another site by its own word": {"origin": ORIGIN, "site": "cross-site"},
    "a neighbour": {"origin": ISSUER, "site": "same-site"},
    "no page at all": {"origin": None, "site": "none"},
    "a page without an origin": {"origin": "null", "site": None},
    "nothing said": {"origin": None, "site": None},
    "without TLS": {"origin": ORIGIN.replace("https", "http"), "site": None},
    "another port": {"origin": f"{ORIGIN}:8443", "site": None},
    "two origins": {"origin": f"{ORIGIN}\r\nOrigin: https://evil.example", "site": None},
    "two sites": {"origin": ORIGIN, "site": "same-origin\r\nSec-Fetch-Site: cross-site"},
}
OWN = {
    "both": {"origin": ORIGIN, "site": "same-origin"},
    "an origin": {"origin": ORIGIN, "site": None},
    "a site": {"origin": None, "site": "same-origin"},
}


@pytest.mark.parametrize("case", CROSS)
async def test_no_other_sites_page_changes_anything(browser, case):
    """A POST, a PUT, a DELETE, a GET that writes and a WebSocket: our cookie comes by itself, so the page must be ours."""
    for how in (
        {"method": "POST"},
        {"method": "PUT", "target": "/tickets/1"},
        {"method": "GET", "target": "/tickets/1/take"},
    ):
        lines = CROSS[case] | how
        if how["method"] == "GET":
            said = [f"Origin: {lines['origin']}"] if lines["origin"] else []
            said += [f"Sec-Fetch-Site: {lines['site']}"] if lines["site"] else []
            answer = await browser.ask(how["target"], *said)
        else:
            answer = await browser.write(**lines)
        assert answer.status == 403, how
        assert why(browser) in ("cross_site", "no_route_rule", "insufficient_scope"), how
    said = [f"Origin: {CROSS[case]['origin']}"] if CROSS[case]["origin"] else []
    said += [f"Sec-Fetch-Site: {CROSS[case]['site']}"] if CROSS[case]["site"] else []
    raw = await browser.ask("/socket", *SOCKET, *said)
    assert (403, "cross_site") == (raw.status, why(browser))
    assert [] == browser.world.upstream.requests


@pytest.mark.parametrize("case", OWN)
async def test_a_page_of_the_host_itself_does(browser, case):
    """By either word of the browser's."""
    assert 200 == (await browser.write(**OWN[case])).status
    assert 1 == len(browser.world.upstream.requests)


async def test_reading_needs_no_page_of_ours(browser):
    """Staff come from links in their own tools."""
    for lines in ((), ("Sec-Fetch-Site: cross-site",), ("Sec-Fetch-Site: none",), ("Sec-Fetch-Site: same-site",)):
        assert 200 == (await browser.ask("/tickets/1", *lines)).status


DEAD_ENDS = {
    "ended": (
        "assumption_ended",
        lambda world, held: world.gateway.store.end_assumption(held["assumption"], at=world.clock.now),
    ),
    "taken back": ("grant_revoked", lambda world, _held: world.choose("off")),
}


@pytest.mark.parametrize("end", DEAD_ENDS)
async def test_a_person_is_told_once_that_it_is_over(browser, end):
    """By a page that says how to go on and takes the cookie away; a script's request is refused and takes nothing."""
    reason, act = DEAD_ENDS[end]
    [held] = browser.world.records(kind="token", decision="allow")
    await act(browser.world, held)
    await eventually(lambda: not browser.world.gateway.live.of_assumption(held["assumption"]))
    browser.cookies = "session=of-a-customer"
    for lines in ((), (f"Accept: {PAGE}", "Sec-Fetch-Mode: cors"), ("Accept: */*", "Sec-Fetch-Mode: no-cors")):
        answer = await browser.ask("/tickets/1", *lines)
        assert (403, reason, []) == (answer.status, why(browser), answer.set_cookies)
    answer = await browser.write(f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate")
    assert (403, []) == (answer.status, answer.set_cookies)
    for lines in ((f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate"), (f"Accept: {PAGE}",)):
        page = await browser.ask("/tickets/1", *lines)
        [dropped] = page.set_cookies
        assert f"{ASSUMPTION}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure" == dropped
        assert (403, reason) == (page.status, why(browser))
        assert "stands in for nobody any more" in page.text
        assert f"href='{ISSUER}/.locum/'" in page.text
    assert [] == browser.world.upstream.requests
    browser.held = ""
    assert 200 == (await browser.ask()).status
    [seen] = browser.world.upstream.requests
    assert ([b"session=of-a-customer"], []) == (seen.values(b"cookie"), seen.values(b"x-locum-assertion"))


UNSEEN = {
    "a frame": ("GET", "Sec-Fetch-Dest: iframe"),
    "a page before a click": ("GET", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch;prerender"),
    "an older browser's": ("GET", "Purpose: prefetch"),
    "a look at the head": ("HEAD",),
    "two of them": ("GET", "Sec-Fetch-Dest: document", "Sec-Fetch-Dest: iframe"),
}


@pytest.mark.parametrize("case", UNSEEN)
async def test_it_is_told_only_where_somebody_sees_it(browser, case):
    """What shows nobody a page does not use it up: the cookie stays, and the person's next page says it."""
    [held] = browser.world.records(kind="token", decision="allow")
    await browser.world.gateway.store.end_assumption(held["assumption"], at=browser.world.clock.now)
    await eventually(lambda: not browser.world.gateway.live.of_assumption(held["assumption"]))
    method, *lines = UNSEEN[case]
    unseen = await browser.ask("/tickets/1", f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate", *lines, method=method)
    assert (403, []) == (unseen.status, unseen.set_cookies)
    assert "clear-site-data" not in unseen.headers
    page = await browser.ask("/tickets/1", f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    assert 1 == len(page.set_cookies)


async def test_nothing_of_it_stays_in_that_browser(browser):
    """What the app's pages have stored goes with the cookie; other cookies, which are somebody's own, do not."""
    await browser.world.choose("off")
    page = await browser.ask("/tickets/1", f"Accept: {PAGE}")
    assert ('"cache", "storage"', 1) == (page.headers["clear-site-data"], len(page.set_cookies))


async def test_the_app_cannot_have_our_cookie_cleared(tmp_path):
    """Its word on what a browser clears reaches customers, and staff by token, who hold none of ours."""
    clear = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCLEAR-site-data: "cookies"\r\n\r\nok'
    async with open_browser(tmp_path, script=lambda _request: clear) as browser:
        token = await browser.world.token()
        assert "clear-site-data" not in (await browser.ask()).headers
        browser.held = ""
        for lines in ((), (f"Authorization: Bearer {token}",)):
            assert '"cookies"' == (await browser.ask("/tickets/1", *lines)).headers["clear-site-data"]


async def test_a_page_that_stays_open_behind_the_end_never_becomes_an_ordinary_visitors(browser):
    """The browser keeps the cookie for a week more, and the store what it was: refused by name, then told once."""
    entered = await browser.stand_in(scopes=WRITES)
    seconds = json.loads((await browser.session()).body)["seconds_left"]
    week = 7 * 24 * 3600
    assert f"Max-Age={seconds + week};" in " ".join(entered.set_cookies)
    asked = len(browser.world.upstream.requests)
    for forward in (seconds, week - 1):
        browser.world.clock.forward(seconds=forward)
        # Others begin meanwhile, which is when the store forgets.
        await Browser(browser.world).sign_in()
        await browser.world.gateway.store.tidy_browsers(at=browser.world.clock.now)
        assert (403, "assumption_ended") == ((await browser.write()).status, why(browser))
    page = await browser.ask("/tickets/1", f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate")
    assert (403, 1, asked) == (page.status, len(page.set_cookies), len(browser.world.upstream.requests))
    browser.world.clock.forward(seconds=1)
    await browser.world.gateway.store.tidy_browsers(at=browser.world.clock.now)
    browser.world.clock.forward(seconds=5)
    assert (403, "cookie_unknown") == ((await browser.write()).status, why(browser))


async def test_what_is_refused_for_now_takes_no_cookie_away(browser):
    """A target, a scope, a kill-switch: the assumption goes on thereafter."""
    page = await browser.ask("/nowhere", f"Accept: {PAGE}")
    assert (403, "no_route_rule", []) == (page.status, why(browser), page.set_cookies)
    assert 200 == (await browser.ask()).status


async def test_an_assumption_that_nobody_uses_ends(tmp_path):
    """After the idle time; each use puts that off, up to the end of its whole life."""
    settings = {"idle_seconds": 600, "lifetime_seconds": 7200}
    async with open_browser(tmp_path, change=lambda document: document.update(browser=settings)) as browser:
        clock, store = browser.world.clock, browser.world.gateway.store
        digest = sha256(browser.held.encode()).digest()
        for _ in range(5):
            clock.forward(seconds=599)
            now = clock.now
            assert 200 == (await browser.ask()).status
            await eventually(lambda now=now: at_hand(browser, digest) in (None, now))
            assert now == (await store.find_browser(digest)).seen_at
        clock.forward(seconds=600)
        assert (403, "cookie_idle") == ((await browser.ask()).status, why(browser))
        await store.touch_browser(digest, at=clock.now)
        clock.forward(seconds=5)
        assert 200 == (await browser.ask()).status


async def test_what_is_refused_is_no_use(tmp_path):
    """Another site's page cannot keep alive what nobody uses, nor can a script that asks who stands in."""
    settings = {"idle_seconds": 600, "lifetime_seconds": 7200}
    async with open_browser(tmp_path, change=lambda document: document.update(browser=settings)) as browser:
        digest = sha256(browser.held.encode()).digest()
        begun = (await browser.world.gateway.store.find_browser(digest)).seen_at
        browser.world.clock.forward(seconds=590)
        assert 403 == (await browser.write(origin="https://evil.example", site="cross-site")).status
        assert 403 == (await browser.ask("/nowhere")).status
        assert b'"active":true' in (await browser.session()).body
        assert begun == (await browser.world.gateway.store.find_browser(digest)).seen_at
        browser.world.clock.forward(seconds=10)
        assert (403, "cookie_idle") == ((await browser.ask()).status, why(browser))


async def test_the_store_is_asked_for_no_cookie_of_a_shape_that_we_never_make(browser):
    """Strangers' junk costs no read; what might be ours costs one."""
    facts = browser.world.gateway._state.facts
    for value, reads in (("x", 0), ("A" * 42, 0), ("A" * 44, 0), ("A" * 42 + "%", 0), ("A" * 43, 1)):
        before = facts.fetches()["browser"]
        answer = await browser.ask(cookie=f"{ASSUMPTION}={value}")
        assert (403, "cookie_unknown", reads) == (answer.status, why(browser), facts.fetches()["browser"] - before)
    page = await browser.ask("/tickets/1", f"Accept: {PAGE}", cookie=f"{ASSUMPTION}=x")
    assert 1 == len(page.set_cookies)


CUSTOMERS = (
    "a=1; last=/docs/__Host-locum-assumption",
    "sid=9; q=__Host-locum-staff; z=1",
    'a="__Host-locum-sign-in"',
    "next=/?__Host-locum-assumption=" + "A" * 43,
)


@pytest.mark.parametrize("line", CUSTOMERS)
async def test_a_customer_whose_cookies_speak_of_ours_is_a_customer(browser, line):
    """A neighbouring host could set such a one for everybody; the app gets it, byte for byte."""
    browser.held = ""
    assert 200 == (await browser.ask(cookie=line)).status
    [seen] = browser.world.upstream.requests
    assert [line.encode()] == seen.values(b"cookie")


async def test_the_end_that_is_told_is_the_one_that_comes(tmp_path):
    """Also where staff's own sign-in grows too old before cookie, assumption and grant end."""

    def fresh(document):
        document["staff"] |= {"max_age_seconds": 600}

    async with open_browser(tmp_path, change=fresh, stand_in=False) as browser:
        await browser.sign_in(auth_time=int(browser.world.clock.now.timestamp()))
        await browser.stand_in()
        said = json.loads((await browser.session()).body)
        assert 600 == said["seconds_left"]
        assert said["until"] == (await browser.ask()).headers["x-locum-expires"]
        browser.world.clock.forward(seconds=600)
        assert {"active": False} == json.loads((await browser.session()).body)


def at_hand(browser, digest):
    held = browser.world.gateway._state.facts.browser_at_hand(digest)
    return None if held is None else held.seen_at


async def test_what_a_cookie_claims_counts_only_as_far_as_the_store_bears_it_out(browser):
    """Claims of another agent, account or grant beside the same assumption are refused like a forged token's."""
    store, now = browser.world.gateway.store, browser.world.clock.now
    held = await store.find_browser(sha256(browser.held.encode()).digest())
    for old, new in (
        ('"sub":"maria"', '"sub":"root"'),
        ('"sub":"dana"', '"sub":"erin"'),
        ('"identifier":"grant_', '"identifier":"grant_x'),
    ):
        assert old in held.claims
        value = new.encode().hex().ljust(43, "B")[:43]
        await store.add_browser(
            replace(held, digest=sha256(value.encode()).digest(), claims=held.claims.replace(old, new)), at=now
        )
        browser.held = value
        assert 403 == (await browser.ask()).status
        assert why(browser) in ("assumption_unknown", "grant_revoked", "staff_unknown")
    for claims in ("[]", "{}", "null", held.claims.replace(ISSUER, "https://evil.example"), "\x00"):
        value = sha256(claims.encode()).hexdigest()[:43]
        await store.add_browser(replace(held, digest=sha256(value.encode()).digest(), claims=claims), at=now)
        browser.held = value
        assert (403, "cookie_unknown") == ((await browser.ask()).status, why(browser))
    assert [] == browser.world.upstream.requests


async def test_a_repeated_head_is_judged_anew_when_it_came_by_cookie(browser):
    """On one connection, before and after the customer's no."""
    raw = f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\nCookie: {ASSUMPTION}={browser.held}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.world.port)
    for expected in (b"200", b"200", b"403"):
        if expected == b"403":
            await browser.world.choose("off")
        await browser.world.note_sent(raw)
        writer.write(raw)
        assert expected == (await reader.readuntil(b"\r\n"))[9:12]
        if expected == b"200":
            await reader.readuntil(b"ok")
    writer.transport.abort()


SETTING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: %s\r\nSet-Cookie: a=1; Path=/\r\n\r\nok"


@pytest.mark.parametrize(
    "value",
    [
        b"__Host-locum-assumption=x; Path=/; Secure",
        b"__Host-locum-staff=",
        b"=__Host-locum-assumption=x",
        b"__HOST-locum-STAFF=x",
    ],
)
async def test_the_app_tosses_no_cookie_of_ours_at_anybody(tmp_path, value):
    """Not at a customer, whose other cookies pass, nor at staff, by token or by cookie."""
    async with open_browser(tmp_path, script=lambda _request: SETTING % value) as browser:
        token = await browser.world.token()
        assert [] == (await browser.ask()).set_cookies
        browser.held = ""
        assert ["a=1; Path=/"] == (await browser.ask()).set_cookies
        assert ["a=1; Path=/"] == (await browser.ask("/tickets/1", f"Authorization: Bearer {token}")).set_cookies


async def test_staffs_session_never_reaches_the_app(browser):
    """With a token, or as an ordinary visitor of a host that is also the staff origin."""
    token, mine = await browser.world.token(), "__Host-locum-staff=" + "S" * 43
    line = f"a=1; {mine}; b=\xff"
    await browser.ask("/tickets/1", f"Authorization: Bearer {token}", cookie=line)
    await browser.ask(cookie=line)
    await browser.ask(cookie=mine)
    by_token, ordinary, alone = browser.world.upstream.requests
    assert [b"a=1; b=\xff"] == ordinary.values(b"cookie") == by_token.values(b"cookie")
    assert [] == alone.values(b"cookie")
    assert all(b"locum-staff" not in one.received for one in browser.world.upstream.connections)


async def test_an_open_answer_is_the_apps(browser):
    """A WebSocket from a page of the host goes through."""
    browser.world.upstream._script = lambda _request: response()
    answer = await browser.ask("/socket", *SOCKET, f"Origin: {ORIGIN}", "Sec-Fetch-Site: same-origin")
    assert 200 == answer.status
    [seen] = browser.world.upstream.requests
    assert [b"websocket"] == seen.values(b"upgrade")

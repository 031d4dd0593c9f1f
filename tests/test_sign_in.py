"""Staff sign in with a browser: the whole way over raw sockets, and who tries to get in on the way."""

import asyncio
import re
import secrets
import sqlite3
from contextlib import closing
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web

from gateway.demo.issuer import Fault
from gateway.staff.sign_in.attempt import Attempt
from policy.model import ActorId
from tests.gateway_world import HOST
from tests.provider_world import (
    ATTEMPT_COOKIE,
    CALLBACK,
    STAFF_COOKIE,
    Browser,
    open_sign_in,
)
from tests.sign_out_world import logout_token, tell

SAFE = {
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin",
}


@pytest.fixture
async def world(tmp_path):
    async with open_sign_in(tmp_path) as world:
        yield world


@pytest.fixture
def browser(world):
    return Browser(world)


def assert_out(browser, reply):
    """Nobody is signed in by this answer."""
    assert 400 <= reply.status < 600, reply.text
    assert STAFF_COOKIE not in browser.cookies
    assert not any(STAFF_COOKIE in line for line in reply.all("set-cookie"))


async def test_signing_in_and_out(world, browser):
    """The home page has one button, then says who is there, then nobody is; each step is on the record."""
    page = await browser.send()
    assert (200, 1) == (page.status, page.text.count("<a class="))
    reply = await browser.sign_in()
    assert (303, "/.locum/") == (reply.status, reply.location)
    page = await browser.send()
    assert "Dana Doe" in page.text
    assert (await world.gateway.store.find_staff(_actor(world))).groups == {"support"}
    out = await browser.sign_out()
    assert (200, {}) == (out.status, browser.cookies)
    assert f"{world.issuer.issuer}/end?client_id=locum&amp;post_logout_redirect_uri=" in out.text
    assert "Staff sign-in" in (await browser.send()).text
    told = [(record["reason"], record["actor"]["subject"]) for record in world.records(kind="staff")]
    assert [("signed_in", "dana"), ("signed_out", "dana")] == told


def _actor(world, subject="dana"):
    return ActorId(issuer=world.issuer.issuer, subject=subject)


async def test_our_cookies_are_for_this_host_and_no_script(world, browser):
    """`__Host-`, Secure, HttpOnly, Lax, for no other host; the sign-in's goes when the session's comes."""
    begun = await browser.send("/.locum/sign-in")
    [line] = begun.all("set-cookie")
    assert line.startswith(f"{ATTEMPT_COOKIE}=")
    assert {"HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax", "Secure"} == set(line.split("; ")[1:])
    done = await browser.send(f"{CALLBACK}?{world.issuer.consent(begun.location)}")
    session, attempt = sorted(done.all("set-cookie"), reverse=True)
    assert {"HttpOnly", "Max-Age=28800", "Path=/", "SameSite=Lax", "Secure"} == set(session.split("; ")[1:])
    assert attempt.startswith(f'{ATTEMPT_COOKIE}="";')
    assert "Max-Age=0" in attempt
    assert {STAFF_COOKIE} == set(browser.cookies)
    assert "no-store" == done["cache-control"]


async def test_pages_run_nothing_and_are_kept_nowhere(world, browser):
    """Every page of ours, whatever it says; the one where staff begin loads scripts of its origin, and has none in itself."""
    await browser.sign_in()
    home = await browser.send()
    assert SAFE.items() <= dict(home.lines).items()
    policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    assert home["content-security-policy"].startswith(policy + "frame-ancestors 'none'")
    scripts = [f'src="/.locum/static/{name}.js" defer></' for name in ("live_page", "stand_in_live", "stand_in")]
    assert scripts == re.findall(r"<script (.*?)script>", home.text, re.DOTALL)
    assert (3, False) == (home.text.count("<script"), any(part in home.text for part in ("style=", "onclick")))
    pages = [
        await browser.send(host=HOST),
        await browser.send(f"{CALLBACK}?x=1"),
        await browser.post("/.locum/sign-out", {"form_token": "x"}),
        await browser.sign_out(),
        await browser.send(),
    ]
    for page in pages:
        assert SAFE.items() <= dict(page.lines).items(), page.text
        policy = page["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self'")
        assert "frame-ancestors 'none'" in policy
        assert not any(part in page.text for part in ("<script", "style=", "onclick"))


async def test_what_the_provider_says_of_a_person_is_escaped(world, browser):
    """A name is text, whatever is in it."""
    await browser.sign_in(name="<script>alert(1)</script>", groups=["support", '"><img src=x>'])
    page = await browser.send()
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>" not in page.text
    assert "<img" not in page.text


async def test_the_session_cookie_is_nowhere_but_in_the_browser(world, browser):
    """The store has its digest, pages and journal have nothing of it."""
    await browser.sign_in()
    value = browser.cookies[STAFF_COOKIE]
    session = await world.gateway.store.find_session(sha256(value.encode()).digest())
    page = await browser.send()
    assert value not in page.text + repr(session) + repr(world.records())
    assert "nonce" not in session.claims


async def test_staff_are_led_back_to_the_page_they_came_for(world, browser):
    """If it is one of ours."""
    assert "/.locum/session" == (await browser.sign_in(return_to="/.locum/session")).location


async def test_no_sign_in_leads_anywhere_else(world, browser):
    """Open redirect, by the link that begins it."""
    for place in ("https://evil.example/", "//evil.example", "/\\evil.example", "/tickets/1"):
        assert "/.locum/" == (await browser.sign_in(return_to=place)).location


async def test_no_cookie_leads_anywhere_else(world, browser):
    """Open redirect, by a cookie that somebody wrote."""
    attempt = Attempt.begin("//evil.example", now=world.clock.now)
    browser.cookies[ATTEMPT_COOKIE] = attempt.value
    asked = {
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
        "redirect_uri": f"https://assume.vendor.example{CALLBACK}",
    }
    location = f"http://x/?{urlencode(asked)}"
    assert "/.locum/" == (await browser.send(f"{CALLBACK}?{world.issuer.consent(location)}")).location


# Who tries to get in on the way.


async def test_a_session_that_was_there_before_is_not_taken_over(world, browser):
    """Fixation: the value that an attacker planted never becomes a session; a sign-in makes a new one."""
    planted = secrets.token_urlsafe(32)
    browser.cookies[STAFF_COOKIE] = planted
    await browser.sign_in()
    first = browser.cookies[STAFF_COOKIE]
    assert first != planted
    assert None is await world.gateway.store.find_session(sha256(planted.encode()).digest())
    await browser.sign_in("erin")
    assert browser.cookies[STAFF_COOKIE] != first
    assert None is await world.gateway.store.find_session(sha256(first.encode()).digest())


async def test_an_answer_for_another_browser_signs_nobody_in(world, browser):
    """Login CSRF: the attacker's own code and state, sent to the victim's browser."""
    attacker = Browser(world)
    query = world.issuer.consent(await attacker.begin(), "mallory")
    assert_out(browser, await browser.send(f"{CALLBACK}?{query}"))
    await browser.begin()
    assert_out(browser, await browser.send(f"{CALLBACK}?{query}"))
    assert [] == world.issuer.asked


async def test_an_answer_of_another_sign_in_leaves_ours_as_it_was(world, browser):
    """Nobody can undo a sign-in under way by a link of theirs."""
    location = await browser.begin()
    attacker = Browser(world)
    await browser.send(f"{CALLBACK}?{world.issuer.consent(await attacker.begin(), 'mallory')}")
    await browser.send(f"{CALLBACK}?error=access_denied&state=x")
    assert 303 == (await browser.send(f"{CALLBACK}?{world.issuer.consent(location)}")).status


async def test_a_code_of_another_sign_in_is_worth_nothing(world, browser):
    """Code injection: the victim's code, stolen, in the attacker's own sign-in. PKCE and nonce both stand against it."""
    victim = Browser(world)
    stolen = dict(parse_qsl(world.issuer.consent(await victim.begin())))["code"]
    mine = dict(parse_qsl(urlsplit(await browser.begin()).query))["state"]
    query = urlencode({"code": stolen, "state": mine, "iss": world.issuer.issuer})
    assert_out(browser, await browser.send(f"{CALLBACK}?{query}"))
    assert "invalid_grant" not in str(world.records())
    assert ["deny"] == [record["decision"] for record in world.records(kind="staff", reason="code_refused")]


async def test_a_provider_without_pkce_gives_the_attacker_nothing_either(world, browser):
    """Code injection at a provider that does not look at the challenge: the nonce is another sign-in's."""
    victim = Browser(world)
    stolen = dict(parse_qsl(world.issuer.consent(await victim.begin())))["code"]
    mine = dict(parse_qsl(urlsplit(location := await browser.begin()).query))
    asked, subject, claims = world.issuer.codes[stolen]
    wanted = dict(parse_qsl(urlsplit(location).query))["code_challenge"]
    world.issuer.codes[stolen] = (asked | {"code_challenge": wanted}, subject, claims)
    query = urlencode({"code": stolen, "state": mine["state"], "iss": world.issuer.issuer})
    assert_out(browser, await browser.send(f"{CALLBACK}?{query}"))
    assert 1 == len(world.issuer.asked)


async def test_an_answer_of_another_provider_is_refused(world, browser):
    """Mix-up (RFC 9207): by its name, and by its leaving the name out although the provider says it never does."""
    for iss in ("https://evil.example", f"{world.issuer.issuer}/"):
        query = world.issuer.consent(await browser.begin(), iss=iss)
        assert_out(browser, await browser.send(f"{CALLBACK}?{query}"))
    nameless = world.issuer.consent(await browser.begin()).partition("&iss=")[0]
    assert_out(browser, await browser.send(f"{CALLBACK}?{nameless}"))
    assert [] == world.issuer.asked


async def test_a_provider_that_does_not_name_itself_may_leave_it_out(tmp_path):
    """But what it says has to be right."""
    async with open_sign_in(tmp_path) as world:
        world.issuer.metadata = {}
        browser = Browser(world)
        nameless = world.issuer.consent(await browser.begin()).partition("&iss=")[0]
        assert 303 == (await browser.send(f"{CALLBACK}?{nameless}")).status
        query = world.issuer.consent(await browser.begin(), iss="https://evil.example")
        assert 400 == (await browser.send(f"{CALLBACK}?{query}")).status


async def test_an_answer_counts_once(world, browser):
    """A callback that is sent again, cookie and all, even by a provider that takes a code twice, and at once."""
    location = await browser.begin()
    kept = dict(browser.cookies)
    query = world.issuer.consent(location)
    code = dict(parse_qsl(query))["code"]
    told = world.issuer.codes[code]

    class Twice(dict):
        def pop(self, key, *default):
            return told

    world.issuer.codes = Twice()
    browsers = [Browser(world) for _ in range(200)]
    for one in browsers:
        one.cookies = dict(kept)
    replies = await asyncio.gather(*(one.send(f"{CALLBACK}?{query}") for one in browsers))
    statuses = [reply.status for reply in replies]
    # 503 is for more at a time than one address may have.
    assert (1, True) == (statuses.count(303), set(statuses) <= {303, 400, 503})
    assert 1 == sum(STAFF_COOKIE in one.cookies for one in browsers)
    assert 1 == len(world.records(reason="signed_in"))
    assert ["dana"] * statuses.count(400) == [
        one["actor"]["subject"] for one in world.records(decision="deny", reason="answer_used")
    ]


async def test_a_sign_in_that_takes_too_long_is_begun_again(world, browser):
    """However long the browser keeps the cookie."""
    query = world.issuer.consent(await browser.begin())
    world.clock.forward(minutes=10)
    assert_out(browser, await browser.send(f"{CALLBACK}?{query}"))
    assert [] == world.issuer.asked


TOSSED = {
    "two of them": ["{name}={value}; {name}=x"],
    "two alike": ["{name}={value}; {name}={value}"],
    "in two lines": ["{name}={value}", "{name}=x"],
    "in quotes": ['{name}="{value}"'],
    "with a dollar": ['$Version=1; {name}="{value}"'],
    "without a name before it": ["={name}={value}"],
    "another letter case": ["{lower}={value}"],
    "a space before the equals sign": ["{name} ={value}"],
    "in an odd blank": ["\u2000{name}={value}"],
    "behind a comma": ["a=b, {name}={value}"],
    "with more behind": ["{name}={value}x"],
}


async def test_a_cookie_with_two_readings_is_nobodys(world, browser):
    """Cookie tossing: neither of two counts, and no other spelling does."""
    await browser.sign_in()
    value = browser.cookies[STAFF_COOKIE]
    let_in = []
    for name, lines in TOSSED.items():
        sent = [line.format(name=STAFF_COOKIE, lower=STAFF_COOKIE.lower(), value=value) for line in lines]
        page = await browser.send(cookies=[line.encode("utf-8").decode("latin-1") for line in sent])
        let_in += [name] if "Dana Doe" in page.text else []
    assert [] == let_in
    twice = await browser.send(cookies=[f"{STAFF_COOKIE}={value}; {STAFF_COOKIE}=x"])
    assert (403, True) == (twice.status, "a cookie of ours is there twice" in twice.text)
    assert "Dana Doe" in (await browser.send(cookies=[f"a=b; {STAFF_COOKIE}={value}; c=d"])).text


async def test_an_attempts_cookie_that_is_there_twice_is_refused(world, browser):
    """Whoever tosses one in beside ours gets both refused."""
    query = world.issuer.consent(await browser.begin())
    value = browser.cookies[ATTEMPT_COOKIE]
    cookies = [f"{ATTEMPT_COOKIE}={value}; {ATTEMPT_COOKIE}=x"]
    assert_out(browser, await browser.send(f"{CALLBACK}?{query}", cookies=cookies))


ODD_ANSWERS = {
    "nothing": "",
    "no state": "code=x",
    "neither code nor error": "state={state}",
    "code and error": "code=x&error=y&state={state}",
    "two states": "code=x&state={state}&state={state}",
    "two codes": "code=x&code=y&state={state}",
    "two names": "code=x&state={state}&iss=a&iss=a",
    "an empty code": "code=&state={state}",
    "half an escape": "code=%f&state={state}",
    "no text": "code=%ff&state={state}",
    "a line break in the code": "code=a%0d%0ab&state={state}",
    "a token in the address": "id_token=x&state={state}",
    "far too long": "code=" + "x" * 9000 + "&state={state}",
}


async def test_an_answer_that_cannot_be_read_in_one_way_is_refused(world, browser):
    """The provider is asked nothing."""
    state = dict(parse_qsl(urlsplit(await browser.begin()).query))["state"]
    replies = {name: await browser.send(f"{CALLBACK}?{q.format(state=state)}") for name, q in ODD_ANSWERS.items()}
    assert dict.fromkeys(ODD_ANSWERS, 400) == {name: reply.status for name, reply in replies.items()}
    assert {ATTEMPT_COOKIE} == set(browser.cookies)
    assert [] == world.issuer.asked


ERRORS = {
    "access_denied": "did not let you sign in",
    "login_required": "not signed in at the identity provider",
    "temporarily_unavailable": "Try again in a moment",
    "invalid_scope": "Ask whoever operates it",
    "unmet_authentication_requirements": "second factor",
    "x_new": "answered with an error",
}


async def test_an_error_of_the_provider_says_what_to_do(world, browser):
    """In our words: what it describes comes through the browser, so it is shown to nobody."""
    for error, said in ERRORS.items():
        state = dict(parse_qsl(urlsplit(await browser.begin()).query))["state"]
        described = {"error": error, "error_description": "<b>call 555", "state": state, "iss": world.issuer.issuer}
        reply = await browser.send(f"{CALLBACK}?{urlencode(described)}")
        assert_out(browser, reply)
        assert said in reply.text
        assert "555" not in reply.text
        assert {} == browser.cookies


async def test_only_a_person_begins_a_sign_in(world, browser):
    """A page of another site gets them as far as the button; one of ours, or the address bar, begins it."""
    for site in ("cross-site", "same-site"):
        reply = await browser.send("/.locum/sign-in?return=/.locum/session", headers=[("Sec-Fetch-Site", site)])
        assert (303, "/.locum/?return=/.locum/session") == (reply.status, reply.location)
        assert {} == browser.cookies
    for site in ("none", "same-origin"):
        reply = await browser.send("/.locum/sign-in", headers=[("Sec-Fetch-Site", site)])
        assert reply.location.startswith(world.issuer.issuer)
    page = await browser.send("/.locum/?return=/.locum/session")
    assert 'href="/.locum/sign-in?return=/.locum/session"' in page.text


async def test_a_code_is_taken_by_get_alone(world, browser):
    """A look ahead by HEAD uses nothing up."""
    query = world.issuer.consent(await browser.begin())
    for method in ("HEAD", "POST", "PUT"):
        reply = await browser.send(f"{CALLBACK}?{query}", method=method, headers=[("Content-Length", "0")])
        assert 405 == reply.status
    assert 303 == (await browser.send(f"{CALLBACK}?{query}")).status


async def test_staff_sign_in_at_one_host_only(world, browser):
    """On every other the cookie counts for nothing, and the page says where to go."""
    await browser.sign_in()
    assert "Dana Doe" in (await browser.send(host="ASSUME.vendor.example:443")).text
    for host in (HOST, "assume.vendor.example.evil.example", "assume.vendor.example:8443"):
        page = await browser.send(host=host)
        assert "https://assume.vendor.example/.locum/" in page.text
        assert "Dana Doe" not in page.text
        other = Browser(world, host=host)
        assert (303, "/.locum/") == ((begun := await other.send("/.locum/sign-in")).status, begun.location)
        assert {} == other.cookies
        assert 404 == (await other.send(f"{CALLBACK}?code=x&state=y")).status


async def test_without_the_table_nobody_signs_in(tmp_path):
    """The page says so; nothing else is there, and no cookie counts."""

    def change(document):
        del document["staff"]["sign_in"]

    async with open_sign_in(tmp_path, change=change) as world:
        browser = Browser(world)
        browser.cookies[STAFF_COOKIE] = secrets.token_urlsafe(32)
        page = await browser.send()
        assert (200, True) == (page.status, "[staff.sign_in]" in page.text)
        assert "/.locum/" == (await browser.send("/.locum/sign-in")).location
        assert 404 == (await browser.send(f"{CALLBACK}?code=x&state=y")).status
        assert 404 == (await browser.post("/.locum/sign-out", {"form_token": "x"})).status


async def test_who_may_not_stand_in_is_not_signed_in(world, browser):
    """It says why, and it is on the record."""
    reply = await browser.sign_in("walter", groups=["kitchen"])
    assert_out(browser, reply)
    assert "No rule lets this staff member stand in" in reply.text
    [record] = world.records(kind="staff")
    assert ("deny", "staff_not_allowed", "walter") == (
        record["decision"],
        record["reason"],
        record["actor"]["subject"],
    )


async def test_who_is_locked_out_or_signed_out_is_not_signed_in(world, browser):
    """Whatever the provider says; after a sign-out a newer sign-in counts."""
    await browser.sign_in()
    await world.gateway.store.disable_staff(_actor(world), disabled=True)
    other = Browser(world)
    reply = await other.sign_in()
    assert_out(other, reply)
    assert "locked out" in reply.text
    assert 200 == (await tell(world, logout_token(world, "erin")))[0]
    reply = await other.sign_in("erin")
    assert_out(other, reply)
    assert "sign in again" in reply.text
    assert "/.locum/sign-in?fresh=1" in reply.text
    world.clock.forward(seconds=1)
    assert 303 == (await other.sign_in("erin")).status


async def test_nobody_signs_in_while_the_provider_is_away(world, browser):
    """503 with when to come back, and the page goes on; when it is back, so is the sign-in."""
    for fault in (Fault.UNAVAILABLE, Fault.GARBAGE, Fault.FOREIGN):
        world.issuer.down(fault)
        reply = await browser.send("/.locum/sign-in")
        assert (503, "5") == (reply.status, reply["retry-after"])
        assert {} == browser.cookies
        assert 200 == (await browser.send()).status
        world.clock.forward(seconds=10)
    world.issuer.up()
    assert 303 == (await browser.sign_in()).status


async def test_a_code_that_cannot_be_redeemed_now_signs_nobody_in(world, browser):
    """The provider's fault: 503; the code is the provider's to take again or not."""
    world.issuer.raw_answer = lambda: web.Response(status=500)
    reply = await browser.sign_in()
    assert_out(browser, reply)
    assert 503 == reply.status


async def test_nobody_is_signed_in_while_the_store_is_at_fault(world, browser):
    """Fail closed for staff: 503, and no cookie for a session that is not there."""
    for table in ("one_time_values", "staff_sessions"):
        with closing(sqlite3.connect(world.gateway.config.store_path)) as connection:
            connection.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
            reply = await browser.sign_in()
            assert_out(browser, reply)
            assert 503 == reply.status
            connection.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
    assert 303 == (await browser.sign_in()).status


async def test_the_style_sheet_is_on_every_host(world, browser):
    """With a tag, so that it is sent once; and no other file can be named."""
    for host in ("assume.vendor.example", HOST):
        style = await browser.send("/.locum/static/locum.css", host=host)
        assert (200, "text/css; charset=utf-8") == (style.status, style["content-type"])
        again = await browser.send("/.locum/static/locum.css", headers=[("If-None-Match", style["etag"])])
        assert (304, "") == (again.status, again.text)
    for name in ("../render.py", "%2e%2e/render.py", "..%2frender.py", "locum.css/", "", "base.html"):
        assert 404 == (await browser.send(f"/.locum/static/{name}")).status

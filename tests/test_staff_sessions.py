"""A staff member's browser session: how it ends, who can end it, and that forms come from its own pages."""

import asyncio
import sqlite3
from contextlib import closing
from hashlib import sha256

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.config.load import build
from gateway.staff.issuer import Issuer
from gateway.staff.rules import read_rules
from gateway.staff.sign_in.visitors import Visitors
from gateway.staff.verify import StaffVerifier
from policy.model import ActorId
from tests.gateway_world import ISSUER, document
from tests.provider_world import CLIENT_SECRET, STAFF_COOKIE, Browser, open_sign_in
from tests.sign_out_world import event_token, logout_token, push, tell

NOBODY = "Nobody was signed in here"
NAME = "Dana Doe"


@pytest.fixture
async def world(tmp_path):
    async with open_sign_in(tmp_path) as world:
        yield world


@pytest.fixture
async def browser(world):
    browser = Browser(world)
    await browser.sign_in()
    return browser


async def is_in(browser):
    page = await browser.send()
    assert page.status in (200, 403), page.text
    return NAME in page.text


def digest(browser):
    return sha256(browser.cookies[STAFF_COOKIE].encode()).digest()


def actor(world, subject="dana"):
    return ActorId(issuer=world.issuer.issuer, subject=subject)


# How it ends.


async def test_a_session_that_is_not_used_ends(world, browser):
    """Half an hour after its last use, which is put down at most each minute and a half."""
    for _ in range(4):
        world.clock.forward(seconds=1700)
        assert await is_in(browser)
    world.clock.forward(seconds=1800)
    assert not await is_in(browser)


async def test_a_session_ends_however_it_is_used(world, browser):
    """After eight hours."""
    for _ in range(17):
        world.clock.forward(seconds=1690)
        assert await is_in(browser)
    world.clock.forward(seconds=8 * 3600 - 17 * 1690 - 1)
    assert await is_in(browser)
    world.clock.forward(seconds=1)
    assert not await is_in(browser)


async def test_using_a_session_is_seldom_a_write(world, browser):
    """So pages cost the store a read."""
    before = await world.gateway.store.find_session(digest(browser))
    world.clock.forward(seconds=89)
    assert await is_in(browser)
    assert before == await world.gateway.store.find_session(digest(browser))
    world.clock.forward(seconds=1)
    assert await is_in(browser)
    assert world.clock.now == (await world.gateway.store.find_session(digest(browser))).seen_at


async def test_how_long_is_configuration(tmp_path):
    """Both ends."""
    async with open_sign_in(tmp_path, idle_seconds=10, absolute_seconds=15) as world:
        browser = Browser(world)
        assert "Max-Age=15;" in str((await browser.sign_in()).all("set-cookie"))
        world.clock.forward(seconds=9)
        assert await is_in(browser)
        world.clock.forward(seconds=6)
        assert not await is_in(browser)


async def test_a_sign_out_at_the_provider_ends_it(world, browser):
    """Back-channel logout: every session of that person, in this browser and the others, and nobody else's."""
    second, erin = Browser(world), Browser(world)
    await second.sign_in()
    await erin.sign_in("erin", name="Erin")
    assert (200, None) == ((reply := await tell(world, logout_token(world)))[0], reply[2] or None)
    assert [False, False] == [await is_in(browser), await is_in(second)]
    assert "Erin" in (await erin.send()).text
    world.clock.forward(seconds=1)
    await browser.sign_in()
    assert await is_in(browser)


async def test_a_logout_token_for_the_sign_ins_own_client_counts(tmp_path):
    """Also where the ID tokens that are exchanged are another client's; one for a third client does not."""
    async with open_sign_in(tmp_path, client_id="browser") as world:
        browser = Browser(world)
        await browser.sign_in(audience="browser")
        assert await is_in(browser)
        assert 400 == (await tell(world, logout_token(world, aud="third")))[0]
        assert 400 == (await tell(world, logout_token(world, aud=["browser", "locum"])))[0]
        assert await is_in(browser)
        assert 200 == (await tell(world, logout_token(world, aud="browser")))[0]
        assert not await is_in(browser)


async def test_a_revoked_session_of_the_provider_ends_it(world, browser):
    """CAEP session-revoked."""
    assert 202 == (await push(world, event_token(world)))[0]
    assert not await is_in(browser)


async def test_a_lock_ends_it_and_lifting_that_brings_it_not_back(world, browser):
    """`locum staff lock` writes the same."""
    await world.gateway.store.disable_staff(actor(world), disabled=True)
    assert not await is_in(browser)
    await world.gateway.store.disable_staff(actor(world), disabled=False)
    assert not await is_in(browser)
    assert (await browser.send()).text.count("Sign in</a>")


async def test_a_lock_by_hand_ends_it(world, browser):
    """Whoever writes it, with whatever tool."""
    with closing(sqlite3.connect(world.gateway.config.store_path, isolation_level=None)) as connection:
        connection.execute("UPDATE staff SET disabled = 1")
    assert not await is_in(browser)


async def test_another_sign_in_in_the_same_browser_ends_it(world, browser):
    """The former cookie counts no more, wherever a copy of it is."""
    former = browser.cookies[STAFF_COOKIE]
    await browser.sign_in()
    assert former != browser.cookies[STAFF_COOKIE]
    assert NAME not in (await browser.send(cookies=[f"{STAFF_COOKIE}={former}"])).text
    assert await is_in(browser)


async def reload(world, change):
    """Put another configuration in force."""

    def changed():
        wanted = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
        wanted["staff"]["sign_in"] = {"client_id": "locum", "client_secret": CLIENT_SECRET}
        change(wanted["staff"])
        return wanted

    await world.gateway.renew(build(changed(), {}, base=world.directory))


async def test_who_falls_out_of_the_rules_is_out_at_the_next_request(world, browser):
    """The session is judged by the rules of now; when the rule is back, so are they."""
    await reload(world, lambda staff: staff["rules"].__setitem__(0, {"group": "other", "permissions": ["read"]}))
    page = await browser.send()
    assert (403, False) == (page.status, NAME in page.text)
    assert "staff_not_allowed" in page.text
    await reload(world, lambda _staff: None)
    assert await is_in(browser)


async def test_a_sign_in_that_has_become_too_old_or_weak_is_made_anew(world, browser):
    """By the rules of now; the button asks the provider for a fresh one."""
    world.clock.forward(seconds=60)
    await reload(world, lambda staff: staff.update(max_age_seconds=59))
    page = await browser.send()
    assert (403, False) == (page.status, NAME in page.text)
    assert 'href="/.locum/sign-in?fresh=1"' in page.text
    location = (await browser.send("/.locum/sign-in?fresh=1")).location
    assert "prompt=login" in location
    assert "max_age=59" in location
    await reload(world, lambda staff: staff.update(require_amr=["face"]))
    assert not await is_in(browser)


async def test_switching_the_sign_in_off_ends_every_session(world, browser):
    """A reload without the table: no cookie counts; with it again, the session goes on if its time is not over."""
    await reload(world, lambda staff: staff.pop("sign_in"))
    assert NAME not in (await browser.send()).text
    await reload(world, lambda _staff: None)
    assert await is_in(browser)


async def test_a_session_of_another_provider_counts_no_more(world, browser):
    """Once another one is configured."""
    await reload(world, lambda staff: staff.update(issuer="https://other.example"))
    assert not await is_in(browser)


async def test_while_the_store_is_at_fault_nobody_is_signed_in(world, browser):
    """503, and the cookie stays for when it is mended."""
    with closing(sqlite3.connect(world.gateway.config.store_path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE staff_sessions RENAME TO elsewhere")
        page = await browser.send()
        assert (503, False) == (page.status, NAME in page.text)
        out = await browser.post("/.locum/sign-out", {"form_token": "x"})
        assert out.status in (403, 503)
        connection.execute("ALTER TABLE elsewhere RENAME TO staff_sessions")
    assert await is_in(browser)


async def test_a_session_counts_at_the_staff_origin_alone(world, browser):
    """Whoever asks for it: on an account's host, or on two hosts at once, nobody is signed in."""
    config = world.gateway.config
    issuer = Issuer(config.staff.issuer, http=world.http, ticks=world.clock.ticks)
    rules, store = read_rules(config), world.gateway.store
    staff = StaffVerifier(issuer, config.staff, rules, world.clock.utc, store=store, forget=lambda _actor: None)
    visitors = Visitors(config, store, staff, world.clock.utc)
    cookie = f"{STAFF_COOKIE}={browser.cookies[STAFF_COOKIE]}"

    async def who(*hosts):
        headers = CIMultiDict([("Cookie", cookie), *(("Host", host) for host in hosts)])
        return await visitors.who(make_mocked_request("GET", "/.locum/", headers=headers))

    assert "dana" == (await who("assume.vendor.example")).signed_in.staff.id.subject
    elsewhere = [(), ("acme.helpdesk.example",), ("assume.vendor.example", "assume.vendor.example")]
    assert [None] * 3 == [await who(*hosts) for hosts in elsewhere]


# Signing out, and forms.


async def test_signing_out_ends_the_session_and_what_was_begun(world, browser):
    """On the server, not in the browser alone: a copy of the cookie is worth nothing; assumptions end and say so."""
    await world.choose()
    token = await world.token()
    assert 200 == (await world.get(token))[0]
    copy = browser.cookies[STAFF_COOKIE]
    assert 200 == (await browser.sign_out()).status
    assert NAME not in (await browser.send(cookies=[f"{STAFF_COOKIE}={copy}"])).text
    assert 403 == (await world.get(token))[0]
    [ended] = world.records(kind="assumption", reason="ended")
    assert ("dana", "maria") == (ended["by"], ended["subject"])
    # By SSO they are back without a second factor: it was not the provider that ended anything.
    assert 303 == (await browser.sign_in()).status


async def test_signing_out_twice_does_no_harm(world, browser):
    """Nobody is there any more, and the page says no more than that."""
    copy = dict(browser.cookies)
    token = (await browser.send()).form_token
    out = await browser.sign_out()
    assert (200, True) == (out.status, "has ended" in out.text)
    browser.cookies = copy
    again = await browser.post("/.locum/sign-out", {"form_token": token})
    assert (200, True, False) == (again.status, NOBODY in again.text, "has ended" in again.text)
    assert {} == browser.cookies
    last = await browser.post("/.locum/sign-out", {"form_token": "x"})
    assert (200, True, []) == (last.status, NOBODY in last.text, last.all("set-cookie"))
    assert 1 == len(world.records(reason="signed_out"))


async def test_another_sites_form_takes_no_cookie_away(world, browser):
    """A browser sends none of ours with it, and so it looks like that of somebody who is not signed in."""
    reply = await browser.post("/.locum/sign-out", {}, origin="https://evil.example", site="cross-site")
    assert (403, [], False) == (reply.status, reply.all("set-cookie"), "has ended" in reply.text)
    assert await is_in(browser)
    assert [] == world.records(reason="signed_out")


async def test_who_signs_in_at_anothers_browser_signs_that_one_out(world, browser):
    """On the record, with what they had begun; one's own next sign-in ends nothing."""
    await world.choose()
    token = await world.token()
    await browser.sign_in()
    assert 200 == (await world.get(token))[0]
    assert [] == world.records(reason="signed_out")
    await browser.sign_in("erin")
    assert 403 == (await world.get(token))[0]
    [out] = world.records(reason="signed_out")
    [ended] = world.records(kind="assumption", reason="ended")
    assert ("dana", "erin") == (out["actor"]["subject"], out["by"])
    assert ("maria", "erin") == (ended["subject"], ended["by"])


FORGED = {
    "from another site": {"origin": "https://evil.example", "site": "cross-site"},
    "from a sandbox": {"origin": "null"},
    "from nowhere": {"origin": None},
    "from an account's host": {"origin": "https://acme.helpdesk.example", "site": "same-site"},
    "from our host in the clear": {"origin": "http://assume.vendor.example"},
    "from our host at another port": {"origin": f"{ISSUER}:8443"},
    "from our host as a part of another": {"origin": f"{ISSUER}.evil.example"},
    "with two origins": {"more": [("Origin", ISSUER)]},
    "with two origins in one line": {"origin": f"{ISSUER} {ISSUER}"},
    "of another site by its own word": {"site": "cross-site"},
    "of the same site only": {"site": "same-site"},
    "of a link": {"site": "none"},
}


async def test_a_form_from_elsewhere_changes_nothing(world, browser):
    """CSRF: with the right form token even; `Origin` and `Sec-Fetch-Site` each stand against it."""
    token = (await browser.send()).form_token
    replies = {
        name: await browser.post("/.locum/sign-out", {"form_token": token}, **forged) for name, forged in FORGED.items()
    }
    assert dict.fromkeys(FORGED, 403) == {name: reply.status for name, reply in replies.items()}
    assert await is_in(browser)
    assert 200 == (await browser.post("/.locum/sign-out", {"form_token": token}, site=None)).status


async def test_a_form_without_the_sessions_own_token_changes_nothing(world, browser):
    """CSRF: from a page of ours even; another session's token, the cookie itself and two tokens are none."""
    other = Browser(world)
    await other.sign_in("erin")
    mine, theirs = (await browser.send()).form_token, (await other.send()).form_token
    await other.sign_out()
    assert mine not in (theirs, browser.cookies[STAFF_COOKIE])
    forms = [
        {},
        {"form_token": ""},
        {"form_token": theirs},
        {"form_token": browser.cookies[STAFF_COOKIE]},
        {"form_token": mine[:-1]},
        {"form_token": "é" * 43},
        {"Form_Token": mine},
        [("form_token", mine), ("form_token", mine)],
    ]
    assert [403] * len(forms) == [(await browser.post("/.locum/sign-out", form)).status for form in forms]
    assert await is_in(browser)


async def test_nothing_changes_by_a_link_or_another_kind_of_body(world, browser):
    """GET, a token in the address, JSON as text."""
    token = (await browser.send()).form_token
    assert 405 == (await browser.send("/.locum/sign-out")).status
    assert 400 == (await browser.post(f"/.locum/sign-out?form_token={token}", {"form_token": token})).status
    plain = [("Content-Type", "text/plain"), ("Origin", ISSUER)]
    body = f"form_token={token}".encode()
    assert 400 == (await browser.send("/.locum/sign-out", method="POST", headers=plain, body=body)).status
    assert await is_in(browser)


async def test_a_form_token_stays_for_the_session_and_no_longer(world, browser):
    """Two pages of one session have the same, so that one in another tab goes on working; a new session has another."""
    first, again = (await browser.send()).form_token, (await browser.send()).form_token
    await browser.sign_in()
    assert first == again != (await browser.send()).form_token


async def test_many_requests_of_one_session_at_once_are_all_let_in(world, browser):
    """Also when its use is put down just then."""
    world.clock.forward(seconds=120)
    assert [True] * 20 == await asyncio.gather(*(is_in(browser) for _ in range(20)))

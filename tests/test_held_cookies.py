"""The app's own cookies of an assumption: the app gets them, the browser never does, and nothing outlives the end."""

import asyncio
import sqlite3
import tomllib
from hashlib import sha256
from importlib import resources

import pytest

from gateway.stores.store import StoreError
from gateway.stores.tidying import keep_tidy
from policy.routes import ProfileError, read_profile
from tests.browser_world import EVERYTHING, HOST, ORIGIN, PAGE, Browser, open_browser

WRITES = ("tickets:read", "tickets:write")


def simple(status=200, lines=(), body=b"ok"):
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (status, len(body))
    return head + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n" + body


def setting(*lines):
    return lambda _request: simple(lines=[(b"Set-Cookie", line) for line in lines])


def csrf(request):
    if request.method == b"GET":
        return simple(
            lines=[(b"Set-Cookie", b"csrftoken=abc; Path=/"), (b"Set-Cookie", b"session=s1; Path=/; HttpOnly")]
        )
    return simple(200 if b"csrftoken=abc" in b"".join(request.values(b"cookie")) else 403)


def jar_of(world):
    with sqlite3.connect(world.directory / "locum.sqlite3") as database:
        found = database.execute("SELECT jar FROM browser_assumptions").fetchall()
    database.close()
    return [text for [text] in found]


async def test_the_apps_protection_against_forgery_works_and_the_browser_gets_no_cookie(tmp_path):
    """A form page sets the token's cookie, the form is taken; another worker's answers count as well."""
    async with open_browser(tmp_path, script=csrf, scopes=WRITES) as browser:
        page = await browser.ask()
        assert (200, []) == (page.status, page.set_cookies)
        assert (200, []) == ((await browser.write()).status, (await browser.write()).set_cookies)
        seen = browser.world.upstream.requests[-1]
        assert [b"csrftoken=abc; session=s1"] == seen.values(b"cookie")


async def test_what_the_browser_has_itself_stays_there(tmp_path):
    """Its own cookies of that host are of other sessions, so none goes with an assumption, of whatever name."""
    async with open_browser(tmp_path, script=csrf, scopes=WRITES) as browser:
        browser.cookies = "csrftoken=mine; session=mine; a=b"
        await browser.ask()
        assert 200 == (await browser.write()).status
        assert [b"csrftoken=abc; session=s1"] == browser.world.upstream.requests[-1].values(b"cookie")
        assert b"mine" not in b"".join(one.received for one in browser.world.upstream.connections)


async def test_two_assumptions_have_two_jars(tmp_path):
    """What the app sets for one agent never goes with another's request, nor with an ordinary one or a token's."""
    async with open_browser(tmp_path, script=csrf, scopes=WRITES) as browser:
        await browser.ask()
        other = Browser(browser.world)
        await other.sign_in("dana")
        await other.stand_in(agent="jo", scopes=WRITES)
        assert 403 == (await other.write()).status
        token = await browser.world.token("tickets:read tickets:write")
        await browser.world.get(token, "/tickets/1")
        await Browser(browser.world).ask()
        for seen in browser.world.upstream.requests[-3:]:
            assert [] == seen.values(b"cookie")


@pytest.mark.parametrize("end", ["by staff", "by the store"])
async def test_nothing_outlives_the_assumption(tmp_path, end):
    """When it has ended its jar is empty in the store, and what an answer that was under way sets is dropped."""
    gate = asyncio.Event()

    async def late(connection):
        await gate.wait()
        await connection.send(simple(lines=[(b"Set-Cookie", b"late=1; Path=/")]))

    answers = [setting(b"early=1; Path=/")(None), late]
    async with open_browser(tmp_path, script=answers) as browser:
        await browser.ask()
        assert ["[]"] != jar_of(browser.world)
        hanging = asyncio.ensure_future(browser.ask())
        await browser.world.upstream.until(lambda: len(browser.world.upstream.requests) == 2)
        if end == "by staff":
            done = await browser.post("/.locum/session/end")
            assert 200 == done.status
        else:
            [held] = browser.world.records(kind="token", decision="allow")
            await browser.world.gateway.store.end_assumption(held["assumption"], at=browser.world.clock.now)
        gate.set()
        await hanging
        assert ["[]"] == jar_of(browser.world)


async def test_answers_at_the_same_time_lose_none_of_each_others(tmp_path):
    """A page and its many parts."""
    names = iter(range(100))
    script = lambda _request: simple(lines=[(b"Set-Cookie", b"n%d=1; Path=/" % next(names))])  # noqa: E731
    async with open_browser(tmp_path, script=script) as browser:
        await asyncio.gather(*(browser.ask() for _ in range(6)))
        await browser.ask()
        [line] = browser.world.upstream.requests[-1].values(b"cookie")
        assert {b"n%d=1" % n for n in range(6)} == set(line.split(b"; "))


async def test_what_an_interim_answer_sets_is_nobodys(tmp_path):
    """103 goes to the browser without its cookie, which was not the final answer's."""
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nSet-Cookie: early=1; Path=/\r\n\r\n" + simple()
    async with open_browser(tmp_path, script=lambda _request: raw) as browser:
        answer = await browser.world.raw(
            f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\nCookie: __Host-locum-assumption={browser.held}\r\nConnection: close\r\n\r\n".encode()
        )
        assert b"early" not in answer
        assert b"103 Early Hints" in answer


async def test_without_the_jar_nothing_goes_on(tmp_path):
    """A store that cannot give it keeps staff out, with what is at hand of everything else; customers do not notice."""
    async with open_browser(tmp_path, script=csrf) as browser:
        assert 200 == (await browser.ask()).status
        store = browser.world.gateway.store

        async def fails(_digest):
            raise StoreError("gone")

        store.find_jar, kept = fails, store.find_jar
        try:
            refused = await browser.ask()
        finally:
            store.find_jar = kept
        assert (503, "1") == (refused.status, refused.headers["retry-after"])
        assert "store_unavailable" == browser.world.records(kind="decision")[-1]["reason"]
        assert 200 == (await Browser(browser.world).ask()).status


async def test_a_jar_that_cannot_be_read_keeps_staff_out(tmp_path):
    """Somebody has written into it."""
    async with open_browser(tmp_path, script=csrf) as browser:
        with sqlite3.connect(browser.world.directory / "locum.sqlite3") as database:
            database.execute("UPDATE browser_assumptions SET jar = 'x'")
        database.close()
        assert 503 == (await browser.ask()).status
        assert [] == browser.world.upstream.requests


async def test_the_store_alone_reveals_none_of_it(tmp_path):
    """Neither the database's bytes nor the memory of the process that wrote them back as text."""
    async with open_browser(tmp_path, script=setting(b"app=MARIAS-SECRET; Path=/")) as browser:
        await browser.ask()
        await browser.ask()
        assert [b"app=MARIAS-SECRET"] == browser.world.upstream.requests[-1].values(b"cookie")
        [sealed] = jar_of(browser.world)
        assert sealed != "[]"
        files = [path.read_bytes() for path in browser.world.directory.glob("locum.sqlite3*") if path.is_file()]
        assert files
        assert not any(b"MARIAS-SECRET" in raw or browser.held.encode() in raw for raw in files)


@pytest.mark.parametrize("how", ["another's", "a bit changed", "cut", "of older days"])
async def test_a_jar_counts_for_its_own_row_alone(tmp_path, how):
    """Whoever writes to the database puts no cookie of one assumption, or of their own, into another's requests."""
    async with open_browser(tmp_path, script=setting(b"a=1; Path=/")) as browser:
        other = Browser(browser.world)
        await other.sign_in("erin")
        await other.stand_in(agent="jo")
        await other.ask()
        await browser.ask()
        asked = len(browser.world.upstream.requests)
        mine, its = (sha256(one.held.encode()).digest() for one in (browser, other))
        with sqlite3.connect(browser.world.directory / "locum.sqlite3") as database:
            [text] = database.execute("SELECT jar FROM browser_assumptions WHERE digest = ?", (its,)).fetchone()
            [own] = database.execute("SELECT jar FROM browser_assumptions WHERE digest = ?", (mine,)).fetchone()
            put = {
                "another's": text,
                "a bit changed": own[:30] + ("A" if own[30] != "A" else "B") + own[31:],
                "cut": own[:8],
                "of older days": '[["a","1","/",null]]',
            }[how]
            database.execute("UPDATE browser_assumptions SET jar = ? WHERE digest = ?", (put, mine))
        database.close()
        assert (503, 200) == ((await browser.ask()).status, (await other.ask()).status)
        assert asked + 1 == len(browser.world.upstream.requests)


async def test_it_ends_with_the_customers_no(tmp_path):
    """What the app left with a browser is gone from the store when the no is there, whoever comes back or not."""
    async with open_browser(tmp_path, script=setting(b"app=1; Path=/")) as browser:
        await browser.ask()
        assert ["[]"] != jar_of(browser.world)
        await browser.world.choose("off")
        assert ["[]"] == jar_of(browser.world)


async def test_it_is_tidied_without_anybodys_coming(tmp_path):
    """Each few minutes; a store that fails is asked again the next time."""
    asked = asyncio.Event()

    class Failing:
        """Counts."""

        calls = 0

        async def tidy_browsers(self, *, at):
            self.calls += 1
            if self.calls == 1:
                raise StoreError("gone")
            await browser.world.gateway.store.tidy_browsers(at=at)

        async def tidy_grant_requests(self, *, at):
            await browser.world.gateway.store.tidy_grant_requests(at=at)
            asked.set()

    async with open_browser(tmp_path, script=setting(b"app=1; Path=/")) as browser:
        await browser.ask()
        browser.world.clock.forward(hours=13)
        assert ["[]"] != jar_of(browser.world)
        tidying = asyncio.ensure_future(keep_tidy(Failing(), lambda: browser.world.clock.now, pause_seconds=0.001))
        await asyncio.wait_for(asked.wait(), 5)
        tidying.cancel()
        assert ["[]"] == jar_of(browser.world)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "tidy what browsers held" in names


async def test_the_end_is_recorded_stored_and_said(tmp_path):
    """By the button of the page, from a page of that host alone; the cookie goes, and counts nowhere any more."""
    async with open_browser(tmp_path) as browser:
        assert "maria" in (await browser.session(accept=PAGE)).text
        for origin, site in (
            ("https://evil.example", "cross-site"),
            (None, None),
            ("null", None),
            (ORIGIN, "same-site"),
        ):
            refused = await browser.post("/.locum/session/end", origin=origin, site=site)
            assert (403, []) == (refused.status, refused.set_cookies)
        assert 405 == (await browser.ask("/.locum/session/end")).status
        assert b'"active":true' in (await browser.session()).body
        done = await browser.post("/.locum/session/end", (), f"Accept: {PAGE}")
        assert (200, 1) == (done.status, len(done.set_cookies))
        assert "Standing in for nobody" in done.text
        [record] = browser.world.records(kind="assumption", reason="ended")
        assert ("dana", "browser", "SUP-1") == (record["by"], record["client_id"], record["ticket"])
        assert b'{"active":false}' == (await browser.session()).body
        assert 403 == (await browser.ask()).status
        assert 200 == (await browser.post("/.locum/session/end")).status
        assert 1 == len(browser.world.records(kind="assumption", reason="ended"))


async def test_a_session_is_told_to_whoever_holds_it_and_at_its_host(tmp_path):
    """Nobody else learns anything, not even that there is one."""
    async with open_browser(tmp_path) as browser:
        await browser.world.add_account("other")
        await browser.world.choose("week", EVERYTHING, account="other")
        assert b'{"active":false}' == (await browser.session(host="other.helpdesk.example")).body
        assert b'{"active":false}' == (await Browser(browser.world).session()).body
        mine = browser.held
        browser.held = f"{mine}; __Host-locum-assumption={mine}"
        doubtful = await browser.session()
        assert (400, b'{"reason":"ambiguous_header"}', []) == (doubtful.status, doubtful.body, doubtful.set_cookies)
        browser.held = mine
        digest = sha256(mine.encode()).digest()
        assert await browser.world.gateway.store.find_browser(digest)
        await browser.world.choose("off")
        assert b'{"active":false}' == (await browser.session()).body
        page = await browser.session(accept=PAGE)
        assert ("ended the assumption" in page.text, 1) == (True, len(page.set_cookies))


SHOWN = 'script_cookies = ["XSRF-TOKEN"]\n'


def spa(request):
    """Answers as apps do whose scripts send a cookie back in a header."""
    if request.method == b"GET":
        lines = [b"XSRF-TOKEN=t1; Path=/tickets; Secure; Max-Age=99999999", b"session=s1; HttpOnly", b"xsrf-token=no"]
        return simple(lines=[(b"Set-Cookie", line) for line in lines])
    proved = request.values(b"x-xsrf-token") == [b"t1"] and b"XSRF-TOKEN=t1" in b"".join(request.values(b"cookie"))
    return simple(200 if proved else 403)


async def test_what_the_apps_scripts_have_to_read_is_shown_to_them_and_counts_nowhere(tmp_path):
    """No longer than the assumption; what the browser sends of it is not believed; at the end it is taken away."""

    def change(_document):
        path = tmp_path / "demo-helpdesk.toml"
        path.write_text(path.read_text().replace("\n[scopes]", f"\n{SHOWN}\n[scopes]", 1))

    async with open_browser(tmp_path, script=spa, scopes=WRITES, change=change) as browser:
        page = await browser.ask()
        assert ["XSRF-TOKEN=t1; Max-Age=28800; Path=/; SameSite=Lax; Secure"] == page.set_cookies
        browser.cookies = "XSRF-TOKEN=forged"
        assert (200, 403) == ((await browser.write("X-XSRF-TOKEN: t1")).status, (await browser.write()).status)
        for seen in browser.world.upstream.requests:
            assert b"forged" not in b"".join(seen.values(b"cookie"))
        done = await browser.post("/.locum/session/end")
        names = [line.partition("=")[0] for line in done.set_cookies if "Max-Age=0;" in line]
        assert ["__Host-locum-assumption", "XSRF-TOKEN"] == names


@pytest.mark.parametrize(
    "text", ['["__Host-locum-assumption"]', '["__host-a"]', '["a b"]', '[""]', '["session"]', '"a"', "[1]"]
)
def test_a_profile_that_shows_what_must_not_be_seen_is_refused(text):
    """A name of ours, what is no name, and what is withheld."""
    document = tomllib.loads(resources.files("policy").joinpath("profiles", "demo-helpdesk.toml").read_text())
    with pytest.raises(ProfileError, match="script_cookies"):
        read_profile(document | tomllib.loads(f"script_cookies = {text}"))

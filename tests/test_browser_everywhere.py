"""A browser's assumption before two workers and two nodes: one code, one jar, one end."""

import asyncio
from contextlib import asynccontextmanager

from gateway.app import open_gateway
from gateway.config.load import build
from gateway.state import Post
from gateway.stores.sqlite import open_sqlite
from tests.browser_world import ASSUMPTION, EVERYTHING, Browser, code_of, open_browser, signing_in, value_of
from tests.gateway_world import HOST, document
from tests.patience import PATIENCE_SECONDS, within
from tests.process_world import open_process_world
from tests.test_held_cookies import csrf, jar_of
from tests.test_workers import AT_ONCE, BOTH, lines_to_both
from tests.upstream_client import eventually

SIGN_IN = '[staff.sign_in]\nclient_id = "locum"\n'
WRITES = ("tickets:read", "tickets:write")


@asynccontextmanager
async def two_workers(tmp_path):
    """Yield a browser that is signed in, before two workers."""
    async with open_process_world(tmp_path, script=csrf) as world, world.running(workers=2, more=SIGN_IN):
        assert 200 == (await world.choose("week", EVERYTHING))[0]
        world.gateway.store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
        try:
            browser = Browser(world)
            await browser.sign_in()
            yield browser
        finally:
            await world.gateway.store.close()


async def by(line, browser, *, method="GET", target="/tickets/1"):
    """Send one request on an open connection, and return its status."""
    head = [
        f"{method} {target} HTTP/1.1",
        f"Host: {HOST}",
        f"Cookie: {ASSUMPTION}={browser.held}",
        f"Origin: https://{HOST}",
    ]
    head += ["Content-Length: 0"] if method == "POST" else []
    line.writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    status, headers = await line.head()
    await line.reader.readexactly(int(headers["content-length"]))
    return status


async def test_two_workers_are_one_to_a_browser(tmp_path):
    """Of two hundred who bring a code one enters; what the app sets through one is sent by the other; the end is both's."""
    async with two_workers(tmp_path) as browser:
        world = browser.world
        code = code_of(await browser.begin(scopes=WRITES))
        answers = await asyncio.gather(*(browser.enter(code) for _ in range(200)))
        [entered] = [answer for answer in answers if answer.status == 303]
        browser.held = value_of(entered)
        token = await world.token()
        async with lines_to_both(world, token) as lines:
            assert BOTH == lines.keys()
            first, second = lines.values()
            heard = len(world.upstream.requests)
            assert 200 == await by(first, browser)
            assert 200 == await by(second, browser, method="POST", target="/tickets/1/reply")
            assert [b"csrftoken=abc; session=s1"] == world.upstream.requests[heard + 1].values(b"cookie")
            assert 200 == (await browser.post("/.locum/session/end")).status
        # A new connection may be either worker's; one that is open when the end comes is cut without an answer.
        async with within(AT_ONCE):
            statuses = {200}
            while statuses != {403}:
                statuses = {(await browser.ask()).status for _ in range(8)}
        assert {403} == {(await browser.ask()).status for _ in range(8)}
        world.directory = tmp_path / "data"
        assert ["[]"] == jar_of(world)


async def test_another_node_knows_the_cookie_and_hears_of_its_end(tmp_path):
    """Begun at one, used at the other, ended at the first: the other refuses within the push."""
    async with open_browser(tmp_path, scopes=WRITES, script=csrf) as browser:
        world = browser.world
        wanted = document(tmp_path, upstream=world.upstream.url, issuer=world.issuer.issuer)
        signing_in(wanted)
        config = build(wanted, {}, base=tmp_path)
        async with open_gateway(
            config,
            clock=world.clock.utc,
            ticks=world.clock.ticks,
            post=Post(origin="second"),
            patience_seconds=PATIENCE_SECONDS,
        ) as other:
            port = int(other.public_url.rpartition(":")[2])
            await world.note_sent(f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert 200 == (await browser.ask(port=port)).status
            home = await browser.ask("/.locum/session", "Accept: application/json", port=port)
            assert b'"active":true' in home.body
            assert 200 == (await browser.post("/.locum/session/end")).status
            position = (await world.gateway.store.read_changes(0)).position
            await eventually(lambda: other.follower.position >= position)
            refused = await browser.ask(port=port)
            assert (403, b"assumption_ended") == (
                refused.status,
                refused.body[refused.body.find(b"assumption_ended") :][:16],
            )

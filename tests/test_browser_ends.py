"""Whatever ends an assumption ends it for the browser that holds it: what is open now, and its next request for ever."""

import asyncio
import contextlib
import re

import pytest

from gateway.stores.sqlite import open_sqlite
from policy.model import AccountType
from tests.browser_world import ASSUMPTION, ISSUER, ORIGIN, STAFF_HOST, Browser, signing_in
from tests.gateway_world import HOST, open_world
from tests.patience import within
from tests.test_every_end import AT_ONCE_SECONDS, ENDS, KINDS, RULES, App, Open, all_cut, converted
from tests.test_websockets import handshake
from tests.upstream_client import eventually

WRITES = ("tickets:read", "tickets:write")


async def begin(browser, app, kind):
    """Open one exchange by cookie, and wait until it is really under way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.world.port)
    mine = f"Cookie: {ASSUMPTION}={browser.held}\r\nOrigin: {ORIGIN}\r\n"
    if kind == "socket":
        raw = handshake(None, *mine.encode().split(b"\r\n")[:-1], target=b"/socket")
    else:
        method, more = ("PUT", "Content-Length: 1000\r\n") if kind == "upload" else ("GET", "")
        raw = f"{method} /open/{kind} HTTP/1.1\r\nHost: {HOST}\r\n{mine}{more}\r\n".encode() + (
            b"half" if more else b""
        )
    writer.write(raw)
    one = Open(kind, reader, writer)
    if kind in ("poll", "upload"):
        await eventually(lambda: app.heard.get(kind) == (b"half" if kind == "upload" else b""))
    else:
        await eventually(lambda: b"\r\n\r\n" in one.got and not one.got.endswith(b"\r\n\r\n"))
    return one


@contextlib.asynccontextmanager
async def everything_open(tmp_path, *, account=AccountType.PAID):
    """Yield a browser that stands in, the app, and one exchange of each kind."""
    app = App()
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0)

    def change(document):
        signing_in(document)
        document["upstream"]["url"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        document["grants"] = {"trial_permissions": ["read", "write"]}
        path = tmp_path / "demo-helpdesk.toml"
        path.write_text(path.read_text() + RULES)

    async with open_world(tmp_path, change=change, account=None) as world:
        await world.add_account(kind=account)
        if account is AccountType.PAID:
            await world.choose("week", ["read", "write"])
        browser = Browser(world)
        await browser.stand_in(scopes=WRITES)
        opened = [await begin(browser, app, kind) for kind in KINDS]
        try:
            yield browser, app, opened
        finally:
            for one in opened:
                one.writer.transport.abort()
                await one.over
            server.close()


async def dead(browser):
    """The cookie counts nowhere any more."""
    for _ in range(2):
        assert 403 == (await browser.ask("/open/download")).status
    assert b'{"active":false}' == (await browser.session()).body


@pytest.mark.parametrize("reason", sorted(set(ENDS) - {"kill_switch"}))
async def test_whatever_ends_it_ends_it_for_the_browser(tmp_path, reason):
    """A WebSocket, an event stream, a long poll, a download and an upload; told by the store of another process."""
    async with everything_open(tmp_path) as (browser, app, opened):
        store = await open_sqlite(browser.world.directory / "locum.sqlite3")
        try:
            await ENDS[reason](browser.world, store)
            await all_cut(browser.world, app, opened, reason)
            await dead(browser)
        finally:
            await store.close()


async def test_the_kill_switch_stops_it_and_takes_nothing_away(tmp_path):
    """What is open is cut; with the switch off again the assumption goes on, as it does for a token."""
    async with everything_open(tmp_path) as (browser, app, opened):
        store = await open_sqlite(browser.world.directory / "locum.sqlite3")
        try:
            await ENDS["kill_switch"](browser.world, store)
            await all_cut(browser.world, app, opened, "kill_switch")
            refused = await browser.ask("/open/download", "Accept: text/html", "Sec-Fetch-Mode: navigate")
            assert (403, []) == (refused.status, refused.set_cookies)
        finally:
            await store.close()


async def test_a_conversion_ends_a_trials(tmp_path):
    """The grant that a trial has without anybody's having given it."""
    async with everything_open(tmp_path, account=AccountType.TRIAL) as (browser, app, opened):
        await converted(browser.world, browser.world.gateway.store)
        await all_cut(browser.world, app, opened, "grant_revoked")
        await dead(browser)


@pytest.mark.parametrize("end", ["the button", "a sign-out", "the next one"])
async def test_staff_end_it_themselves(tmp_path, end):
    """By the button at the account's host, by signing out at the staff origin, and by entering there again."""
    async with everything_open(tmp_path) as (browser, app, opened):
        if end == "the button":
            assert 200 == (await browser.post("/.locum/session/end")).status
        elif end == "a sign-out":
            token = re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]
            assert (
                200
                == (
                    await browser.post("/.locum/sign-out", [("form_token", token)], host=STAFF_HOST, origin=ISSUER)
                ).status
            )
        else:
            held = browser.held
            await browser.stand_in(scopes=WRITES)
            browser.held = held
        async with within(AT_ONCE_SECONDS):
            await asyncio.gather(*(one.over for one in opened), *(app.ended[one.kind].wait() for one in opened))
        await eventually(
            lambda: len(browser.world.records(kind="completion", reason="assumption_ended")) == len(opened)
        )
        await dead(browser)

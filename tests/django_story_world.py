"""The whole way of the main job: a browser, a gateway with its configuration file, and a running django-helpdesk."""

import asyncio
import os
import socket
import sqlite3
import sys
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager

import aiohttp
import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.clients import digest_of, new_secret
from gateway.clock import boot_seconds, utc_now
from gateway.config.load import load
from gateway.demo.django_helpdesk.runner import DjangoHelpdesk, HelpdeskNotInstalledError
from gateway.demo.issuer import DemoIssuer
from gateway.stores.store import Client
from policy.model import ClientId
from tests.gateway_world import AUDIENCE, World
from tests.patience import PATIENCE_SECONDS

HOST = "acme.helpdesk.localhost"
CONFIG = """
[server]
issuer = "http://127.0.0.1:{port}"
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:0"
shutdown_seconds = 0.2
[accounts]
host = "{{account}}.helpdesk.localhost"
[upstream]
url = "{upstream}"
profile = "django-helpdesk"
[staff]
issuer = "{staff}"
audience = "{audience}"
max_assumptions = 100
[[staff.rules]]
group = "support"
permissions = ["read", "test_tickets", "write"]
[audit]
patience_seconds = 30
"""
FETCH = """async ([method, path]) => {
    const response = await fetch(path, {method, headers: {Accept: "application/json"}});
    return [response.status, await response.text()];
}"""


class RealClock:
    """The time of the gateway is everybody's: the helpdesk's, which is another process, and the browser's."""

    @property
    def now(self):
        return utc_now()


class Ticks:
    """The gateway's ticks, which a test may stop: then no fact grows old by itself."""

    def __init__(self):
        self._stopped_at = None

    def __call__(self):
        return boot_seconds() if self._stopped_at is None else self._stopped_at

    @contextmanager
    def stopped(self):
        self._stopped_at = boot_seconds()
        try:
            yield
        finally:
            self._stopped_at = None


class Visit:
    """One browser without a past: its page, and all that the page asked for."""

    def __init__(self, context, page, origin):
        self.context, self.page, self.origin = context, page, origin
        self.responses, self.faults = [], []
        page.on("response", lambda it: self.responses.append(it))  # noqa: PLW0108 - a list's own method is refused
        page.on("requestfailed", lambda request: self.faults.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    async def open(self, path):
        """Load a page and return its response, after redirects."""
        return await self.page.goto(self.origin + path)

    async def fetch(self, method, path):
        """Let the page's own script ask for something; return (status, text)."""
        return tuple(await self.page.evaluate(FETCH, [method, path]))

    async def submit(self, button):
        """Press the button and return the response of the page that follows."""
        async with self.page.expect_navigation() as following:
            await self.page.locator(button).click()
        return await following.value

    async def reply(self, ticket, comment):
        """Write a reply into the form on a ticket's page and send it; return the response that follows."""
        await self.open(f"/tickets/{ticket}/")
        await self.page.locator("#respond-tab").click()
        await self.page.locator("#commentBox").fill(comment)
        return await self.submit("#ticket-respond-form button[type=submit]")

    async def style(self, selector, name):
        """Return a computed style of the first element that fits."""
        script = "(element, name) => getComputedStyle(element)[name]"
        return await self.page.locator(selector).first.evaluate(script, name)

    async def person(self):
        """Return whom the app greets in its navigation."""
        return (await self.page.locator("#userDropdown").inner_text()).strip()

    async def cookies(self):
        """Return the names of the cookies that the browser has come to hold."""
        return {cookie["name"] for cookie in await self.context.cookies()}


class Chain:
    """The running whole, and who may come in."""

    def __init__(self, world, helpdesk, browser, directory, ticks):
        self.world, self.helpdesk, self.browser = world, helpdesk, browser
        self.directory, self.ticks = directory, ticks
        self.origin = f"http://{HOST}:{world.port}"

    @asynccontextmanager
    async def visit(self, **headers):
        """Open a browser that sends `headers` with each request."""
        context = await self.browser.new_context(extra_http_headers=headers, viewport={"width": 1280, "height": 900})
        context.set_default_timeout(1000 * PATIENCE_SECONDS)
        try:
            yield Visit(context, await context.new_page(), self.origin)
        finally:
            await context.close()

    @asynccontextmanager
    async def staff(self, *permissions, scope="tickets:read"):
        """Open dana's browser, with a token for maria, after the account has chosen one day with these permissions."""
        status, chosen = await self.world.choose("day", ("read", *permissions))
        assert 200 == status, chosen
        token = await self.world.token(scope, audience=HOST)
        async with self.visit(Authorization=f"Bearer {token}") as visit:
            yield visit

    async def locum(self, *words):
        """Run the command line in a process of its own and return what it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "--config", self.directory / "config.toml", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert 0 == process.returncode, err
        return out.decode()

    def rows(self, statement, *values):
        """Read the helpdesk's own database."""
        path = self.directory / "helpdesk" / "helpdesk.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(statement, values).fetchall()

    def authors(self, comment):
        """Return (ticket, user name) of each reply with this text."""
        statement = "SELECT ticket_id, username FROM helpdesk_followup f JOIN auth_user u ON u.id = f.user_id"
        return self.rows(f"{statement} WHERE comment = ?", comment)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def chain(tmp_path_factory, browser):
    directory, ticks = tmp_path_factory.mktemp("chain"), Ticks()
    async with AsyncExitStack() as stack:
        try:
            world, helpdesk = await open_chain(stack, directory, ticks)
        except HelpdeskNotInstalledError as exc:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(exc))
        yield Chain(world, helpdesk, browser, directory, ticks)


async def open_chain(stack, directory, ticks):
    """Start the helpdesk, which has to know where the gateway's keys will be, then the gateway before it."""
    with socket.socket() as held:
        # Bound but not listening: nobody else is given the port, and the gateway may still bind it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        gateway_url = f"http://127.0.0.1:{port}"
        helpdesk = DjangoHelpdesk(
            data=directory / "helpdesk",
            jwks_url=f"{gateway_url}/.locum/jwks.json",
            issuer=gateway_url,
            audience="helpdesk",
            hosts=("127.0.0.1", HOST),
        )
        await stack.enter_async_context(helpdesk)
        issuer = await stack.enter_async_context(DemoIssuer())
        text = CONFIG.format(port=port, upstream=helpdesk.url, staff=issuer.issuer, audience=AUDIENCE)
        (directory / "config.toml").write_text(text)
        gateway = await stack.enter_async_context(
            open_gateway(load(directory / "config.toml"), ticks=ticks, patience_seconds=PATIENCE_SECONDS)
        )
    http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    secret = new_secret()
    client = Client(id=ClientId("app"), secret_digest=digest_of(secret), roles=frozenset({"token", "grants"}))
    await gateway.store.add_client(client)
    world = World(
        gateway=gateway,
        upstream=helpdesk,
        issuer=issuer,
        clock=RealClock(),
        directory=directory / "data",
        secret=secret,
        http=http,
    )
    await world.add_account("acme")
    return world, helpdesk

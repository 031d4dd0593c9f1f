"""Staff sign in with a real browser at a certified provider: in, out, out there, new keys, and the provider away."""

import socket
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.clock import boot_seconds
from gateway.config.load import build
from tests.certified_provider import CertifiedProvider
from tests.chromium import open_chromium
from tests.gateway_world import document
from tests.provider_world import CLIENT_SECRET
from tests.rawwire import RecordingUpstream

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Scene:
    """A gateway on `localhost` and its provider on `127.0.0.1`: to a browser two sites."""

    gateway: object
    provider: CertifiedProvider
    home: str
    browser: object
    ticks: "Skipping"
    faults: list = field(default_factory=list)

    @asynccontextmanager
    async def person(self, **options):
        """Open a browser of somebody's own; yields its page."""
        context = await self.browser.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(15_000)
        page.on(
            "console", lambda message: self.faults.append(message.text) if "Content Security" in message.text else None
        )
        try:
            yield page
        finally:
            await context.close()

    async def sign_in(self, page, name="dana"):
        await page.goto(self.home)
        await page.get_by_role("link", name="Sign in").click()
        await page.locator("[name=login]").fill(name)
        await page.locator("[name=password]").fill("x")
        await page.locator("button[type=submit]").click()
        await page.get_by_role("heading", name=f"{name} by name").wait_for()


def _hold(stack):
    """Return a port that nobody else is given until the stack ends; we may still bind it."""
    held = stack.enter_context(socket.socket())
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held.getsockname()[1]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("gateway")
    async with AsyncExitStack() as stack:
        with ExitStack() as ports:
            port, provider_port = _hold(ports), _hold(ports)
            home = f"http://localhost:{port}"
            client = {
                "client_id": "locum",
                "client_secret": CLIENT_SECRET,
                "redirect_uris": [f"{home}/.locum/sign-in/callback"],
                "post_logout_redirect_uris": [f"{home}/.locum/"],
                "backchannel_logout_uri": f"{home}/.locum/backchannel-logout",
                "id_token_signed_response_alg": "EdDSA",
                "require_auth_time": True,
            }
            provider = await stack.enter_async_context(CertifiedProvider(provider_port, [client]))
            upstream = await stack.enter_async_context(RecordingUpstream())
            wanted = document(tmp_path, upstream=upstream.url, issuer=provider.issuer)
            wanted["server"] |= {"issuer": home, "listen": f"127.0.0.1:{port}"}
            wanted["staff"]["sign_in"] = {"client_id": "locum", "client_secret": CLIENT_SECRET}
            skipping = Skipping()
            gateway = await stack.enter_async_context(open_gateway(build(wanted, {}, base=tmp_path), ticks=skipping))
        browser = await stack.enter_async_context(open_chromium())
        yield Scene(gateway=gateway, provider=provider, home=f"{home}/.locum/", browser=browser, ticks=skipping)


class Skipping:
    """A monotonic clock that a test can let skip ahead."""

    def __init__(self):
        self.skipped = 0.0

    def __call__(self):
        return boot_seconds() + self.skipped


async def test_signing_in_and_out_and_out_at_the_provider(scene):
    """One button in, one out; the provider asks, leads back, and tells every other browser's session goodbye."""
    async with scene.person(viewport={"width": 320, "height": 640}) as page, scene.person() as other:
        await scene.sign_in(page)
        cookies = {cookie["name"]: cookie for cookie in await page.context.cookies(scene.home)}
        ours = cookies["locum-staff"]
        assert (True, "Lax", False) == (ours["httpOnly"], ours["sameSite"], ours["secure"])
        assert "locum-sign-in" not in cookies
        assert await page.evaluate("document.documentElement.scrollWidth <= 320")
        assert await page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") == "1152px"
        await scene.sign_in(other)

        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("button", name="Yes, sign me out").click()
        await page.wait_for_url(scene.home)
        await page.get_by_role("link", name="Sign in").wait_for()
        assert "locum-staff" not in {cookie["name"] for cookie in await page.context.cookies(scene.home)}

        # The provider has told us by the back channel before it led the browser back.
        await other.reload()
        await other.get_by_role("link", name="Sign in").wait_for()
        assert [] == scene.faults


async def test_new_keys_and_an_outage_of_the_provider(scene):
    """While it is away who is in stays in, and nobody else gets in; its new keys count at once."""
    async with scene.person() as page, scene.person() as other:
        await scene.sign_in(page)
        await scene.provider.stop()
        await page.reload()
        await page.get_by_role("heading", name="dana by name").wait_for()

        await scene.provider.start("second")
        scene.ticks.skipped += 60
        await scene.sign_in(other, "erin")

"""Staff sign in with a real browser at a certified provider: in, out, out there, new keys, and the provider away.

So does an administrator of a customer whose provider it is.
"""

import socket
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.config.load import build
from policy.model import Account, AccountId, AccountType
from tests.accessibility import faults_of, named_templates
from tests.certified_provider import CertifiedProvider
from tests.gateway_world import document
from tests.patience import PATIENCE_SECONDS
from tests.provider_world import CLIENT_SECRET
from tests.rawwire import RecordingUpstream

__all__ = ["named_templates"]  # the fixture
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="session")]


@dataclass
class Scene:
    """A gateway on `localhost` and its provider on `127.0.0.1`: to a browser two sites."""

    gateway: object
    provider: CertifiedProvider
    home: str
    browser: object
    account: str
    """The page of the customer's administrators."""
    faults: list = field(default_factory=list)

    @asynccontextmanager
    async def person(self, **options):
        """Open a browser of somebody's own; yields its page."""
        context = await self.browser.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
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
        await self.say_who(page, name)
        await page.get_by_role("heading", name=f"{name} by name").wait_for()

    async def say_who(self, page, name):
        """Sign in at the provider, which has asked."""
        await page.locator("[name=login]").fill(name)
        await page.locator("[name=password]").fill("x")
        await page.locator("button[type=submit]").click()


def _hold(stack):
    """Return a port that nobody else is given until the stack ends; we may still bind it."""
    held = stack.enter_context(socket.socket())
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held.getsockname()[1]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def scene(tmp_path_factory, browser):
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
            account = f"http://acme.localhost:{port}/.locum/account"
            customers = {
                "client_id": "locum-at-acme",
                "client_secret": CLIENT_SECRET,
                "redirect_uris": [f"{account}/sign-in/callback"],
                "post_logout_redirect_uris": [account],
                "id_token_signed_response_alg": "EdDSA",
            }
            provider = await stack.enter_async_context(CertifiedProvider(provider_port, [client, customers]))
            upstream = await stack.enter_async_context(RecordingUpstream())
            wanted = document(tmp_path, upstream=upstream.url, issuer=provider.issuer)
            wanted["server"] |= {"issuer": home, "listen": f"127.0.0.1:{port}"}
            wanted["staff"]["sign_in"] = {"client_id": "locum", "client_secret": CLIENT_SECRET}
            wanted["accounts"] = {"host": "{account}.localhost"}
            table = {"issuer": provider.issuer, "client_id": "locum-at-acme", "client_secret": CLIENT_SECRET}
            table |= {"accounts": ["acme"], "claim": "name", "administrators": ["olivia by name"]}
            wanted["console"] = {"account": {"sign_in": [table]}}
            gateway = await stack.enter_async_context(
                open_gateway(build(wanted, {}, base=tmp_path), patience_seconds=PATIENCE_SECONDS)
            )
        await gateway.store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
        yield Scene(
            gateway=gateway,
            provider=provider,
            home=f"{home}/.locum/",
            browser=browser,
            account=account,
        )


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

        # The provider has told us by the back channel, so the other page is loaded anew by itself.
        await other.get_by_role("link", name="Sign in").wait_for()
        assert [] == scene.faults


async def test_a_customers_administrator_signs_in(scene):
    """Whoever is none is told so, and can sign in as somebody else; who is one turns it on, and signs out there as well."""
    async with scene.person(viewport={"width": 320, "height": 640}) as page:
        await page.goto(f"{scene.account}?history=all")
        assert [] == await faults_of(page, "account_customer_sign_in.html")
        await page.get_by_role("link", name="Sign in at 127.0.0.1").click()
        await scene.say_who(page, "mallory")
        await page.get_by_role("heading", name="This page is not for you").wait_for()
        assert [] == await page.context.cookies(scene.account)
        assert [] == await faults_of(page, "account_customer_sign_in.html")
        # Asked for anew, though the provider knows mallory still.
        await page.get_by_role("link", name="Sign in as somebody else").click()
        await scene.say_who(page, "olivia")
        await page.get_by_role("heading", name="Account assumption").wait_for()
        assert page.url == f"{scene.account}?history=all"
        assert [] == await faults_of(page)
        await page.get_by_role("button", name="Turn on").click()
        await page.get_by_text("Saved. It counts from now on.").wait_for()
        grant = (await scene.gateway.store.find_account(AccountId("acme"))).grant
        assert f"{scene.provider.issuer}#olivia" == grant.given_by
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="sign out there as well").click()
        await page.get_by_role("button", name="Yes, sign me out").click()
        await page.wait_for_url(scene.account)
        await page.get_by_role("heading", name="Sign in with your company").wait_for()
        assert [] == scene.faults


async def test_new_keys_and_an_outage_of_the_provider(scene):
    """While it is away who is in stays in, and who tries gets no further than its door; its new keys count at once.

    Also when its keys of before have only just been fetched.
    """
    async with scene.person() as page, scene.person() as other:
        await scene.sign_in(page)
        await scene.provider.stop()
        await page.goto(scene.home)
        await page.get_by_role("heading", name="dana by name").wait_for()

        await other.goto(scene.home)
        there = scene.provider.issuer
        async with other.expect_event("requestfailed", lambda request: request.url.startswith(there)):
            await other.get_by_role("link", name="Sign in").click()
        assert "locum-staff" not in {cookie["name"] for cookie in await other.context.cookies(scene.home)}
        # In a page of its own: the other one is still on its way to the browser's word for a server that is not there.
        fresh = await other.context.new_page()
        fresh.set_default_timeout(1000 * PATIENCE_SECONDS)
        await fresh.goto(scene.home)
        await fresh.get_by_role("link", name="Sign in").wait_for()

        await scene.provider.start("second")
        await scene.sign_in(fresh, "erin")

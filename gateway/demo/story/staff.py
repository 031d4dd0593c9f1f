"""What dana does with a browser and from a command line, as she would: our own pages, the issuer's, a code."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from gateway.cli.assume import CLIENT
from gateway.demo.story.browser import Browser
from gateway.demo.story.play import Got
from gateway.demo.story.scene import Scene
from gateway.remote.server import Server, Wish

TICKET, REASON = "SUP-1", "widget not loading"


async def sign_in(scene: Scene[Any]) -> Got:
    """Sign in at the staff origin, by way of the identity provider."""
    browser: Browser = scene.app.dana
    await browser.open(scene, f"{scene.gateway.public_url}/.locum/sign-in")
    answer = await browser.send(scene, person="dana")
    path = urlsplit(browser.where).path
    person = browser.text(r'class="person">(.*?)</span>') or "nobody"
    return Got(text=f"{answer.status} {path} {person}", note=browser.where)


async def stand_in(scene: Scene[Any], *, ticket: str = TICKET) -> Got:
    """Find the account, fill in the form, and go on to the account's host, where the helpdesk is."""
    browser: Browser = scene.app.dana
    await browser.open(scene, f"{scene.gateway.public_url}/.locum/?account=acme")
    await browser.send(scene, account="acme", agent="maria", ticket=ticket, reason=REASON, scope="tickets:read")
    if 'name="code"' not in browser.page:
        return Got(text=browser.heading)
    await browser.send(scene, code=browser.hidden("code"))
    answer = await browser.open(scene, scene.account_url("/tickets/1"))
    whose = "maria (dana stands in)" if "maria (dana stands in)" in browser.page else "somebody else"
    names = ", ".join(sorted(browser.cookies[urlsplit(browser.where).netloc]))
    return Got(text=f"{answer.status} as {whose}, holding {names}", note=urlsplit(browser.where).netloc)


async def end_it(scene: Scene[Any]) -> Got:
    """Look at the session's page, and end it with its button."""
    browser: Browser = scene.app.dana
    await browser.open(scene, scene.account_url("/.locum/session"))
    before = browser.heading
    await browser.send(scene)
    return Got(text=f"{before}, then {browser.heading}")


async def ask_for_code(scene: Scene[Any]) -> Got:
    """Ask as `locum assume` does, and approve the code in the browser that is signed in."""
    server, browser = _server(scene), scene.app.dana
    wish = Wish(account="acme", agent="maria", ticket=TICKET, reason=REASON, scopes=("tickets:read",))
    codes = await asyncio.to_thread(server.ask, wish)
    scene.tokens["device"] = codes.device_code
    await browser.open(scene, codes.verification_uri_complete)
    asked = browser.heading
    await browser.send(scene, user_code=codes.user_code, word="approve")
    return Got(text=f"{asked} {browser.heading}", note=f"the code {codes.user_code}")


async def fetch_token(scene: Scene[Any]) -> Got:
    """Fetch the token that was approved, use it, and end it, as the command does."""
    server = _server(scene)
    token = (await asyncio.to_thread(server.fetch, scene.tokens.pop("device"))).access_token
    answer = await scene.send("GET", "/tickets/1", token=token)
    await asyncio.to_thread(server.take_back, token)
    after = await scene.send("GET", "/tickets/1", token=token)
    return Got(text=f"{answer.outcome}, and once it is ended {after.outcome}")


def _server(scene: Scene[Any]) -> Server:
    return Server(scene.gateway.public_url, client=CLIENT)

"""What dana does with a browser and from a command line, as she would: our own pages, the issuer's, a code."""

import asyncio
import html
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway.cli.assume import CLIENT
from gateway.demo.story.play import Got
from gateway.demo.story.scene import Answer, Scene
from gateway.remote.server import Server, Wish

_PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
_MOST_STEPS = 8
_TICKET, _REASON = "SUP-1", "widget not loading"


class AstrayError(ValueError):
    """A page is not the one that was to come."""


@dataclass(slots=True)
class StaffBrowser:
    """A browser without scripts: keeps cookies for each host, follows redirects, sends forms from where they stand."""

    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    where: str = ""
    """The address of the page that is shown."""
    page: str = ""

    async def open(self, scene: Scene[Any], url: str) -> Answer:
        """Open an address."""
        return await self._go(scene, "GET", url, None, {"Sec-Fetch-Site": "none"})

    async def send(self, scene: Scene[Any], **fields: str) -> Answer:
        """Fill in the page's first form that has all of these fields, and send it."""
        for form, content in re.findall(r"<form([^>]*)>(.*?)</form>", self.page, re.DOTALL):
            hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', content))
            if all(f'name="{name}"' in content for name in fields):
                filled = {name: html.unescape(value) for name, value in hidden.items()} | fields
                action = re.search(r'action="([^"]*)"', form)
                target = html.unescape(action[1]) if action else self.where
                origin = _origin(self.where)
                url = target if "://" in target else f"{origin}{target}"
                site = "same-origin" if _origin(url) == origin else "cross-site"
                return await self._go(scene, "POST", url, filled, {"Origin": origin, "Sec-Fetch-Site": site})
        raise AstrayError(f"the page at {self.where} has no form for {', '.join(fields)}")

    async def _go(
        self, scene: Scene[Any], method: str, url: str, form: dict[str, str] | None, said: dict[str, str]
    ) -> Answer:
        for _ in range(_MOST_STEPS):
            parts = urlsplit(url)
            jar = self.cookies.setdefault(parts.netloc, {})
            headers = _PAGE | said | {"Host": parts.netloc}
            if jar:
                headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
            # Every host of the demo is this machine; whose name it is, the header says.
            address = f"http://127.0.0.1:{parts.port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
            answer = await scene.fetch(method, address, headers=headers, data=form)
            for line in answer.headers.getall("Set-Cookie", []):
                name, _, value = line.partition(";")[0].partition("=")
                jar.pop(name, None)
                if value:
                    jar[name] = value
            self.where, self.page = url, answer.body.decode("utf-8", "replace")
            if answer.status not in (302, 303):
                return answer
            target = answer.headers["Location"]
            url = target if "://" in target else f"{_origin(url)}{target}"
            method, form, said = "GET", None, {"Sec-Fetch-Site": "cross-site"}
        raise AstrayError("one redirect leads to the other")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _heading(browser: StaffBrowser) -> str:
    found = re.search(r"<h1>(.*?)</h1>", browser.page, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", found[1])).strip() if found else "no page"


def _account_url(scene: Scene[Any], path: str) -> str:
    return f"http://{scene.host()}:{scene.gateway.public_url.rpartition(':')[2]}{path}"


async def sign_in(scene: Scene[Any]) -> Got:
    """Sign in at the staff origin, by way of the identity provider."""
    browser: StaffBrowser = scene.app.dana
    await browser.open(scene, f"{scene.gateway.public_url}/.locum/sign-in")
    answer = await browser.send(scene, person="dana")
    path = urlsplit(browser.where).path
    return Got(text=f"{answer.status} {path} {_heading(browser)}", note=browser.where)


async def stand_in(scene: Scene[Any]) -> Got:
    """Fill in the form, and go on to the account's host, where the helpdesk is."""
    browser: StaffBrowser = scene.app.dana
    await browser.send(scene, account="acme", agent="maria", ticket=_TICKET, reason=_REASON, scope="tickets:read")
    if 'name="code"' not in browser.page:
        return Got(text=_heading(browser))
    await browser.send(scene, code=_hidden(browser, "code"))
    answer = await browser.open(scene, _account_url(scene, "/tickets/1"))
    whose = "maria (dana stands in)" if "maria (dana stands in)" in browser.page else "somebody else"
    names = ", ".join(sorted(browser.cookies[urlsplit(browser.where).netloc]))
    return Got(text=f"{answer.status} as {whose}, holding {names}", note=urlsplit(browser.where).netloc)


async def end_it(scene: Scene[Any]) -> Got:
    """Look at the session's page, and end it with its button."""
    browser: StaffBrowser = scene.app.dana
    await browser.open(scene, _account_url(scene, "/.locum/session"))
    before = _heading(browser)
    await browser.send(scene)
    return Got(text=f"{before}, then {_heading(browser)}")


async def ask_for_code(scene: Scene[Any]) -> Got:
    """Ask as `locum assume` does, and approve the code in the browser that is signed in."""
    server, browser = _server(scene), scene.app.dana
    wish = Wish(account="acme", agent="maria", ticket=_TICKET, reason=_REASON, scopes=("tickets:read",))
    codes = await asyncio.to_thread(server.ask, wish)
    scene.tokens["device"] = codes.device_code
    await browser.open(scene, codes.verification_uri_complete)
    asked = _heading(browser)
    await browser.send(scene, user_code=codes.user_code, word="approve")
    return Got(text=f"{asked} {_heading(browser)}", note=f"the code {codes.user_code}")


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


def _hidden(browser: StaffBrowser, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', browser.page)
    return html.unescape(found[1]) if found else ""

"""A browser as far as the story needs one: it shows pages, keeps cookies, follows redirects and sends forms."""

import html
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway.demo.story.scene import Answer, Scene

_PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
_MOST_STEPS = 8


class AstrayError(ValueError):
    """A page is not the one that was to come."""


@dataclass(slots=True)
class Browser:
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

    @property
    def heading(self) -> str:
        """What the page is called."""
        return self.text(r"<h1[^>]*>(.*?)</h1>") or "no page"

    def text(self, pattern: str) -> str:
        """Return the words of the pattern's group in the page's source, without tags; empty if nothing fits."""
        found = re.search(pattern, self.page, re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", "", found[1])).split()) if found else ""

    def hidden(self, name: str) -> str:
        """Return the value of the page's first hidden field of that name; empty if there is none."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.page)
        return html.unescape(found[1]) if found else ""

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

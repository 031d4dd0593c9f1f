"""Asks axe-core what keeps people out of a page, as it is shown: WCAG 2.2 AA and its authors' own good practice."""

from functools import cache
from pathlib import Path

import pytest
from jinja2 import Template

from gateway.pages import render
from tests.npm_packages import installed

_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN = """async (tags) => {
    const terms = {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"], preload: false};
    const found = await axe.run(document, terms);
    return found.violations.map(one => `${one.id}: ${one.nodes.map(node => node.target.join(" ")).join(", ")}`);
}"""
_FITS = "document.documentElement.scrollWidth <= window.innerWidth"
_LAYOUT = """() => {
    const has = rule => rule.selectorText ? document.querySelector(rule.selectorText) : [...rule.cssRules].some(has);
    return [...document.styleSheets].flatMap(sheet => [...sheet.cssRules])
        .filter(rule => rule instanceof CSSMediaRule && rule.conditionText.includes("width") && has(rule))
        .map(rule => matchMedia(rule.conditionText).matches).join();
}"""
_NAMES = """() => {
    const found = [], comments = document.createNodeIterator(document, NodeFilter.SHOW_COMMENT);
    for (let one = comments.nextNode(); one; one = comments.nextNode()) found.push(one.data.trim());
    return found;
}"""
WIDTHS = (320, 480, 800, 1000, 1280, 1600)
"""One between any two at which a style sheet of ours changes the layout (see `test_accessibility`)."""


class _Named(Template):
    """A template that says in a comment what it is; those that it extends or takes in are part of it."""

    def render(self, *args, **kwargs):
        return f"{super().render(*args, **kwargs)}<!-- {self.name} -->"


@pytest.fixture(autouse=True)
def named_templates():
    """Lets pages tell what they are made of; for every module that names it."""
    templates = render._templates()
    templates.template_class = _Named
    templates.cache.clear()
    yield
    templates.template_class = Template
    templates.cache.clear()


@cache
def _axe() -> str:
    return (installed(Path(__file__).parent / "axe") / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


async def faults_of(page, *templates) -> list[str]:
    """Return what is wrong with a page that is made of these templates: all rules, light and dark, at every layout.

    Nothing may be wider than any of the WIDTHS. Widths at which no media query decides otherwise about anything that
    is on the page are one layout, where the rules are asked at the widest; and at the smallest in any case. They wait
    for themselves by timers, so the page has to be one whose browser runs scripts.
    """
    found = [f"it is not made of {one}" for one in sorted(set(templates) - set(await page.evaluate(_NAMES)))]
    # Not as a script of the page, which its policy would not let in.
    await page.evaluate(_axe())
    asked = set()
    for width in reversed(WIDTHS):
        await page.set_viewport_size({"width": width, "height": 800})
        if not await page.evaluate(_FITS):
            found.append(f"{width}: it is wider than the screen")
        layout = await page.evaluate(_LAYOUT)
        if layout in asked and width != WIDTHS[0]:
            continue
        asked.add(layout)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            found += [f"{scheme}, {width}: {one}" for one in await page.evaluate(_RUN, _TAGS)]
    await page.emulate_media(color_scheme="light")
    return found

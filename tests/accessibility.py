"""Asks axe-core what keeps people out of a page, as it is shown: WCAG 2.2 AA and its authors' own good practice."""

from functools import cache
from pathlib import Path

from tests.npm_packages import installed

_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_EVERYTHING = {"type": "tag", "values": _TAGS}
_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
_RUN = """async (which) => {
    const found = await axe.run(document, {runOnly: which, resultTypes: ["violations"]});
    return found.violations.map(one => `${one.id}: ${one.nodes.map(node => node.target.join(" ")).join(", ")}`);
}"""
_FITS = "document.documentElement.scrollWidth <= window.innerWidth"
WIDTHS = (320, 480, 800, 1280, 1600)


@cache
def _axe() -> str:
    return (installed(Path(__file__).parent / "axe") / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


async def faults_of(page) -> list[str]:
    """Return what is wrong with a page, light and dark, on small and large screens; nothing is wider than any of them.

    All rules are asked on the smallest and the largest screen, in light; dark changes nothing but colours. They wait
    for themselves by timers, so the page has to be one whose browser runs scripts.
    """
    found = []
    # Not as a script of the page, which its policy would not let in.
    await page.evaluate(_axe())
    await page.emulate_media(color_scheme="light")
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        if not await page.evaluate(_FITS):
            found.append(f"{width}: it is wider than the screen")
        if width in (WIDTHS[0], WIDTHS[-1]):
            found += [f"{width}: {one}" for one in await page.evaluate(_RUN, _EVERYTHING)]
    await page.emulate_media(color_scheme="dark")
    return found + [f"dark: {one}" for one in await page.evaluate(_RUN, _COLOURS)]

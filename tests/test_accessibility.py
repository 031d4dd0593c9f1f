"""Nobody is kept out of a page by how it is made: axe-core finds nothing on any of them."""


import pytest

from tests.accessibility import faults_of
from tests.test_console_for_real import browser, come_in, open_page, scene

__all__ = ["browser", "scene"]  # the fixtures
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def test_axe_finds_what_is_wrong(browser):
    """Or its silence would say nothing: a field without a name, grey on grey, and a page that is too wide."""
    page = await browser.new_page()
    await page.set_content(
        '<html lang="en"><title>A</title><main><h1>A</h1><input><p style="color:#777;background:#888">Grey words</p>'
        '<div style="width:900px">C</div></main></html>'
    )
    found = " ".join(await faults_of(page))
    await page.close()
    assert "label: input" in found
    assert "color-contrast: p" in found
    assert "800: it is wider than the screen" in found
    assert "dark: color-contrast: p" in found


async def test_the_page_of_an_accounts_administrators(scene):
    """While it is off; while it is on and somebody is in; and of a trial, where there is no setting."""
    page = await open_page(scene, scripts=True)
    assert [] == await faults_of(page)
    await page.get_by_role("button", name="Turn on").click()
    await come_in(scene, 1)
    await page.goto(page.url)
    await page.get_by_text("Turn off…").click()
    assert [] == await faults_of(page)
    trial = await open_page(scene, scripts=True, account="globex", session="s-gina")
    assert [] == await faults_of(trial)
    stranger = await open_page(scene, scripts=True, session="s-ben")
    assert [] == await faults_of(stranger)

"""Debian's Chromium, headless, by Playwright."""

import os
import shutil
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Error, Page, async_playwright

# The browser asks for what the pages ask for and nothing of its own, and finds no other host.
_FLAGS = (
    "--no-sandbox",
    "--no-proxy-server",
    "--no-first-run",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP *.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


def find_chromium():
    """Return its path; skips the test, in CI fails it, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("there is no browser: install Debian's `chromium`")
    return found


@asynccontextmanager
async def open_chromium():
    """Run one until the block ends."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


async def evaluate(page: Page, script: str) -> object:
    """Return what a script says in a page that may be loading itself anew just now, because something has changed."""
    while True:
        try:
            return await page.evaluate(script)
        except Error as error:
            if "context was destroyed" not in str(error):
                raise

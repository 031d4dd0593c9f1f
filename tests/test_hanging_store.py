"""A store that does not answer at all: whoever has a browser's cookie is told in time, and customers notice nothing."""

import asyncio
import contextlib
import threading

import pytest

from gateway.grants.patience import FACTS_SECONDS, REFUSED_SECONDS
from tests.browser_world import ASSUMPTION, PAGE, STAFF_HOST, open_browser
from tests.gateway_world import HOST
from tests.patience import PATIENCE_SECONDS, within
from tests.upstream_client import eventually

QUESTIONS = {
    "who is signed in": ("/.locum/", STAFF_HOST, PAGE),
    "what the browser holds": ("/.locum/session", HOST, PAGE),
    "what it holds, for a script": ("/.locum/session", HOST, "application/json"),
}


@contextlib.asynccontextmanager
async def hanging(world):
    """The thread that reads stands still, as behind a disk that does not answer."""
    standing, go_on = threading.Event(), threading.Event()

    def stand(_connection):
        standing.set()
        go_on.wait(PATIENCE_SECONDS)

    lane = world.gateway.store._reader
    piece = asyncio.ensure_future(lane.run(stand))
    try:
        await eventually(standing.is_set)
        yield
    finally:
        go_on.set()
        await piece


@pytest.mark.parametrize("question", QUESTIONS)
async def test_nobody_with_a_cookie_waits_for_it(tmp_path, question):
    """503 within half a second and no word of anybody; the cookie stays, and counts again when the store does."""
    target, host, accept = QUESTIONS[question]
    async with open_browser(tmp_path, patience_seconds=FACTS_SECONDS) as browser:
        # What is known of the browser is too old by then.
        browser.world.clock.forward(seconds=30)
        async with hanging(browser.world):
            async with within(REFUSED_SECONDS):
                asked = await browser.ask(target, f"Accept: {accept}", host=host)
            assert (503, []) == (asked.status, asked.set_cookies)
            assert int(asked.headers["retry-after"])
            assert "dana" not in asked.text.lower()
            async with within(REFUSED_SECONDS):
                assert 503 == (await browser.ask(cookie=f"{ASSUMPTION}={browser.held}")).status
            async with within(REFUSED_SECONDS):
                assert 200 == (await browser.world.get())[0]
        asked = await browser.ask(target, f"Accept: {accept}", host=host)
        assert (200, True) == (asked.status, "dana" in asked.text.lower())

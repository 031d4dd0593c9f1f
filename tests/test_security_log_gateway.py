"""The access log's pages in a whole gateway: behind its door, over its own journal, and through its frame."""

import re

import pytest

from gateway.audit.index.building import Builder
from gateway.audit.index.database import beside
from tests.security_world import open_guard

LOG = "/console/log"


@pytest.fixture
async def guard(tmp_path):
    async with open_guard(tmp_path) as guard:
        yield guard


def _index(guard):
    journal = guard.world.gateway.config.journal_directory
    with Builder(journal, beside(journal)) as builder:
        builder.catch_up()


async def test_the_log_is_behind_the_door(guard):
    """Nobody is let in without a session, and whoever is leads to the log from every page."""
    assert 303 == (await guard.page(LOG)).status
    await guard.enter()
    assert f'href="{LOG}"' in (await guard.page()).text
    _index(guard)
    found = await guard.page(LOG)
    assert 200 == found.status, found.text
    assert 'aria-current="page">Access log' in found.text
    # That somebody looks is one of the records that they may look at.
    _index(guard)
    assert "searched" in (await guard.page(LOG)).text
    address = re.search(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', (await guard.page(LOG)).text)[1]
    assert 200 == (await guard.page(address)).status


async def test_a_few_records_are_exported(guard):
    """With the form of the page, and only with it."""
    await guard.enter()
    _index(guard)
    await guard.page(LOG)
    _index(guard)
    found = await guard.do("log/export", format="jsonl", range="all")
    assert 200 == found.status
    assert "attachment" in found.headers["content-disposition"]
    assert '"searched"' in found.text
    assert 403 == (await guard.post("log/export", {"format": "jsonl", "form_token": "x"})).status


async def test_without_the_console_there_is_no_log(tmp_path):
    """The routes are there, and answer nothing."""
    async with open_guard(tmp_path, change=lambda _document: None) as guard:
        for path in ("", "/tail", "/tail/events", "/export", "/record/1", "/assumption/as_1"):
            assert 404 == (await guard.page(LOG + path)).status
        assert 404 == (await guard.post("log/export", {"format": "csv"})).status
        assert not list(tmp_path.rglob("console-exports"))

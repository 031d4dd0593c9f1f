"""The counts behind the console's picture of the log: what a scan of the files counts, from either index."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME, TooCostly
from gateway.audit.index.finding import Finder
from gateway.audit.index.overview import HOUR, Overview
from gateway.audit.record import to_json
from gateway.audit.search import Query, read
from gateway.audit.segment import build_line
from gateway.stores.postgres import connect
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.journal_index import DatabaseIndex
from gateway.stores.postgres.journal_lines import Shipper
from gateway.stores.postgres.terms import StoreTerms
from tests.index_world import ENTRIES, QUERIES, parse_or_none, write_segment

MINUTE = HOUR // 60
EDGES = [
    "after:2026-11-23T12:00:00.000001",
    "before:2026-11-23T12:00:00.000001",
    "after:2026-11-23T11:30 before:2026-11-23T12:30",
    "after:2026-11-23 before:2026-11-24T00:00:00.000001 -decision:deny",
    "after:2026-11-23T12:10 before:2026-11-23T12:20",
    "after:2999-01-01",
    "before:2999-01-01 kind:decision",
    "account:acme -reason:refund",
    "route:users.read",
    "method:none",
    "-account:none",
]


def _scan(entries, query, step):
    overview = Overview(step)
    for entry in filter(query.matches, entries):
        overview.add_entry(entry)
    return overview


def _index(directory):
    with Builder(directory, directory.parent / NAME) as builder:
        builder.catch_up()
    return directory.parent / NAME


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(ENTRIES, max_size=12), queries=st.lists(QUERIES, min_size=2, max_size=4))
def test_the_index_counts_what_a_scan_counts(tmp_path_factory, entries, queries):
    """By value, by refused rule and over time, in steps of whole hours and of less, also of one account."""
    directory = tmp_path_factory.mktemp("index") / "journal"
    write_segment(directory, entries)
    index, found = _index(directory), list(read(directory))
    with Finder(directory, index) as finder:
        for text, step in itertools.product([*filter(parse_or_none, queries), *EDGES], (HOUR, 24 * HOUR, MINUTE)):
            query = Query.parse(text)
            assert _scan(found, query, step) == finder.overview(query, step=step), text
            own = [entry for entry in found if entry.get("account") == "acme"]
            assert _scan(own, query, step) == finder.overview(query, step=step, account="acme"), text


def test_what_leaves_the_files_leaves_the_counts(tmp_path):
    """Also where the counts of an hour are of several segments, one of which is written anew."""
    directory = tmp_path / "journal"
    entry = {"kind": "decision", "decision": "deny", "at": "2026-11-23T12:00:00.000001Z", "rule": "r"}
    write_segment(directory, [entry] * 3)
    path = write_segment(directory, [entry] * 4, first=3)
    _index(directory)
    path.write_bytes(build_line(to_json(entry))[1])
    with Finder(directory, _index(directory)) as finder:
        overview = finder.overview(Query.parse(""), step=HOUR)
    assert (4, {"r": 4}) == (overview.total, overview.refused_by_rule)
    assert {"deny": 4} == next(iter(overview.over_time.values()))


def test_a_count_that_takes_too_long_is_given_up(tmp_path):
    """Whoever asks does not keep the index to themselves."""
    directory = tmp_path / "journal"
    write_segment(directory, [{"kind": "decision", "reason": "do not open"}] * 3000)
    with Finder(directory, _index(directory), seconds=0.0) as finder, pytest.raises(TooCostly):
        finder.overview(Query.parse('-"do not open"'), step=HOUR)


@pytest.fixture(scope="module")
def shared_url(postgres):
    """One database for all examples."""
    return postgres.url(asyncio.run(postgres.lend()))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(ENTRIES, min_size=4, max_size=12), queries=st.lists(QUERIES, min_size=1, max_size=3))
def test_the_database_counts_what_a_scan_counts(tmp_path_factory, shared_url, entries, queries):
    """As the index over files does."""
    directory = tmp_path_factory.mktemp("shipped") / "journal"
    write_segment(directory, entries)
    found = list(read(directory))

    async def work():
        async with connect.Connector(parse_url(shared_url), StoreTerms()).apart(10) as connection:
            await connection.execute("DELETE FROM locum.journal_segments")
            await Shipper(directory, "n1", connection).catch_up()
        index = DatabaseIndex(parse_url(shared_url), StoreTerms(), seconds=30)
        for text in (*filter(parse_or_none, queries), EDGES[2], EDGES[5], ""):
            query = Query.parse(text)
            assert _scan(found, query, HOUR) == (await index.overview(query, step=HOUR, account=None))[0], text
            own = [entry for entry in found if entry.get("account") == "acme"]
            assert _scan(own, query, MINUTE) == (await index.overview(query, step=MINUTE, account="acme"))[0], text

    asyncio.run(work())

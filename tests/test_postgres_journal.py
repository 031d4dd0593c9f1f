"""The journals of all nodes in one database: shipped once, in order, found as in the files, and verified from there."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit.evidence.verify import verify
from gateway.audit.index.database import NAME, TooCostly
from gateway.audit.index.overview import HOUR
from gateway.audit.index.process import Indexer
from gateway.audit.record import to_json
from gateway.audit.search import Query, read
from gateway.audit.search.account_part import elsewhere
from gateway.audit.segment import build_line
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError
from tests.index_world import ACCOUNTS, ENTRIES, QUERIES, counted, parse_or_none, write_segment
from tests.journals import KEY, NOON, SecondHand, only_segment, write_journal
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import connect

# Behind what skips where asyncpg is missing.
from gateway.stores.postgres.journal_index import DatabaseIndex  # isort: skip
from gateway.stores.postgres.journal_back import fetch_journal, list_nodes  # isort: skip
from gateway.stores.postgres.journal_lines import Shipper  # isort: skip

TERMS = StoreTerms()
LATER = NOON + timedelta(days=30)


@pytest.fixture
async def url(postgres):
    """An empty database of this version's shape."""
    database = await postgres.lend()
    yield postgres.url(database)
    postgres.take_back(database)


async def _ship(url, journal, node="n1", times=1):
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        shipper = Shipper(journal, node, connection, clock=lambda: LATER)
        return [await shipper.catch_up() for _ in range(times)]


async def _search(url, text, *, account=None, limit=1000, **place):
    place = {"before": None, "after": None} | place
    page, _ = await DatabaseIndex(parse_url(url), TERMS, seconds=30, clock=lambda: LATER).search(
        Query.parse(text), limit=limit, account=account, **place
    )
    return page


async def _fetch(url, node, directory):
    directory.mkdir()
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        return await fetch_journal(connection, node, directory)


async def test_a_journal_is_shipped_once_and_comes_back_byte_for_byte(url, tmp_path):
    """Whoever ships, again or anew; what comes back verifies with the public key alone, checkpoints and all."""
    journal = tmp_path / "journal"
    await write_journal(journal, 5)
    await write_journal(journal, 2, origin="other")
    assert [[7, 0], [0]] == [await _ship(url, journal, times=2), await _ship(url, journal)]
    await write_journal(journal, 3, clock=SecondHand(NOON + timedelta(hours=1)))
    assert [3] == await _ship(url, journal)
    assert 10 == await _fetch(url, "n1", tmp_path / "back")
    names = {path.name for path in journal.glob("*.jsonl")}
    assert {name: (journal / name).read_bytes() for name in names} == {
        path.name: path.read_bytes() for path in (tmp_path / "back").glob("*.jsonl")
    }
    report = verify(tmp_path / "back", public_key=KEY.public_key())
    assert report.ok, report.findings
    assert {("node", 8, 8), ("other", 2, 2)} == {(one.origin, one.records, one.covered) for one in report.extents}


async def test_what_is_changed_in_the_database_is_found(url, tmp_path):
    """A line that is altered, and one that is taken out."""
    journal = tmp_path / "journal"
    await write_journal(journal, 5)
    await _ship(url, journal)
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        await connection.execute(
            "UPDATE locum.journal_lines SET line = convert_to(replace(convert_from(line, 'UTF8'), 'allow', 'allaw'), 'UTF8')"
            " WHERE number = 2"
        )
        await _fetch(url, "n1", tmp_path / "altered")
        await connection.execute("DELETE FROM locum.journal_lines WHERE number IN (2, 3)")
        await _fetch(url, "n1", tmp_path / "short")
    for name in ("altered", "short"):
        assert not verify(tmp_path / name, public_key=KEY.public_key()).ok


async def test_nodes_that_name_their_origins_alike_are_kept_apart(url, tmp_path):
    """Each comes back by itself, and a search finds the records of all."""
    for number, node in enumerate(("n1", "n2")):
        await write_journal(tmp_path / node, 3 + number)
        await _ship(url, tmp_path / node, node)
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        assert ["n1", "n2"] == await list_nodes(connection)
    assert [3, 4] == [await _fetch(url, node, tmp_path / f"back-{node}") for node in ("n1", "n2")]
    assert 7 == len((await _search(url, "decision:allow")).found)


async def test_what_is_erased_leaves_the_database(url, tmp_path):
    """A segment that was written anew is shipped anew, as a whole and in one step."""
    journal = tmp_path / "journal"
    path = write_segment(journal, [{"kind": "decision", "stated_reason": "unmistakable", "at": NOON.isoformat()}] * 3)
    await _ship(url, journal)
    assert 3 == len((await _search(url, "unmistakable")).found)
    write_segment(tmp_path / "drafts", [{"kind": "decision", "at": NOON.isoformat()}] * 3).replace(path)
    assert [3] == await _ship(url, journal)
    assert [] == (await _search(url, "unmistakable")).found
    assert 3 == len((await _search(url, "")).found)
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        left = await connection.fetchval(
            "SELECT count(*) FROM locum.journal_lines WHERE convert_from(line, 'UTF8') LIKE '%unmistakable%'"
        )
    assert 0 == left


async def test_damaged_and_half_lines_do_not_stop_the_shipping(url, tmp_path):
    """What is no record is shipped as it is, for whoever verifies; what is not finished waits."""
    journal = tmp_path / "journal"
    path = write_segment(journal, [{"kind": "decision", "seq": 0}, {"kind": "grant", "seq": 1}])
    content = b"\xff\x00\n" + path.read_bytes()
    path.write_bytes(content + b'{"leaf":"half')
    assert [3] == await _ship(url, journal)
    assert {0, 1} == {one.entry["seq"] for one in (await _search(url, "")).found}
    await _fetch(url, "n1", tmp_path / "back")
    assert content == only_segment(tmp_path / "back").read_bytes()


async def test_whatever_one_line_says_those_behind_it_are_shipped(url, tmp_path, caplog):
    """By an account too long for any index it is found; what the database does not take at all is found by its line."""
    longest = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))
    far = datetime.max.replace(tzinfo=UTC).isoformat()
    journal, at = tmp_path / "journal", NOON.isoformat()
    words = [" ".join(f"w{n}x{m}" + "y" * 50 for m in range(500)) for n in range(60)]
    entries = [
        {"account": "acme"},
        {"account": longest},
        {"account": longest[:300]},
        {"account": longest[:299]},
        {"account": "a\0b"},
        {"at": far},
        {"reason": longest},
        {"texts": words},
        {"account": "acme"},
    ]
    records = [{"kind": "token", "at": at, "seq": seq, **more} for seq, more in enumerate(entries)]
    # Longer than any that a journal of ours has.
    lines = [build_line(json.dumps(record).encode())[1] for record in records]
    journal.mkdir()
    (journal / "node-000000000000.jsonl").write_bytes(b"".join(lines))
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        shipper = Shipper(journal, "n1", connection)
        assert 9 == await shipper.catch_up()
        assert 0 == shipper.behind()
        assert (0, 0) == shipper.unread
    assert [] == [one for one in caplog.records if "cannot be found by all" in one.getMessage()]
    assert set(range(9)) == {one.entry["seq"] for one in (await _search(url, "kind:token")).found}
    assert [7] == [one.entry["seq"] for one in (await _search(url, "w59x499" + "y" * 50)).found]
    for account, expected in (("acme", [8, 0]), (longest, [1]), (longest[:300], [2]), ("a\0b", [4])):
        found = (await _search(url, "kind:token", account=account)).found
        assert sorted(expected) == sorted(one.entry["seq"] for one in found)
    assert 9 == await _fetch(url, "n1", tmp_path / "back")


async def test_a_file_written_over_in_its_place_is_shipped_anew(url, tmp_path):
    """The inode's number is the same, and more stands there than before: the last line that was shipped does not."""
    journal = tmp_path / "journal"
    path = write_segment(journal, [{"kind": "decision", "stated_reason": "unmistakable", "at": NOON.isoformat()}] * 3)
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        shipper = Shipper(journal, "n1", connection)
        assert [3, 0] == [await shipper.catch_up() for _ in range(2)]
        draft = write_segment(tmp_path / "drafts", [{"kind": "decision", "at": NOON.isoformat()}] * 30)
        inode = path.stat().st_ino
        path.write_bytes(draft.read_bytes())
        assert inode == path.stat().st_ino
        assert 30 == await shipper.catch_up()
    assert [] == (await _search(url, "unmistakable")).found
    await _fetch(url, "n1", tmp_path / "back")
    assert path.read_bytes() == only_segment(tmp_path / "back").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE locum.journal_segments SET name = '../escaped.jsonl'",
        "UPDATE locum.journal_segments SET name = 'node-000000000000.jsonl/../../escaped'",
        "UPDATE locum.journal_notes SET origin = '../escaped'",
        "UPDATE locum.journal_notes SET origin = ''",
    ],
)
async def test_the_database_names_no_file_elsewhere(url, tmp_path, change):
    """A name that no journal gives its files is refused, and nothing is written, there or here."""
    await write_journal(tmp_path / "journal", 3)
    await _ship(url, tmp_path / "journal")
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        await connection.execute(change)
    with pytest.raises(StoreError, match="was changed"):
        await _fetch(url, "n1", tmp_path / "back")
    assert {"back", "journal"} == {path.name for path in tmp_path.iterdir()}
    assert [] == list((tmp_path / "back").iterdir())


async def test_the_database_names_no_folder_elsewhere(url, tmp_path):
    """What a node is called becomes a folder's name."""
    await write_journal(tmp_path / "journal", 1)
    await _ship(url, tmp_path / "journal", "..")
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        with pytest.raises(StoreError, match="was changed"):
            await list_nodes(connection)


async def test_nothing_is_written_over_and_no_link_is_followed(url, tmp_path):
    """What stands where a file is to be made was not made by us."""
    await write_journal(tmp_path / "journal", 1)
    await _ship(url, tmp_path / "journal")
    name = only_segment(tmp_path / "journal").name
    for number, planted in enumerate((name, "node.checkpoint", "node.checkpoints")):
        directory, victim = tmp_path / f"back-{number}", tmp_path / f"victim-{number}"
        directory.mkdir()
        (directory / planted).symlink_to(victim)
        async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
            with pytest.raises(StoreError, match="File exists"):
                await fetch_journal(connection, "n1", directory)
        assert not victim.exists()


async def test_how_far_other_nodes_are_behind_is_not_made_up(url, tmp_path):
    """Nothing has been shipped of a journal, and no answer says that nothing is behind."""
    await write_journal(tmp_path / "journal", 3)
    index = DatabaseIndex(parse_url(url), TERMS, seconds=30)
    _, lag = await index.search(Query.parse(""), limit=1, before=None, after=None, account=None)
    assert (None, None) == (lag, (await index.stats(Query.parse(""), account=None))[1])


async def test_a_torn_line_that_nobody_will_finish_is_not_waited_for(url, tmp_path):
    """The newest file may still get the rest of its last line, an older one never."""
    journal = tmp_path / "journal"
    older = write_segment(journal, [{"kind": "decision", "seq": 0}])
    older.write_bytes(older.read_bytes() + b'{"leaf":"half')
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        shipper = Shipper(journal, "n1", connection)
        await shipper.catch_up()
        assert len(b'{"leaf":"half') == shipper.behind()
        write_segment(journal, [{"kind": "decision", "seq": 1}], first=1)
        await shipper.catch_up()
        assert 0 == shipper.behind()


async def test_pages_hold_still_while_nodes_ship(url, tmp_path):
    """Each record is on one page, also of those that two nodes wrote in one microsecond."""
    entries = [{"kind": "decision", "at": (NOON + timedelta(seconds=n // 4)).isoformat(), "seq": n} for n in range(30)]
    for node in ("n1", "n2"):
        write_segment(tmp_path / node, entries)
        await _ship(url, tmp_path / node, node)
    seen, place = [], {}
    while True:
        page = await _search(url, "kind:decision", limit=7, **place)
        seen += [(one.id, one.entry["seq"]) for one in page.found]
        if not page.more:
            break
        place = {"before": page.found[-1].id}
        write_segment(
            tmp_path / "n1",
            [{"kind": "decision", "at": (NOON + timedelta(days=1)).isoformat(), "seq": 99}],
            first=30 + len(seen),
        )
        await _ship(url, tmp_path / "n1")
    assert 60 == len(seen)
    assert [id_ for id_, _ in seen] == sorted((id_ for id_, _ in seen), reverse=True)
    oldest_first = await _search(url, "kind:decision", limit=5, after=0)
    assert [0, 0, 0, 0] == [one.entry["seq"] // 4 for one in oldest_first.found[:4]]


async def test_who_follows_waits_for_the_slowest_node(url, tmp_path):
    """What a node has not shipped yet may be older than what another has; one long away is waited for no more."""
    at = {name: (NOON + timedelta(seconds=second)).isoformat() for name, second in (("early", 5), ("late", 10))}
    write_segment(tmp_path / "slow", [{"kind": "decision", "at": at["early"], "seq": 0}])
    write_segment(tmp_path / "quick", [{"kind": "decision", "at": at["late"], "seq": 1}])

    async def follow():
        return [one.entry["seq"] for one in (await _search(url, "", after=0)).found]

    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        now = NOON + timedelta(seconds=3)
        slow = Shipper(tmp_path / "slow", "slow", connection, clock=lambda: now)
        (tmp_path / "slow" / "node-000000000000.jsonl").rename(tmp_path / "kept")
        await slow.catch_up()
        await _ship(url, tmp_path / "quick", "quick")
        assert [] == await follow()
        (tmp_path / "kept").rename(tmp_path / "slow" / "node-000000000000.jsonl")
        now = NOON + timedelta(seconds=60)
        await slow.catch_up()
        assert [0, 1] == await follow()
        await connection.execute("UPDATE locum.journal_nodes SET through = 0 WHERE node = 'slow'")
        assert [] == await follow()
        await connection.execute("UPDATE locum.journal_nodes SET heard_at = now() - interval '1 h' WHERE node = 'slow'")
        assert [0, 1] == await follow()


@pytest.fixture(scope="module")
def shared_url(postgres):
    """One database for all examples."""
    return postgres.url(asyncio.run(postgres.lend()))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(entries=st.lists(ENTRIES, max_size=12), queries=st.lists(QUERIES, min_size=4, max_size=8))
def test_the_database_finds_what_a_scan_finds(tmp_path_factory, shared_url, entries, queries):
    """Whatever is in the log and whatever is asked, also of one account, and counted."""
    directory = tmp_path_factory.mktemp("shipped") / "journal"
    write_segment(directory, entries)
    found = list(read(directory))

    async def work():
        async with connect.Connector(parse_url(shared_url), TERMS).apart(10) as connection:
            await connection.execute("DELETE FROM locum.journal_segments")
            await Shipper(directory, "n1", connection).catch_up()
        index = DatabaseIndex(parse_url(shared_url), TERMS, seconds=30)
        for text in filter(parse_or_none, queries):
            query = Query.parse(text)
            expected = [entry for entry in found if query.matches(entry)]
            page, _ = await index.search(query, limit=50, before=None, after=None, account=None)
            assert counted(expected) == counted(one.entry for one in page.found), text
            assert len(expected) == (await index.stats(query, account=None))[0].total, text
            for account in ACCOUNTS[:3]:
                own = [entry for entry in expected if entry.get("account") == account]
                page, _ = await index.search(query, limit=50, before=None, after=None, account=account)
                assert counted(own) == counted(one.entry for one in page.found), (text, account)
                assert len(own) == (await index.stats(query, account=account))[0].total, (text, account)

    asyncio.run(work())


async def test_what_is_hidden_of_an_account_is_counted_by_nobody(url, tmp_path):
    """Of a request with its token to another account's host neither the method nor the route, in either count."""
    seen = {"kind": "decision", "decision": "deny", "account": "acme", "method": "GET", "rule": "tickets"}
    seen["at"] = NOON.isoformat()
    entries = [seen, seen | {"asked_account": "globex", "method": "PATCH", "rule": "hush"}]
    write_segment(tmp_path / "journal", entries)
    await _ship(url, tmp_path / "journal")
    index, everything = DatabaseIndex(parse_url(url), TERMS), Query.parse("")
    tally, _ = await index.stats(everything, account="acme", less=elsewhere(everything))
    found, _ = await index.overview(everything, step=HOUR, account="acme", less=elsewhere(everything))
    for counted_by in (tally.by, found.by):
        assert ({"GET": 1}, {"tickets": 1}) == (counted_by["method"], counted_by["rule"])
        assert {"deny": 2} == counted_by["decision"]
    assert (2, 2, {"tickets": 1}) == (tally.total, found.total, found.refused_by_rule)


async def test_what_takes_too_long_is_given_up(url, tmp_path):
    """By the server, so that no auditor keeps it busy."""
    write_segment(tmp_path / "journal", [{"kind": "decision", "reason": "do not open"}] * 3000)
    await _ship(url, tmp_path / "journal")
    with pytest.raises(TooCostly):
        await DatabaseIndex(parse_url(url), TERMS, seconds=0.001).stats(Query.parse('-"do not open"'), account=None)


async def test_the_process_ships_and_survives_the_database(url, tmp_path, postgres):
    """Without an index here; the password is not among its arguments, and what is behind is told."""
    await write_journal(tmp_path / "journal", 3)
    indexer = Indexer(tmp_path / "journal", tmp_path / NAME, database=url, look_seconds=0.05)
    keeping = asyncio.ensure_future(indexer.keep(first_after=0))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while indexer.told is None or indexer.told.behind_bytes:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)
            assert 3 == len((await _search(url, "")).found)
            assert not (tmp_path / NAME).exists()
            # Whoever ends its connection ends nothing.
            async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            await write_journal(tmp_path / "journal", 2, clock=SecondHand(NOON + timedelta(hours=1)))
            while 5 != len((await _search(url, "")).found):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def test_a_line_is_json():
    """What the tests above write is what a journal has."""
    assert {"leaf", "record"} == set(json.loads(build_line(to_json({"kind": "grant"}))[1]))

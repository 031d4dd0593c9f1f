"""The index over the journal: it finds what the files hold, no more and no less, and can be thrown away."""

import asyncio
import gc
import os
import sqlite3
import stat
import tracemalloc
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit.index.both import open_reader
from gateway.audit.index.building import Builder, IndexBusy, rebuild
from gateway.audit.index.database import NAME, IndexUnusable, TooCostly
from gateway.audit.index.finding import Finder
from gateway.audit.record import Record, to_json
from gateway.audit.search import Query, read
from gateway.audit.search.reading import Follower
from gateway.audit.search.words import marks_of
from gateway.audit.segment import build_line
from policy.model import AccountId, AgentId
from tests.index_world import ACCOUNTS, ENTRIES, QUERIES, counted, parse_or_none, write_segment
from tests.journals import ENTRY, NOON, SecondHand, only_segment, open_journal, write_journal


def _index(directory):
    with Builder(directory, directory.parent / NAME) as builder:
        builder.catch_up()
    return directory.parent / NAME


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    entries=st.lists(ENTRIES, max_size=12), queries=st.lists(QUERIES, min_size=4, max_size=12), cut=st.integers(0, 12)
)
def test_the_index_finds_what_a_scan_finds(tmp_path_factory, entries, queries, cut):
    """Whatever is in the log and whatever is asked, also of one account, counted, and where the index is behind."""
    directory = tmp_path_factory.mktemp("index") / "journal"
    path = write_segment(directory, entries[:cut])
    index = _index(directory)
    with path.open("ab") as file:
        file.writelines(build_line(to_json(entry))[1] for entry in entries[cut:])
    read_back = list(read(directory))
    behind = {query: _ask_reader(directory, index, query) for query in filter(parse_or_none, queries)}
    _index(directory)
    with Finder(directory, index) as finder:
        for text in filter(parse_or_none, queries):
            query = Query.parse(text)
            expected = [entry for entry in read_back if query.matches(entry)]
            found = [one.entry for one in finder.search(query, limit=50).found]
            assert counted(expected) == counted(found) == counted(behind[text][0]), text
            assert len(expected) == finder.stats(query).total == behind[text][1], text
            for account in ACCOUNTS:
                own = [entry for entry in expected if entry.get("account") == account]
                assert counted(own) == counted(
                    one.entry for one in finder.search(query, limit=50, account=account).found
                )
                assert len(own) == finder.stats(query, account=account).total


def _ask_reader(directory, index, text):
    with open_reader(directory, index) as reader:
        return list(reader.find(Query.parse(text))), reader.stats(Query.parse(text)).total


async def test_pages_hold_still_while_records_come(tmp_path):
    """Each record is on one page, none is on two, whatever is written meanwhile; the newest come first."""
    directory = tmp_path / "journal"
    await write_journal(directory, 25)
    index = _index(directory)
    pages, before = [], None
    while True:
        with Finder(directory, index) as finder:
            page = finder.search(Query.parse("decision:allow"), limit=10, before=before)
        pages.append([one.entry["seq"] for one in page.found])
        if not page.more:
            break
        before = page.found[-1].id
        await write_journal(directory, 3, clock=SecondHand(NOON + timedelta(hours=1)))
        _index(directory)
    assert [list(range(24, 14, -1)), list(range(14, 4, -1)), list(range(4, -1, -1))] == pages


async def test_an_index_that_is_made_anew_has_the_same_ids(tmp_path):
    """A page that was begun before can be gone on with."""
    directory = tmp_path / "journal"
    await write_journal(directory, 5, clock=lambda: NOON)  # all in one microsecond
    index = _index(directory)

    def ids():
        with Finder(directory, index) as finder:
            return {one.entry["seq"]: one.id for one in finder.search(Query.parse(""), limit=9).found}

    first = ids()
    assert 5 == len(set(first.values()))
    assert 5 == rebuild(directory, index)
    assert first == ids()


async def test_what_is_erased_leaves_the_index(tmp_path):
    """A segment that is written anew is read anew, and no word of what it held stands in the index's files."""
    directory = tmp_path / "journal"
    path = write_segment(
        directory,
        [{"kind": "decision", "stated_reason": f"unmistakable word{n}", "at": NOON.isoformat()} for n in range(300)],
    )
    write_segment(directory, [{"kind": "grant", "at": NOON.isoformat()}], first=300)
    index = _index(directory)

    def held():
        return b"".join(file.read_bytes() for file in tmp_path.glob(f"{NAME}*"))

    assert b"unmistakable" in held()
    write_segment(tmp_path / "drafts", [{"kind": "decision", "at": NOON.isoformat()}] * 300).replace(path)
    with Finder(directory, index) as finder:
        assert [] == finder.search(Query.parse("unmistakable"), limit=1).found
        assert 1 <= finder.lag().segments
    _index(directory)
    assert b"unmistakable" not in held()
    with Finder(directory, index) as finder:
        assert (0, 300, 1) == tuple(
            finder.stats(Query.parse(text)).total for text in ("unmistakable", "kind:decision", "kind:grant")
        )
        assert 0 == finder.lag().bytes


@pytest.mark.parametrize("step", ["_tidy", "_wipe"])
async def test_what_is_erased_leaves_the_index_also_after_a_kill(tmp_path, step):
    """Whoever was killed before it was wiped out leaves that to the next one."""

    class Killed(Exception):
        pass

    def kill(_self):
        raise Killed

    directory = tmp_path / "journal"
    path = write_segment(
        directory, [{"kind": "decision", "stated_reason": f"unmistakable word{n}"} for n in range(300)]
    )
    index = _index(directory)
    write_segment(tmp_path / "drafts", [{"kind": "decision"}] * 300).replace(path)

    class Dying(Builder):
        pass

    setattr(Dying, step, kill)
    with pytest.raises(Killed), Dying(directory, index) as builder:
        builder.catch_up()
    _index(directory)
    assert b"unmistakable" not in b"".join(file.read_bytes() for file in tmp_path.glob(f"{NAME}*"))


def test_long_texts_of_strangers_are_not_kept_in_memory():
    """Whoever sends another user agent each time fills neither the gateway's memory nor the index's process."""
    query = Query.parse("nothing -like it")
    texts = [" ".join(f"w{number}x{word}" for word in range(200)) for number in range(300)]
    gc.collect()
    tracemalloc.start()
    try:
        for text in texts:
            entry = {"kind": "decision", "user_agent": text, "path": f"/{text}", "ticket": text, "account": text}
            query.matches(entry)
            marks_of(entry)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000


@pytest.fixture
def damaged(tmp_path):
    """An index in whose file some pages never reached the disk."""
    journal, index = tmp_path / "journal", tmp_path / NAME
    texts = [f"word{number} common" for number in range(3000)]
    write_segment(journal, [{"kind": "decision", "at": NOON.isoformat(), "stated_reason": text} for text in texts])
    with Builder(journal, index) as builder:
        builder.catch_up()
    content = index.read_bytes()
    middle = len(content) // 4096 // 2 * 4096
    index.write_bytes(content[: 4096 * 2] + bytes(middle - 4096 * 2) + content[middle:])
    return journal, index


def test_an_index_that_is_found_damaged_in_use_is_made_anew(damaged):
    """Whoever notices, deletes it; the next builder begins again, and all is found."""
    journal, index = damaged
    with Finder(journal, index) as finder, pytest.raises(IndexUnusable):
        list(finder.each(Query.parse("common")))
    assert not index.exists()
    with Builder(journal, index) as builder:
        assert 3000 == builder.catch_up()
    with Finder(journal, index) as finder:
        assert 3000 == finder.stats(Query.parse("common")).total


def _build(journal, index):
    with Builder(journal, index) as builder:
        builder.catch_up()


def test_an_index_that_is_found_damaged_while_it_is_kept_is_made_anew(damaged, caplog):
    """By the builder, which then gives up, and lets go of what it has."""
    journal, index = damaged
    write_segment(journal, [{"kind": "decision", "at": NOON.isoformat(), "stated_reason": "more"}] * 3000, first=3000)
    with pytest.raises(sqlite3.Error):
        _build(journal, index)
    assert not index.exists()
    assert ["the index is damaged"] == [one.getMessage().split(",")[0] for one in caplog.records]
    with Builder(journal, index) as builder:
        assert 6000 == builder.catch_up()


def test_an_index_is_looked_through_once_the_machine_was_started_anew(damaged):
    """What nobody has read yet is not trusted then; a process that ends loses nothing."""
    journal, index = damaged
    connection = sqlite3.connect(index, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE made SET boot = 'the one before'")
    finally:
        connection.close()
    with Builder(journal, index) as builder:
        assert 3000 == builder.catch_up()
    with Builder(journal, index) as builder:
        assert 0 == builder.catch_up()


def test_a_word_that_an_index_has_cut_is_not_taken_for_a_shorter_one(tmp_path):
    """Sixty-four characters, and the same with one more: each is found by itself, and counted so, too."""
    journal, index = tmp_path / "journal", tmp_path / NAME
    words = ["x" * 63, "x" * 64, "x" * 65]
    write_segment(journal, [{"kind": "decision", "at": NOON.isoformat(), "stated_reason": word} for word in words])
    with Builder(journal, index) as builder:
        builder.catch_up()
    with Finder(journal, index) as finder:
        for word in words:
            query = Query.parse(word)
            assert [word] == [one.entry["stated_reason"] for one in finder.search(query, limit=9).found]
            assert 1 == finder.stats(query).total
            assert 2 == finder.stats(Query.parse(f"-{word}")).total


def test_who_follows_sees_every_record_of_two_origins(tmp_path):
    """One writes behind the reader's back, the other a little later: the later one is not shown before the earlier."""
    journal, index = tmp_path / "journal", tmp_path / NAME
    now = NOON

    def write(origin, seq, second):
        line = build_line(
            to_json({"at": (NOON + timedelta(seconds=second)).isoformat(), "origin": origin, "seq": seq})
        )[1]
        with (journal / f"{origin}-000000000000.jsonl").open("ab") as file:
            file.write(line)

    def follow(after):
        with Finder(journal, index, clock=lambda: now) as finder:
            found = finder.search(Query.parse(""), limit=10, after=after).found
        return [(one.entry["origin"], one.entry["seq"]) for one in found], found[-1].id if found else after

    journal.mkdir()
    write("one", 0, 0)
    write("two", 0, 0)
    with Builder(journal, index) as builder:
        builder.catch_up()
        # A moment ago: another may be on its way.
        assert ([], 0) == follow(0)
        now = NOON + timedelta(seconds=10)
        seen, place = follow(0)
        assert {("one", 0), ("two", 0)} == set(seen)
        write("two", 1, 6)
        builder.catch_up()
        write("one", 1, 5)
        assert ([], place) == follow(place)
        builder.catch_up()
        assert [("one", 1), ("two", 1)] == follow(place)[0]


async def test_a_file_written_over_in_its_place_is_read_anew(tmp_path):
    """The inode's number is the same, and more stands there than before: the last line that was read does not."""
    journal, index = tmp_path / "journal", tmp_path / NAME
    at = NOON.isoformat()
    path = write_segment(journal, [{"kind": "decision", "stated_reason": "unmistakable", "at": at}] * 3)
    follower = Follower(journal)
    assert 3 == len(list(follower.poll()))
    with Builder(journal, index) as builder:
        builder.catch_up()
        inode = path.stat().st_ino
        path.write_bytes(write_segment(tmp_path / "drafts", [{"kind": "decision", "at": at}] * 30).read_bytes())
        assert inode == path.stat().st_ino
        with Finder(journal, index) as finder:
            assert [] == finder.search(Query.parse("kind:decision"), limit=50).found
            assert path.stat().st_size == finder.lag().bytes
        with open_reader(journal, index) as reader:
            assert 30 == len(list(reader.find(Query.parse("kind:decision"))))
        assert 30 == builder.catch_up()
        assert 0 == builder.catch_up()
    with Finder(journal, index) as finder:
        assert 30 == len(finder.search(Query.parse("kind:decision"), limit=50).found)
    assert 30 == len(list(follower.poll()))
    assert not any(b"unmistakable" in one.read_bytes() for one in tmp_path.glob(f"{NAME}*"))


async def test_a_segment_that_goes_leaves_the_index(tmp_path):
    """Whoever archives files finds what is left."""
    directory = tmp_path / "journal"
    path = write_segment(directory, [{"kind": "decision"}])
    write_segment(directory, [{"kind": "grant"}], first=1)
    index = _index(directory)
    path.unlink()
    _index(directory)
    with Finder(directory, index) as finder:
        assert ["grant"] == [one.entry["kind"] for one in finder.search(Query.parse(""), limit=9).found]


async def test_damage_does_not_stop_the_index(tmp_path):
    """A torn end, a line that is none and one that was tampered with are passed over, and what follows is found."""
    directory = tmp_path / "journal"
    path = write_segment(
        directory, [{"kind": "decision", "seq": 0}, {"kind": "decision", "seq": 1}, {"kind": "grant", "seq": 2}]
    )
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"\xff\x00\n" + lines[0] + lines[1].replace(b'"record":{', b'"record":[') + b"\n" + lines[2] + b'{"leaf":"torn'
    )
    index = _index(directory)
    write_segment(directory, [{"kind": "decision", "seq": 5}], first=9)
    _index(directory)
    with Finder(directory, index) as finder:
        assert {0, 2, 5} == {one.entry["seq"] for one in finder.search(Query.parse(""), limit=9).found}
        assert 0 == finder.lag().bytes


async def test_a_line_that_is_half_there_is_read_when_it_is_whole(tmp_path):
    """The end of the newest segment may be in the making."""
    directory = tmp_path / "journal"
    path = write_segment(directory, [{"kind": "decision"}])
    line = path.read_bytes()
    with path.open("ab", buffering=0) as file:
        file.write(line[:20])
        index = _index(directory)
        file.write(line[20:])
    _index(directory)
    with Finder(directory, index) as finder:
        assert 2 == finder.stats(Query.parse("")).total


@pytest.mark.parametrize(
    "spoil", [lambda data: b"not a database at all" * 100, lambda data: data[: len(data) // 2], lambda data: b""]
)
async def test_a_spoilt_index_is_made_anew(tmp_path, spoil):
    """Nothing is lost with it: whoever finds it spoilt says so, and whoever keeps it replaces it."""
    directory = tmp_path / "journal"
    await write_journal(directory, 3)
    index = _index(directory)
    index.write_bytes(spoil(index.read_bytes()))
    with pytest.raises(IndexUnusable), Finder(directory, index) as finder:
        finder.search(Query.parse("allow"), limit=9)
        raise IndexUnusable("it was empty")
    _index(directory)
    with Finder(directory, index) as finder:
        assert 3 == len(finder.search(Query.parse("decision:allow"), limit=9).found)


async def test_the_index_is_its_owners_and_has_one_keeper(tmp_path):
    """Nobody else may read it, and of two who would keep it one is turned away."""
    directory = tmp_path / "journal"
    await write_journal(directory, 1)
    old = os.umask(0)
    try:
        with Builder(directory, tmp_path / NAME) as builder:
            builder.catch_up()
            with pytest.raises(IndexBusy):
                Builder(directory, tmp_path / NAME)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("journal-index*")}
    assert {0o600} == set(modes.values()), modes


async def test_what_takes_too_long_is_given_up(tmp_path):
    """Whoever asks for too much is told so, and nobody waits."""
    directory = tmp_path / "journal"
    write_segment(directory, [{"kind": "decision", "reason": "do not open"}] * 3000)
    index = _index(directory)
    with Finder(directory, index, seconds=0.0) as finder:
        for text in ("", '-"do not open"', "kind:decision"):
            with pytest.raises(TooCostly):
                finder.search(Query.parse(text), limit=3000)
            with pytest.raises(TooCostly):
                finder.stats(Query.parse(text))


async def test_lines_of_a_real_journal_are_found_by_what_is_sealed(tmp_path):
    """Personal fields are found like all others while they are there."""
    directory = tmp_path / "journal"
    journal = await open_journal(directory)
    await asyncio.gather(
        journal.append(Record(kind="decision", subject=AgentId("maria"), account=AccountId("acme"), ticket="SUP-1")),
        journal.append(ENTRY),
    )
    await journal.close()
    assert only_segment(directory)
    with Finder(directory, _index(directory)) as finder:
        found = finder.search(Query.parse("agent:maria ticket:SUP-1"), limit=9).found
    assert ["maria"] == [msgspec.to_builtins(one.entry)["subject"] for one in found]


async def test_a_record_of_a_time_far_away_stops_nothing(tmp_path):
    """Whoever dates one into 2050 or 9999, or a clock that is wrong, loses no record, and the order stays."""
    directory = tmp_path / "journal"
    years = [2026, 2050, 2027, 9999, 2041, 2100, 9999]
    write_segment(directory, [{"kind": "decision", "at": f"{year}-06-01T00:00:00Z"} for year in years])
    index = _index(directory)
    with Finder(directory, index) as finder:
        found = finder.search(Query.parse("kind:decision"), limit=9).found
        assert sorted(years) == sorted(int(one.entry["at"][:4]) for one in found)
        assert sorted(years, reverse=True) == [int(one.entry["at"][:4]) for one in found]
        late = finder.search(Query.parse("after:2060-01-01"), limit=9).found
        assert [9999, 9999, 2100] == [int(one.entry["at"][:4]) for one in late]

"""The index over the journal: it finds what the files hold, no more and no less, and can be thrown away."""

import asyncio
import os
import stat
from collections import Counter
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
from gateway.audit.search import Query, QueryError, read
from gateway.audit.segment import build_line
from policy.model import AccountId, AgentId
from tests.journals import ENTRY, NOON, SecondHand, only_segment, open_journal, write_journal

# Few values, so that terms meet; some that differ in case only, that are no ASCII, that look like our own marks.
_ACCOUNTS = ["acme", "ACME", "globex", "straße", "STRASSE", "a b", "İ", "", ".any", '"x" OR "y"', "acme*"]
_WORDS = ["refund", "Refund", "refunds", "do", "not", "open", "don't", "über", "日本", "a_b", "x" * 80, "x" * 81, "NOT"]
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=4).map(" ".join) | st.text(max_size=8)
_NAMES = st.sampled_from(_ACCOUNTS)
_PATHS = st.sampled_from(
    ["/", "/tickets", "/tickets/1", "/tickets/1/", "/Tickets/1/reply", "//", "", "tickets", "/a" * 70]
)
_ADDRESSES = st.sampled_from(
    ["192.0.2.7", "192.0.3.7", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.7", "nowhere", "FE80::1"]
)
_TIMES = st.sampled_from(
    [
        "2026-11-23T12:00:00.000000Z",
        "2026-11-23T12:00:00.000001Z",
        "2026-11-24T00:00:00Z",
        "1969-01-01T00:00:00Z",
        "soon",
    ]
)
_ODD = (
    st.none()
    | st.integers(0, 5)
    | st.lists(_NAMES, max_size=2)
    | st.dictionaries(st.sampled_from(["at", "b"]), _TEXTS, max_size=2)
)
_ENTRIES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["decision", "grant", "Decision"])},
    optional={
        "account": _NAMES | _ODD,
        "actor": st.fixed_dictionaries(
            {"issuer": st.just("https://login.example")}, optional={"name": _NAMES, "subject": _NAMES | _ODD}
        )
        | _ODD,
        "assumption": _NAMES,
        "at": _TIMES,
        "client_id": _NAMES,
        "client_ip": _ADDRESSES | _ODD,
        "decision": st.sampled_from(["allow", "deny"]),
        "method": st.sampled_from(["GET", "get", "POST"]),
        "origin": st.just("node"),
        "path": _PATHS | _ODD,
        "reason": _TEXTS,
        "request_id": _NAMES,
        "rule": st.sampled_from(["tickets.read", "tickets.read users.read"]) | _ODD,
        "scopes": st.lists(_TEXTS, max_size=2),
        "seq": st.integers(0, 3),
        "stated_reason": _TEXTS,
        "subject": _NAMES,
        "ticket": _NAMES,
        "unheard_of": _TEXTS | _ODD,
    },
)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


_QUALIFIED = st.tuples(
    st.sampled_from(
        [
            "actor",
            "account",
            "agent",
            "client",
            "decision",
            "kind",
            "method",
            "origin",
            "path",
            "reason",
            "request",
            "route",
            "sid",
            "ticket",
            "ip",
        ]
    ),
    _NAMES
    | _PATHS
    | _ADDRESSES
    | _TEXTS
    | st.sampled_from(["allow", "deny", "GET", "tickets.read", "decision", "node"]),
).map(lambda pair: f"{pair[0]}:{_quote(pair[1])}")
_TERMS = st.tuples(
    st.sampled_from(["", "-"]),
    _QUALIFIED
    | _TEXTS.map(_quote)
    | st.sampled_from(_WORDS).map(lambda word: f"{_quote(word[:60])}*")
    | st.sampled_from(
        ["ip:192.0.2.0/24", "ip:192.0.0.0/15", "ip:0.0.0.0/0", "ip:192.0.2.6/31", "ip:2001:db8::/32", "ip:2001::/16"]
    )
    | st.tuples(st.sampled_from(["after", "before"]), _TIMES).map(":".join),
).map("".join)
_QUERIES = st.lists(_TERMS, max_size=4).map(" ".join)


def _parse(text: str) -> Query | None:
    try:
        return Query.parse(text)
    except QueryError:
        return None


def _write(directory, entries, *, origin="node", first=0):
    directory.mkdir(exist_ok=True)
    lines = [build_line(to_json(entry))[1] for entry in entries]
    path = directory / f"{origin}-{first:012d}.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def _known(found):
    return Counter(map(to_json, found))


def _index(directory):
    with Builder(directory, directory.parent / NAME) as builder:
        builder.catch_up()
    return directory.parent / NAME


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(_ENTRIES, max_size=12), queries=st.lists(_QUERIES, min_size=4, max_size=12), cut=st.integers(0, 12)
)
def test_the_index_finds_what_a_scan_finds(tmp_path_factory, entries, queries, cut):
    """Whatever is in the log and whatever is asked, also of one account, counted, and where the index is behind."""
    directory = tmp_path_factory.mktemp("index") / "journal"
    path = _write(directory, entries[:cut])
    index = _index(directory)
    with path.open("ab") as file:
        file.writelines(build_line(to_json(entry))[1] for entry in entries[cut:])
    read_back = list(read(directory))
    behind = {query: _ask_reader(directory, index, query) for query in filter(_parse, queries)}
    _index(directory)
    with Finder(directory, index) as finder:
        for text in filter(_parse, queries):
            query = Query.parse(text)
            expected = [entry for entry in read_back if query.matches(entry)]
            found = [one.entry for one in finder.search(query, limit=50).found]
            assert _known(expected) == _known(found) == _known(behind[text][0]), text
            assert len(expected) == finder.stats(query).total == behind[text][1], text
            for account in _ACCOUNTS:
                own = [entry for entry in expected if entry.get("account") == account]
                assert _known(own) == _known(one.entry for one in finder.search(query, limit=50, account=account).found)
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
    path = _write(
        directory,
        [{"kind": "decision", "stated_reason": f"unmistakable word{n}", "at": NOON.isoformat()} for n in range(300)],
    )
    _write(directory, [{"kind": "grant", "at": NOON.isoformat()}], first=300)
    index = _index(directory)

    def held():
        return b"".join(file.read_bytes() for file in tmp_path.glob(f"{NAME}*"))

    assert b"unmistakable" in held()
    _write(tmp_path / "drafts", [{"kind": "decision", "at": NOON.isoformat()}] * 300).replace(path)
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
    path = _write(directory, [{"kind": "decision", "stated_reason": f"unmistakable word{n}"} for n in range(300)])
    index = _index(directory)
    _write(tmp_path / "drafts", [{"kind": "decision"}] * 300).replace(path)

    class Dying(Builder):
        pass

    setattr(Dying, step, kill)
    with pytest.raises(Killed), Dying(directory, index) as builder:
        builder.catch_up()
    _index(directory)
    assert b"unmistakable" not in b"".join(file.read_bytes() for file in tmp_path.glob(f"{NAME}*"))


async def test_a_segment_that_goes_leaves_the_index(tmp_path):
    """Whoever archives files finds what is left."""
    directory = tmp_path / "journal"
    path = _write(directory, [{"kind": "decision"}])
    _write(directory, [{"kind": "grant"}], first=1)
    index = _index(directory)
    path.unlink()
    _index(directory)
    with Finder(directory, index) as finder:
        assert ["grant"] == [one.entry["kind"] for one in finder.search(Query.parse(""), limit=9).found]


async def test_damage_does_not_stop_the_index(tmp_path):
    """A torn end, a line that is none and one that was tampered with are passed over, and what follows is found."""
    directory = tmp_path / "journal"
    path = _write(
        directory, [{"kind": "decision", "seq": 0}, {"kind": "decision", "seq": 1}, {"kind": "grant", "seq": 2}]
    )
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"\xff\x00\n" + lines[0] + lines[1].replace(b'"record":{', b'"record":[') + b"\n" + lines[2] + b'{"leaf":"torn'
    )
    index = _index(directory)
    _write(directory, [{"kind": "decision", "seq": 5}], first=9)
    _index(directory)
    with Finder(directory, index) as finder:
        assert {0, 2, 5} == {one.entry["seq"] for one in finder.search(Query.parse(""), limit=9).found}
        assert 0 == finder.lag().bytes


async def test_a_line_that_is_half_there_is_read_when_it_is_whole(tmp_path):
    """The end of the newest segment may be in the making."""
    directory = tmp_path / "journal"
    path = _write(directory, [{"kind": "decision"}])
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
    _write(directory, [{"kind": "decision", "reason": "do not open"}] * 3000)
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

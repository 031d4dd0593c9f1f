"""What cannot be read in any way keeps nothing else from being found: it is stepped over, counted and shown."""

import asyncio
import errno
import logging
import os
import socket
from datetime import timedelta

import pytest
from click.testing import CliRunner

from gateway.audit.index.both import open_reader
from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME
from gateway.audit.index.finding import Finder
from gateway.audit.index.grouping import GROUPING
from gateway.audit.index.lines import Indexed, read_indexed
from gateway.audit.index.process import Indexer
from gateway.audit.index.settled import first_time
from gateway.audit.search import Query
from gateway.audit.segment import Line, join_line
from gateway.cli.root import cli
from tests.index_world import write_segment
from tests.journals import NOON
from tests.upstream_client import eventually

EVERYTHING = Query.parse("")
LATER = NOON + timedelta(days=30)


def entry(seq):
    return {"kind": "decision", "decision": "allow", "seq": seq, "origin": "node", "at": NOON.isoformat()}


def index(directory, read=read_indexed):
    """Bring the index up to date and return what it could not read."""
    with Builder(directory, directory.parent / NAME, read=read) as builder:
        builder.catch_up()
        assert 0 == builder.behind()
        return builder.unread


def found(directory, **options):
    """The numbers of what is found, and of what whoever follows is shown; and what the index says of itself."""
    with Finder(directory, directory.parent / NAME, clock=lambda: LATER, **options) as finder:
        page = finder.search(EVERYTHING, limit=99)
        following = finder.search(EVERYTHING, limit=99, after=-1)
        assert len(page.found) == finder.stats(EVERYTHING).total
        assert sorted(one.id for one in page.found) == [one.id for one in following.found]
        return sorted(one.entry["seq"] for one in page.found), finder.lag()


DAMAGES = {
    "nothing": lambda _: b"\n",
    "a hole": lambda line: b"\0" * len(line) + b"\n",
    "a larger hole": lambda _: b"\0" * (1 << 20) + b"\n",
    "something else": lambda _: b"Out of memory: Killed process\n",
    "no UTF-8": lambda line: line.replace(b'"allow"', b'"\xff\xfe"'),
    "half of a pair": lambda line: line.replace(b'"allow"', b'"\\ud800"'),
    "cut": lambda line: line[:60] + b"\n",
    "cut within the record": lambda line: line[:100] + b"}\n",
    "its beginning lost": lambda line: line[40:],
    "two in one line": lambda line: line[:-1] + line,
    "a list": lambda line: line.replace(b'"record":{', b'"record":[{').replace(b"}}\n", b"}]}\n"),
    "a bottomless pit": lambda line: line.replace(b'"allow"', b"[" * 50_000 + b"]" * 50_000),
    "a brace flipped": lambda line: line.replace(b'"record":{', b'"record":['),
    "gone, but not said by whom": lambda line: join_line(Line(line[9:73], b"", gone=b'{"seq":1}')),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_line_is_stepped_over_and_counted(tmp_path, damage):
    """Those before it and behind it are found, also what comes later; and the number is kept with the index."""
    directory = tmp_path / "journal"
    path = write_segment(directory, [entry(0), entry(1), entry(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage(lines[1]) + lines[2])
    write_segment(directory, [entry(3)], first=3)
    assert (1, 0) == index(directory)
    write_segment(directory, [entry(4)], first=4)
    assert (1, 0) == index(directory)
    numbers, lag = found(directory)
    assert ([0, 2, 3, 4], 0, (1, 0)) == (numbers, lag.bytes, lag.unread)


def test_what_retention_has_taken_away_is_no_damage(tmp_path):
    """Its line is read, and says so."""
    directory = tmp_path / "journal"
    path = write_segment(directory, [entry(0), entry(1)])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(join_line(Line(first[9:73], b"", gone=b'{"seq":0,"by":"cli:3"}')) + second)
    assert (0, 0) == index(directory)


GROUP = (None,) * len(GROUPING)
IMPOSSIBLE = {
    "a number beyond all": Indexed(2**70, GROUP, ".any"),
    "no number": Indexed("soon", GROUP, ".any"),
    "a group that is no text": Indexed(1, ("\ud800", *GROUP[1:]), ".any"),
    "a group that is a list": Indexed(1, (("a",), *GROUP[1:]), ".any"),
    "too few groups": Indexed(1, GROUP[1:], ".any"),
    "marks that are no text": Indexed(1, ("acme", *GROUP[1:]), ".any \udfff"),
    "marks that are a list": Indexed(1, ("acme", *GROUP[1:]), [".any"]),
}


@pytest.mark.parametrize("impossible", IMPOSSIBLE.values(), ids=list(IMPOSSIBLE))
def test_a_line_that_no_index_takes_is_stepped_over(tmp_path, impossible, caplog):
    """Whatever is made of it, and whatever SQLite says to that: what was tried with it leaves no trace."""
    directory = tmp_path / "journal"
    write_segment(directory, [entry(seq) for seq in range(6)])
    spoilt = iter([None, impossible, None, impossible])
    read = lambda line: next(spoilt, None) or read_indexed(line)  # noqa: E731 - of this test alone
    assert (2, 0) == index(directory, read)
    numbers, lag = found(directory)
    assert ([0, 2, 4, 5], 0, (2, 0)) == (numbers, lag.bytes, lag.unread)
    assert 1 == len([one for one in caplog.records if "is stepped over" in one.getMessage()])


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, AssertionError, KeyError, StopIteration])
def test_what_nobody_has_thought_of_is_stepped_over(tmp_path, error, caplog):
    """The next fault of ours in reading a record costs that record, and not the index."""
    directory = tmp_path / "journal"
    write_segment(directory, [entry(seq) for seq in range(4)])

    def read(line):
        if b'"seq":1' in line:
            raise error
        return read_indexed(line)

    assert (1, 0) == index(directory, read)
    assert [0, 2, 3] == found(directory)[0]
    assert [error] == [one.exc_info[0] for one in caplog.records]


def folder(path, _):
    path.mkdir()


def pipe(path, _):
    os.mkfifo(path)


def link_to_nowhere(path, _):
    path.symlink_to("nowhere")


def link_to_itself(path, _):
    path.symlink_to(path.name)


def link_to_another(path, directory):
    path.symlink_to(write_segment(directory / "elsewhere", [entry(9)]))


def door(path, directory):
    # An address may be no longer than 107 bytes.
    with socket.socket(socket.AF_UNIX) as it:
        handle = os.open(directory, os.O_RDONLY)
        try:
            it.bind(f"/proc/self/fd/{handle}/{path.relative_to(directory)}")
        finally:
            os.close(handle)


FILES = [folder, pipe, link_to_nowhere, link_to_itself, link_to_another, door]


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_a_file_that_cannot_be_read_is_stepped_over(tmp_path, make, caplog):
    """By the index, by whoever asks it or follows, by whoever reads the files; it is tried again, and told of once."""
    directory = tmp_path / "journal"
    write_segment(directory, [entry(0)])
    bad = directory / "node-000000000001.jsonl"
    make(bad, tmp_path)
    write_segment(directory, [entry(2)], first=2)
    with Builder(directory, tmp_path / NAME) as builder:
        assert [2, 0, 0] == [builder.catch_up() for _ in range(3)]
        assert ((0, 1), 0) == (builder.unread, builder.behind())
        said = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
        assert 1 == len(said) and bad.name in said[0]
        numbers, lag = found(directory)
        assert ([0, 2], 0, (0, 1)) == (numbers, lag.bytes, lag.unread)
        write_segment(directory, [entry(3)], first=3)
        for way in (tmp_path / NAME, None):
            with open_reader(directory, way) as reader:
                assert [0, 2, 3] == sorted(one["seq"] for one in reader.find(EVERYTHING))
        bad.rmdir() if make is folder else bad.unlink()
        write_segment(directory, [entry(1)], first=1)
        assert 2 == builder.catch_up()
        assert (0, 0) == builder.unread
    assert [0, 1, 2, 3] == found(directory)[0]


def test_a_bad_sector_within_a_segment_stops_nobody_who_follows(tmp_path):
    """What stands before it is found, and what others hold; its file counts as one that cannot be read."""
    directory = tmp_path / "journal"
    bad = write_segment(directory, [entry(0)])
    for seq in (3, 4):
        write_segment(directory, [entry(seq)], first=seq)
    assert (0, 0) == index(directory)
    bad.write_bytes(bad.read_bytes() + write_segment(tmp_path / "elsewhere", [entry(1), entry(2)]).read_bytes())

    def first(path, offset):
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return first_time(path, offset)

    numbers, lag = found(directory, first=first)
    assert ([0, 3, 4], 0, 0, (0, 1)) == (numbers, lag.bytes, lag.segments, lag.unread)


def test_the_command_line_says_what_it_does_not_search(tmp_path):
    """How many lines and files; the rest is found, and the end of the log is shown."""
    directory = tmp_path / "journal"
    path = write_segment(directory, [entry(0), entry(1)])
    path.write_bytes(b"\0\0\n" + path.read_bytes())
    (directory / "node-000000000009.jsonl").mkdir()
    index(directory)
    for command in ("search", "tail"):
        result = CliRunner().invoke(cli, ["audit", command, "--journal", str(directory), "--json"])
        assert 0 == result.exit_code
        assert 2 == result.stdout.count('"kind":"decision"')
        assert ("cannot be read: 1 lines and 1 files" in result.stderr) == (command == "search")


async def test_the_process_that_keeps_the_index_tells_of_it(tmp_path):
    """To the gateway, whose metrics and console show it; and goes on."""
    directory = tmp_path / "journal"
    path = write_segment(directory, [entry(0), entry(1)])
    path.write_bytes(b"\0\0\n" + path.read_bytes())
    (directory / "a-000000000000.jsonl").mkdir()
    indexer = Indexer(directory, tmp_path / NAME, look_seconds=0.05)
    keeping = asyncio.ensure_future(indexer.keep(first_after=0))
    try:
        await eventually(lambda: indexer.told is not None)
        told = indexer.told
        assert (0, 1, 1) == (told.behind_bytes, told.unread_lines, told.unread_files)
        assert [0, 1] == found(directory)[0]
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

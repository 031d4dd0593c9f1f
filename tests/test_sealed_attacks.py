"""Attacks on a journal from which content has rightly been taken: whatever else is taken away or put back is found."""

import asyncio
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from gateway.audit.evidence.verify import Report, verify
from gateway.audit.removal.erasure import of_actor
from gateway.audit.removal.retention import Keeping
from gateway.audit.sealed import join_openings, split_openings
from gateway.audit.segment import Line, build_line, join_line, parse_line, read_entry
from tests.journals import KEY
from tests.kept_journal import EACH, ISSUER, Office, write_days

PUBLIC = KEY.public_key()
GONE, ERASED, WHOLE = (f"gateway-{day * EACH:012d}.jsonl" for day in range(3))


async def _make(directory: Path) -> None:
    await write_days(directory, range(3))
    for name in (GONE, WHOLE):
        shutil.copy(directory / name, directory.parent / f"before-{name}")
    async with Office(directory, day=3) as office:
        await office.retain(days=0, acme=Keeping(days=2), beta=Keeping(days=2))
        await office.erase(of_actor(ISSUER, "dana.k"))
    await write_days(directory, [4], origin="other")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Three days: of the first the content is gone, of one of two staff members everything is erased."""
    directory = tmp_path_factory.mktemp("original") / "journal"
    asyncio.run(_make(directory))
    return directory


@pytest.fixture
def journal(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "journal"))


def _check(directory: Path) -> Report:
    return verify(directory, public_key=PUBLIC)


def _lines(path: Path) -> list[Line]:
    return [parse_line(line) for line in path.read_bytes().splitlines(keepends=True)]


def _put(path: Path, lines: list[Line]) -> None:
    path.write_bytes(b"".join(join_line(line) for line in lines))


def _whats(report: Report) -> list[str]:
    return [finding.what for finding in report.findings]


def _find(journal: Path, kind: str) -> tuple[str, int, dict]:
    """Return where the first record of a kind stands, and what it says."""
    for path in sorted(journal.glob("cli-*.jsonl")):
        for line in _lines(path):
            record = msgspec.json.decode(line.record)
            if record["kind"] == kind:
                return f"cli:{record['seq']}", record["seq"], record
    raise AssertionError(kind)


def test_what_was_rightly_taken_away_is_no_finding(original):
    """With the key and without; half of the lines of the day that is kept have no actor, and those of the first none."""
    assert (True, True) == (_check(original).ok, verify(original).ok)
    assert all(line.gone for line in _lines(original / GONE))
    assert 4 == sum(b'"actor":' in line.openings for line in _lines(original / WHOLE))
    assert 8 == sum(b'"agent":' in line.openings for line in _lines(original / WHOLE))


@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize("name", [GONE, WHOLE])
def test_no_byte_can_change_unseen(journal, name, part):
    """Of openings each flip is found on its line; of lines without content in their file at the least."""
    path = journal / name
    with path.open("r+b", buffering=0) as file:
        whole = file.read()
        for offset in range(part * 7, len(whole), 42):
            flipped = whole[offset] ^ (0x01, 0x20, 0x80)[offset % 3]
            os.pwrite(file.fileno(), bytes([flipped]), offset)
            findings = verify(journal).findings
            os.pwrite(file.fileno(), whole[offset : offset + 1], offset)
            assert findings, f"byte {offset} changed unseen"
            line = whole.count(b"\n", 0, offset) + 1
            assert any(each.line <= line <= each.through for each in findings if each.segment == name)
    assert verify(journal).ok


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_each_flipped_byte_of_an_opening_is_found_on_its_line(journal, mask):
    """Every byte of one line's openings, each of three ways; nothing but that line is found."""
    path = journal / WHOLE
    lines = _lines(path)
    for offset in range(len(lines[3].openings)):
        openings = bytearray(lines[3].openings)
        openings[offset] ^= mask
        _put(path, [*lines[:3], lines[3]._replace(openings=bytes(openings)), *lines[4:]])
        assert [(WHOLE, 4)] == [(finding.segment, finding.line) for finding in verify(journal).findings], offset


def test_an_opening_taken_away_without_an_erasure_is_found(journal):
    """Each group of each line that has one."""
    path = journal / WHOLE
    lines = _lines(path)
    for index, line in enumerate(lines):
        parts = split_openings(line.openings)
        for group in parts:
            kept = join_openings((name, raw) for name, raw in parts.items() if name != group)
            _put(path, [*lines[:index], line._replace(openings=kept), *lines[index + 1 :]])
            (finding,) = _check(journal).findings
            assert (WHOLE, index + 1) == (finding.segment, finding.line)
            assert finding.what.startswith("an opening of a line is gone, and no erasure under a checkpoint")


def test_all_openings_taken_away_are_found(journal):
    """A file without any `open` is no older file."""
    path = journal / WHOLE
    _put(path, [line._replace(openings=b"") for line in _lines(path)])
    assert any("is gone, and no erasure" in what for what in _whats(_check(journal)))


def test_openings_cannot_change_places(journal):
    """Two lines of different assumptions swap theirs: both are found."""
    path = journal / WHOLE
    lines = _lines(path)
    lines[0], lines[1] = lines[0]._replace(openings=lines[1].openings), lines[1]._replace(openings=lines[0].openings)
    _put(path, lines)
    assert {1, 2} <= {finding.line for finding in _check(journal).findings}


def test_an_opening_cannot_be_moved_to_another_line(journal):
    """One that is right where it was, shown for what somebody else did."""
    path = journal / WHOLE
    lines = _lines(path)
    eve = split_openings(lines[1].openings)["actor"]
    parts = split_openings(lines[0].openings)
    moved = join_openings(sorted({**parts, "actor": eve}.items()))
    _put(path, [lines[0]._replace(openings=moved), *lines[1:]])
    assert ["the opening of `actor` is not the one that the record seals"] == _whats(_check(journal))


def test_two_groups_of_a_line_cannot_swap_their_openings(journal):
    """Each is bound to its name."""
    path = journal / WHOLE
    lines = _lines(path)
    parts = split_openings(lines[1].openings)
    parts["giver"], parts["words"] = parts["words"], parts["giver"]
    _put(path, [lines[0], lines[1]._replace(openings=join_openings(parts.items())), *lines[2:]])
    assert ["the opening of `giver` is not the one that the record seals"] == _whats(_check(journal))


def test_an_opening_cannot_be_given_to_a_record_that_seals_nothing(journal):
    """Nor a group to one that does not seal that."""
    path = next(iter(sorted(journal.glob("cli-*.jsonl"))))
    lines = _lines(path)
    _put(path, [lines[0]._replace(openings=b'{"words":{"ticket":"x"}}'), *lines[1:]])
    assert ["an opening stands here that the record does not seal"] == _whats(_check(journal))


def test_content_gone_without_a_record_is_found(journal):
    """Who can write the files makes one more line like those that are gone."""
    path = journal / WHOLE
    lines = _lines(path)
    seq = 2 * EACH + 3
    for by in (_find(journal, "retention")[0], "cli:9999", "cli:x", "", "gateway:3"):
        gone = b'{"seq":%d,"by":"%s"}' % (seq, by.encode())
        _put(path, [*lines[:3], Line(lines[3].leaf, b"", gone=gone), *lines[4:]])
        (finding,) = _check(journal).findings
        assert (WHOLE, 4, True) == (finding.segment, finding.line, finding.what.startswith("the content is gone, and"))


def test_one_more_line_gone_in_a_file_whose_content_rightly_goes_is_found(tmp_path):
    """The record says how many, and which."""

    async def make():
        await write_days(tmp_path, [0])
        async with Office(tmp_path, day=9) as office:
            await office.retain(acme=Keeping(days=2))

    asyncio.run(make())
    path = tmp_path / GONE
    lines = _lines(path)
    by = msgspec.json.decode(lines[0].gone)["by"]
    _put(path, [lines[0], Line(lines[1].leaf, b"", gone=b'{"seq":1,"by":"%s"}' % by.encode()), *lines[2:]])
    assert [f"the content is gone of other lines than `{by}` lets go"] == _whats(_check(tmp_path))


def test_another_line_gone_in_the_place_of_one_is_found(tmp_path):
    """The count is right, the root is not; and the content that was put back is no fault."""

    async def make():
        await write_days(tmp_path, [0])
        shutil.copy(tmp_path / GONE, tmp_path / "kept")
        async with Office(tmp_path, day=9) as office:
            await office.retain(acme=Keeping(days=2))

    asyncio.run(make())
    path = tmp_path / GONE
    lines, before = _lines(path), _lines(tmp_path / "kept")
    by = msgspec.json.decode(lines[0].gone)["by"]
    _put(path, [before[0], Line(lines[1].leaf, b"", gone=b'{"seq":1,"by":"%s"}' % by.encode()), *lines[2:]])
    assert [f"the content is gone of other lines than `{by}` lets go"] == _whats(_check(tmp_path))


def test_a_retention_record_cannot_be_replayed_for_another_file(journal):
    """Of the same number of lines, too."""
    path = journal / ERASED
    lines = _lines(path)
    by = msgspec.json.decode(_lines(journal / GONE)[0].gone)["by"]
    forged = [
        Line(line.leaf, b"", gone=b'{"seq":%d,"by":"%s"}' % (EACH + index, by.encode())) if index % 2 == 0 else line
        for index, line in enumerate(lines)
    ]
    _put(path, forged)
    assert [f"the content is gone, and `{by}` speaks of another file"] == _whats(_check(journal))


@pytest.mark.parametrize("kind", ["erasure", "journal"])
def test_lines_cannot_point_to_a_record_that_lets_nothing_go(journal, kind):
    """An erasure takes no content, and the journal's own marks take nothing."""
    by, _, _ = _find(journal, kind)
    path = journal / GONE
    lines = _lines(path)
    seq = msgspec.json.decode(lines[0].gone)["seq"]
    _put(path, [lines[0]._replace(gone=b'{"seq":%d,"by":"%s"}' % (seq, by.encode())), *lines[1:]])
    assert f"the content is gone, and `{by}` is no record that lets it go" in _whats(_check(journal))


def test_the_record_that_lets_content_go_cannot_go_itself(journal):
    """Whatever it would point to."""
    by, seq, _ = _find(journal, "retention")
    for path in sorted(journal.glob("cli-*.jsonl")):
        lines = _lines(path)
        for index, line in enumerate(lines):
            if line.record and msgspec.json.decode(line.record)["seq"] == seq:
                gone = b'{"seq":%d,"by":"%s"}' % (seq, by.encode())
                _put(path, [*lines[:index], Line(line.leaf, b"", gone=gone), *lines[index + 1 :]])
    assert f"the content is gone, and `{by}` is no record that lets it go" in _whats(_check(journal))


@pytest.mark.parametrize(
    "gone",
    [
        b'{"by":"cli:1","seq":0}',
        b'{"seq":0, "by":"cli:1"}',
        b'{"seq":0,"by":"cli:1","x":1}',
        b'{"seq":0}',
        b"{}",
        b'{"seq":"0","by":"cli:1"}',
        b'{"seq":0,"by":"cli\\u003a1"}',
    ],
)
def test_a_line_without_content_has_one_form(journal, gone):
    """What could be written in two ways could be changed unseen."""
    path = journal / GONE
    lines = _lines(path)
    _put(path, [lines[0]._replace(gone=gone), *lines[1:]])
    assert (GONE, 1, "this is not a line of a journal") in {
        (finding.segment, finding.line, finding.what) for finding in verify(journal).findings
    }


def test_the_leaf_hash_of_what_is_gone_cannot_change(journal):
    """Also without a checkpoint: the record has the root over all of them."""
    for unneeded in journal.glob("*.checkpoint*"):
        unneeded.unlink()
    path = journal / GONE
    lines = _lines(path)
    for index, line in enumerate(lines):
        forged = line._replace(leaf=line.leaf[:-1] + (b"0" if line.leaf[-1:] != b"0" else b"1"))
        _put(path, [*lines[:index], forged, *lines[index + 1 :]])
        (finding,) = verify(journal).findings
        assert finding.line <= index + 1 <= finding.through


def test_numbers_and_order_count_where_content_is_gone(journal):
    """Removed, doubled and swapped lines are found as anywhere else."""
    path = journal / GONE
    lines = _lines(path)
    for forged in (
        lines[1:],
        lines[:3] + lines[4:],
        [*lines[:4], lines[3], *lines[4:]],
        [lines[1], lines[0], *lines[2:]],
    ):
        _put(path, forged)
        assert _check(journal).findings


def test_who_has_no_key_cannot_let_anything_go(tmp_path):
    """Records put behind the newest checkpoint, which anybody can write, take nothing away: neither kind of them."""

    async def make():
        await write_days(tmp_path, [0, 1])
        checkpoints = {path: path.read_bytes() for path in tmp_path.glob("cli.checkpoint*")}
        async with Office(tmp_path, day=9) as office:
            await office.erase(of_actor(ISSUER, "dana.k"))
            await office.retain(days=8)
        for path in tmp_path.glob("cli.checkpoint*"):
            path.unlink()
        for path, content in checkpoints.items():
            path.write_bytes(content)

    asyncio.run(make())
    assert verify(tmp_path).ok, "all is consistent but for the signature, or this test shows nothing"
    whats = _whats(_check(tmp_path))
    assert any(what.endswith("is under no checkpoint") for what in whats)
    assert any("no erasure under a checkpoint" in what for what in whats)


def test_content_put_back_is_no_fault_of_the_log(original, journal):
    """It is what was written, and the hashes say so; to take it away again is the eraser's."""
    for name in (GONE, WHOLE):
        shutil.copy(original.parent / f"before-{name}", journal / name)
    assert _check(journal).ok


def test_bytes_that_are_no_text_are_a_finding_and_no_crash(journal):
    """Hashed anew by somebody who knows the format, in the record and in what it seals."""
    path = journal / WHOLE
    lines = _lines(path)
    record = lines[0].record.replace(b"allow", b"al\xfflow")
    assert record != lines[0].record
    leaf, _ = build_line(record)
    deep = b'{"actor":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    _put(path, [Line(leaf.hex().encode(), record), lines[1]._replace(openings=deep), *lines[2:]])
    assert {1, 2} <= {finding.line for finding in _check(journal).findings}
    assert None is read_entry(join_line(Line(lines[0].leaf, record)))

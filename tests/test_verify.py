"""Attacks on a finished journal: whatever is done to its files, verifying finds it."""

import asyncio
import itertools
import os
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.evidence.checkpoint import (
    Checkpoint,
    CheckpointError,
    NoteSigner,
    open_note,
    read_history,
    split_notes,
)
from gateway.audit.evidence.verify import Report, verify
from gateway.audit.segment import build_line, parse_line
from policy.merkle import Frontier
from tests.journals import ENTRY, KEY, NOON, SecondHand, only_segment, open_journal, write_journal

COUNT = int(os.environ.get("LOCUM_RECORDS", "60"))
"""How many records are attacked: what the suite has time for, or as many as somebody asks for."""
PUBLIC = KEY.public_key()


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A journal of so many records with its checkpoint; never written to by a test."""
    directory = tmp_path_factory.mktemp("original") / "journal"
    asyncio.run(write_journal(directory, COUNT))
    return directory


@pytest.fixture
def journal(original, tmp_path) -> Path:
    """A copy to attack."""
    return Path(shutil.copytree(original, tmp_path / "journal"))


def _check(directory: Path, checkpoint: str | None = None) -> Report:
    return verify(directory, public_key=PUBLIC, held=[] if checkpoint is None else [checkpoint])


def _lines(directory: Path) -> list[bytes]:
    return only_segment(directory).read_bytes().splitlines(keepends=True)


def _rewrite(directory: Path, lines: list[bytes]) -> None:
    only_segment(directory).write_bytes(b"".join(lines))


def _forge(line: bytes, old: bytes, new: bytes) -> bytes:
    """Change a record and hash it anew, as somebody does who knows the format."""
    record = parse_line(line).record
    assert old in record
    return build_line(record.replace(old, new))[1]


def _hash_anew(lines: list[bytes]) -> list[bytes]:
    """Number the records from 0 again and hash them anew."""
    forged = []
    for seq, line in enumerate(lines):
        record = parse_line(line).record
        value = msgspec.json.decode(record)
        forged.append(build_line(msgspec.json.encode({**value, "seq": seq}, order="sorted"))[1])
    return forged


def test_an_honest_journal_has_no_findings(original):
    """What nobody touched verifies, with the key and without, and every record is under the checkpoint."""
    for report in (_check(original), verify(original)):
        assert report.ok
        assert [("node", COUNT, COUNT)] == [
            (extent.origin, extent.records, extent.covered) for extent in report.extents
        ]


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_a_record_can_change_unseen(journal, bit):
    """Every bit of every line is flipped, and found on its line, without key or checkpoint.

    In every third line at once, so that none is found by what is wrong with the one before it.
    """
    _without_checkpoints(journal)
    lines = _lines(journal)
    for start, column in itertools.product(range(3), range(max(map(len, lines)))):
        flipped = {
            index: line
            for index in range(start, COUNT, 3)
            if column < len(lines[index]) and (line := _flip(lines[index], column, bit)).count(b"\n") == 1
        }
        _rewrite(journal, [flipped.get(index, line) for index, line in enumerate(lines)])
        assert {index + 1 for index in flipped} <= {finding.line for finding in verify(journal).findings}, column


@pytest.mark.parametrize("bit", range(8))
def test_no_end_of_a_line_can_change_unseen(journal, bit):
    """Nor can one be made where there was none: whatever makes one line of two, or two of one, one at a time."""
    _without_checkpoints(journal)
    lines = _lines(journal)
    for index, line in enumerate(lines):
        for column in range(len(line)):
            flipped = _flip(line, column, bit)
            if flipped.count(b"\n") != 1:
                _rewrite(journal, [*lines[:index], flipped, *lines[index + 1 :]])
                assert index + 1 in {finding.line for finding in verify(journal).findings}


def _flip(line: bytes, column: int, bit: int) -> bytes:
    return line[:column] + bytes([line[column] ^ 1 << bit]) + line[column + 1 :]


def _without_checkpoints(journal: Path) -> None:
    for unneeded in journal.glob("*.checkpoint*"):
        unneeded.unlink()


@pytest.mark.parametrize("fifth", range(5))
def test_no_byte_of_a_segment_can_change_unseen(journal, fifth):
    """Of every third byte one bit is flipped with nothing else wrong; each flip is found on its line."""
    _without_checkpoints(journal)
    with only_segment(journal).open("r+b", buffering=0) as file:
        whole = file.read()
        for offset in range(3 * fifth, len(whole), 15):
            # The lowest bit, the bit of a letter's case, the bit that leaves ASCII.
            flipped = whole[offset] ^ (0x01, 0x20, 0x80)[offset % 7 % 3]
            os.pwrite(file.fileno(), bytes([flipped]), offset)
            findings = verify(journal).findings
            os.pwrite(file.fileno(), whole[offset : offset + 1], offset)
            assert findings, f"byte {offset} changed unseen"
            assert whole.count(b"\n", 0, offset) + 1 in {finding.line for finding in findings}
    assert verify(journal).ok


@pytest.mark.parametrize("name", ["node.checkpoint", "node.checkpoints"])
def test_no_byte_of_a_checkpoint_can_change_unseen(journal, name):
    """Base64 has spare bits and signed notes have lines for others: neither hides a change."""
    path = journal / name
    whole = path.read_bytes()
    for offset, mask in itertools.product(range(len(whole)), (0x01, 0x20)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ mask]) + whole[offset + 1 :])
        assert not _check(journal).ok, f"byte {offset} changed unseen"


@pytest.mark.parametrize("index", range(COUNT))
def test_no_record_can_be_removed(journal, index):
    """Every single deletion is found, the last one by the checkpoint alone."""
    lines = _lines(journal)
    del lines[index]
    _rewrite(journal, lines)
    findings = _check(journal).findings
    if index < COUNT - 1:
        what = f"records {index} to {index} are missing before this one"
        assert (index + 1, what) == (findings[0].line, findings[0].what)
    assert f"cut off: a checkpoint in the journal covers {COUNT} records, here are {COUNT - 1}" == findings[-1].what


@pytest.mark.parametrize("index", range(COUNT))
def test_no_record_can_be_doubled(journal, index):
    """A line that stands there twice is found where it stands the second time."""
    lines = _lines(journal)
    lines.insert(index, lines[index])
    _rewrite(journal, lines)
    findings = _check(journal).findings
    assert (index + 2, f"record {index} stands where {index + 1} belongs") == (findings[0].line, findings[0].what)


def test_no_two_records_can_change_places(journal):
    """All swaps of two are found, C(60, 2) or of as many as there are."""
    lines = _lines(journal)
    for first, second in itertools.combinations(range(COUNT), 2):
        swapped = lines.copy()
        swapped[first], swapped[second] = lines[second], lines[first]
        _rewrite(journal, swapped)
        assert not _check(journal).ok, f"{first} and {second} changed places unseen"


@pytest.mark.parametrize("kept", range(COUNT))
def test_no_tail_can_be_cut_off_below_the_checkpoint(journal, kept):
    """Cut at every line: what is left is consistent in itself, and the checkpoint says it was more."""
    _rewrite(journal, _lines(journal)[:kept])
    (finding,) = _check(journal).findings
    assert f"cut off: a checkpoint in the journal covers {COUNT} records, here are {kept}" == finding.what


@pytest.mark.parametrize("dropped", [1, 7, COUNT - 1])
def test_no_head_can_be_cut_off(journal, dropped):
    """The first record is number 0, whatever the file is called."""
    _rewrite(journal, _lines(journal)[dropped:])
    path = only_segment(journal)
    path.rename(path.with_name(f"node-{dropped:012d}.jsonl"))
    assert f"records 0 to {dropped - 1} are missing before this one" == _check(journal).findings[0].what


@pytest.mark.parametrize("index", range(COUNT))
def test_a_forgery_that_is_hashed_anew_breaks_the_root(journal, index):
    """Leaf, number and form are right; only the signed root tells."""
    lines = _lines(journal)
    lines[index] = _forge(lines[index], b'"allow"', b'"deny"')
    _rewrite(journal, lines)
    (finding,) = _check(journal).findings
    assert f"records 0 to {COUNT - 1} are not those of a checkpoint in the journal" == finding.what


def test_a_journal_renumbered_and_hashed_anew_is_found(journal):
    """Take one record out, number the rest again, hash everything anew: the checkpoint has one more."""
    lines = _lines(journal)
    _rewrite(journal, _hash_anew(lines[:30] + lines[31:]))
    (finding,) = _check(journal).findings
    assert f"cut off: a checkpoint in the journal covers {COUNT} records, here are {COUNT - 1}" == finding.what


def test_a_record_put_in_and_renumbered_is_found(journal):
    """One more record, everything after it renumbered: the root over the first of them differs."""
    lines = _lines(journal)
    _rewrite(journal, _hash_anew([*lines[:30], lines[4], *lines[30:]]))
    (finding,) = _check(journal).findings
    assert (COUNT, f"records 0 to {COUNT - 1} are not those of a checkpoint in the journal") == (
        finding.line,
        finding.what,
    )


def test_a_forger_cannot_sign_a_checkpoint_of_their_own(journal):
    """A forgery with a fitting checkpoint under another key is told by the key."""
    lines = _lines(journal)
    lines[3] = _forge(lines[3], b'"allow"', b'"deny"')
    _rewrite(journal, lines)
    tree = Frontier()
    for line in lines:
        tree.append(bytes.fromhex(parse_line(line).leaf.decode()))
    text = Checkpoint(origin="node", size=tree.size, root=tree.root()).text()
    note = NoteSigner(Ed25519PrivateKey.generate(), name="node")(text)
    (journal / "node.checkpoint").write_bytes(note)
    (journal / "node.checkpoints").write_bytes(note + b"\n")
    assert verify(journal).ok, "the forgery is consistent, or this test shows nothing"
    assert not _check(journal).ok


@pytest.mark.parametrize("name", ["node.checkpoint", "node.checkpoints"])
def test_the_checkpoints_cannot_be_swapped_for_an_older_one(journal, name):
    """The newest and the history check each other; a copy held elsewhere checks both."""
    held = (journal / "node.checkpoint").read_text()
    tree = Frontier()
    lines = _lines(journal)[:40]
    for line in lines:
        tree.append(bytes.fromhex(parse_line(line).leaf.decode()))
    older = NoteSigner(KEY, name="node")(Checkpoint(origin="node", size=40, root=tree.root()).text())
    (journal / name).write_bytes(older + (b"\n" if name.endswith("s") else b""))
    _rewrite(journal, lines)
    assert not _check(journal).ok
    assert not _check(journal, held).ok


async def test_a_roll_back_to_an_older_copy_is_found(tmp_path):
    """Yesterday's whole directory, checkpoints and all, is perfect in itself; today's checkpoint held elsewhere is not."""
    journal, copy = tmp_path / "journal", tmp_path / "copy"
    await write_journal(journal, 20)
    shutil.copytree(journal, copy)
    await write_journal(journal, 5)
    held = (journal / "node.checkpoint").read_text()
    assert _check(journal, held).ok
    assert _check(copy).ok
    (finding,) = _check(copy, held).findings
    assert "cut off: the checkpoint held elsewhere covers 25 records, here are 20" == finding.what


async def test_a_fork_is_found_by_the_checkpoint_of_the_other_branch(tmp_path):
    """Two continuations of one journal, both rightly signed, cannot both be shown."""
    journal, fork = tmp_path / "journal", tmp_path / "fork"
    await write_journal(journal, 20)
    shutil.copytree(journal, fork)
    await write_journal(journal, 5)
    await write_journal(fork, 9, clock=SecondHand(NOON + timedelta(hours=1)))
    held = (journal / "node.checkpoint").read_text()
    assert _check(fork).ok
    (finding,) = _check(fork, held).findings
    assert "records 20 to 24 are not those of the checkpoint held elsewhere" == finding.what


async def test_a_removed_segment_is_found(tmp_path):
    """Each of three segments is missed when it is gone."""
    journal = tmp_path / "journal"
    for _ in range(3):
        await write_journal(journal, 4)
    segments = sorted(journal.glob("*.jsonl"))
    assert [f"node-{first:012d}.jsonl" for first in (0, 4, 8)] == [path.name for path in segments]
    for number, path in enumerate(segments):
        content = path.read_bytes()
        path.unlink()
        assert not _check(journal).ok, f"segment {number} vanished unseen"
        path.write_bytes(content)
    assert _check(journal).ok


async def test_a_removed_origin_is_found_by_its_checkpoint(tmp_path):
    """A worker whose files are all gone is still known to whoever holds its checkpoint."""
    journal = tmp_path / "journal"
    await write_journal(journal, 4, origin="node-worker0")
    await write_journal(journal, 4, origin="node-worker1")
    held = (journal / "node-worker1.checkpoint").read_text()
    for path in journal.glob("node-worker1*"):
        path.unlink()
    assert not _check(journal, held).ok


async def test_one_origin_cannot_stand_in_for_another(tmp_path):
    """The same numbers under another name are another origin's."""
    journal = tmp_path / "journal"
    await write_journal(journal, 4, origin="node-worker0")
    for path in list(journal.glob("node-worker0*")):
        path.rename(path.with_name(path.name.replace("worker0", "worker1")))
    whats = [finding.what for finding in _check(journal).findings]
    assert [
        "a checkpoint in the journal is another origin's, `node-worker0`",
        "the record is another origin's, `node-worker0`",
    ] == whats


def test_a_journal_without_a_checkpoint_is_a_finding_once_a_key_is_given(journal):
    """Whoever expects signatures does not take silence for one."""
    for path in journal.glob("*.checkpoint*"):
        path.unlink()
    assert verify(journal).ok
    (finding,) = _check(journal).findings
    assert "there is no checkpoint" == finding.what


def test_nothing_can_be_put_between_a_record_and_the_end_of_its_line(journal):
    """Not even a name with nothing behind it, of the part that some lines have."""
    path = only_segment(journal)
    lines = path.read_bytes().splitlines(keepends=True)
    for put in (b',"open":', b',"open":{}', b',"open":null', b" "):
        path.write_bytes(b"".join([lines[0][:-2] + put + lines[0][-2:], *lines[1:]]))
        assert 1 in {finding.line for finding in verify(journal).findings}, put


def test_damage_over_many_lines_is_one_finding_with_its_range(journal):
    """A report of a large damage can be read."""
    lines = _lines(journal)
    lines[10:40] = [b"\x00" * 50 + b"\n"] * 30
    _rewrite(journal, lines)
    first = verify(journal).findings[0]
    expected = (11, 40, sum(map(len, lines[:10])), "this is not a line of a journal")
    assert expected == (first.line, first.through, first.offset, first.what)


def test_a_torn_line_that_no_record_speaks_of_is_found(journal):
    """What a crash leaves is accepted only from a writer who said so."""
    with only_segment(journal).open("ab") as file:
        file.write(b'{"leaf":"00')
    (finding,) = _check(journal).findings
    assert (COUNT + 1, "the line is torn, and no later record speaks of it") == (finding.line, finding.what)


async def test_a_mark_excuses_the_torn_line_it_names_and_no_other(tmp_path):
    """A crash long ago does not cover a line that was torn yesterday."""
    journal = tmp_path / "journal"
    await write_journal(journal, 2)
    await write_journal(journal, 1)
    first, second = sorted(journal.glob("*.jsonl"))
    second.write_bytes(second.read_bytes() + b"{")
    await write_journal(journal, 1)
    assert _check(journal).ok
    first.write_bytes(first.read_bytes() + b"{")
    (finding,) = _check(journal).findings
    assert (first.name, 3) == (finding.segment, finding.line)


def test_a_segment_cannot_be_renamed(journal):
    """Its name says with which record it begins."""
    only_segment(journal).rename(journal / "node-000000000005.jsonl")
    assert "the file is named for record 5 and begins with 0" == _check(journal).findings[0].what


def test_a_checkpoint_has_one_spelling(journal):
    """The last digit of base64 has bits that no decoder reads; another digit there is another note."""
    path = journal / "node.checkpoint"
    note = path.read_bytes()
    at = note.rindex(b"=") - 1
    for digit in set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") - {note[at]}:
        path.write_bytes(note[:at] + bytes([digit]) + note[at + 1 :])
        assert not _check(journal).ok, f"{chr(digit)} passed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "node\n60\n",
        "node\n60\nAAAA\n\n",
        "node\n-1\nAAAA\n\n",
        "node\n060\nAAAA\n\n\u2014 node AAAA\n",
        "\ud7ff\n\n",
    ],
)
def test_a_held_checkpoint_that_is_none_is_a_finding(journal, text):
    """A file that says nothing never passes for one that agrees."""
    assert not _check(journal, text).ok


def test_a_checkpoint_may_carry_signatures_of_witnesses(journal):
    """Lines by other keys are passed over, before ours and after."""
    text, _, ours = (journal / "node.checkpoint").read_text().rpartition("\n\n")
    witness = "\u2014 witness.example AAAAAAAA\n"
    assert _check(journal, f"{text}\n\n{witness}{ours}{witness}").ok


def test_a_signature_under_another_name_is_none():
    """The key's name is part of what is signed for: a note for one origin is not one for another."""
    text = Checkpoint(origin="node", size=1, root=bytes(32)).text()
    with pytest.raises(CheckpointError):
        open_note(NoteSigner(KEY, name="other")(text), key=PUBLIC)


async def test_every_checkpoint_of_the_history_must_fit(tmp_path):
    """Rewriting what lies under an older checkpoint and signing a new one over it does not cover it up."""
    journal = tmp_path / "journal"
    await write_journal(journal, 10)
    path = only_segment(journal)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = _forge(lines[2], b'"allow"', b'"deny"')
    path.write_bytes(b"".join(lines))
    await write_journal(journal, 10)
    assert 2 <= len(split_notes(read_history(journal, origin="node")))
    whats = [finding.what for finding in _check(journal).findings]
    assert "records 0 to 9 are not those of a checkpoint in the journal" == whats[0]
    assert "on starting, the writer found that the records before this one had been altered" == whats[1]


async def test_a_journal_can_be_verified_while_it_is_written(tmp_path):
    """Records after the newest checkpoint are read, counted, and told apart from those it covers."""
    journal = await open_journal(tmp_path / "journal", checkpoint_seconds=3600)
    await journal.append(ENTRY)
    await journal.checkpoint()
    await journal.append(ENTRY)
    report = _check(tmp_path / "journal")
    assert (True, 2, 1) == (report.ok, report.extents[0].records, report.extents[0].covered)
    await journal.close()

"""The journal after kill -9, a full disk, torn tails and meddling: nothing acknowledged is lost, or altered unseen."""

import asyncio
import errno
import json
import os
import re
import shutil
import subprocess
import sys

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.evidence.checkpoint import NoteSigner, open_note
from gateway.audit.evidence.verify import verify
from gateway.audit.log import JournalError
from gateway.audit.search import read
from tests.journals import (
    ENTRY,
    KEY,
    Ticks,
    check,
    end,
    ends_of,
    only_segment,
    open_journal,
    reasons_of,
    seqs_of,
    write_journal,
)


def _no_fsync(handle: int) -> None:
    """Where hundreds of journals are made and no power is cut."""


async def test_a_torn_tail_is_marked_and_then_accepted(tmp_path):
    """For every length of a torn line: it stays where it is, the next writer names it, and verifying is content."""
    whole = tmp_path / "whole"
    await write_journal(whole, 4)
    lines = only_segment(whole).read_bytes().splitlines(keepends=True)
    for length in range(1, len(lines[3])):
        directory = tmp_path / f"torn{length}"
        directory.mkdir()
        torn = directory / only_segment(whole).name
        torn.write_bytes(b"".join(lines[:3]) + lines[3][:length])
        assert not verify(directory).ok
        await write_journal(directory, 1, fsync=_no_fsync)
        assert b"".join(lines[:3]) + lines[3][:length] == torn.read_bytes()
        unsigned, mark = list(read(directory))[3:5]
        assert ("unsigned_tail", 3) == (unsigned["reason"], unsigned["count"])
        assert ("torn_tail", torn.name, sum(map(len, lines[:3]))) == (mark["reason"], mark["segment"], mark["offset"])
        assert [0, 1, 2, 3, 4, 5] == seqs_of(directory)
        check(directory)


async def test_a_torn_tail_is_marked_once(tmp_path):
    """The starts after the next one find nothing new to say."""
    directory = tmp_path / "journal"
    await write_journal(directory, 2)
    with only_segment(directory).open("ab") as file:
        file.write(b'{"leaf":"')
    for _ in range(3):
        await write_journal(directory, 1)
    assert [None, None, "torn_tail", None, None, None] == reasons_of(directory)
    check(directory)


async def test_a_segment_that_holds_only_a_torn_line_is_kept_beside_its_successor(tmp_path):
    """Killed in its first write, a segment's name is taken; the next one gets another."""
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / "node-000000000000.jsonl").write_bytes(b'{"le')
    await write_journal(directory, 1)
    assert ["node-000000000000.1.jsonl", "node-000000000000.jsonl"] == sorted(
        path.name for path in directory.glob("*.jsonl")
    )
    check(directory)


async def test_altered_history_is_put_on_record_by_the_next_writer(tmp_path):
    """A writer who finds other records than its checkpoint speaks of says so before it signs over them."""
    directory = tmp_path / "journal"
    await write_journal(directory, 3)
    path = only_segment(directory)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    await write_journal(directory, 1)
    assert [None, None, "history_altered", None] == reasons_of(directory)
    assert not verify(directory, public_key=KEY.public_key()).ok


async def test_what_a_killed_writer_left_unsigned_is_signed_at_the_next_start(tmp_path):
    """And said to be: without waiting for a record, for until then nobody could tell if the tail was cut off."""
    directory = tmp_path / "journal"
    await write_journal(directory, 3, signed=False)
    journal = await open_journal(directory)
    note = directory / "node.checkpoint"
    async with asyncio.timeout(30):
        while not note.exists():  # noqa: ASYNC110 - a file is written by the journal, which tells nobody
            await asyncio.sleep(0.01)
    assert 4 == open_note(note.read_bytes(), key=KEY.public_key()).size
    assert ("unsigned_tail", 3) == ((last := list(read(directory))[-1])["reason"], last["count"])
    before = note.stat().st_mtime_ns
    await journal.close()
    await (await open_journal(directory)).close()
    assert before == note.stat().st_mtime_ns, "what is covered is not signed again"


FULL_DISK = """
import asyncio, json, resource, sys
from pathlib import Path
from gateway.audit.log import JournalError
from tests.journals import ENTRY, Ticks, open_journal

def limit(count):
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, resource.RLIM_INFINITY))

async def append(journal):
    try:
        return await journal.append(ENTRY, durable=True)
    except JournalError:
        return "refused"

async def main():
    ticks = Ticks()
    journal = await open_journal(Path(sys.argv[1]), ticks=ticks, checkpoint_seconds=3600)
    limit(int(sys.argv[2]))
    answers = []
    while "refused" not in answers:
        answers.append(await append(journal))
    limit(0)
    for _ in range(20):
        answers += [await append(journal), journal.healthy]
        ticks.now += 0.5
    limit(resource.RLIM_INFINITY)
    answers += [await append(journal), journal.healthy]
    await journal.close()
    print(json.dumps(answers))

asyncio.run(main())
"""


@pytest.mark.parametrize("room", [4000, 4001, 4100])
def test_a_full_disk_refuses_at_once_and_recovers_by_itself(tmp_path, room):
    """A real limit of the kernel: sealed at the first short write, refused while it lasts, and no litter is left."""
    directory = tmp_path / "journal"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, directory, str(room)], capture_output=True, check=True, timeout=30
    )
    answers = json.loads(run.stdout)
    written = answers.index("refused")
    assert list(range(written)) == answers[:written]
    assert ["refused", *["refused", False] * 20, written + 1, True] == answers[written:]
    assert 2 == len(list(directory.glob("*.jsonl")))
    assert ["recovered", None] == reasons_of(directory)[-2:]
    check(directory)


LIFES = int(os.environ.get("LOCUM_LIVES", "500"))
LIVES = """
import asyncio, os, random, signal, sys, time
from pathlib import Path
from tests.journals import ENTRY, end, open_journal

def no_fsync(handle):
    pass  # no power is cut

async def write(opened):
    journal = await open_journal(Path(sys.argv[1]), segment_bytes=100_000, checkpoint_seconds=0.003, fsync=no_fsync)
    os.write(opened, b".")

    async def keep_appending(number):
        while True:
            seq = await journal.append(ENTRY, durable=number == 0)
            os.write(1, b"%d\\n" % seq)
            journal.note(end(seq))

    await asyncio.gather(*(keep_appending(number) for number in range(8)))

chance = random.Random(20261123)
for life in range(int(sys.argv[2])):
    reader, opened = os.pipe()
    writer = os.fork()
    if writer == 0:
        asyncio.run(write(opened))
    if life % 5:
        os.read(reader, 1)
    time.sleep(chance.random() * 0.005)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(reader)
    os.close(opened)
    os.write(1, b"killed\\n")
"""


@pytest.mark.timeout(240)
def test_kill_9_loses_nothing_acknowledged(tmp_path):
    """Hundreds of lives of a writer, each killed at another moment: every number it gave out is in the files, and they verify.

    One in five may be killed while it reads what the others have left. Eight append at a time, so that batches are long; numbers are told in one write each, so none is told in part.
    """
    directory, lives = tmp_path / "journal", LIFES
    run = subprocess.run(
        [sys.executable, "-c", LIVES, directory, str(lives)], stdout=subprocess.PIPE, check=True, timeout=200
    )
    told = run.stdout.split()
    assert lives == told.count(b"killed")
    acknowledged = [int(line) for line in told if line != b"killed"]
    asyncio.run(write_journal(directory, 1))
    # An end is never told of what is not there, nor twice; a decision without one is one that nobody knows the end of.
    told_of = [number for number, _ in ends_of(directory)]
    assert sorted(set(told_of)) == sorted(told_of)
    assert lives < len(told_of)
    kept = seqs_of(directory)
    assert list(range(len(kept))) == kept
    assert set() == set(acknowledged) - set(kept)
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(acknowledged) > lives
    assert reasons_of(directory).count("torn_tail") <= lives
    check(directory)


class Failing:
    """Stands for `os.write` or `os.fsync`: one call fails, the one that is told, before or after its half is done."""

    def __init__(self, call, at):
        self.count = 0
        self._call = call
        self._at = at

    def __call__(self, handle, *data):
        self.count += 1
        if self.count != self._at:
            return self._call(handle, *data)
        if data and self._at % 2:
            return self._call(handle, data[0][: len(data[0]) // 2])
        raise OSError(errno.EIO, "Input/output error")


async def _live(directory, **calls) -> list[int]:
    """Append in groups, some of it durable, over several segments; return the numbers that were acknowledged."""
    acknowledged, ticks = [], Ticks()
    try:
        journal = await open_journal(directory, ticks=ticks, segment_bytes=2000, checkpoint_seconds=3600, **calls)
    except JournalError:
        return []
    for number in range(8):
        group = (journal.append(ENTRY, durable=each == number % 5) for each in range(4))
        journal.note(end(number))
        for answer in await asyncio.gather(*group, return_exceptions=True):
            if isinstance(answer, int):
                acknowledged.append(answer)
            else:
                assert isinstance(answer, JournalError)
        ticks.now += 1
    await journal.close()
    return acknowledged


@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_whichever_call_of_the_disk_fails_nothing_acknowledged_is_lost(tmp_path, call):
    """For every k, the k-th write or fsync of a life fails: what was acknowledged is there once, and all verifies."""
    at = 0
    while True:
        at += 1
        directory = tmp_path / str(at)
        failing = Failing(getattr(os, call), at)
        acknowledged = await _live(directory, **{call: failing})
        if failing.count < at:
            break
        await write_journal(directory, 1, fsync=_no_fsync)
        kept = seqs_of(directory)
        assert list(range(len(kept))) == kept, at
        assert acknowledged == sorted(set(acknowledged) & set(kept)), at
        # What nobody waited for is there as well, once, if the disk was good for anything in the end.
        assert len(set(ends_of(directory))) == len(ends_of(directory)) >= 7 * bool(acknowledged), at
        # One group at the most was refused, or two if the writer had to begin anew.
        assert len(acknowledged) >= 24 or (call, at) == ("fsync", 1), at
        check(directory)
    assert at > 8
    assert 32 == len(acknowledged)


async def test_a_start_reads_only_what_lies_behind_the_newest_checkpoint(tmp_path):
    """Lines below it are not opened, whatever has become of them; verifying still reads them all."""
    directory = tmp_path / "journal"
    for _ in range(3):
        await write_journal(directory, 5)
    first, *_ = sorted(directory.glob("*.jsonl"))
    kept = first.read_bytes()
    first.write_bytes(b"x" * len(kept))
    await write_journal(directory, 5)
    assert not verify(directory).ok
    first.write_bytes(kept)
    check(directory)
    assert list(range(20)) == seqs_of(directory)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: b"",
        lambda place: b"{}",
        lambda place: place.replace(b'"size":10', b'"size":9'),
        lambda place: place.replace(b'"size":10', b'"size":-10'),
        lambda place: place.replace(b'"size":10', b'"size":12'),
        lambda place: place.replace(b'"peaks":["', b'"peaks":["AAAA'),
        lambda place: place.replace(b'"offset":', b'"offset":9'),
        lambda place: place.replace(b'"offset":', b'"offset":-'),
        lambda place: re.sub(rb'"offset":[0-9]+', b'"offset":%d' % 10**30, place),
        lambda place: re.sub(rb'"offset":[0-9]+', b'"offset":0', place),
        lambda place: b'{"x":' + 60_000 * b"[",
        lambda place: place.replace(b"node-000000000005", b"node-000000000000"),
        lambda place: place.replace(b"node-000000000005", b"../node-000000000005"),
    ],
)
async def test_a_place_that_does_not_fit_is_not_believed(tmp_path, spoil):
    """Everything is read then; no record is numbered twice, and nothing is signed that is not so."""
    directory = tmp_path / "journal"
    await write_journal(directory, 5)
    await write_journal(directory, 5)
    place = directory / "node.place"
    before = place.read_bytes()
    place.write_bytes(spoil(before))
    assert before != place.read_bytes()
    await write_journal(directory, 5)
    assert list(range(15)) == seqs_of(directory)
    assert {None} == set(reasons_of(directory))
    check(directory)


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("far", [0, 1 / 3, 1])
async def test_no_place_hides_the_lines_behind_the_checkpoint(tmp_path, segment, far):
    """Wherever in the files it says that the checkpoint ends: the next number follows the last line."""
    directory = tmp_path / "journal"
    await write_journal(directory, 5)
    for _ in range(2):
        await write_journal(directory, 3, signed=False)
    path = sorted(directory.glob("*.jsonl"))[segment]
    lines = path.read_bytes().splitlines(keepends=True)
    offset = len(b"".join(lines[: int(far * len(lines))]))
    place = msgspec.json.decode((directory / "node.place").read_bytes())
    (directory / "node.place").write_bytes(msgspec.json.encode(place | {"segment": path.name, "offset": offset}))
    await write_journal(directory, 2)
    assert list(range(14)) == seqs_of(directory)
    assert [None] * 11 + ["unsigned_tail"] + [None] * 2 == reasons_of(directory)
    check(directory)


async def test_a_place_that_cannot_be_written_spoils_no_checkpoint(tmp_path):
    """It is a hint: a directory that stands there keeps nobody from signing, nor from starting."""
    directory = tmp_path / "journal"
    (directory / "node.place").mkdir(parents=True)
    for _ in range(2):
        journal = await open_journal(directory)
        await journal.append(ENTRY)
        await journal.checkpoint()
        await journal.close()
    check(directory)
    assert 2 == open_note((directory / "node.checkpoint").read_bytes(), key=KEY.public_key()).size


@pytest.mark.parametrize("lost", [1, 2, 40, 140])
async def test_a_torn_history_of_checkpoints_is_cut_at_the_next_start(tmp_path, lost):
    """A crash of the machine leaves it so. The newest checkpoint is judged all the same; then all is as ever."""
    directory = tmp_path / "journal"
    for _ in range(3):
        await write_journal(directory, 2)
    history = directory / "node.checkpoints"
    whole = history.read_bytes()
    history.write_bytes(whole[:-lost])
    report = verify(directory, public_key=KEY.public_key())
    assert (["the history of checkpoints is damaged"], 6) == (
        [finding.what for finding in report.findings],
        report.extents[0].covered,
    )
    await write_journal(directory, 2)
    assert whole[: whole.rindex(b"node\n6\n")] == history.read_bytes()[: whole.rindex(b"node\n6\n")]
    check(directory)
    history.write_bytes(b"x" * 5000 + whole)
    await write_journal(directory, 2)
    assert not verify(directory, public_key=KEY.public_key()).ok, "what is more than an end stays to be found"


async def test_a_checkpoint_that_nobody_signed_is_not_gone_on_from(tmp_path):
    """Else whoever can write there takes lines away, and has the next writer sign what is left."""
    directory = tmp_path / "journal"
    await write_journal(directory, 2)
    forged = [(directory / name).read_bytes() for name in ("node.checkpoint", "node.place")]
    forged[0] = NoteSigner(Ed25519PrivateKey.generate(), name="node")(forged[0].rpartition(b"\n\n")[0] + b"\n")
    await write_journal(directory, 2)
    (directory / "node-000000000002.jsonl").unlink()
    for name, content in zip(("node.checkpoint", "node.place"), forged, strict=True):
        (directory / name).write_bytes(content)
    await write_journal(directory, 1)
    assert [None, None, "history_altered", None] == reasons_of(directory)


async def test_another_origin_s_checkpoint_is_not_gone_on_from(tmp_path):
    """It is signed by the same key, and is not about these lines."""
    directory = tmp_path / "journal"
    await write_journal(directory, 2)
    await write_journal(directory, 2, origin="other")
    shutil.copy(directory / "other.checkpoint", directory / "node.checkpoint")
    await write_journal(directory, 1)
    reasons = [entry.get("reason") for entry in read(directory) if entry["origin"] == "node"]
    assert [None, None, "history_altered", None] == reasons


async def test_a_place_of_before_the_newest_checkpoint_is_gone_on_from(tmp_path):
    """Killed between the two, a writer leaves an older place: what lies behind it leads to the checkpoint's root."""
    directory = tmp_path / "journal"
    await write_journal(directory, 5)
    place = (directory / "node.place").read_bytes()
    await write_journal(directory, 6)
    (directory / "node.place").write_bytes(place)
    first = directory / "node-000000000000.jsonl"
    kept = first.read_bytes()
    *below, last = kept.splitlines(keepends=True)
    first.write_bytes(b"x" * (len(b"".join(below)) - 1) + b"\n" + last)
    await write_journal(directory, 5)
    first.write_bytes(kept)
    assert list(range(16)) == seqs_of(directory)
    assert {None} == set(reasons_of(directory))
    check(directory)

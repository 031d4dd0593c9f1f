"""The journal after kill -9, a full disk, torn tails and meddling: nothing acknowledged is lost, or altered unseen."""

import asyncio
import json
import random
import signal
import subprocess
import sys

import pytest

from gateway.audit.checkpoint import open_note
from gateway.audit.search import read
from gateway.audit.verify import verify
from tests.journals import (
    KEY,
    check,
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
        mark = list(read(directory))[3]
        assert ("torn_tail", torn.name, sum(map(len, lines[:3]))) == (mark["reason"], mark["segment"], mark["offset"])
        assert [0, 1, 2, 3, 4] == seqs_of(directory)
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
    """Without waiting for another record: until then nobody could tell if the tail was cut off."""
    directory = tmp_path / "journal"
    await write_journal(directory, 3, signed=False)
    journal = await open_journal(directory)
    note = directory / "node.checkpoint"
    async with asyncio.timeout(10):
        while not note.exists():  # noqa: ASYNC110 - a file is written by the journal, which tells nobody
            await asyncio.sleep(0.01)
    assert 3 == open_note(note.read_bytes(), key=KEY.public_key()).size
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


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.journals import ENTRY, open_journal

async def main():
    journal = await open_journal(Path(sys.argv[1]), segment_bytes=20_000, checkpoint_seconds=0.01)
    while True:
        seq = await journal.append(ENTRY, durable=journal.size % 7 == 0)
        sys.stdout.write(f"{seq}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


def test_kill_9_loses_nothing_acknowledged(tmp_path):
    """Six lives of a writer, each killed in full flight: every number it gave out is in the files, and they verify."""
    directory, chance = tmp_path / "journal", random.Random(20261123)  # noqa: S311 - chance, not a secret
    acknowledged: list[int] = []
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, directory], stdout=subprocess.PIPE, text=True) as writer:
            acknowledged += [int(writer.stdout.readline()) for _ in range(chance.randrange(1, 400))]
            writer.send_signal(signal.SIGKILL)
            # What it had acknowledged and we had not yet read counts as well; a half-written number does not.
            acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    asyncio.run(write_journal(directory, 1))
    kept = seqs_of(directory)
    assert list(range(len(kept))) == kept
    assert set() == set(acknowledged) - set(kept)
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(acknowledged) > 6
    check(directory)

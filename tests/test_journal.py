"""The journal under kill -9, full disks, failing fsyncs, torn tails and rivals: nothing acknowledged is lost."""

import asyncio
import errno
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.audit.checkpoint import open_note
from gateway.audit.journal import RETRY_SECONDS, Journal
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.search import read
from gateway.audit.verify import verify
from tests.journals import ENTRY, KEY, SecondHand, Ticks, only_segment, open_journal, write_journal


class Disk:
    """Stands for fsync: counts, can be held up, and fails when told to, for all or for files only."""

    def __init__(self) -> None:
        self.count = 0
        self.failing = False
        self.failing_files = False
        self.let_go = threading.Event()
        self.let_go.set()

    def __call__(self, handle: int) -> None:
        self.count += 1
        assert self.let_go.wait(timeout=10), "nobody let the disk go"
        if self.failing or (self.failing_files and stat.S_ISREG(os.fstat(handle).st_mode)):
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(handle)


def _no_fsync(handle: int) -> None:
    """Where hundreds of journals are made and no power is cut."""


def _seqs(directory: Path) -> list[int]:
    return [entry["seq"] for entry in read(directory)]


def _reasons(directory: Path) -> list[str | None]:
    return [entry.get("reason") for entry in read(directory)]


def _check(directory: Path) -> None:
    report = verify(directory, public_key=KEY.public_key())
    assert report.ok, report.findings


async def test_what_was_appended_is_there_when_the_call_returns(tmp_path):
    """The bytes have left the process: another reader sees them while the journal is open."""
    journal = await open_journal(tmp_path / "journal")
    log: AuditLog = journal
    assert 0 == await log.append(Record(kind="decision", decision="deny", reason="grant_off"))
    assert 1 == await log.append(ENTRY, durable=True)
    assert [(0, "grant_off"), (1, None)] == [
        (entry["seq"], entry.get("reason")) for entry in read(tmp_path / "journal")
    ]
    assert (True, 2) == (log.healthy, journal.size)
    await journal.close()
    _check(tmp_path / "journal")


async def test_nobody_else_may_read_the_journal(tmp_path):
    """The directory is 0700, and every file in it 0600."""
    await write_journal(tmp_path / "journal", 1)
    assert 0o700 == stat.S_IMODE((tmp_path / "journal").stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").iterdir()}
    assert 4 == len(list((tmp_path / "journal").iterdir()))


async def test_numbers_go_on_over_segments_and_starts(tmp_path):
    """Three lives of one origin, several segments each: one unbroken count, each segment named for its first record."""
    directory = tmp_path / "journal"
    for life in range(3):
        journal = await open_journal(directory, segment_bytes=1000)
        assert life * 20 == journal.size
        for _ in range(20):
            await journal.append(ENTRY)
        await journal.close()
    assert list(range(60)) == _seqs(directory)
    assert len(list(directory.glob("*.jsonl"))) > 9
    _check(directory)


async def test_callers_who_arrive_while_a_segment_is_full_keep_their_order(tmp_path):
    """Rotation under concurrent durable appends gives each its number and loses none."""
    journal = await open_journal(tmp_path / "journal", segment_bytes=300)
    seqs = await asyncio.gather(*(journal.append(ENTRY, durable=number % 2 == 0) for number in range(100)))
    await journal.close()
    assert list(range(100)) == sorted(seqs)
    assert list(range(100)) == _seqs(tmp_path / "journal")
    _check(tmp_path / "journal")


async def test_durable_appends_share_fsyncs(tmp_path):
    """While one fsync runs, 50 callers arrive: one more serves them all, and none returns before it."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    await journal.append(ENTRY)
    before = disk.count
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(journal.append(ENTRY, durable=True)) for _ in range(50)]
        # Not durable, so it overtakes those that wait for the disk: the loop is not blocked.
        await asyncio.sleep(0)
        assert 51 == await journal.append(ENTRY)
        assert not any(task.done() for task in waiting)
        disk.let_go.set()
    assert 2 == disk.count - before
    await journal.close()


async def test_a_caller_who_hangs_up_takes_no_fsync_from_the_others(tmp_path):
    """Cancelling one durable append leaves the ones that share its fsync to be acknowledged."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    await journal.append(ENTRY)
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        first, second, third = (group.create_task(journal.append(ENTRY, durable=True)) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        disk.let_go.set()
    assert (True, 3) == (second.cancelled(), third.result())
    await journal.close()


async def test_a_failed_fsync_seals_the_segment_for_ever(tmp_path):
    """No durable append is acknowledged after it, also when the disk works again, until there is a new segment."""
    disk, ticks = Disk(), Ticks()
    directory = tmp_path / "journal"
    journal = await open_journal(directory, fsync=disk, ticks=ticks, checkpoint_seconds=3600)
    await journal.append(ENTRY, durable=True)
    disk.failing = True
    answers = await asyncio.gather(*(journal.append(ENTRY, durable=True) for _ in range(5)), return_exceptions=True)
    assert [JournalError] * 5 == [type(answer) for answer in answers]
    disk.failing = False
    assert not journal.healthy
    sealed = only_segment(directory)
    length = sealed.stat().st_size
    with pytest.raises(JournalError):
        await journal.append(ENTRY)
    ticks.now += RETRY_SECONDS
    assert 7 == await journal.append(ENTRY, durable=True)
    assert journal.healthy
    assert length == sealed.stat().st_size
    marks = [entry for entry in read(directory) if entry["kind"] == "journal"]
    assert [(6, "recovered", sealed.name, length)] == [
        (mark["seq"], mark["reason"], mark["segment"], mark["offset"]) for mark in marks
    ]
    await journal.close()
    _check(directory)


async def test_no_second_fsync_is_tried_on_a_sealed_segment(tmp_path):
    """Those who queued behind the one that failed are refused with it; a second one would say yes to lost pages."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    await journal.append(ENTRY)
    before = disk.count
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(_refused(journal, durable=True)) for _ in range(3)]
        await asyncio.sleep(0)
        disk.failing = True
        disk.let_go.set()
    assert [True] * 3 == [task.result() for task in waiting]
    assert 1 == disk.count - before
    await journal.close()
    assert 1 == disk.count - before


async def _refused(journal: Journal, *, durable: bool = False) -> bool:
    try:
        await journal.append(ENTRY, durable=durable)
    except JournalError:
        return True
    return False


async def test_a_full_segment_is_left_only_once_it_is_durable(tmp_path):
    """A durable record in the next segment vouches for those before it."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk, segment_bytes=1)
    await journal.append(ENTRY)
    disk.failing_files = True
    assert await _refused(journal)
    assert not journal.healthy
    await journal.close()


async def test_a_journal_is_healthy_again_only_after_an_fsync_that_worked(tmp_path):
    """A disk that takes bytes and does not keep them has not recovered."""
    disk, ticks = Disk(), Ticks()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk, ticks=ticks)
    await journal.append(ENTRY)
    disk.failing_files = True
    assert await _refused(journal, durable=True)
    ticks.now += RETRY_SECONDS
    assert await _refused(journal)
    assert not journal.healthy
    disk.failing_files = False
    ticks.now += RETRY_SECONDS
    assert not await _refused(journal)
    assert journal.healthy
    await journal.close()


async def test_a_caller_who_hangs_up_takes_no_segment_from_the_others(tmp_path):
    """The first caller's append opens the segment; cancelled, it leaves it to those who came after."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(journal.append(ENTRY)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        disk.let_go.set()
    assert (True, 0) == (first.cancelled(), second.result())
    await journal.close()


async def test_a_journal_that_is_closing_refuses(tmp_path):
    """What came after the decision to close is not taken while the disk is still being waited for."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    await journal.append(ENTRY)
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(journal.close())
        await asyncio.sleep(0)
        assert await _refused(journal)
        assert not closing.done()
        disk.let_go.set()
    assert [0] == _seqs(tmp_path / "journal")


async def test_a_disk_that_goes_on_failing_is_asked_once_in_a_while(tmp_path):
    """Between two attempts every append is refused without touching the disk."""
    disk, ticks = Disk(), Ticks()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk, ticks=ticks)
    disk.failing = True
    counts = []
    for _ in range(3):
        for _ in range(10):
            with pytest.raises(JournalError):
                await journal.append(ENTRY)
        counts.append(disk.count)
        ticks.now += RETRY_SECONDS
    # The first attempt is an fsync of the directory, and so is each that follows it.
    assert [1, 1] == [after - before for before, after in itertools.pairwise(counts)]
    disk.failing = False
    assert 0 == await journal.append(ENTRY)
    await journal.close()


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
        assert [0, 1, 2, 3, 4] == _seqs(directory)
        _check(directory)


async def test_a_torn_tail_is_marked_once(tmp_path):
    """The starts after the next one find nothing new to say."""
    directory = tmp_path / "journal"
    await write_journal(directory, 2)
    with only_segment(directory).open("ab") as file:
        file.write(b'{"leaf":"')
    for _ in range(3):
        await write_journal(directory, 1)
    assert [None, None, "torn_tail", None, None, None] == _reasons(directory)
    _check(directory)


async def test_a_segment_that_holds_only_a_torn_line_is_kept_beside_its_successor(tmp_path):
    """Killed in its first write, a segment's name is taken; the next one gets another."""
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / "node-000000000000.jsonl").write_bytes(b'{"le')
    await write_journal(directory, 1)
    assert ["node-000000000000.1.jsonl", "node-000000000000.jsonl"] == sorted(
        path.name for path in directory.glob("*.jsonl")
    )
    _check(directory)


async def test_altered_history_is_put_on_record_by_the_next_writer(tmp_path):
    """A writer who finds other records than its checkpoint speaks of says so before it signs over them."""
    directory = tmp_path / "journal"
    await write_journal(directory, 3)
    path = only_segment(directory)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    await write_journal(directory, 1)
    assert [None, None, "history_altered", None] == _reasons(directory)
    assert not verify(directory, public_key=KEY.public_key()).ok


async def test_a_second_writer_of_one_origin_is_refused(tmp_path):
    """Two processes would give one number twice; another origin beside it is welcome."""
    journal = await open_journal(tmp_path / "journal")
    with pytest.raises(JournalError, match="another process writes the journal of `node`"):
        await open_journal(tmp_path / "journal")
    other = await open_journal(tmp_path / "journal", origin="node-1")
    await other.close()
    await journal.close()
    again = await open_journal(tmp_path / "journal")
    await again.close()


@pytest.mark.parametrize("origin", ["", "../x", "a/b", "a\nb", ".hidden", "ü", "a b", "x" * 65])
async def test_an_origin_that_cannot_name_a_file_is_refused(tmp_path, origin):
    """The origin comes from configuration and goes into paths."""
    with pytest.raises(JournalError):
        await open_journal(tmp_path / "journal", origin=origin)


async def test_a_directory_that_cannot_be_made_is_our_error(tmp_path):
    """A file stands where the directory should be."""
    (tmp_path / "journal").write_text("")
    with pytest.raises(JournalError):
        await open_journal(tmp_path / "journal")


async def test_a_closed_journal_refuses(tmp_path):
    """After close nothing is acknowledged; closing twice does no harm."""
    journal = await open_journal(tmp_path / "journal")
    await journal.append(ENTRY)
    await journal.close()
    await journal.close()
    assert not journal.healthy
    with pytest.raises(JournalError):
        await journal.append(ENTRY)


async def test_closing_waits_for_those_who_were_promised_durability(tmp_path):
    """Durable appends that are under way when the journal is closed are acknowledged, not broken."""
    journal = await open_journal(tmp_path / "journal")
    await journal.append(ENTRY)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(journal.append(ENTRY, durable=True)) for _ in range(5)]
        await asyncio.sleep(0)
        await journal.close()
    assert [1, 2, 3, 4, 5] == [task.result() for task in waiting]
    _check(tmp_path / "journal")


async def test_a_checkpoint_follows_activity_by_itself(tmp_path):
    """Nobody asks for it: soon after an append, a signed checkpoint covers the record."""
    signed = asyncio.Event()

    def sign(text: bytes) -> bytes:
        signed.set()
        return text + b"\n"

    journal = await Journal.open(tmp_path / "journal", origin="node", clock=SecondHand(), signer=sign)
    await journal.append(ENTRY)
    async with asyncio.timeout(5):
        await signed.wait()
    await journal.close()
    assert b"node\n1\n" == (tmp_path / "journal" / "node.checkpoint").read_bytes()[:7]


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


async def test_a_checkpoint_never_speaks_of_records_that_are_not_durable(tmp_path):
    """With a failing disk there is no new checkpoint, and the segment is sealed."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", fsync=disk, checkpoint_seconds=3600)
    await journal.append(ENTRY)
    await journal.checkpoint()
    await journal.append(ENTRY)
    disk.failing = True
    with pytest.raises(JournalError):
        await journal.checkpoint()
    assert not journal.healthy
    await journal.close()
    assert 1 == open_note((tmp_path / "journal" / "node.checkpoint").read_bytes(), key=KEY.public_key()).size


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
    assert ["recovered", None] == _reasons(directory)[-2:]
    _check(directory)


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
    kept = _seqs(directory)
    assert list(range(len(kept))) == kept
    assert set() == set(acknowledged) - set(kept)
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(acknowledged) > 6
    _check(directory)

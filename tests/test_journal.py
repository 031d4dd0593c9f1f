"""The journal under full disks, failing fsyncs and rivals: what is acknowledged is there, in its order, once."""

import asyncio
import errno
import itertools
import os
import stat
import threading

import pytest

from gateway.audit.evidence.checkpoint import NoteSigner, open_note
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.search import read
from gateway.audit.writing.journal import Journal
from gateway.audit.writing.writer import RETRY_SECONDS
from tests.journals import (
    ENTRY,
    KEY,
    SecondHand,
    Ticks,
    check,
    only_segment,
    open_journal,
    seqs_of,
    write_journal,
)


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
    check(tmp_path / "journal")


async def test_nobody_else_may_read_the_journal(tmp_path):
    """The directory is 0700, and every file in it 0600."""
    await write_journal(tmp_path / "journal", 1)
    assert 0o700 == stat.S_IMODE((tmp_path / "journal").stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").iterdir()}
    assert 5 == len(list((tmp_path / "journal").iterdir()))


async def test_numbers_go_on_over_segments_and_starts(tmp_path):
    """Three lives of one origin, several segments each: one unbroken count, each segment named for its first record."""
    directory = tmp_path / "journal"
    for life in range(3):
        journal = await open_journal(directory, segment_bytes=1000)
        assert life * 20 == journal.size
        for _ in range(20):
            await journal.append(ENTRY)
        await journal.close()
    assert list(range(60)) == seqs_of(directory)
    assert len(list(directory.glob("*.jsonl"))) > 9
    check(directory)


async def test_callers_who_arrive_while_a_segment_is_full_keep_their_order(tmp_path):
    """Rotation under concurrent durable appends gives each its number and loses none."""
    journal = await open_journal(tmp_path / "journal", segment_bytes=300)
    seqs = await asyncio.gather(*(journal.append(ENTRY, durable=number % 2 == 0) for number in range(100)))
    await journal.close()
    assert list(range(100)) == sorted(seqs)
    assert list(range(100)) == seqs_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_durable_appends_share_fsyncs(tmp_path):
    """While one fsync runs, 50 callers arrive: one more serves them all, and none returns before it."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    await journal.append(ENTRY)
    before = disk.count
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(journal.append(ENTRY, durable=True)) for _ in range(50)]
        # Not durable, so it overtakes those that wait for the disk.
        await asyncio.sleep(0)
        assert 51 == await journal.append(ENTRY)
        waiting += [group.create_task(journal.append(ENTRY, durable=True)) for _ in range(50)]
        await asyncio.sleep(0)
        assert 102 == await journal.append(ENTRY)
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
    check(directory)


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


async def test_nobody_is_told_that_a_sealed_segment_is_durable(tmp_path):
    """A write fails behind a record that waits for its fsync: the handle is given up, and nobody's fsync is another's."""
    disk, broken = Disk(), False

    def write(handle, data):
        if broken:
            raise OSError(errno.EIO, "Input/output error")
        return os.write(handle, data)

    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk, write=write)
    await journal.append(ENTRY)
    before = disk.count
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(_refused(journal, durable=True))
        while disk.count == before:  # noqa: ASYNC110 - counted by a thread
            await asyncio.sleep(0)
        queued = group.create_task(_refused(journal, durable=True))
        await journal.append(ENTRY)
        broken = True
        assert await _refused(journal)
        disk.let_go.set()
    assert (False, True) == (first.result(), queued.result())
    assert 1 == disk.count - before
    await journal.close()


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
    """The first caller's append opens the segment; cancelled, it is on record, and leaves it to those who came after."""
    disk = Disk()
    journal = await open_journal(tmp_path / "journal", signed=False, fsync=disk)
    disk.let_go.clear()
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(journal.append(ENTRY)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        disk.let_go.set()
    assert (True, 1) == (first.cancelled(), second.result())
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
    assert [0] == seqs_of(tmp_path / "journal")


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
    check(tmp_path / "journal")


async def test_a_checkpoint_follows_activity_by_itself(tmp_path):
    """Nobody asks for it: soon after an append, a signed checkpoint covers the record."""
    signed = asyncio.Event()

    class Signer(NoteSigner):
        def __call__(self, text: bytes) -> bytes:
            signed.set()
            return super().__call__(text)

    signer = Signer(KEY, name="node")
    journal = await Journal.open(tmp_path / "journal", origin="node", clock=SecondHand(), signer=signer)
    await journal.append(ENTRY)
    async with asyncio.timeout(30):
        await signed.wait()
    await journal.close()
    assert b"node\n1\n" == (tmp_path / "journal" / "node.checkpoint").read_bytes()[:7]


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

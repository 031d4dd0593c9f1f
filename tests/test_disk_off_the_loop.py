"""What stands beside the journal waits for the disk where nobody else does: the loop, with its customers, goes on."""

import asyncio
import contextlib
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.audit.hand import Hand
from gateway.audit.index.asking import FileIndex
from gateway.audit.index.building import Builder
from gateway.audit.index.database import LOCK, NAME
from gateway.audit.index.process import Indexer
from gateway.audit.removal.retention import Keeping, Retention, Terms
from gateway.audit.removal.rewriting import Disk
from gateway.audit.search import Query
from gateway.audit.witnesses.showing import Witnesses
from gateway.data_directory import in_turn
from gateway.locks import claim
from tests.journals import NOON, SecondHand, Ticks, open_journal, write_journal
from tests.kept_journal import write_days
from tests.patience import PATIENCE_SECONDS
from tests.stuck_disk import StuckDisk
from tests.witness_world import file_at, note_of, put, until


@contextlib.contextmanager
def _in_time(free):
    """Free a loop that waits after all, and fail the test for it."""
    held = []

    def rescue():
        held.append(True)
        free()

    rescuer = threading.Timer(PATIENCE_SECONDS, rescue)
    rescuer.start()
    try:
        yield
    finally:
        rescuer.cancel()
        assert not held


@pytest.fixture
def disk():
    disk = StuckDisk()
    with _in_time(disk.let_go):
        yield disk
    disk.close()


@contextlib.contextmanager
def _nobody_writes(pipe: Path):
    """Whoever opens this file to read it waits in the kernel."""
    os.mkfifo(pipe)
    with _in_time(lambda: os.close(os.open(pipe, os.O_RDWR))):
        yield


@contextlib.asynccontextmanager
async def _running(work):
    """Run it, and end it as a gateway that ends does: no disk is waited for."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(task, return_exceptions=True)


def _is_free(path: Path) -> bool:
    if (handle := claim(path)) is None:
        return False
    os.close(handle)
    return True


async def test_who_keeps_the_index_is_asked_off_the_loop(tmp_path, disk):
    """A lock's file that cannot be opened; afterwards nobody holds it who has ended."""
    disk.hang("claim")
    indexer = Indexer(tmp_path / "journal", tmp_path / NAME, look_seconds=0.01, claim=disk.claim)
    async with _running(indexer.keep(first_after=0)):
        await until(lambda: disk.waiting)
    disk.let_go()
    await until(lambda: _is_free(tmp_path / LOCK))


async def test_the_name_of_the_node_is_read_off_the_loop(tmp_path):
    """Without it the index is not kept, and that is all."""
    indexer = Indexer(tmp_path / "journal", tmp_path / NAME, look_seconds=0.01)
    with _nobody_writes(tmp_path / "node-id"):
        async with _running(indexer.keep(first_after=0)) as keeping:
            await until(lambda: _waits_for(tmp_path / "node-id", thread="journal-index"))
            assert (None, False) == (indexer.told, keeping.done())


async def test_the_witnesses_turn_is_taken_off_the_loop(tmp_path, disk):
    """And it is given back, when it is had too late by one that has ended."""
    put(tmp_path / "journal", note_of(1))
    disk.hang("claim")
    shown = Witnesses(tmp_path / "journal", [file_at(tmp_path / "w")], ticks=Ticks(), claim=disk.claim)
    async with _running(shown.run()):
        await until(lambda: disk.waiting)
    disk.let_go()
    await until(lambda: _is_free(tmp_path / "journal" / "witnesses.lock"))


async def test_the_data_directory_is_had_off_the_loop(tmp_path, disk):
    """A store that is tried again and again while customers are served; whoever gives up holds up no other."""
    disk.hang("claim")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), in_turn(tmp_path, claim=disk.claim):
            pass
    await until(lambda: disk.waiting)
    disk.let_go()
    async with asyncio.timeout(PATIENCE_SECONDS), in_turn(tmp_path) as hand:
        assert not await hand.run(lambda: _is_free(tmp_path / ".turn"))
    await until(lambda: _is_free(tmp_path / ".turn"))


@pytest.mark.parametrize("passes", [0, 1])
async def test_what_is_let_go_is_locked_off_the_loop(tmp_path, disk, passes):
    """The journal's lock, and the origin's whose newest segment is to be rewritten; both are free when it is over."""
    directory, calls = tmp_path / "journal", iter(range(3))
    await write_days(directory, [0])

    def claim_later(path):
        if next(calls) == passes:
            disk.hang("claim")
        return disk.claim(path)

    async def held():
        return frozenset()

    journal = await open_journal(directory, origin="cli", clock=SecondHand(NOON + timedelta(days=100)))
    hand = Hand("retain")
    retention = Retention(
        directory=directory,
        terms=Terms(usual=Keeping(days=1)),
        origin="cli",
        recorder=journal,
        held=held,
        run=hand.run,
        disk=Disk(claim=claim_later),
    )
    async with _running(retention.retain(now=NOON + timedelta(days=100))):
        await until(lambda: disk.waiting)
    disk.let_go()
    await until(lambda: _is_free(directory / "gateway.lock") and _is_free(directory / "rewriting.lock"))
    hand.stop()
    await journal.close()


async def test_a_question_waits_for_the_files_off_the_loop(tmp_path):
    """A segment that cannot be opened; the thread that waits for it keeps no process from ending."""
    journal = tmp_path / "journal"
    await write_journal(journal, 3)
    with Builder(journal, tmp_path / NAME) as builder:
        builder.catch_up()
    [segment] = journal.glob("*.jsonl")
    segment.unlink()
    index = FileIndex(journal, tmp_path / NAME)
    question = index.search(Query.parse(""), limit=1, before=None, after=None, account=None)
    with _nobody_writes(segment):
        async with _running(question) as asking:
            await until(lambda: _waits_for(segment, thread="log-question"))
            assert not asking.done()


def _waits_for(pipe: Path, *, thread: str) -> bool:
    """Tell whether somebody waits for the pipe, which frees them; the thread must be one that a process can leave."""
    threads = [one for one in threading.enumerate() if one.name == thread]
    try:
        # This fails while nobody has it open for reading.
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    assert [True] == [one.daemon for one in threads]
    return True

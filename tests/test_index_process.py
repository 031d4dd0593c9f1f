"""The process that keeps the index: one for a directory, never without its gateway, never for long without a successor."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from gateway.audit.index.database import LOCK, NAME, IndexUnusable
from gateway.audit.index.finding import Finder
from gateway.audit.index.node import read_node
from gateway.audit.index.process import Indexer
from gateway.audit.search import Query
from gateway.locks import claim
from tests.journals import NOON, SecondHand, write_journal
from tests.patience import PATIENCE_SECONDS


@asynccontextmanager
async def _kept(directory):
    indexer = Indexer(directory / "journal", directory / NAME, look_seconds=0.05)
    keeping = asyncio.ensure_future(indexer.keep(first_after=0))
    try:
        yield indexer
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def _count(directory):
    with suppress(IndexUnusable), Finder(directory / "journal", directory / NAME) as finder:
        return finder.stats(Query.parse("")).total
    return 0


async def _until(true):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)


def _is_free(directory):
    if (handle := claim(directory / LOCK)) is None:
        return False
    os.close(handle)
    return True


def _pids(journal):
    """The processes that keep this journal's index, found by the lock that they hold."""
    lock = journal.parent / LOCK
    return {int(pid.name) for pid in Path("/proc").glob("[0-9]*") if lock in _open_files(pid)} - {os.getpid()}


def _open_files(pid):
    found = set()
    with suppress(OSError):
        for handle in (pid / "fd").iterdir():
            with suppress(OSError):
                found.add(handle.readlink())
    return found


async def test_it_follows_and_one_does(tmp_path):
    """What is written is found soon; a second gateway leaves it to the first, and takes over when that has gone."""
    await write_journal(tmp_path / "journal", 3)
    async with _kept(tmp_path) as first:
        await _until(lambda: _count(tmp_path) == 3 and first.told is not None)
        async with _kept(tmp_path) as second:
            await write_journal(tmp_path / "journal", 2, clock=SecondHand(NOON + timedelta(hours=1)))
            await _until(lambda: _count(tmp_path) == 5)
            assert None is second.told
            [pid] = _pids(tmp_path / "journal")
            # Whoever kills it does not end the keeping.
            os.kill(pid, signal.SIGKILL)
            await _until(lambda: _pids(tmp_path / "journal") - {pid})
            await write_journal(tmp_path / "journal", 1, clock=SecondHand(NOON + timedelta(hours=2)))
            await _until(lambda: _count(tmp_path) == 6)
    assert _is_free(tmp_path)
    assert set() == _pids(tmp_path / "journal")


async def test_it_stands_behind_the_gateway(tmp_path):
    """The scheduler gives it less of a processor that is short than whoever serves requests."""
    await write_journal(tmp_path / "journal", 1)
    async with _kept(tmp_path):
        await _until(lambda: _count(tmp_path) == 1)
        [pid] = _pids(tmp_path / "journal")
        assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_a_deleted_index_comes_back(tmp_path):
    """By itself, while the process goes on."""
    await write_journal(tmp_path / "journal", 4)
    async with _kept(tmp_path):
        await _until(lambda: _count(tmp_path) == 4)
        for path in tmp_path.glob(f"{NAME}*"):
            path.unlink()
        assert 0 == _count(tmp_path)
        await _until(lambda: _count(tmp_path) == 4)


def test_workers_that_start_together_have_one_name(tmp_path):
    """Or a journal would be in the shared database under two."""
    together = threading.Barrier(4)

    def read(directory):
        together.wait()
        return read_node(directory)

    with ThreadPoolExecutor(4) as workers:
        for number in range(20):
            directory = tmp_path / str(number)
            directory.mkdir()
            names = set(workers.map(read, [directory] * 4))
            assert {read_node(directory)} == names
            assert ["node-id"] == [path.name for path in directory.iterdir()]

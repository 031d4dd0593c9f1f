"""A database's thread: in order, each piece once, and what one comes to is nobody else's."""

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager

import pytest

from gateway.stores.lane import Lane
from gateway.stores.store import StoreError

READER = 60.0
"""So long that all that is handed in while the thread is at work is told together."""


@asynccontextmanager
async def open_lane(directory, *, tell_seconds):
    path = directory / "a.sqlite3"
    lane = Lane("lane", lambda: sqlite3.connect(path), path, tell_seconds=tell_seconds)
    path.touch()
    await lane.open()
    try:
        yield lane
    finally:
        await lane.close()


class Gate:
    """A piece of work that waits in the thread until a test lets it go on."""

    def __init__(self):
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, _connection):
        self.begun.set()
        assert self.open.wait(30)


async def begun(gate):
    await asyncio.get_running_loop().run_in_executor(None, gate.begun.wait)


@pytest.mark.parametrize("tell_seconds", [0, READER])
async def test_each_piece_is_done_once_and_in_order(tmp_path, tell_seconds):
    """A hundred that come at once, and more while the thread is at work."""
    done = []
    async with open_lane(tmp_path, tell_seconds=tell_seconds) as lane:

        async def ask(number):
            return await lane.run(lambda _connection: done.append(number) or number)

        assert list(range(100)) == await asyncio.gather(*(ask(number) for number in range(100)))
        assert 100 == await ask(100)
    assert list(range(101)) == done


@pytest.mark.parametrize("tell_seconds", [0, READER])
async def test_who_has_gone_before_it_begins_has_it_not_done(tmp_path, tell_seconds):
    """What is cancelled while another piece is at work never happens; those around it do."""
    done, gate = [], Gate()
    async with open_lane(tmp_path, tell_seconds=tell_seconds) as lane:
        first = asyncio.ensure_future(lane.run(gate))
        await begun(gate)
        rest = [asyncio.ensure_future(lane.run(lambda _c, n=number: done.append(n))) for number in range(3)]
        await asyncio.sleep(0)
        rest[1].cancel()
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, rest[0], rest[2])
    assert [0, 2] == done


async def test_an_error_is_its_own_pieces_alone(tmp_path):
    """The ones told with it have their answers."""
    gate = Gate()
    async with open_lane(tmp_path, tell_seconds=READER) as lane:
        first = asyncio.ensure_future(lane.run(gate))
        await begun(gate)
        good = asyncio.ensure_future(lane.run(lambda connection: connection.execute("SELECT 7").fetchone()))
        bad = asyncio.ensure_future(lane.run(lambda connection: connection.execute("SELECT no")))
        last = asyncio.ensure_future(lane.run(lambda connection: connection.execute("SELECT 8").fetchone()))
        await asyncio.sleep(0)
        gate.open.set()
        assert ((7,), (8,)) == (await good, await last)
        with pytest.raises(StoreError):
            await bad
        await first


@pytest.mark.parametrize("tell_seconds", [0, READER])
async def test_no_piece_stops_the_lane(tmp_path, tell_seconds):
    """Not even one that raises what no future takes: its caller hears of a fault, and the next one has its answer."""
    async with open_lane(tmp_path, tell_seconds=tell_seconds) as lane, asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await lane.run(lambda _connection: next(iter(())))
        assert 2 == await lane.run(lambda _connection: 2)


async def test_a_quick_write_does_not_wait_for_a_slow_one_behind_it(tmp_path):
    """Where pieces may take long, each is told as soon as it is done."""
    gate = Gate()
    async with open_lane(tmp_path, tell_seconds=0) as lane:
        quick = asyncio.ensure_future(lane.run(lambda _connection: "quick"))
        slow = asyncio.ensure_future(lane.run(gate))
        assert "quick" == await quick
        assert not slow.done()
        gate.open.set()
        await slow


async def test_closing_comes_behind_what_was_handed_in(tmp_path):
    """Also behind what came while the thread was at work; then nothing more is taken."""
    gate = Gate()
    async with open_lane(tmp_path, tell_seconds=READER) as lane:
        pieces = [asyncio.ensure_future(lane.run(gate))]
        await begun(gate)
        pieces.append(asyncio.ensure_future(lane.run(lambda _connection: "done")))
        await asyncio.sleep(0)
        closed = asyncio.ensure_future(lane.close())
        gate.open.set()
        assert [None, "done"] == await asyncio.gather(*pieces)
        await closed
        with pytest.raises(StoreError):
            await lane.run(lambda _connection: None)

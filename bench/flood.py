"""What following a flood of changes costs those who have nothing to do with them.

The calm half writes just as much to a copy of the database, which nobody follows: so all that differs is the following.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from bench.cpu import used_microseconds
from bench.load import Answered
from gateway.stores.local import channel_of, tell

_IN_A_BATCH = 500
_ACCOUNTS = 1000
_IDLE_SECONDS = 2.0
Drive = Callable[[], Awaitable[Answered]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One stretch of load with a writer beside it."""

    p99_us: float
    requests: int
    used_us: float
    """By the gateway, of the processor."""
    changes: float
    """A second."""


async def flood(pid: int, database: Path, *, changes: int, rounds: int, drive: Drive) -> dict[str, Any]:
    """Return what so many changes a second of other accounts cost the gateway `pid` and those who use it."""
    copy = database.with_name("copy") / database.name
    copy.parent.mkdir()
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    idle, calm, flooded = list[float](), list[Half](), list[Half]()
    for number in range(rounds):
        # In turns, so that what the machine does besides meets both alike.
        for followed in (False, True) if number % 2 else (True, False):
            half = await _half(pid, database if followed else copy, changes, drive)
            (flooded if followed else calm).append(half)
        idle.append(await _idle(pid, database, copy, changes))
    ratios = [after.p99_us / before.p99_us for before, after in zip(calm, flooded, strict=True)]
    between = [after.p99_us / before.p99_us for before, after in pairwise(calm)]
    return {
        "rounds": rounds,
        "changes_per_second": round(median(half.changes for half in flooded)),
        "p99_us": _spread([half.p99_us for half in calm]),
        "p99_us_flooded": _spread([half.p99_us for half in flooded]),
        "ratio": _spread(ratios, 2),
        "ratio_of_calm_rounds": _spread(between, 2),
        "cpu_us_per_request": _spread([half.used_us / half.requests for half in calm], 1),
        "cpu_us_per_request_flooded": _spread([half.used_us / half.requests for half in flooded], 1),
        "cpu_us_per_change_without_load": _spread(idle, 2),
    }


def _spread(values: Sequence[float], digits: int = 0) -> list[float]:
    """Return least, median and most."""
    return [round(value, digits) for value in (min(values), median(values), max(values))] if values else []


async def _half(pid: int, database: Path, changes: int, drive: Drive) -> Half:
    async with _writing(database, changes) as written:
        used = used_microseconds(pid)
        answered = await drive()
        used = used_microseconds(pid) - used
    return Half(p99_us=answered.p99_us, requests=answered.requests, used_us=used, changes=written[0])


async def _idle(pid: int, database: Path, copy: Path, changes: int) -> float:
    """Return microseconds of processor for each change, with nobody to answer."""
    used = {}
    for path in (copy, database):
        async with _writing(path, changes):
            before = used_microseconds(pid)
            await asyncio.sleep(_IDLE_SECONDS)
            used[path] = used_microseconds(pid) - before
    return (used[database] - used[copy]) / (changes * _IDLE_SECONDS)


@contextlib.asynccontextmanager
async def _writing(database: Path, changes: int) -> AsyncIterator[list[float]]:
    """Write until the block ends; behind it the list holds how many changes a second it were."""
    stop, written = asyncio.Event(), list[float]()
    writing = asyncio.ensure_future(asyncio.to_thread(_write, database, changes, stop.is_set))
    try:
        yield written
    finally:
        stop.set()
        written.append(await writing)


def _write(database: Path, changes: int, is_over: Callable[[], bool]) -> float:
    """Change other accounts, so many times a second, in batches that are told of; return how many it were."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=5)
    with contextlib.closing(connection):
        rows = [(f"other{number}",) for number in range(_ACCOUNTS)]
        connection.executemany(
            "INSERT OR IGNORE INTO accounts (id, type, suspended, epoch) VALUES (?, 'paid', 0, 0)", rows
        )
        began, done = time.monotonic(), 0
        while not is_over():
            connection.execute("BEGIN IMMEDIATE")
            batch = [rows[(done + number) % len(rows)] for number in range(_IN_A_BATCH)]
            connection.executemany("UPDATE accounts SET epoch = epoch + 1 WHERE id = ?", batch)
            connection.execute("COMMIT")
            tell(channel_of(database))
            done += _IN_A_BATCH
            time.sleep(max(0.0, began + done / changes - time.monotonic()))
        return done / (time.monotonic() - began)

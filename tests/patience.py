"""How tests deal with time on machines that are slow: to wait long costs nothing, and a bound asks for our share only."""

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

PATIENCE_SECONDS = 30
"""How long anything in the tests waits before it fails the test: paid only then."""
_BEAT_SECONDS = 0.01


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError if the block takes longer, in seconds during which this process had its share of the machine.

    They are counted in beats, each of which this loop has come to: whatever stops or slows it stretches them, and so a
    machine that stands still, or has other things to do, does not make a promise of ours a broken one.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(max(PATIENCE_SECONDS, seconds)) as limit:
        counting = asyncio.ensure_future(_count(limit, math.ceil(seconds / _BEAT_SECONDS), loop))
        try:
            yield
        finally:
            counting.cancel()
            await asyncio.wait([counting])


async def _count(limit: asyncio.Timeout, beats: int, loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(beats):
        await asyncio.sleep(_BEAT_SECONDS)
    limit.reschedule(loop.time())


_STALL_SECONDS = 0.02
_MOST_TRIES = 10


def unless_it_stalls(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Decorate a test of limits that are so short that they are reached by whatever the machine does besides.

    Where it fails and this loop came late to anything meanwhile, that says nothing, and it is tried anew, in a
    directory of its own; everybody in it must run on this loop.
    """

    @functools.wraps(test)
    async def tried(*args: Any, **fixtures: Any) -> None:
        for number in range(_MOST_TRIES):
            if number and "tmp_path" in fixtures:
                fixtures["tmp_path"] = fixtures["tmp_path"].parent / f"{fixtures['tmp_path'].name}-{number}"
                fixtures["tmp_path"].mkdir()
            watch = _Watch()
            watching = asyncio.ensure_future(watch.go_on())
            try:
                await test(*args, **fixtures)
            except (Exception, pytest.fail.Exception):
                if watch.latest < _STALL_SECONDS or number == _MOST_TRIES - 1:
                    raise
            else:
                return
            finally:
                watching.cancel()
                await asyncio.wait([watching])

    return tried


class _Watch:
    """How late a loop came to what was due, at most, in seconds."""

    def __init__(self) -> None:
        self.latest = 0.0

    async def go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_SECONDS
            try:
                await asyncio.sleep(_BEAT_SECONDS)
            finally:
                # Also at the end, which may come before it was our turn.
                self.latest = max(self.latest, loop.time() - due)

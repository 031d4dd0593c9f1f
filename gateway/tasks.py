"""Background tasks that somebody owns: kept while they run, their errors logged, all ended at the end."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """A set of running tasks with one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` in the background; an error ends only that task and is logged with its name."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)

    async def wait(self) -> None:
        """Wait until what runs now has ended by itself."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the task %s ended with an error", task.get_name(), exc_info=error)


def run_on(stack: AsyncExitStack, work: Coroutine[Any, Any, None], *, name: str) -> None:
    """Run `work` in the background until `stack` ends; see `Tasks.start`."""
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    tasks.start(work, name=name)

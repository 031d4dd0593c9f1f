"""The process that keeps the index, as a gateway sees it: one for each data directory, whichever worker starts it."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs

from gateway.audit.hand import Hand
from gateway.audit.index.database import LOCK
from gateway.audit.index.node import read_node
from gateway.audit.index.order import Order, Told
from gateway.locks import Claim, claim

log = logging.getLogger(__name__)

_COMMAND = ("-P", "-m", "gateway.audit.index")
_FIRST_SECONDS = 3.0
"""Whoever starts has more urgent things to do."""
_LOOK_SECONDS = 5.0
"""How soon the next worker takes over from one that has ended."""


class Indexer:
    """Sees that a process keeps the index, as long as no other gateway sees to it."""

    def __init__(
        self,
        journal: Path,
        index: Path,
        *,
        database: str = "",
        look_seconds: float = _LOOK_SECONDS,
        claim: Claim = claim,
    ) -> None:
        """Start nothing yet; with a `database`, the process ships the journal there instead."""
        self.told: Told | None = None
        """What the process said last; None if there is none, or another gateway has it."""
        self._order = Order(journal=str(journal), index=str(index), database=database)
        self._lock = index.with_name(LOCK)
        self._look_seconds = look_seconds
        self._claim = claim

    async def keep(self, *, first_after: float = _FIRST_SECONDS) -> None:
        """See to it from some seconds on until this is cancelled, which ends the process if it is ours."""
        await asyncio.sleep(first_after)
        hand = Hand("journal-index")
        try:
            while True:
                if await hand.run(self._is_free):
                    try:
                        await self._run(await hand.run(partial(read_node, self._lock.parent)))
                    except OSError as exc:
                        log.warning("the process that keeps the index cannot be started: %s", exc)
                await asyncio.sleep(self._look_seconds)
        finally:
            hand.stop()

    def _is_free(self) -> bool:
        """Tell whether nobody keeps it; for the hand."""
        try:
            handle = self._claim(self._lock)
        except OSError as exc:
            log.warning("the index cannot be kept: `%s`: %s", self._lock, exc.strerror)
            return False
        if handle is None:
            return False
        os.close(handle)
        return True

    async def _run(self, node: str) -> None:
        """Start the process and hear it until it ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *_COMMAND, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        try:
            if process.stdin is None or process.stdout is None:
                raise OSError("it was started without its pipes")
            # Not among its arguments, which others can read: the address holds a password.
            order = structs.replace(self._order, node=node)
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            while line := await process.stdout.readline():
                self.told = msgspec.json.decode(line, type=Told)
        except (msgspec.MsgspecError, ValueError):
            log.exception("the process that keeps the index says what it never says: killed")
        finally:
            self.told = None
            await _end(process)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
        with suppress(ConnectionError):
            await process.stdin.wait_closed()
    if process.stdout is not None:
        await process.stdout.read()
    await process.wait()

"""What a running gateway does to notice that its own evidence is broken: it verifies the journal now and then.

What it finds is put on the record once, and so those who are told of such things are told. What came of the last time
is kept for whoever asks: see `gateway.audit.evidence.verdict`.
"""

import asyncio
import hashlib
import logging
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from gateway.audit.evidence.verdict import Kept, Verdict, keep
from gateway.audit.hand import Hand
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.clock import Clock, utc_now
from gateway.files import write_new
from gateway.locks import Lock

log = logging.getLogger(__name__)

FIRST_SECONDS = 900.0
"""Whoever starts has more urgent things to do."""
AGAIN_SECONDS = 60.0
"""What is found once may be a journal that is just being begun; what is still found then is not."""
_LOOK_SECONDS = 5.0
_COMMAND = ("-P", "-m", "gateway.audit.evidence")
_MOST = 300
"""Characters of what was found."""


class Watch:
    """Of the journals in one directory; of all processes that share it one verifies."""

    def __init__(
        self,
        journal: Path,
        key: Path,
        kept: Path,
        *,
        log_to: AuditLog,
        conflicts: Callable[[], Mapping[str, int]],
        every_seconds: float,
        first_seconds: float = FIRST_SECONDS,
        again_seconds: float = AGAIN_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        """In the directory `kept` it is remembered what was found and said; `conflicts` are of the witnesses, by name.

        Without `every_seconds` nothing is verified.
        """
        self._journal = journal
        self._key = key
        self._kept = kept
        self._log_to = log_to
        self._conflicts = conflicts
        self._every_seconds = every_seconds
        self._first_seconds = min(first_seconds, every_seconds)
        self._again_seconds = again_seconds
        self._clock = clock
        self._told: set[str] = set()

    async def run(self) -> None:
        """Do it until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heed_witnesses())
            if self._every_seconds:
                group.create_task(self._keep_verifying())

    async def _heed_witnesses(self) -> None:
        """Say once of each witness that it knows another history than ours."""
        while True:
            for name, count in self._conflicts().items():
                if count and name not in self._told and await self._say(f"the witness {name} knows another history", 1):
                    self._told.add(name)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_verifying(self) -> None:
        await asyncio.sleep(self._first_seconds)
        hand, lock = Hand("verify"), Lock(self._kept / "verifying.lock")
        try:
            while True:
                try:
                    await hand.run(partial(self._kept.mkdir, mode=0o700, parents=True, exist_ok=True))
                    if await hand.run(lock.take):
                        await self._verify(hand)
                except (OSError, msgspec.MsgspecError) as error:
                    log.warning("the journal cannot be verified now: %s", error)
                await asyncio.sleep(self._every_seconds)
        finally:
            hand.stop(lock.release)

    async def _verify(self, hand: Hand) -> None:
        at, verdict = self._clock(), await self.ask()
        if verdict.count:
            await asyncio.sleep(self._again_seconds)
            at, verdict = self._clock(), await self.ask()
        try:
            await hand.run(lambda: keep(self._kept, Kept(at=at, verdict=verdict)))
        except OSError as error:
            # What was found is told all the same.
            log.warning("what came of verifying the journal cannot be kept: %s", error)
        if not verdict.count:
            return
        log.error("the journal is not what it was: %d findings, the first: %s", verdict.count, verdict.first)
        mark = hashlib.sha256(f"{verdict.count}\0{verdict.first}".encode("utf-8", "surrogatepass")).hexdigest()
        if mark != await hand.run(self._read_mark) and await self._say(verdict.first[:_MOST], verdict.count):
            await hand.run(lambda: write_new(self._kept / "said", mark.encode(), mode=0o600, fsync=os.fsync))

    async def ask(self) -> Verdict:
        """Return what the process says; raises OSError, MsgspecError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *_COMMAND, str(self._journal), str(self._key), stdout=PIPE, start_new_session=True
        )
        try:
            said, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if process.returncode:
            raise OSError(f"the process that does it ended with {process.returncode}")
        return msgspec.json.decode(said, type=Verdict)

    def _read_mark(self) -> str:
        try:
            return (self._kept / "said").read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""

    async def _say(self, what: str, count: int) -> bool:
        record = Record(kind="audit", reason="evidence_broken", stated_reason=what, count=count)
        try:
            await self._log_to.append(record, durable=True)
        except JournalError as error:
            log.warning("that the evidence is broken cannot be recorded yet: %s", error)
            return False
        return True

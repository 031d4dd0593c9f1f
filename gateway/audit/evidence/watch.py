"""What a running gateway does to notice that its own evidence is broken: it verifies the journal now and then.

What it finds is put on the record once, and so those who are told of such things are told; and once more when it is
whole again, see `Watch._take_back`. What came of the last time is kept for whoever asks: see
`gateway.audit.evidence.verdict`.
"""

import asyncio
import hashlib
import logging
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import msgspec

from gateway.audit.evidence.alarm import Alarm, Finder, raise_alarm, standing, take_back
from gateway.audit.evidence.verdict import Kept, Verdict, keep, read_kept, weigh
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
        self._taken_back: datetime | None = None
        """Since when that was said which was taken back last."""

    async def run(self) -> None:
        """Do it until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heed_witnesses())
            if self._every_seconds:
                group.create_task(self._keep_verifying())

    async def _heed_witnesses(self) -> None:
        """Say once of each witness that it knows another history than ours."""
        hand = Hand("witnesses")
        try:
            while True:
                for name, count in self._conflicts().items():
                    if count and name not in self._told:
                        what = f"the witness {name} knows another history"
                        if await self._say(what, 1, finder="witness", hand=hand):
                            self._told.add(name)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            hand.stop()

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
        kept = weigh(verdict, at=at, before=await hand.run(partial(read_kept, self._kept)))
        try:
            await hand.run(lambda: keep(self._kept, kept))
        except OSError as error:
            # What was found is told all the same.
            log.warning("what came of verifying the journal cannot be kept: %s", error)
        if not verdict.count:
            await self._take_back(kept, hand)
            return
        log.error("the journal is not what it was: %d findings, the first: %s", verdict.count, verdict.first)
        mark = hashlib.sha256(f"{verdict.count}\0{verdict.first}".encode("utf-8", "surrogatepass")).hexdigest()
        if mark == await hand.run(self._read_mark):
            return
        if await self._say(verdict.first[:_MOST], verdict.count, finder="verifying", hand=hand):
            await hand.run(lambda: write_new(self._mark, mark.encode(), mode=0o600, fsync=os.fsync))

    async def _take_back(self, kept: Kept, hand: Hand) -> None:
        """Say once that what was said to be broken is whole again, where that is so.

        On a later day (UTC) than anything was found: accounts are told of that once a day, and would not hear of what
        breaks again. Not while there is less than was vouched for before, for what is gone as a whole has no findings;
        and never of what a witness has said, who knows of a history that verifies as well as ours.
        """
        alarms = await hand.run(partial(standing, self._kept))
        if not alarms or self._told or "witness" in alarms:
            return
        if max(_day(alarm.last) for alarm in alarms.values()) >= _day(kept.at):
            return
        if kept.lacking:
            few = ", ".join(kept.lacking)
            log.error("the journal verifies again, but not as far as before: look for what is missing of %s", few)
            return
        since = min(alarm.since for alarm in alarms.values())
        if since != self._taken_back and not await self._append(_mended(kept.verdict, since=since)):
            return
        log.warning("the journal is whole again: it was not since %s", since.isoformat())
        self._taken_back = since
        await hand.run(partial(self._forget, alarms))

    def _forget(self, alarms: Mapping[Finder, Alarm]) -> None:
        # The same thing, found again, is said again.
        self._mark.unlink(missing_ok=True)
        take_back(self._kept, alarms)

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

    @property
    def _mark(self) -> Path:
        return self._kept / "said"

    def _read_mark(self) -> str:
        try:
            return self._mark.read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""

    async def _say(self, what: str, count: int, *, finder: Finder, hand: Hand) -> bool:
        try:
            # Before it is said, so that nothing that was said is not known to be.
            await hand.run(lambda: raise_alarm(self._kept, finder, at=self._clock()))
        except OSError as error:
            log.warning("that the evidence is broken cannot be kept, so it may not be said when it is whole: %s", error)
        return await self._append(Record(kind="audit", reason="evidence_broken", stated_reason=what, count=count))

    async def _append(self, record: Record) -> bool:
        try:
            await self._log_to.append(record, durable=True)
        except JournalError as error:
            log.warning("how the evidence is cannot be recorded yet: %s", error)
            return False
        return True


def _mended(verdict: Verdict, *, since: datetime) -> Record:
    """Return the record of evidence that is whole again; its words say until which record of each origin that is."""
    until = ", ".join(f"{origin}:{count - 1}" for origin, count in sorted(verdict.covered.items()) if count)
    return Record(
        kind="audit",
        reason="evidence_mended",
        since=since.astimezone(UTC).isoformat(),
        stated_reason=f"verified until {until}"[:_MOST] if until else None,
        count=sum(verdict.covered.values()),
    )


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()

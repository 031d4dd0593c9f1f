"""Sends what the outbox holds, at least once, and puts on the record who was told of what, or that nobody was.

Any number of processes and nodes do it side by side: a target is one's at a time, by a claim in the store that runs out
if its holder dies. What was sent is kept before it is recorded, so that a journal that is full has nobody told twice.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from gateway.audit.hand import Hand
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.clock import Clock
from gateway.rarely import Rarely
from gateway.stores.outbox import WAITING, Claim, Notice
from gateway.stores.store import Store, StoreError
from gateway.tasks import Tasks
from gateway.telling.addresses import shown
from gateway.telling.addressing import NOBODY, is_older
from gateway.telling.counts import NO_CHANNEL, NO_CONTACT, REFUSED, SENT, TOO_OLD, NoticeCounts
from gateway.telling.courier import Courier, Never, NotNow, Parcel
from gateway.telling.reading import KEPT
from policy.model import AccountId

log = logging.getLogger(__name__)

_AT_ONCE: Final = 8
_MOST: Final = 50
_HELD: Final = timedelta(minutes=3)
"""Longer than a turn and a delivery take, whatever the other side does."""
_TURN_SECONDS: Final = 60.0
"""After so long what is left of a claim waits for the next one."""
_HARD_SECONDS: Final = 60.0
_FIRST_PAUSE: Final = timedelta(seconds=5)
_LONGEST_PAUSE: Final = timedelta(minutes=15)
_LAST_SECONDS: Final = 1.5
"""For deliveries under way, when this ends."""
_POLL_SECONDS: Final = 1.0
_COUNT_SECONDS: Final = 5.0
_TIDY_SECONDS: Final = 3600.0


class Sender:
    """Sends from one process; `run` goes on until it is cancelled."""

    def __init__(
        self,
        store: Store,
        journal: AuditLog,
        couriers: Mapping[str, Courier],
        *,
        give_up: timedelta,
        clock: Clock,
        counts: NoticeCounts,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """By channel, who brings notices; those older than `give_up` are brought no more."""
        self._store = store
        self._journal = journal
        self._couriers = couriers
        self._give_up = give_up
        self._clock = clock
        self._counts = counts
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._rarely = Rarely(log)
        self._is_waiting = False
        """Whether it was said that the store does not answer."""

    def wake(self) -> None:
        """Look at once: there may be something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send what is due until cancelled; a delivery that goes on then is left to the next who claims it."""
        counting, tasks = Tasks(), Tasks()
        try:
            counting.start(self._keep_counting(), name="count the notices that wait")
            while True:
                self._woken.clear()
                await self._free.acquire()
                if (claim := await self._claim()) is not None:
                    tasks.start(self._deal(claim), name="send notices")
                    continue
                self._free.release()
                await self._rest()
        finally:
            await counting.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await tasks.wait()
            await tasks.close()

    async def _claim(self) -> Claim | None:
        now = self._clock()
        try:
            # Only looked at as long as there is nothing: nobody writes once a second for nothing.
            if not await self._store.is_due(now=now):
                return None
            claim = await self._store.claim_notices(secrets.token_hex(16), now=now, until=now + _HELD, most=_MOST)
        except StoreError as error:
            if not self._is_waiting:
                # Once, until it works again: the metrics tell the rest.
                self._is_waiting = True
                log.warning("notices wait for the store: %s", error)
            return None
        self._is_waiting = False
        return claim

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _deal(self, claim: Claim) -> None:
        try:
            await self._deal_with(claim)
        except StoreError as error:
            self._rarely.warning("what came of notices cannot be kept, so some may be sent twice: %s", error)
        finally:
            self._free.release()
            self.wake()

    async def _deal_with(self, claim: Claim) -> None:
        done, pause = [each for each in claim.notices if each.outcome != WAITING], timedelta()
        outcomes = {each.id: each.outcome for each in done}
        failed = False
        until = asyncio.get_running_loop().time() + _TURN_SECONDS
        try:
            for parcel, outcome in self._judged(claim):
                if asyncio.get_running_loop().time() > until:
                    break
                found = outcome or await self._bring(parcel)
                await self._store.settle_notices([each.id for each in parcel.notices], outcome=found)
                outcomes |= dict.fromkeys((each.id for each in parcel.notices), found)
                if found == SENT:
                    pause = timedelta(seconds=self._couriers[claim.target.channel].pause_seconds)
        except NotNow as error:
            failed = True
            self._counts.failures += 1
            self._rarely.warning("notices by %s wait: %s", claim.target.channel, error)
        known = [each for each in claim.notices if each.id in outcomes]
        noted = await self._note(known, outcomes)
        failed |= len(noted) < len(known)
        failures = claim.failures + 1 if failed else 0
        if failed:
            pause = min(_FIRST_PAUSE * 2 ** min(claim.failures, 20), _LONGEST_PAUSE)
        not_before = self._clock() + pause
        await self._store.finish_claim(claim, noted=noted, not_before=not_before, failures=failures)

    def _judged(self, claim: Claim) -> Iterator[tuple[Parcel, str]]:
        """Yield what is to be brought, in parcels, and what is not, with its outcome."""
        waiting = [each for each in claim.notices if each.outcome == WAITING]
        channel = claim.target.channel
        if not waiting:
            return
        if channel == NOBODY or channel not in self._couriers:
            yield Parcel(claim.target, waiting), NO_CONTACT if channel == NOBODY else NO_CHANNEL
            return
        limit = self._clock() - self._give_up
        if old := [each for each in waiting if is_older(each, limit)]:
            yield Parcel(claim.target, old), TOO_OLD
        fresh = [each for each in waiting if not is_older(each, limit)]
        most = self._couriers[channel].most
        for start in range(0, len(fresh), most):
            yield Parcel(claim.target, fresh[start : start + most]), WAITING

    async def _bring(self, parcel: Parcel) -> str:
        """Return what came of it for good; raises NotNow."""
        courier = self._couriers[parcel.target.channel]
        # A thread of its own, which nobody waits for: one that hangs holds up no other, nor the end of the process.
        hand = Hand("notice")
        try:
            async with asyncio.timeout(_HARD_SECONDS):
                await hand.run(lambda: courier.bring(parcel))
        except Never as error:
            self._rarely.warning("notices by %s are refused: %s", parcel.target.channel, error)
            return REFUSED
        except TimeoutError:
            raise NotNow("it takes too long") from None
        except NotNow:
            raise
        except Exception as error:
            log.exception("notices by %s have met an error of ours", parcel.target.channel)
            raise NotNow("an error of ours") from error
        finally:
            hand.stop()
        return SENT

    async def _note(self, notices: Sequence[Notice], outcomes: Mapping[str, str]) -> list[str]:
        """Put on the record what came of notices; return the ids of those of which it is."""
        noted: list[str] = []
        for notice in notices:
            outcome = outcomes[notice.id]
            try:
                await self._journal.append(record_of(notice, outcome), durable=True)
            except JournalError as error:
                self._rarely.warning("who was told of what cannot be recorded yet: %s", error)
                break
            noted.append(notice.id)
            self._counts.outcomes[notice.target.channel, outcome] += 1
        return noted

    async def _keep_counting(self) -> None:
        tidied = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._counts.waiting = await self._store.count_waiting()
                if loop.time() - tidied > _TIDY_SECONDS:
                    await self._store.tidy_notices(before=self._clock() - self._give_up - 2 * KEPT)
                    tidied = loop.time()
            except StoreError:
                self._counts.waiting = None
            await asyncio.sleep(_COUNT_SECONDS)


def record_of(notice: Notice, outcome: str) -> Record:
    """Return the record of what came of a notice; who it went to is personal, and can be taken away."""
    channel, address = notice.target
    return Record(
        kind="notice",
        reason=outcome,
        about=notice.about,
        account=AccountId(notice.account) if notice.account else None,
        channel=channel,
        event=notice.event,
        recipient=shown(channel, address) if channel != NOBODY else None,
    )

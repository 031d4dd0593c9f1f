"""Has receipts made for the accounts' own administrators: one at a time, and kept until they were fetched."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.audit.evidence.making import Ending
from gateway.audit.evidence.ordering import ReceiptMaker
from gateway.audit.index.asking import Busy, IndexTurns
from gateway.clock import Ticks
from gateway.console.account.log_turns import Turns
from gateway.tasks import Tasks
from policy.model import AccountId, AssumptionId

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 15.0
"""So long a request waits for one: the front gives up on it after thirty."""
KEPT_MINUTES: Final = 5
"""So long one is there for whoever has asked, unless others need its room before."""
_LONGEST_UNSIGNED_SECONDS: Final = 10.0
"""Who would have to wait longer for a checkpoint is told so at once."""
_MOST_CHARGED: Final = 3.0
"""Seconds: or nobody could fetch in time what took long to make."""
_MOST: Final = 4
"""Of all accounts, under way, waiting and kept: each may hold a whole assumption in memory."""


@dataclass(slots=True)
class _Job:
    made: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = Ending.FAILED
    receipt: bytes = b""


class ReceiptDesk:
    """One that takes longer than a request may wait goes on, and is there when it is asked for again."""

    def __init__(
        self,
        maker: ReceiptMaker,
        *,
        tasks: Tasks,
        making: IndexTurns,
        turns: Turns,
        ticks: Ticks,
        until_signed: Sequence[float],
    ) -> None:
        """Have `maker` make them in turns of `making`; `tasks` run what goes on.

        What a making takes, up to some seconds, is used up of the account's share of `turns`. `until_signed` are the
        seconds before each further try of one whose records are not signed yet: see `pauses_of`.
        """
        self._maker = maker
        self._tasks = tasks
        self._until_signed = until_signed
        self._turns = turns
        self._ticks = ticks
        self._making = making
        self._turn = asyncio.Lock()
        self._jobs: dict[tuple[AccountId, AssumptionId], _Job] = {}

    async def fetch(
        self, account: AccountId, sid: AssumptionId, *, seconds: float = PATIENCE_SECONDS
    ) -> tuple[int, bytes] | None:
        """Return how the making ended (see `Ending`) and the receipt; None if it goes on: ask again.

        Another account's assumption is as good as none. Raises Busy.
        """
        job = self._jobs.get((account, sid)) or self._begin(account, sid)
        try:
            async with asyncio.timeout(seconds):
                await job.made.wait()
        except TimeoutError:
            return None
        self._forget(job, account, sid)
        return job.status, job.receipt

    def _begin(self, account: AccountId, sid: AssumptionId) -> _Job:
        if any(not job.made.is_set() for (other, _), job in self._jobs.items() if other == account):
            raise Busy("another receipt of your account is being made: try again in a minute")
        kept = [key for key, job in self._jobs.items() if job.made.is_set()]
        # What nobody has come for makes room: first that of the same account.
        kept.sort(key=lambda key: key[0] != account)
        if len(self._jobs) >= _MOST:
            if not kept:
                raise Busy("receipts of others are being made: try again in a minute")
            del self._jobs[kept[0]]
        job = self._jobs[account, sid] = _Job()
        self._tasks.start(self._work(job, account, sid), name="make a receipt")
        return job

    async def _work(self, job: _Job, account: AccountId, sid: AssumptionId) -> None:
        try:
            await self._fill(job, account, sid)
            for pause in self._until_signed:
                if job.status != Ending.NOT_SIGNED_YET:
                    break
                # In nobody's turn, and out of nobody's share: nothing is read meanwhile.
                await asyncio.sleep(pause)
                await self._fill(job, account, sid)
        except (OSError, TimeoutError) as exc:
            log.warning("a receipt could not be made: %s", str(exc) or "it takes too long")
        finally:
            job.made.set()
        await asyncio.sleep(60 * KEPT_MINUTES)
        self._forget(job, account, sid)

    async def _fill(self, job: _Job, account: AccountId, sid: AssumptionId) -> None:
        """Make it once, when its turn comes; raises OSError and TimeoutError."""
        # One of ours at a time waits for a turn among those of the API, so that ours do not keep its clients out.
        async with self._turn:
            await self._making.wait(account)
            began = self._ticks()
            try:
                job.status, job.receipt = await self._maker.make(sid, account)
            finally:
                self._making.give_back(account)
                self._turns.spend(account, min(self._ticks() - began, _MOST_CHARGED))

    def _forget(self, job: _Job, account: AccountId, sid: AssumptionId) -> None:
        if self._jobs.get((account, sid)) is job:
            del self._jobs[account, sid]


def pauses_of(checkpoint_seconds: float) -> Sequence[float]:
    """Return how long to wait before each further try where a checkpoint is due every so many seconds.

    One by which it has to be there, and another one for a slow disk. None where that would be too long to wait: there
    the journal would be read again in vain.
    """
    if checkpoint_seconds > _LONGEST_UNSIGNED_SECONDS:
        return ()
    pause = max(1.0, checkpoint_seconds)
    return (pause, 2 * pause)

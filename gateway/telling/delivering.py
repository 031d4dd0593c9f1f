"""Brings what one claim holds to its recipient, and puts on the record who was told of what, or that nobody was.

What was sent is kept before it is recorded, so that a journal that is full has nobody told twice. Nobody's words hold
up what is said behind them: what is not taken with the words of strangers is told without.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from gateway.audit.hand import Hand
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.clock import Clock
from gateway.rarely import Rarely
from gateway.stores.outbox import URGENT, WAITING, Claim, Notice
from gateway.stores.store import Store
from gateway.telling.addresses import shown
from gateway.telling.addressing import NOBODY, is_older
from gateway.telling.counts import NO_CHANNEL, NO_CONTACT, REFUSED, SENT, TOO_OLD, NoticeCounts
from gateway.telling.courier import Courier, Never, NotNow, NotThis, Parcel
from policy.model import AccountId

log = logging.getLogger(__name__)

_TURN_SECONDS: Final = 45.0
"""After so long what is left of a claim waits for the next one."""
_HARD_SECONDS: Final = 90.0
"""Longer than any courier takes by its own rules."""
_FIRST_PAUSE: Final = timedelta(seconds=5)
_LONGEST_PAUSE: Final = timedelta(minutes=15)
_STUCK: Final = 3
"""After so many failures one after the other it is tried without the words of strangers, whatever the reason."""
_MOST_REFUSED: Final = 10
"""Of notices that are not taken without such words either: by then it may be the receiver, who takes nothing now."""
_REFUSED_PAUSE: Final = timedelta(minutes=1)
"""So long those behind them wait at the most; each of them is put off by itself, and comes after those."""


@dataclass(slots=True)
class _Turn:
    """How a claim fares."""

    claim: Claim
    until: float
    outcomes: dict[str, str]
    left: deque[tuple[Parcel, str]] = field(default_factory=deque)
    pause: timedelta = timedelta()
    put_off: dict[str, datetime] = field(default_factory=dict)
    """Notices that were passed over, and until when each waits."""
    error: str = ""
    """What went wrong last."""

    @property
    def is_over(self) -> bool:
        return asyncio.get_running_loop().time() > self.until

    def put_first(self, parcels: Sequence[Parcel]) -> None:
        self.left.extendleft((parcel, WAITING) for parcel in reversed(parcels))


class Deliverer:
    """Deals with claims, several at the same time if they are of different targets."""

    def __init__(
        self,
        store: Store,
        journal: AuditLog,
        couriers: Mapping[str, Courier],
        *,
        give_up: timedelta,
        clock: Clock,
        counts: NoticeCounts,
        rarely: Rarely,
    ) -> None:
        """By channel, who brings notices; those older than `give_up` are brought no more."""
        self._store = store
        self._journal = journal
        self._couriers = couriers
        self._give_up = give_up
        self._clock = clock
        self._counts = counts
        self._rarely = rarely

    async def deal(self, claim: Claim) -> None:
        """Bring what can be, and let go of the target; raises StoreError."""
        turn = _Turn(
            claim,
            until=asyncio.get_running_loop().time() + _TURN_SECONDS,
            outcomes={each.id: each.outcome for each in claim.notices if each.outcome != WAITING},
            left=deque(self._judged(claim)),
        )
        failed = False
        try:
            while turn.left and not turn.is_over:
                await self._go_on(turn)
        except NotNow as error:
            failed = True
            self._fail(turn, error)
        known = [each for each in claim.notices if each.id in turn.outcomes]
        noted = await self._note(known, turn.outcomes)
        failed |= len(noted) < len(known)
        pause = _pause_after(claim.failures) if failed else turn.pause
        if len(turn.put_off) >= _MOST_REFUSED:
            pause = min(pause, _REFUSED_PAUSE)
        await self._store.finish_claim(
            claim,
            noted=noted,
            not_before=self._clock() + pause,
            failures=claim.failures + 1 if failed else 0,
            error=turn.error,
            put_off=turn.put_off,
        )

    async def _go_on(self, turn: _Turn) -> None:
        """Deal with the next parcel; raises NotNow if nothing more is to be tried in this turn."""
        parcel, outcome = turn.left.popleft()
        try:
            found = outcome or await self._bring(parcel)
        except NotThis as error:
            if len(parcel.notices) > 1:
                turn.put_first([replace(parcel, notices=[notice]) for notice in parcel.notices])
                return
            if not parcel.is_bare:
                turn.put_first([replace(parcel, is_bare=True)])
                return
            self._fail(turn, error)
            if not error.for_good:
                [notice] = parcel.notices
                turn.put_off[notice.id] = self._clock() + _pause_after(notice.tries)
                if len(turn.put_off) >= _MOST_REFUSED:
                    raise NotNow(str(error)) from None
                return
            found = REFUSED
        except NotNow:
            if parcel.is_bare or turn.claim.failures < _STUCK or turn.is_over:
                raise
            turn.put_first([replace(parcel, is_bare=True)])
            return
        await self._store.settle_notices([each.id for each in parcel.notices], outcome=found)
        turn.outcomes |= dict.fromkeys((each.id for each in parcel.notices), found)
        if found == SENT:
            turn.pause = timedelta(seconds=self._couriers[parcel.target.channel].pause_seconds)

    def _fail(self, turn: _Turn, error: Exception) -> None:
        turn.error = str(error)
        self._counts.failures += 1
        self._rarely.warning("notices by %s wait: %s", turn.claim.target.channel, error)

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
        # What is urgent stands in no mail in which something else could hide it.
        for part in ([e for e in fresh if e.event in URGENT], [e for e in fresh if e.event not in URGENT]):
            for start in range(0, len(part), most):
                yield Parcel(claim.target, part[start : start + most]), WAITING

    async def _bring(self, parcel: Parcel) -> str:
        """Return what came of it for good; raises NotNow and NotThis."""
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
        except (NotNow, NotThis):
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


def _pause_after(failures: int) -> timedelta:
    return min(_FIRST_PAUSE * (1 << min(failures, 20)), _LONGEST_PAUSE)


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

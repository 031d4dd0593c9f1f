"""Refusals of those of whom nothing is known, on the record: each of a few, and of a flood how many there were.

Anybody can bring one about as often as they like, so what they cost the disk is bounded, by the day.
"""

import asyncio
from collections import Counter
from typing import Final

from cachetools import LRUCache

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Kind, Record
from gateway.clock import Ticks, boot_seconds
from gateway.devices.guesses import network_of

A_SECOND_EACH: Final = 1.0
"""So many refusals of one network go on the record by themselves, in the long run."""
A_SECOND: Final = 2.0
"""And so many of all of them."""
AT_ONCE_EACH: Final = 384
"""So many go before that counts, of one network: more than tests of somebody's own client come to."""
AT_ONCE: Final = 2048
_SAID_SECONDS = 1.0
_NETWORKS = 4096


class Strangers:
    """Those of one process."""

    def __init__(self, journal: AuditLog, *, ticks: Ticks = boot_seconds) -> None:
        """Have seen nobody yet."""
        self._journal = journal
        self._ticks = ticks
        self._all = _Share(A_SECOND, AT_ONCE)
        self._each: LRUCache[str, _Share] = LRUCache(_NETWORKS)
        self._left_out: Counter[tuple[Kind, str | None]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    async def append(self, record: Record) -> None:
        """Record the refusal of a stranger; raises JournalError.

        If there are too many of them, it is counted: within a second a record with the same kind and reason says how
        many (`count`) were.
        """
        if self._is_due(network_of(record.client_ip)):
            await self._journal.append(record)
            return
        self._left_out[record.kind, record.reason] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SAID_SECONDS, self.say)

    def say(self) -> None:
        """Have what was counted so far recorded now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted, self._left_out = self._left_out, Counter()
        for (kind, reason), count in counted.items():
            try:
                self._journal.note(Record(kind=kind, decision="deny", reason=reason, count=count))
            except JournalError:
                # It is not open yet: said together with what comes.
                self._left_out[kind, reason] += count

    def _is_due(self, network: str) -> bool:
        now, own = self._ticks(), self._each.get(network)
        if own is None:
            own = self._each[network] = _Share(A_SECOND_EACH, AT_ONCE_EACH)
        return own.take(now) and self._all.take(now)


class _Share:
    """So many a second, and some more at once."""

    __slots__ = ("_left", "_most", "_per_second", "_since")

    def __init__(self, per_second: float, most: int) -> None:
        self._per_second = per_second
        self._most = self._left = float(most)
        self._since = float("-inf")

    def take(self, now: float) -> bool:
        self._left = min(self._most, self._left + max(0.0, now - self._since) * self._per_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

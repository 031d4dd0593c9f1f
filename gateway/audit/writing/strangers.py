"""Refusals that somebody can bring about as often as they like: each of a few is on the record, of a flood how many.

So what they cost the disk is bounded, by the day, and nobody buries what others have done.
"""

import asyncio
from collections import Counter
from typing import Final

from cachetools import LRUCache

from gateway.allowance import Allowance
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Kind, Record
from gateway.clock import Ticks, boot_seconds
from gateway.devices.guesses import network_of
from policy.model import AccountId

A_SECOND_EACH: Final = 1.0
"""So many refusals of one network go on the record by themselves, in the long run."""
A_SECOND: Final = 2.0
"""And so many of all of them."""
AT_ONCE_EACH: Final = 384
"""So many go before that counts, of one network: more than tests of somebody's own client come to."""
AT_ONCE: Final = 2048
A_SECOND_OF_PERSON: Final = 1 / 60
"""Of one person who is known by name; nobody errs more often than once a minute for long."""
AT_ONCE_OF_PERSON: Final = 30
A_SECOND_OF_ACCOUNT: Final = A_SECOND / 8
"""Of all people of one account together, whose provider can make up as many as it likes."""
AT_ONCE_OF_ACCOUNT: Final = AT_ONCE // 8
_SAID_SECONDS = 1.0
_NETWORKS = 4096
_ACCOUNTS = 4096


class Strangers:
    """Those of one process of whom nothing is known, each network with a share of its own."""

    def __init__(
        self,
        journal: AuditLog,
        *,
        ticks: Ticks = boot_seconds,
        a_second_each: float = A_SECOND_EACH,
        at_once_each: int = AT_ONCE_EACH,
    ) -> None:
        """Have seen nobody yet."""
        self._journal = journal
        self._ticks = ticks
        self._a_second_each = a_second_each
        self._at_once_each = at_once_each
        self._all = Allowance(A_SECOND, AT_ONCE)
        self._each: LRUCache[str, Allowance] = LRUCache(_NETWORKS)
        self._left_out: Counter[tuple[Kind, str | None]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    async def append(self, record: Record) -> None:
        """Record the refusal of a stranger; raises JournalError.

        If there are too many of them, it is counted: within a second a record with the same kind and reason says how
        many (`count`) were.
        """
        await self._append(record, network_of(record.client_ip))

    async def _append(self, record: Record, whose: str) -> None:
        if self._is_due(whose):
            await self._journal.append(record)
        else:
            self._count(record)

    def _count(self, record: Record) -> None:
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

    def _is_due(self, whose: str) -> bool:
        return self._takes_own(whose) and self._all.take(self._ticks())

    def _takes_own(self, whose: str) -> bool:
        own = self._each.get(whose)
        if own is None:
            own = self._each[whose] = Allowance(self._a_second_each, self._at_once_each)
        return own.take(self._ticks())


class Persons(Strangers):
    """Those of one process who are known by name, each with a share of their own, wherever they come from.

    Those of one account have a part of what all have together: however many there are, they leave the others theirs.
    """

    def __init__(self, journal: AuditLog, *, ticks: Ticks = boot_seconds) -> None:
        """Have seen nobody yet."""
        super().__init__(journal, ticks=ticks, a_second_each=A_SECOND_OF_PERSON, at_once_each=AT_ONCE_OF_PERSON)
        self._accounts: LRUCache[AccountId, Allowance] = LRUCache(_ACCOUNTS)

    async def append_of(self, person: str, record: Record, *, account: AccountId | None = None) -> None:
        """Record the refusal of somebody, as `append` does of a stranger; raises JournalError.

        Of an administrator it is said of which `account`; None of staff, whom the vendor's provider knows.
        """
        if self.may_record(person, account=account):
            await self._journal.append(record)
        else:
            self._count(record)

    def may_record(self, person: str, *, account: AccountId | None = None) -> bool:
        """Take one of somebody's share; False: there is none left, and one more record of theirs says nothing new."""
        return self._takes_own(person) and self._takes_of(account) and self._all.take(self._ticks())

    def _takes_of(self, account: AccountId | None) -> bool:
        if account is None:
            return True
        share = self._accounts.get(account)
        if share is None:
            share = self._accounts[account] = Allowance(A_SECOND_OF_ACCOUNT, AT_ONCE_OF_ACCOUNT)
        return share.take(self._ticks())

"""The accounts that can be entered, kept in order: what changes from one look to the next is little, however many."""

import asyncio
import heapq
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.stores.store import AccountRecord
from policy.grants import GrantState, state
from policy.model import AccountId, AccountType, Grant

SLICE: Final = 500
"""So many are looked at before requests have their turn again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A paid account that lets staff stand in."""

    account: AccountId
    grant: Grant
    suspended: bool
    words: str
    """All that is said of it, in letters that are compared: by what it is found."""


class AllowedNow:
    """Those with a live grant, and the trials; it is for one caller at a time."""

    def __init__(self) -> None:
        """Know none."""
        self._names: list[AccountId] = []
        self._allowed: list[Allowed] = []
        self._trials: list[AccountId] = []
        self._ends: list[tuple[datetime, AccountId]] = []
        """When each stops by itself, the next one first; some are there no more, or have a later end by now."""
        self._shown: tuple[Sequence[Allowed], Sequence[AccountId]] | None = None

    async def read(self, records: Mapping[AccountId, AccountRecord], at: datetime) -> None:
        """Know all of these and no others; others have their turn meanwhile."""
        self._names, self._allowed, self._trials, self._ends, self._shown = [], [], [], [], None
        for number, account in enumerate(sorted(records)):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            self.put(account, records[account], at)

    def put(self, account: AccountId, record: AccountRecord | None, at: datetime) -> None:
        """Know this of an account from now on, None: nothing."""
        self._take_out(account)
        if record is None:
            return
        if record.account.type is AccountType.TRIAL:
            self._trials.insert(bisect_left(self._trials, account), account)
        elif record.grant is not None and state(record.account, record.grant, at) is GrantState.ON:
            place = bisect_left(self._names, account)
            words = f"{account}\n{record.grant.given_by}".casefold()
            one = Allowed(account=account, grant=record.grant, suspended=record.account.suspended, words=words)
            self._names.insert(place, account)
            self._allowed.insert(place, one)
            if record.grant.expires_at is not None:
                heapq.heappush(self._ends, (record.grant.expires_at, account))

    def expire(self, at: datetime) -> None:
        """Forget whose grant is over by now."""
        while self._ends and self._ends[0][0] <= at:
            _, account = heapq.heappop(self._ends)
            place = bisect_left(self._names, account)
            if self._names[place : place + 1] == [account] and self._allowed[place].grant.is_expired(at):
                self._take_out(account)

    def show(self) -> tuple[Sequence[Allowed], Sequence[AccountId]]:
        """Return those with a live grant and the trials, each by account; what was shown before stays as it was."""
        if self._shown is None:
            self._shown = tuple(self._allowed), tuple(self._trials)
        return self._shown

    def _take_out(self, account: AccountId) -> None:
        self._shown = None
        place = bisect_left(self._names, account)
        if self._names[place : place + 1] == [account]:
            del self._names[place], self._allowed[place]
        place = bisect_left(self._trials, account)
        if self._trials[place : place + 1] == [account]:
            del self._trials[place]

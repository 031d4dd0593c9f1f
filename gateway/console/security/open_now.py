"""The accounts that may be assumed and the assumptions that are open, kept by the store's own list of changes.

Reading all accounts takes long where there are many, and what changes from one moment to the next is little.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime

from cachetools import TTLCache

from gateway.clock import Ticks
from gateway.console.security.allowed import SLICE, AllowedNow
from gateway.stores.store import AccountRecord, Changes, Store, StoreChange
from policy.model import AccountId, AccountType, ActorId, Assumption, AssumptionId

_MOST_CHANGES = 500
"""More than that are not looked at one by one."""
_NAMES_SECONDS = 600.0
_MOST_NAMES = 10_000
_MOST_ASKED = 500
"""Names that are looked up at a time: a person who has none here yet is shown by their id."""


class OpenNow:
    """What `catch_up` has read last; it is for one caller at a time."""

    def __init__(self, store: Store, *, ticks: Ticks) -> None:
        """Know nothing yet."""
        self._store = store
        self._records: dict[AccountId, AccountRecord] = {}
        self._assumptions: dict[AssumptionId, Assumption] = {}
        self.allowed = AllowedNow()
        """The accounts, in order."""
        self._at: datetime | None = None
        self._names: TTLCache[ActorId, str] = TTLCache(_MOST_NAMES, _NAMES_SECONDS, timer=ticks)
        self._seen: Changes | None = None
        """Up to which change everything is known; None: read everything."""

    @property
    def records(self) -> Mapping[AccountId, AccountRecord]:
        """The trial accounts, and the paid ones with a grant that nobody has taken back."""
        return self._records

    @property
    def assumptions(self) -> Sequence[Assumption]:
        """Those that have neither been ended nor expired, oldest first."""
        return sorted(self._assumptions.values(), key=lambda one: (one.started_at, one.id))

    @property
    def names(self) -> Mapping[ActorId, str]:
        """What those are called who have begun one, as far as it is known."""
        return self._names

    async def catch_up(self, *, at: datetime) -> int:
        """Read what has changed; returns the store's position, up to which all of it is known.

        Raises StoreError, and then everything is read the next time.
        """
        seen, self._seen = self._seen, None
        found = await self._store.read_changes(0 if seen is None else seen.position)
        if seen is None or not _goes_on(seen, found):
            await self._read_all(at)
        elif found.changes:
            await self._apply(found.changes, at)
        if self._at is not None and at < self._at:
            # What was over is not any more.
            await self.allowed.read(self._records, at)
        self._at = at
        self.allowed.expire(at)
        self._assumptions = {id_: one for id_, one in self._assumptions.items() if one.expires_at > at}
        await self._learn_names()
        self._seen = found
        return found.position

    async def _read_all(self, at: datetime) -> None:
        records = await self._store.list_accounts()
        self._records = {record.account.id: record async for record in _sliced(records) if _counts(record)}
        await self.allowed.read(self._records, at)
        self._assumptions = {one.id: one for one in await self._store.list_assumptions(at=at)}
        self._names.clear()

    async def _apply(self, changes: Iterable[StoreChange], at: datetime) -> None:
        for account in {change.account for change in changes if change.account is not None}:
            record = await self._store.find_account(account)
            self._records.pop(account, None)
            if record is not None and _counts(record):
                self._records[account] = record
            self.allowed.put(account, self._records.get(account), at)
        for id_ in {change.assumption for change in changes if change.assumption is not None}:
            one = await self._store.find_assumption(id_)
            self._assumptions.pop(id_, None)
            if one is not None and one.ended_at is None:
                self._assumptions[id_] = one
        for actor in {change.staff for change in changes if change.staff is not None}:
            self._names.pop(actor, None)

    async def _learn_names(self) -> None:
        unknown = {one.actor for one in self._assumptions.values()} - set(self._names)
        for actor in list(unknown)[:_MOST_ASKED]:
            staff = await self._store.find_staff(actor)
            self._names[actor] = staff.name if staff is not None else actor.subject


async def _sliced(records: Sequence[AccountRecord]) -> AsyncIterator[AccountRecord]:
    for number, record in enumerate(records):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        yield record


def _goes_on(seen: Changes, found: Changes) -> bool:
    """Tell whether what was found names each change since what was seen, and in the same history."""
    if found.changes is None or found.position < seen.position or found.tag != seen.newest_tag:
        return False
    if len(found.changes) > _MOST_CHANGES:
        return False
    return all(change.account or change.assumption or change.staff for change in found.changes)


def _counts(record: AccountRecord) -> bool:
    is_trial = record.account.type is AccountType.TRIAL
    return is_trial or (record.grant is not None and record.grant.revoked_at is None)

"""The notices of `MemoryStore`; see `tests.memory_store`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from gateway.stores.outbox import (
    ALL,
    URGENT,
    WAITING,
    Claim,
    Concerned,
    Contacts,
    Notice,
    Pending,
    Room,
    Target,
    Waiting,
)
from gateway.stores.store import AccountRecord, StoreConflict
from policy.model import AccountId

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Door:
    not_before: datetime
    held_until: datetime = _NEVER
    holder: str = ""
    failures: int = 0
    error: str = ""
    retried: bool = False


class MemoryOutbox:
    """Keeps them for the store whose part this is."""

    _accounts: dict[AccountId, AccountRecord]

    def __init__(self) -> None:
        self._contacts: dict[AccountId, Contacts] = {}
        self._notices: dict[str, Notice] = {}
        self._noted: set[str] = set()
        self._doors: dict[Target, _Door] = {}
        self._put_off: dict[str, datetime] = {}

    async def _answer(self) -> None:
        raise NotImplementedError

    async def find_contacts(self, account: AccountId) -> Contacts | None:
        await self._answer()
        return self._contacts.get(account)

    async def list_contacts(self) -> Sequence[Contacts]:
        await self._answer()
        return [contacts for _, contacts in sorted(self._contacts.items())]

    async def page_contacts(self, after: str, *, most: int) -> Sequence[Concerned]:
        await self._answer()
        behind = sorted(account for account in self._contacts if account > after)[:most]
        found = [(self._contacts[account], self._accounts.get(account)) for account in behind]
        return [Concerned(contacts, record and record.account, record and record.grant) for contacts, record in found]

    async def save_contacts(self, contacts: Contacts, *, tell: Sequence[Notice], now: datetime) -> None:
        await self._answer()
        known = self._contacts.get(contacts.account)
        if contacts.version != (known.version if known else 0) + 1:
            raise StoreConflict("the contacts have changed meanwhile")
        self._contacts[contacts.account] = contacts
        self._add(tell, now)

    async def add_notices(self, notices: Sequence[Notice], *, now: datetime) -> int:
        await self._answer()
        return self._add(notices, now)

    async def is_due(self, *, now: datetime, room: Room = ALL) -> bool:
        await self._answer()
        return bool(self._due(now, room))

    async def claim_notices(
        self, holder: str, *, now: datetime, until: datetime, most: int, room: Room = ALL
    ) -> Claim | None:
        await self._answer()
        if not (due := self._due(now, room)):
            return None
        _, target = min((self._doors[each].not_before, each) for each in due)
        door = self._doors[target]
        door.holder, door.held_until, door.retried = holder, until, False
        notices = sorted(
            self._ready(target, now),
            key=lambda each: (each.tries > 0, each.event not in URGENT, each.happened_at, each.id),
        )
        return Claim(target=target, holder=holder, failures=door.failures, notices=notices[:most])

    async def settle_notices(self, ids: Sequence[str], *, outcome: str) -> None:
        await self._answer()
        for name in ids:
            if self._notices[name].outcome == WAITING:
                self._notices[name] = replace(self._notices[name], outcome=outcome)

    async def finish_claim(self, claim, *, noted, not_before, failures, error="", put_off=MappingProxyType({})) -> None:
        await self._answer()
        for name in noted:
            self._noted.add(name)
            self._notices[name] = replace(self._notices[name], facts="", target=Target(claim.target.channel, ""))
        door = self._doors.get(claim.target)
        retried = door is not None and door.retried
        for name, at in put_off.items():
            if not retried:
                self._put_off[name] = at
            self._notices[name] = replace(self._notices[name], tries=self._notices[name].tries + 1)
        if door is not None and door.holder == claim.holder:
            then = door.not_before if retried else not_before
            self._doors[claim.target] = _Door(not_before=then, failures=failures, error=error, retried=retried)

    async def list_pending(self, *, account: str = "", most: int) -> Sequence[Pending]:
        await self._answer()
        found = [
            Pending(
                notice=each,
                failures=(door := self._doors[each.target]).failures,
                not_before=max(self._put_off.get(name, _NEVER), door.not_before),
                error=door.error,
            )
            for name, each in self._notices.items()
            if name not in self._noted and account in ("", each.account)
        ]
        return sorted(found, key=lambda each: (each.notice.happened_at, each.notice.id))[:most]

    async def list_given_up(self, *, account: str = "", most: int) -> Sequence[Notice]:
        await self._answer()
        found = [self._notices[name] for name in sorted(self._noted)]
        found = [each for each in found if each.outcome != "sent" and account in ("", each.account)]
        return sorted(found, key=lambda each: each.happened_at, reverse=True)[:most]

    async def retry_notices(self, ids: Sequence[str] | None, *, now: datetime) -> int:
        await self._answer()
        named = [
            each for name, each in self._notices.items() if name not in self._noted and (ids is None or name in ids)
        ]
        for each in named:
            self._put_off.pop(each.id, None)
            door = self._doors[each.target]
            door.not_before, door.retried = min(door.not_before, now), True
        return len(named)

    async def count_waiting(self) -> Waiting:
        await self._answer()
        waiting = [each.happened_at for name, each in self._notices.items() if name not in self._noted]
        return Waiting(count=len(waiting), oldest=min(waiting, default=None))

    async def tidy_notices(self, *, before: datetime, contacts_before: datetime, now: datetime) -> None:
        await self._answer()
        for name in [name for name in self._noted if self._notices[name].happened_at < before]:
            self._noted.discard(name)
            del self._notices[name]
        for account, contacts in self._contacts.items():
            if contacts.at < contacts_before:
                self._contacts[account] = replace(contacts, former=())
        old = [
            target
            for target, door in self._doors.items()
            if door.not_before < now and door.held_until < now and not self._waiting(target)
        ]
        for target in old:
            del self._doors[target]

    def _add(self, notices: Sequence[Notice], now: datetime) -> int:
        new = {each.id: each for each in notices if each.id not in self._notices}
        self._notices |= new
        for each in new.values():
            self._doors.setdefault(each.target, _Door(not_before=now))
        return len(new)

    def _waiting(self, target: Target) -> list[Notice]:
        return [each for name, each in self._notices.items() if name not in self._noted and each.target == target]

    def _due(self, now: datetime, room: Room) -> list[Target]:
        return [
            target
            for target, door in self._doors.items()
            if not now < door.not_before <= now + timedelta(hours=2)
            and not now < door.held_until <= now + timedelta(minutes=10)
            and target.channel not in room.full
            and any(each.account not in room.busy or target.address in room.spared for each in self._ready(target, now))
        ]

    def _ready(self, target: Target, now: datetime) -> list[Notice]:
        found = self._waiting(target)
        return [each for each in found if not now < self._put_off.get(each.id, _NEVER) <= now + timedelta(hours=2)]

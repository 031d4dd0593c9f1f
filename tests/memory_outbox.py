"""The notices of `MemoryStore`; see `tests.memory_store`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gateway.stores.outbox import ALL, URGENT, WAITING, Claim, Contacts, Notice, Room, Target, Waiting
from gateway.stores.store import StoreConflict
from policy.model import AccountId

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Door:
    not_before: datetime
    held_until: datetime = _NEVER
    holder: str = ""
    failures: int = 0


class MemoryOutbox:
    """Keeps them for the store whose part this is."""

    def __init__(self) -> None:
        self._contacts: dict[AccountId, Contacts] = {}
        self._notices: dict[str, Notice] = {}
        self._noted: set[str] = set()
        self._doors: dict[Target, _Door] = {}

    async def _answer(self) -> None:
        raise NotImplementedError

    async def find_contacts(self, account: AccountId) -> Contacts | None:
        await self._answer()
        return self._contacts.get(account)

    async def list_contacts(self) -> Sequence[Contacts]:
        await self._answer()
        return [contacts for _, contacts in sorted(self._contacts.items())]

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
        door.holder, door.held_until = holder, until
        notices = sorted(self._waiting(target), key=lambda each: (each.event not in URGENT, each.happened_at, each.id))
        return Claim(target=target, holder=holder, failures=door.failures, notices=notices[:most])

    async def settle_notices(self, ids: Sequence[str], *, outcome: str) -> None:
        await self._answer()
        for name in ids:
            if self._notices[name].outcome == WAITING:
                self._notices[name] = replace(self._notices[name], outcome=outcome)

    async def finish_claim(self, claim: Claim, *, noted: Sequence[str], not_before: datetime, failures: int) -> None:
        await self._answer()
        for name in noted:
            self._noted.add(name)
            self._notices[name] = replace(self._notices[name], facts="", target=Target(claim.target.channel, ""))
        door = self._doors.get(claim.target)
        if door is not None and door.holder == claim.holder:
            self._doors[claim.target] = _Door(not_before=not_before, failures=failures)

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
            and any(each.account not in room.busy or target.address in room.spared for each in self._waiting(target))
        ]

"""A store that forgets: the whole contract in memory, with switches for the faults a test needs."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from gateway.stores.store import (
    AccountRecord,
    Changes,
    Client,
    GrantEvent,
    KillSwitch,
    Push,
    Store,
    StoreChange,
    StoreConflict,
    StoredKey,
    StoreError,
)
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff

K = TypeVar("K")
V = TypeVar("V")

_KEPT = 4096


class MemoryPush(Push):
    """`lost`: set it to lose the channel. `heard`: set it to let `wait` return for no reason."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.lost: StoreError | None = None

    async def wait(self) -> None:
        if self.lost is None:
            await self.heard.wait()
            self.heard.clear()
        if self.lost is not None:
            raise self.lost

    def lose(self, error: StoreError) -> None:
        self.lost = error
        self.heard.set()


class MemoryStore(Store):
    """`fail_with`: every call raises it. `hold`: every call waits for it first. Both may be set and reset at any time.

    `deaf`: no push is told of a write. `lose_pushes`: every channel that is open is lost.
    """

    def __init__(self, *, fail_with: StoreError | None = None, hold: asyncio.Event | None = None) -> None:
        self.fail_with = fail_with
        self.hold = hold
        self.deaf = False
        self.pushes: set[MemoryPush] = set()
        self._position = 0
        self._changes: deque[StoreChange] = deque(maxlen=_KEPT)
        self._tags: deque[str] = deque(maxlen=_KEPT)
        self._kill_switch = KillSwitch()
        self._closed = False
        self._accounts: dict[AccountId, AccountRecord] = {}
        self._grants: dict[GrantId, Grant] = {}
        self._events: list[GrantEvent] = []
        self._assumptions: dict[AssumptionId, Assumption] = {}
        self._staff: dict[ActorId, Staff] = {}
        self._clients: dict[ClientId, Client] = {}
        self._keys: dict[str, StoredKey] = {}

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[MemoryPush]:
        await self._answer()
        push = MemoryPush()
        self.pushes.add(push)
        try:
            yield push
        finally:
            self.pushes.discard(push)

    def lose_pushes(self) -> None:
        for push in self.pushes:
            push.lose(StoreError("the channel is lost"))

    async def read_changes(self, after: int) -> Changes:
        await self._answer()
        changes = [change for change in self._changes if change.position > after]
        named = len(changes) == self._position - after
        return Changes(
            position=self._position,
            changes=changes if named else None,
            tag=self._tag_of(after),
            newest_tag=self._tag_of(self._position),
        )

    async def raise_position(self, beyond: int) -> None:
        await self._answer()
        self._position = max(self._position, beyond)
        self._changed()

    async def touch_account(self, account: AccountId) -> None:
        await self._answer()
        stored = self._accounts.get(account)
        if stored is not None:
            touched = replace(stored.account, epoch=stored.account.epoch + 1)
            self._accounts[account] = replace(stored, account=touched)
        self._changed(account=account)

    async def find_kill_switch(self) -> KillSwitch:
        await self._answer()
        return self._kill_switch

    async def set_kill_switch(self, switch: KillSwitch) -> None:
        await self._answer()
        if switch != self._kill_switch:
            self._kill_switch = switch
            self._changed()

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        await self._answer()
        return self._accounts.get(account)

    async def add_account(self, account: Account) -> None:
        await self._answer()
        _add(self._accounts, account.id, AccountRecord(account=account, grant=None))
        self._changed(account=account.id)

    async def list_accounts(self) -> Sequence[AccountRecord]:
        await self._answer()
        return [record for _, record in sorted(self._accounts.items())]

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        await self._answer()
        account, grant = change.account, change.grant
        stored = self._accounts.get(account.id)
        if stored is None or stored.account.epoch != account.epoch - 1:
            raise StoreConflict("the account has changed meanwhile")
        if grant is not None:
            self._save_grant(grant)
        self._accounts[account.id] = AccountRecord(account=account, grant=grant)
        self._events.append(
            GrantEvent(account=account.id, epoch=account.epoch, at=at, by=by, change=change.change, grant=grant)
        )
        self._changed(account=account.id)

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        await self._answer()
        return [event for event in reversed(self._events) if event.account == account]

    async def find_grant(self, grant: GrantId) -> Grant | None:
        await self._answer()
        return self._grants.get(grant)

    async def add_assumption(self, assumption: Assumption) -> None:
        await self._answer()
        _add(self._assumptions, assumption.id, assumption)
        self._changed(assumption=assumption.id)

    async def begin_assumption(self, assumption: Assumption, staff: Staff, *, at: datetime) -> None:
        await self._answer()
        stored = self._staff.get(staff.id)
        ended = None if stored is None else stored.signed_out_at
        if ended is not None and (staff.signed_out_at is None or staff.signed_out_at < ended):
            raise StoreConflict("they have signed out meanwhile")
        _add(self._assumptions, assumption.id, assumption)
        self._save_staff(staff)
        self._changed(assumption=assumption.id)

    async def find_assumption(self, assumption: AssumptionId) -> Assumption | None:
        await self._answer()
        return self._assumptions.get(assumption)

    async def end_assumption(self, assumption: AssumptionId, *, at: datetime) -> bool:
        await self._answer()
        stored = self._assumptions.get(assumption)
        if stored is None or stored.ended_at is not None:
            return False
        self._end(stored, at)
        return True

    async def end_assumptions_of(self, actor: ActorId, *, at: datetime) -> Sequence[AssumptionId]:
        await self._answer()
        begun = [stored for stored in self._open() if stored.actor == actor]
        for stored in begun:
            self._end(stored, at)
        return [stored.id for stored in begun]

    async def sign_out(self, actor: ActorId, *, since: datetime, at: datetime) -> Sequence[Assumption]:
        await self._answer()
        unseen = Staff(id=actor, name=actor.subject, permissions=frozenset())
        stored = self._staff.get(actor, unseen)
        if stored.signed_out_at is not None and since <= stored.signed_out_at:
            return []
        self._put_staff(replace(stored, signed_out_at=since))
        mine = [begun for begun in self._open() if begun.actor == actor]
        return [self._end(begun, at) for begun in mine if begun.signed_in_at is None or begun.signed_in_at <= since]

    async def list_assumptions(self, *, account: AccountId | None = None) -> Sequence[Assumption]:
        await self._answer()
        listed = [stored for stored in self._open() if account in (None, stored.account)]
        return sorted(listed, key=lambda stored: (stored.started_at, stored.id))

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        await self._answer()
        self._save_staff(staff)

    async def find_staff(self, actor: ActorId) -> Staff | None:
        await self._answer()
        return self._staff.get(actor)

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        await self._answer()
        if actor not in self._staff:
            return False
        self._put_staff(replace(self._staff[actor], disabled=disabled))
        return True

    async def add_client(self, client: Client) -> None:
        await self._answer()
        _add(self._clients, client.id, client)

    async def find_client(self, client: ClientId) -> Client | None:
        await self._answer()
        return self._clients.get(client)

    async def add_key(self, key: StoredKey) -> None:
        await self._answer()
        _add(self._keys, key.id, key)

    async def list_keys(self) -> Sequence[StoredKey]:
        await self._answer()
        by_id = sorted(self._keys.values(), key=lambda key: key.id)
        return sorted(by_id, key=lambda key: key.created_at, reverse=True)

    async def close(self) -> None:
        self._closed = True
        for push in self.pushes:
            push.lose(StoreError("the store is closed"))

    async def _answer(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self._closed:
            raise StoreError("the store is closed")
        if self.fail_with is not None:
            raise self.fail_with

    def _changed(
        self,
        *,
        account: AccountId | None = None,
        assumption: AssumptionId | None = None,
        staff: ActorId | None = None,
    ) -> None:
        self._position += 1
        change = StoreChange(position=self._position, account=account, assumption=assumption, staff=staff)
        self._changes.append(change)
        self._tags.append(secrets.token_hex(8))
        if not self.deaf:
            for push in self.pushes:
                push.heard.set()

    def _tag_of(self, position: int) -> str | None:
        kept = zip(self._changes, self._tags, strict=True)
        tags = (tag for change, tag in kept if change.position == position > self._position - _KEPT)
        return next(tags, None)

    def _open(self) -> list[Assumption]:
        return [stored for stored in self._assumptions.values() if stored.ended_at is None]

    def _end(self, stored: Assumption, at: datetime) -> Assumption:
        ended = self._assumptions[stored.id] = replace(stored, ended_at=at)
        self._changed(assumption=stored.id)
        return ended

    def _save_staff(self, staff: Staff) -> None:
        stored = self._staff.get(staff.id)
        if stored is not None:
            ends = [at for at in (staff.signed_out_at, stored.signed_out_at) if at is not None]
            staff = replace(staff, disabled=staff.disabled or stored.disabled, signed_out_at=max(ends, default=None))
        self._put_staff(staff)

    def _put_staff(self, staff: Staff) -> None:
        if staff != self._staff.get(staff.id):
            self._staff[staff.id] = staff
            self._changed(staff=staff.id)

    def _save_grant(self, grant: Grant) -> None:
        stored = self._grants.get(grant.id)
        if stored is not None and stored.account != grant.account:
            raise StoreConflict("the grant is another account's")
        if stored is not None and stored.revoked_at not in (None, grant.revoked_at):
            raise StoreConflict("the grant was revoked")
        self._grants[grant.id] = grant


def _add(rows: dict[K, V], key: K, value: V) -> None:
    if key in rows:
        raise StoreConflict(f"`{key}` exists already")
    rows[key] = value

"""A store that forgets: the whole contract in memory, with switches for the faults a test needs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from gateway.stores.store import AccountRecord, Client, GrantEvent, Store, StoreConflict, StoredKey, StoreError
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff

K = TypeVar("K")
V = TypeVar("V")


class MemoryStore(Store):
    """`fail_with`: every call raises it. `hold`: every call waits for it first. Both may be set and reset at any time."""

    def __init__(self, *, fail_with: StoreError | None = None, hold: asyncio.Event | None = None) -> None:
        self.fail_with = fail_with
        self.hold = hold
        self._closed = False
        self._accounts: dict[AccountId, AccountRecord] = {}
        self._grants: dict[GrantId, Grant] = {}
        self._events: list[GrantEvent] = []
        self._assumptions: dict[AssumptionId, Assumption] = {}
        self._staff: dict[ActorId, Staff] = {}
        self._clients: dict[ClientId, Client] = {}
        self._keys: dict[str, StoredKey] = {}

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        await self._answer()
        return self._accounts.get(account)

    async def add_account(self, account: Account) -> None:
        await self._answer()
        _add(self._accounts, account.id, AccountRecord(account=account, grant=None))

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

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        await self._answer()
        return [event for event in reversed(self._events) if event.account == account]

    async def find_grant(self, grant: GrantId) -> Grant | None:
        await self._answer()
        return self._grants.get(grant)

    async def add_assumption(self, assumption: Assumption) -> None:
        await self._answer()
        _add(self._assumptions, assumption.id, assumption)

    async def find_assumption(self, assumption: AssumptionId) -> Assumption | None:
        await self._answer()
        return self._assumptions.get(assumption)

    async def end_assumption(self, assumption: AssumptionId, *, at: datetime) -> bool:
        await self._answer()
        stored = self._assumptions.get(assumption)
        if stored is None or stored.ended_at is not None:
            return False
        self._assumptions[assumption] = replace(stored, ended_at=at)
        return True

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        await self._answer()
        stored = self._staff.get(staff.id)
        self._staff[staff.id] = replace(staff, disabled=staff.disabled or (stored is not None and stored.disabled))

    async def find_staff(self, actor: ActorId) -> Staff | None:
        await self._answer()
        return self._staff.get(actor)

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        await self._answer()
        if actor not in self._staff:
            return False
        self._staff[actor] = replace(self._staff[actor], disabled=disabled)
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

    async def _answer(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self._closed:
            raise StoreError("the store is closed")
        if self.fail_with is not None:
            raise self.fail_with

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

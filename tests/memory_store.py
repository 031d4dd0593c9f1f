"""A store that forgets: the whole contract in memory, with switches for the faults a test needs."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from gateway.stores.browsing import BROWSER_KEPT, BrowserAssumption, StoredJar
from gateway.stores.holding import Hold
from gateway.stores.store import (
    AccountRecord,
    Changes,
    Client,
    GrantEvent,
    KillSwitch,
    Push,
    StaffSession,
    Store,
    StoreChange,
    StoreConflict,
    StoredKey,
    StoreError,
    TooManyAssumptions,
)
from policy.grants import GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff
from policy.staff import is_older
from tests.memory_awaiting import MemoryAwaiting
from tests.memory_counts import MemoryCounts
from tests.memory_holds import MemoryHolds
from tests.memory_outbox import MemoryOutbox
from tests.memory_requests import MemoryRequests
from tests.memory_search import MemorySearch

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


class MemoryStore(MemoryCounts, MemoryAwaiting, MemoryHolds, MemorySearch, MemoryOutbox, MemoryRequests, Store):
    """`fail_with`: every call raises it. `hold`: every call waits for it first. Both may be set and reset at any time.

    `deaf`: no push is told of a write. `lose_pushes`: every channel that is open is lost.
    """

    def __init__(self, *, fail_with: StoreError | None = None, hold: asyncio.Event | None = None) -> None:
        MemoryOutbox.__init__(self)
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
        self._sessions: dict[bytes, StaffSession] = {}
        self._one_time: dict[bytes, tuple[str, datetime]] = {}
        self._browsers: dict[bytes, BrowserAssumption] = {}
        self._jars: dict[bytes, StoredJar] = {}
        self._hand_overs: dict[AssumptionId, datetime] = {}
        self._keys: dict[str, StoredKey] = {}
        self._holds: dict[AccountId, Hold] = {}

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

    async def set_kill_switch(self, switch: KillSwitch, *, known: KillSwitch | None = None) -> bool:
        await self._answer()
        if known is not None and known != self._kill_switch:
            return False
        if switch != self._kill_switch:
            self._kill_switch = switch
            self._changed()
        return True

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
        if _is_another(stored, self._accounts[account.id]):
            for digest, held in self._browsers.items():
                if (begun := self._assumptions.get(held.assumption)) and begun.account == account.id:
                    self._empty_jar(digest)
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

    async def begin_assumption(
        self, assumption: Assumption, staff: Staff, *, at: datetime, most: int | None = None
    ) -> None:
        await self._answer()
        stored = self._staff.get(staff.id)
        ended = None if stored is None else stored.signed_out_at
        if ended is not None and (staff.signed_out_at is None or staff.signed_out_at < ended):
            raise StoreConflict("they have signed out meanwhile")
        if most is not None and len(self._begun(staff.id, at)) >= most:
            raise TooManyAssumptions("they have as many open as they may")
        _add(self._assumptions, assumption.id, assumption)
        self._save_staff(staff)
        self._changed(assumption=assumption.id)

    async def list_begun(self, actor: ActorId, *, at: datetime) -> Sequence[Assumption]:
        await self._answer()
        return self._begun(actor, at)

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

    async def list_assumptions(self, *, at: datetime, account: AccountId | None = None) -> Sequence[Assumption]:
        await self._answer()
        live = [stored for stored in self._open() if at < stored.expires_at]
        listed = [stored for stored in live if account in (None, stored.account)]
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

    async def begin_session(self, session: StaffSession, staff: Staff, *, at: datetime) -> None:
        await self._answer()
        stored = self._staff.get(staff.id, staff)
        if stored.disabled or (stored.signed_out_at is not None and session.signed_in_at <= stored.signed_out_at):
            raise StoreConflict("they are locked out, or have signed out since")
        self._sessions = {digest: kept for digest, kept in self._sessions.items() if kept.ends_at > at}
        _add(self._sessions, session.digest, session)
        self._save_staff(staff)

    async def find_session(self, digest: bytes) -> StaffSession | None:
        await self._answer()
        return self._sessions.get(digest)

    async def touch_session(self, digest: bytes, *, at: datetime) -> None:
        await self._answer()
        if digest in self._sessions:
            session = self._sessions[digest]
            self._sessions[digest] = replace(session, seen_at=max(at, session.seen_at))

    async def end_session(self, digest: bytes) -> StaffSession | None:
        await self._answer()
        return self._sessions.pop(digest, None)

    async def add_one_time(self, digest: bytes, payload: str, *, expires_at: datetime, now: datetime) -> None:
        await self._answer()
        self._one_time = {one: kept for one, kept in self._one_time.items() if kept[1] > now}
        _add(self._one_time, digest, (payload, expires_at))

    async def redeem(self, digest: bytes, *, now: datetime) -> str | None:
        await self._answer()
        payload, expires_at = self._one_time.get(digest, ("", now))
        if expires_at <= now:
            return None
        del self._one_time[digest]
        return payload

    async def find_one_time(self, digest: bytes, *, now: datetime) -> str | None:
        await self._answer()
        payload, expires_at = self._one_time.get(digest, ("", now))
        return payload if expires_at > now else None

    async def swap_one_time(
        self, digest: bytes, payload: str, *, known: str, now: datetime, expires_at: datetime | None = None
    ) -> bool:
        if await self.find_one_time(digest, now=now) != known:
            return False
        self._one_time[digest] = (payload, expires_at or self._one_time[digest][1])
        return True

    async def add_browser(self, browser: BrowserAssumption, *, at: datetime) -> None:
        await self._answer()
        self._tidy_browsers(at)
        _add(self._browsers, browser.digest, browser)
        self._jars[browser.digest] = StoredJar(text="[]", version=0)

    async def find_browser(self, digest: bytes) -> BrowserAssumption | None:
        await self._answer()
        return self._browsers.get(digest)

    async def list_held(self, actor: ActorId, account: AccountId, *, at: datetime) -> Sequence[AssumptionId]:
        held = {browser.assumption for browser in self._browsers.values()}
        listed = await self.list_assumptions(at=at, account=account)
        return [stored.id for stored in listed if stored.actor == actor and stored.id in held]

    async def touch_browser(self, digest: bytes, *, at: datetime) -> None:
        await self._answer()
        if digest in self._browsers:
            browser = self._browsers[digest]
            self._browsers[digest] = replace(browser, seen_at=max(at, browser.seen_at))

    async def find_jar(self, digest: bytes) -> StoredJar | None:
        await self._answer()
        if digest not in self._browsers:
            return None
        if self._is_over(digest):
            self._empty_jar(digest)
        return self._jars[digest]

    async def save_jar(self, digest: bytes, jar: StoredJar) -> bool:
        await self._answer()
        if digest not in self._browsers or self._is_over(digest) or self._jars[digest].version != jar.version - 1:
            return False
        self._jars[digest] = jar
        return True

    async def tidy_browsers(self, *, at: datetime) -> None:
        await self._answer()
        self._tidy_browsers(at)

    def _tidy_browsers(self, at: datetime) -> None:
        self._browsers = {
            digest: held for digest, held in self._browsers.items() if held.expires_at + BROWSER_KEPT > at
        }
        for digest, held in self._browsers.items():
            grant = self._grant_of(digest)
            if held.expires_at <= at or (grant is not None and grant.expires_at is not None and grant.expires_at <= at):
                self._empty_jar(digest)

    def _empty_jar(self, digest: bytes) -> None:
        if self._jars[digest].text != "[]":
            self._jars[digest] = StoredJar(text="[]", version=self._jars[digest].version + 1)

    def _grant_of(self, digest: bytes) -> Grant | None:
        assumption = self._assumptions.get(self._browsers[digest].assumption)
        return None if assumption is None else self._grants.get(assumption.grant_id)

    def _is_over(self, digest: bytes) -> bool:
        assumption, grant = self._assumptions.get(self._browsers[digest].assumption), self._grant_of(digest)
        return (assumption is not None and assumption.ended_at is not None) or (
            grant is not None and grant.revoked_at is not None
        )

    async def add_client(self, client: Client) -> None:
        await self._answer()
        _add(self._clients, client.id, client)

    async def find_client(self, client: ClientId) -> Client | None:
        await self._answer()
        return self._clients.get(client)

    async def list_clients(self) -> Sequence[Client]:
        await self._answer()
        return [client for _, client in sorted(self._clients.items())]

    async def remove_client(self, client: ClientId) -> bool:
        await self._answer()
        return self._clients.pop(client, None) is not None

    async def add_key(self, key: StoredKey, *, after: str | None = None) -> None:
        await self._answer()
        rivals = [stored for stored in self._keys.values() if stored.algorithm == key.algorithm]
        newest = max(rivals, key=lambda stored: (stored.signs_from, stored.id), default=None)
        if after != (newest and newest.id):
            raise StoreConflict("there is a newer key")
        _add(self._keys, key.id, key)
        if key.algorithm != "journal":
            self._changed()

    async def start_key(self, key: str, *, at: datetime) -> bool:
        return await self._change_key(key, lambda key: key.signs_from > at and key.retired_at is None, signs_from=at)

    async def retire_key(self, key: str, *, at: datetime) -> bool:
        return await self._change_key(key, lambda key: key.retired_at is None, retired_at=at)

    async def end_key(self, key: str, *, at: datetime) -> bool:
        return await self._change_key(key, lambda _key: True, ended_at=at, private_pem=b"")

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

    async def _change_key(self, key: str, may: Callable[[StoredKey], bool], **changes: Any) -> bool:
        await self._answer()
        stored = self._keys.get(key)
        if stored is None or stored.ended_at is not None or not may(stored):
            return False
        self._keys[key] = replace(stored, **changes)
        self._changed()
        return True

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

    def _begun(self, actor: ActorId, at: datetime) -> Sequence[Assumption]:
        theirs = [stored for stored in self._open() if stored.actor == actor and stored.expires_at > at]
        over = {grant.id for grant in self._grants.values() if grant.revoked_at or grant.is_expired(at)}
        return sorted((one for one in theirs if one.grant_id not in over), key=lambda one: (one.started_at, one.id))

    def _end(self, stored: Assumption, at: datetime) -> Assumption:
        ended = self._assumptions[stored.id] = replace(stored, ended_at=at)
        self._changed(assumption=stored.id)
        return ended

    def _save_staff(self, staff: Staff) -> None:
        stored = self._staff.get(staff.id)
        if stored is not None:
            ends = [at for at in (staff.signed_out_at, stored.signed_out_at) if at is not None]
            said = stored if is_older(staff, stored) else staff
            staff = replace(said, disabled=staff.disabled or stored.disabled, signed_out_at=max(ends, default=None))
        self._put_staff(staff)

    def _put_staff(self, staff: Staff) -> None:
        if staff != self._staff.get(staff.id):
            self._staff[staff.id] = staff
            self._changed(staff=staff.id)
            ended = staff.signed_out_at
            for digest, session in list(self._sessions.items()):
                out = staff.disabled or (ended is not None and session.signed_in_at <= ended)
                if session.actor == staff.id and out:
                    del self._sessions[digest]

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


def _is_another(old: AccountRecord, new: AccountRecord) -> bool:
    before, after = ((one.account.type, one.account.suspended, one.grant and one.grant.id) for one in (old, new))
    return before != after

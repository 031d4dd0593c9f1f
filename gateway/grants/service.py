"""Changing a grant: decide, record, store, tell; used by the API and the command line alike."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.owed import Debts
from gateway.clock import Clock
from gateway.grants.certain import Uncertain, certain
from gateway.keyed_locks import KeyedLocks, Precedence
from gateway.stores.store import AccountRecord, GrantEvent, Store, StoreConflict, StoreError
from policy.asking import GrantRequest, RequestState, approve
from policy.grants import (
    Administrator,
    Change,
    GrantChange,
    GrantRefusal,
    choose,
    convert,
    describe,
    suspend,
    withdraw,
)
from policy.model import Account, AccountId, ClientId, Duration, GrantId, Pairs, Permission

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome", bound=GrantChange | GrantRefusal | None)

_MOST_TRIES = 5
_MOST_TRIES_TO_END = 20
"""Of what takes staff's power away, which nobody may put off by changing the account all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """Who asks for what."""

    account: AccountId
    duration: Duration
    permissions: frozenset[Permission]
    administrator: Administrator
    client: ClientId | None = None
    """The program that asked on the administrator's behalf."""
    client_ip: str | None = None
    request_id: str | None = None
    known_epoch: int | None = None
    """The account's, as it was when they decided: if it is another by now, nothing changes. None: whatever it is."""
    keeps_end: bool = False
    """Whether the grant ends when it would have, and only what staff may do is chosen."""
    approves: GrantRequest | None = None
    """What of staff's this is the answer to: it is answered if and only if the change is made, in one step."""
    shortens: bool = False
    """Of an approval: whether the grant may end earlier than it does."""


class UnknownAccount(Exception):
    """The caller's fault: there is no such account."""


class _Overtaken(Exception):
    """A change that was to be made only to the account as it was before: that it was not is on the record."""


class GrantService:
    """The one way in which a grant changes.

    Raises UnknownAccount, StoreError, and JournalError; then nothing has changed, unless it is Uncertain. What only
    takes power away is the one exception to "record before effect": it is done even if it cannot be recorded at once.
    """

    def __init__(
        self,
        store: Store,
        journal: AuditLog,
        *,
        accepted_roles: frozenset[str],
        clock: Clock,
        changed: Callable[[AccountRecord], int] = lambda _record: 0,
    ) -> None:
        self._store = store
        self._journal = journal
        self.debts = Debts(journal)
        """What could not be recorded yet; until it is, the store's history of the account is the only trace of it."""
        self._accepted = accepted_roles
        self._clock = clock
        self._changed = changed
        self._locks = KeyedLocks()
        self._ends = Precedence()

    async def find(self, account: AccountId) -> AccountRecord:
        """Return the account with its newest grant."""
        record = await self._store.find_account(account)
        if record is None:
            raise UnknownAccount(account)
        return record

    async def choose(self, request: ChangeRequest) -> GrantChange | GrantRefusal:
        """Carry out an administrator's choice, or say why not; either is on the record."""
        try:
            ends = request.duration is Duration.OFF
            _, outcome = await self._change(request, lambda before: self._choose(request, before), ends=ends)
        except _Overtaken:
            return GrantRefusal.OVERTAKEN
        return outcome

    async def convert(self, account: AccountId, *, by: str) -> GrantChange | GrantRefusal:
        """Turn a trial into a paid account, which is not assumable until the customer chooses."""
        _, outcome = await self._change(
            _operators(account, by=by),
            lambda before: convert(before.account, before.grant, now=self._clock()),
            ends=True,
        )
        return outcome

    async def describe(self, account: AccountId, attributes: Callable[[Pairs], Pairs], *, by: str) -> Pairs:
        """Give an account the attributes that `attributes` makes of those it has; returns what it has then."""
        before, change = await self._change(
            _operators(account, by=by),
            lambda before: describe(before.account, before.grant, attributes(before.account.attributes)),
        )
        return (before if change is None else change).account.attributes

    async def suspend(self, account: AccountId, *, suspended: bool, by: str) -> bool:
        """Suspend an account, which nobody may stand in for then, or resume it; False if it is so already."""
        _, change = await self._change(
            _operators(account, by=by),
            lambda before: suspend(before.account, before.grant, suspended=suspended),
            ends=suspended,
        )
        return change is not None

    async def turn_off(
        self, account: AccountId, *, by: str, client: ClientId, client_ip: str | None, request_id: str
    ) -> GrantChange | GrantRefusal | None:
        """Turn a grant off on the vendor's own authority, which can give none; None if none is on."""
        request = replace(_operators(account, by=by), client=client, client_ip=client_ip, request_id=request_id)
        _, outcome = await self._change(
            request, lambda before: withdraw(before.account, before.grant, now=self._clock()), ends=True
        )
        return outcome

    async def adopt(self, change: GrantChange, before: AccountRecord, *, by: str) -> bool:
        """Make a change that was decided elsewhere; False if the account changed meanwhile.

        Nobody in this process is told: that is left to whoever decided.
        """
        request = _operators(change.account.id, by=by, duration=change.grant.duration if change.grant else Duration.OFF)
        return await self._carry_out(change, before, request, tell=lambda _record: 0)

    async def add(self, account: Account, *, by: str) -> None:
        """Add an account; raises StoreConflict if it is there by now."""
        await self.debts.settle()
        record = Record(kind="account", reason=f"added_{account.type}", account=account.id, by=by)
        await self._journal.append(record, durable=True)
        try:
            await self._add(account)
        except (StoreConflict, StoreError) as exc:
            await self._undo(record, exc)
            raise

    def _choose(self, request: ChangeRequest, before: AccountRecord) -> GrantChange | GrantRefusal:
        asked = request.approves
        outcome = (choose if asked is None else partial(approve, asked, shortens=request.shortens))(
            before.account,
            before.grant,
            duration=request.duration,
            permissions=request.permissions,
            administrator=request.administrator,
            accepted_roles=self._accepted,
            new_id=GrantId(f"grant_{secrets.token_hex(8)}"),
            now=self._clock(),
            keeps_end=request.keeps_end,
        )
        is_late = request.known_epoch not in (None, before.account.epoch)
        return GrantRefusal.OVERTAKEN if is_late and isinstance(outcome, GrantChange) else outcome

    async def _change(
        self, request: ChangeRequest, decide: Callable[[AccountRecord], Outcome], *, ends: bool = False
    ) -> tuple[AccountRecord, Outcome]:
        """Carry out what `decide` makes of the account, None for nothing, and return that with what was before.

        One after another of each account in a process, or many that come together would overtake one another until
        they are given up; what is about one epoch is tried once, and waits for none. What `ends` something waits for
        nobody either, and all that comes later waits for it.
        """
        if ends:
            with self._ends.taken(request.account):
                return await self._try(request, decide, most=_MOST_TRIES_TO_END)
        async with AsyncExitStack() as held:
            if request.known_epoch is None:
                await held.enter_async_context(self._locks.held(request.account))
            return await self._try(request, decide, most=_MOST_TRIES, first=self._ends.given)

    async def _try(
        self,
        request: ChangeRequest,
        decide: Callable[[AccountRecord], Outcome],
        *,
        most: int,
        first: Callable[[AccountId], Awaitable[None]] | None = None,
    ) -> tuple[AccountRecord, Outcome]:
        for _ in range(most):
            if first is not None:
                await first(request.account)
            before = await self.find(request.account)
            outcome = decide(before)
            if outcome is None or await self._carry_out(outcome, before, request):
                return before, outcome
        raise StoreError("the account changes all the time: try again")

    async def _carry_out(
        self,
        outcome: GrantChange | GrantRefusal,
        before: AccountRecord,
        request: ChangeRequest,
        *,
        tell: Callable[[AccountRecord], int] | None = None,
    ) -> bool:
        """Record the outcome and make it so; False if the account changed meanwhile and has to be read again."""
        tell = tell or self._changed
        record = _record(outcome, before, request)
        try:
            await self.debts.settle()
            await self._journal.append(record, durable=True)
        except JournalError:
            is_approval = request.approves is not None
            if is_approval or isinstance(outcome, GrantRefusal) or not _only_takes(outcome, before):
                raise
            log.exception("the end of a grant of %s could not be recorded yet", request.account)
            return await self._take_back(outcome, record, request, tell)
        if isinstance(outcome, GrantRefusal):
            return True
        is_same = outcome.account == before.account
        if is_same and request.approves is None:
            return True
        try:
            await (self._answer(request, before) if is_same else self._save(outcome, request))
        except StoreConflict as exc:
            # What stands on the record above did not happen; the next try has a record of its own.
            await self._undo(record, exc)
            if request.known_epoch is not None:
                raise _Overtaken from exc
            return False
        except StoreError as exc:
            await self._undo(record, exc)
            raise
        if not is_same:
            tell(AccountRecord(account=outcome.account, grant=outcome.grant))
        return True

    async def _answer(self, request: ChangeRequest, before: AccountRecord) -> None:
        """Mark the request as approved, for which nothing has to change; raises as `_save` does."""
        if request.approves is None:
            return
        asked, by, at = request.approves, request.administrator.id, self._clock()
        answered = replace(asked, answer=RequestState.APPROVED, answered_at=at, answered_by=by)
        try:
            epoch = before.account.epoch
            done = await self._store.answer_grant_request(asked.id, answered.answer, by=by, at=at, epoch=epoch)
        except StoreError:
            if await certain(lambda: self._store.find_grant_request(asked.id)) != answered:
                raise
            done = True
        if not done:
            raise StoreConflict(f"the request `{asked.id}` or its account has changed meanwhile")

    async def _save(self, change: GrantChange, request: ChangeRequest) -> None:
        """Store a change; raises StoreConflict and StoreError if it is not there, Uncertain if nobody can tell."""
        account, by, at = change.account, request.administrator.id, self._clock()
        try:
            if request.approves is None:
                await self._store.save_change(change, by=by, at=at)
            else:
                await self._store.save_approval(change, request.approves.id, by=by, at=at)
        except StoreError as exc:
            ours = GrantEvent(
                account=account.id, epoch=account.epoch, at=at, by=by, change=change.change, grant=change.grant
            )
            kept = await certain(lambda: self._store.list_changes(account.id))
            if ours in kept:
                log.warning("the answer to a change of %s was lost, and it was made: %s", account.id, exc)
            elif any(line.epoch >= account.epoch for line in kept):
                raise StoreConflict(f"the account `{account.id}` has changed meanwhile") from exc
            else:
                raise

    async def _add(self, account: Account) -> None:
        """Add an account; likewise."""
        try:
            await self._store.add_account(account)
        except StoreError:
            found = await certain(lambda: self._store.find_account(account.id))
            if found is None or found.account != account:
                raise

    async def _undo(self, record: Record, why: StoreConflict | StoreError) -> None:
        """Say that what was recorded did not happen, or may not have; what cannot be said now is owed."""
        undone = _undone(record, why)
        try:
            await self._journal.append(undone, durable=True)
        except JournalError:
            log.exception("what did not happen to %s could not be recorded yet", record.account)
            self.debts.add(undone)

    async def _take_back(
        self, change: GrantChange, record: Record, request: ChangeRequest, tell: Callable[[AccountRecord], int]
    ) -> bool:
        """Do what cannot be recorded now: nothing may keep a customer from taking back what they gave."""
        try:
            await self._save(change, request)
        except StoreConflict:
            return False
        except Uncertain as exc:
            self.debts.add(_undone(record, exc))
            raise
        self.debts.add(record)
        tell(AccountRecord(account=change.account, grant=change.grant))
        return True


def _operators(account: AccountId, *, by: str, duration: Duration = Duration.OFF) -> ChangeRequest:
    """Return who asks where it is no administrator of the account."""
    return ChangeRequest(
        account=account,
        duration=duration,
        permissions=frozenset(),
        administrator=Administrator(id=by, roles={}),
    )


def _undone(record: Record, why: StoreConflict | StoreError) -> Record:
    if isinstance(why, Uncertain):
        return structs.replace(record, decision=None, reason="unknown")
    reason = "overtaken" if isinstance(why, StoreConflict) else "store_unavailable"
    return structs.replace(record, decision="deny", reason=reason)


def _only_takes(change: GrantChange, before: AccountRecord) -> bool:
    """Tell whether a change leaves staff with nothing that they did not have: no more time, no more permissions."""
    if change.change in (Change.TURNED_OFF, Change.CONVERTED, Change.SUSPENDED):
        return True
    shorter = change.change in (Change.REDUCED, Change.PERMISSIONS_CHANGED)
    return (
        shorter
        and change.grant is not None
        and before.grant is not None
        and change.grant.permissions <= before.grant.permissions
        # Rules may give more to an account of another kind.
        and change.account.attributes == before.account.attributes
    )


def _record(outcome: GrantChange | GrantRefusal, before: AccountRecord, request: ChangeRequest) -> Record:
    refused = isinstance(outcome, GrantRefusal)
    grant = before.grant if isinstance(outcome, GrantRefusal) else outcome.grant
    asked = request.approves
    return Record(
        kind="grant",
        decision="deny" if refused else "allow",
        reason=str(outcome) if isinstance(outcome, GrantRefusal) else str(outcome.change),
        account=request.account,
        grant_id=grant.id if grant else None,
        grant_epoch=before.account.epoch if isinstance(outcome, GrantRefusal) else outcome.account.epoch,
        granted_by=request.administrator.id,
        duration=str(grant.duration if request.keeps_end and grant else request.duration),
        permissions=tuple(sorted(grant.permissions)) if grant else None,
        expires_at=grant.expires_at.isoformat() if grant and grant.expires_at else None,
        client_id=request.client,
        client_ip=request.client_ip,
        request_id=request.request_id,
        grant_request=asked.id if asked else None,
        ticket=asked.ticket if asked else None,
        stated_reason=asked.reason if asked else None,
    )

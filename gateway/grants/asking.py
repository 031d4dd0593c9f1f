"""Staff's requests to an account: asked, withdrawn, approved and declined; each recorded before it takes effect."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.owed import Debts
from gateway.audit.writing.strangers import Persons
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.grants.asked_records import record_answer, record_asked, record_denied, record_refused, undone
from gateway.grants.certain import certain
from gateway.grants.service import ChangeRequest, GrantService
from gateway.keyed_locks import KeyedLocks
from gateway.staff.verify import SignedIn
from gateway.stores.request_room import Room
from gateway.stores.requesting import KEPT
from gateway.stores.store import Store, StoreError
from policy.asking import (
    AskingTerms,
    GrantRequest,
    GrantRequestId,
    RequestRefusal,
    RequestState,
    Wish,
    ask,
    check_administrator,
    check_answer,
)
from policy.grants import Administrator, GrantChange, GrantRefusal
from policy.model import AccountId, ActorId, ClientId, Duration, Permission
from policy.rules import StandInRules
from policy.staff import newest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who answers for an account, and by what way."""

    account: AccountId
    """The requests of any other are unknown to them."""
    administrator: Administrator
    caller: Caller
    client: ClientId | None = None
    """The program that answers on the administrator's behalf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What an administrator gives."""

    duration: Duration
    permissions: frozenset[Permission]
    known_epoch: int | None = None
    """The account's, as it was when they decided; None: as it is when the request is read."""
    keeps_end: bool = False
    """Whether the grant, which has to be on, ends when it would have, whatever `duration` says."""
    shortens: bool = False
    """Whether the grant may end earlier than it does."""


class GrantRequests:
    """The one way in which staff ask and are answered.

    Raises StoreError, and JournalError where nothing could be recorded; then nothing has changed, unless it is
    Uncertain. A no of the account's is the one exception: it is done even if it cannot be recorded at once.
    """

    def __init__(
        self,
        store: Store,
        journal: AuditLog,
        *,
        grants: GrantService,
        rules: StandInRules,
        terms: AskingTerms,
        room: Room,
        accepted_roles: frozenset[str],
        clock: Clock,
        persons: Persons | None = None,
    ) -> None:
        """What staff may not ask is recorded by `persons`: each of a few of one person, and how many there were."""
        self._store = store
        self._journal = journal
        self._grants = grants
        self._rules = rules
        self._terms = terms
        self._room = room
        self._accepted = accepted_roles
        self._clock = clock
        self._persons = persons or Persons(journal)
        self._locks = KeyedLocks()
        self.debts = Debts(journal)
        """What could not be recorded yet."""

    async def waiting(self, account: AccountId) -> Sequence[GrantRequest]:
        """Return what waits for an answer of the account's, oldest first; see `locked_out` for what can be approved."""
        return await self._store.list_waiting(account, at=self._clock())

    async def locked_out(self, asked: Sequence[GrantRequest]) -> frozenset[ActorId]:
        """Return who of those who asked is locked out by now: what they asked can be declined and nothing else."""
        return frozenset([actor for actor in {one.actor for one in asked} if await self._is_locked(actor)])

    async def asked_by(self, actor: ActorId) -> Sequence[GrantRequest]:
        """Return what a staff member has asked for lately, newest first; `policy.asking.state_of` judges each."""
        return await self._store.list_asked(actor, since=self._clock() - KEPT)

    async def ask(
        self, wish: Wish, signed_in: SignedIn, *, caller: Caller, client: ClientId | None = None
    ) -> GrantRequest | RequestRefusal:
        """Have the account asked, or return why not; either is on the record."""
        outcome = await self._judge(wish, signed_in)
        if isinstance(outcome, GrantRequest):
            # What is recorded as asked is told to the customer: who asks at the same time finds this one counted.
            async with self._locks.held(("account", outcome.account), ("actor", outcome.actor)):
                outcome = await self._ask(outcome, caller=caller, client=client)
        if isinstance(outcome, RequestRefusal):
            staff = signed_in.staff
            refused = record_refused(outcome, wish, staff, caller=caller, client=client)
            await self._persons.append_of("\0".join(staff.id), refused)
        return outcome

    async def _ask(
        self, request: GrantRequest, *, caller: Caller, client: ClientId | None
    ) -> GrantRequest | RequestRefusal:
        full = await self._store.check_room(request, room=self._room)
        if full is not None:
            return full
        record = record_asked(request, caller=caller, client=client)
        await self._journal.append(record, durable=True)
        try:
            refused = await self._add(request)
        except StoreError as exc:
            await self._undo(record, exc)
            raise
        if refused is not None:
            # Another process was faster.
            await self._undo(record, refused)
        return refused or request

    async def withdraw(
        self, request: GrantRequestId, signed_in: SignedIn, *, caller: Caller, client: ClientId | None = None
    ) -> GrantRequest | RequestRefusal:
        """Take back what this person has asked for and nobody has answered; somebody else's is unknown to them."""
        found = await self._store.find_grant_request(request)
        if found is None or found.actor != signed_in.staff.id:
            return RequestRefusal.REQUEST_UNKNOWN
        refused = check_answer(found, RequestState.WITHDRAWN, self._clock())
        if refused is not None:
            return refused
        record = record_answer(found, "withdrawn", caller=caller, client=client)
        await self._journal.append(record, durable=True)
        return await self._answer(found, RequestState.WITHDRAWN, record, by=found.actor.subject)

    async def decline(self, request: GrantRequestId, answerer: Answerer) -> GrantRequest | RequestRefusal:
        """Say no for the account, or return why that cannot be."""
        found = await self._take(request, RequestState.DECLINED, answerer)
        if isinstance(found, RequestRefusal):
            return found
        by = answerer.administrator.id
        record = record_answer(found, "declined", caller=answerer.caller, client=answerer.client, by=by)
        try:
            await self.debts.settle()
            await self._journal.append(record, durable=True)
        except JournalError:
            # Nothing may keep a customer from saying no: it gives nobody anything.
            log.exception("that %s declined a request could not be recorded yet", answerer.account)
            outcome = await self._answer(found, RequestState.DECLINED, None, by=by)
            if isinstance(outcome, GrantRequest):
                self.debts.add(record)
            return outcome
        return await self._answer(found, RequestState.DECLINED, record, by=by)

    async def approve(
        self, request: GrantRequestId, approval: Approval, answerer: Answerer
    ) -> GrantChange | RequestRefusal:
        """Give what the administrator has chosen and nothing else, or return why that cannot be.

        The request is answered in one step with the change of the grant, or not at all. Raises UnknownAccount as well.
        """
        found = await self._take(request, RequestState.APPROVED, answerer)
        if isinstance(found, RequestRefusal):
            return found
        epoch = approval.known_epoch
        outcome = await self._grants.choose(
            ChangeRequest(
                account=answerer.account,
                duration=approval.duration,
                permissions=approval.permissions,
                administrator=answerer.administrator,
                client=answerer.client,
                client_ip=answerer.caller.client_ip,
                request_id=answerer.caller.request_id,
                known_epoch=(await self._grants.find(answerer.account)).account.epoch if epoch is None else epoch,
                keeps_end=approval.keeps_end,
                approves=found,
                shortens=approval.shortens,
            )
        )
        if outcome is GrantRefusal.OVERTAKEN:
            return await self._why(found, RequestState.APPROVED)
        return RequestRefusal(str(outcome)) if isinstance(outcome, GrantRefusal) else outcome

    async def _judge(self, wish: Wish, signed_in: SignedIn) -> GrantRequest | RequestRefusal:
        known = await self._store.find_account(wish.account)
        seen = await self._store.find_staff(signed_in.staff.id)
        staff = newest(signed_in.staff, seen)
        return ask(
            wish,
            staff=staff,
            known=seen,
            signed_in_at=signed_in.at,
            may=frozenset() if known is None else self._rules.most_in(staff, known.account),
            account=None if known is None else known.account,
            grant=None if known is None else known.grant,
            terms=self._terms,
            new_id=GrantRequestId(f"ask_{secrets.token_hex(10)}"),
            now=self._clock(),
        )

    async def _add(self, request: GrantRequest) -> RequestRefusal | None:
        try:
            return await self._store.add_grant_request(request, room=self._room)
        except StoreError:
            if await certain(lambda: self._store.find_grant_request(request.id)) is None:
                raise
            return None

    async def _take(
        self, request: GrantRequestId, answer: RequestState, answerer: Answerer
    ) -> GrantRequest | RequestRefusal:
        """Return a request to their account that they can answer so by now, or why they cannot, which is recorded."""
        found = await self._store.find_grant_request(request)
        if found is not None and found.account != answerer.account:
            # Another account's is as good as none.
            found = None
        refused = check_administrator(answerer.administrator, self._accepted)
        if refused is None and found is not None:
            refused = check_answer(found, answer, self._clock())
            if refused is None and answer is RequestState.APPROVED:
                refused = await self._check_approval(found)
            if refused is None:
                return found
        refused = refused or RequestRefusal.REQUEST_UNKNOWN
        record = record_denied(
            refused,
            request,
            found,
            account=answerer.account,
            by=answerer.administrator.id,
            caller=answerer.caller,
            client=answerer.client,
        )
        await self._journal.append(record)
        return refused

    async def _check_approval(self, request: GrantRequest) -> RequestRefusal | None:
        if self._terms.kept_by_app:
            return RequestRefusal.KEPT_BY_APP
        return RequestRefusal.ASKER_DISABLED if await self._is_locked(request.actor) else None

    async def _answer(
        self, request: GrantRequest, answer: RequestState, record: Record | None, *, by: str
    ) -> GrantRequest | RequestRefusal:
        """Store an answer, or return what came before it; what `record` has said then is taken back."""
        at = self._clock()
        answered = replace(request, answer=answer, answered_at=at, answered_by=by)
        try:
            if await self._store_answer(answered, by=by, at=at):
                return answered
        except StoreError as exc:
            await self._undo(record, exc)
            raise
        refused = await self._why(request, answer)
        await self._undo(record, refused)
        return refused

    async def _store_answer(self, answered: GrantRequest, *, by: str, at: datetime) -> bool:
        try:
            return await self._store.answer_grant_request(answered.id, answered.answer, by=by, at=at)
        except StoreError:
            if await certain(lambda: self._store.find_grant_request(answered.id)) != answered:
                raise
            return True

    async def _why(self, request: GrantRequest, answer: RequestState) -> RequestRefusal:
        """Return why an answer came too late."""
        found = await self._store.find_grant_request(request.id)
        if found is None:
            return RequestRefusal.REQUEST_UNKNOWN
        return check_answer(found, answer, self._clock()) or RequestRefusal.OVERTAKEN

    async def _is_locked(self, actor: ActorId) -> bool:
        staff = await self._store.find_staff(actor)
        return staff is not None and staff.disabled

    async def _undo(self, record: Record | None, why: StoreError | RequestRefusal) -> None:
        """Say that what was recorded did not happen, or may not have; what cannot be said now is owed."""
        if record is None:
            return
        said = undone(record, why)
        try:
            await self._journal.append(said, durable=True)
        except JournalError:
            log.exception("what did not happen to a request could not be recorded yet")
            self.debts.add(said)

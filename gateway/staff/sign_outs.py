"""Ends what a staff member has begun because the identity provider says so: stored, cut, recorded."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, name_actor, record_end
from gateway.audit.writing.owed import Debts
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.stores.store import Store, StoreError
from policy.events import LOGOUT, Notice, NoticeError
from policy.model import ActorId, Assumption, TokenId
from policy.times import LEEWAY

log = logging.getLogger(__name__)

Ended = Callable[[ActorId, Sequence[Assumption]], None]


class SignOuts:
    """The one way in which a notice ends assumptions; it may be told the same any number of times.

    It only takes power away, so it is done even if it cannot be recorded at once.
    """

    def __init__(self, store: Store, journal: AuditLog, *, issuer: str, clock: Clock, ended: Ended) -> None:
        """Have `ended` cut what is open here, and forget what is known; it is called when the end is stored."""
        self._store = store
        self._journal = journal
        self._issuer = issuer
        self.debts = Debts(journal)
        """What could not be recorded yet."""
        self._clock = clock
        self._ended = ended

    async def name(self, notice: Notice) -> Notice:
        """Return the notice with the person that it is about, if it names but a session of theirs at the issuer.

        Raises StoreError, and NoticeError if nobody has signed in here with a browser in that session: with any other
        token of it they may have begun something, so it cannot be said that all of it has ended.
        """
        if not notice.session:
            return notice
        person = await self._store.find_actor_of(self._issuer, notice.session)
        if person is None:
            raise NoticeError("nobody is known here by that `sid`: have the provider send `sub` as well")
        return replace(notice, person=person)

    async def carry_out(self, notice: Notice, caller: Caller) -> None:
        """End what the notice says; it is stored when this returns.

        Raises StoreError, and then nothing is stored, or of one account a part that is on the record.

        Of a notice about one account only what had begun by the time it was issued ends, so that a copy of it ends
        nothing later; one about the person holds off every sign-in up to that time, which does the same.
        """
        person = notice.person
        if person is None:
            return
        record = _record(notice, person, caller)
        recorded = await self._recorded(record)
        ended: list[Assumption] = []
        try:
            await self._end(notice, person, ended)
        except StoreError:
            if recorded:
                await self._note(structs.replace(record, decision="deny", reason="store_unavailable"))
            await self._note_ends(ended, caller)
            raise
        if not recorded:
            self.debts.add(record)
        await self._note_ends(ended, caller)

    async def leave(self, actor: ActorId, caller: Caller, *, by: str | None = None) -> None:
        """End all that a staff member has begun, because they sign out here; it is stored when this returns.

        Another sign-in at the provider is not asked for.
        `by` says who did it if not they themselves. Raises StoreError.
        """
        by = by or actor.subject
        ids = await self._store.end_assumptions_of(actor, at=self._clock())
        found = [await self._store.find_assumption(assumption) for assumption in ids]
        ended = [assumption for assumption in found if assumption is not None]
        self._ended(actor, ended)
        record = Record(
            kind="staff",
            reason="signed_out",
            actor=name_actor(actor, None),
            by=by,
            client_ip=caller.client_ip,
            user_agent=caller.user_agent,
            request_id=caller.request_id,
        )
        await self._note(record)
        await self._note_ends(ended, caller, by=by)

    async def _end(self, notice: Notice, person: ActorId, ended: list[Assumption]) -> None:
        """Add to `ended` what this has ended, and cut it here, also if the store fails in the middle."""
        at = self._clock()
        try:
            if notice.account is None:
                ended += await self._store.sign_out(person, since=notice.issued_at, at=at)
                return
            for assumption in await self._store.list_assumptions(at=at, account=notice.account):
                if assumption.actor != person or assumption.started_at > notice.issued_at + LEEWAY:
                    continue
                if await self._store.end_assumption(assumption.id, at=at):
                    ended.append(assumption)
        finally:
            self._ended(person, ended)

    async def _note_ends(self, ended: Sequence[Assumption], caller: Caller, *, by: str | None = None) -> None:
        now = self._clock()
        for assumption in ended:
            if assumption.expires_at <= now:
                continue  # it had ended by itself
            await self._note(record_end(assumption, by=by or assumption.actor.issuer, request_id=caller.request_id))

    async def _recorded(self, record: Record) -> bool:
        try:
            await self.debts.settle()
            await self._journal.append(record, durable=True)
        except JournalError:
            log.exception("a sign-out of staff could not be recorded yet")
            return False
        return True

    async def _note(self, record: Record) -> None:
        """Record what has happened; what cannot be said now is owed."""
        if not self.debts.is_settled or not await self._recorded(record):
            self.debts.add(record)


def _record(notice: Notice, person: ActorId, caller: Caller) -> Record:
    return Record(
        kind="staff",
        reason="signed_out" if notice.event == LOGOUT else notice.event.rpartition("/")[2].replace("-", "_"),
        actor=name_actor(person, None),
        account=notice.account,
        by=person.issuer,
        token_id=TokenId(notice.id),
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )

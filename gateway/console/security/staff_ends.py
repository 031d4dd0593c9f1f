"""Ends what one staff member has begun, and locks them out, because an operator says so."""

import logging

from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, name_actor
from gateway.audit.writing.owed import Debts
from gateway.clock import Clock
from gateway.console.security.visit import Visit
from gateway.grants.facts import FactCache
from gateway.staff.unseen import lock_unseen
from gateway.stores.store import Store, StoreError
from gateway.tokens.ending import Ender
from policy.model import ActorId

log = logging.getLogger(__name__)

_MOST_ROUNDS = 5


class StaffEnds:
    """It only takes power away, so it is done even if it cannot be recorded at once."""

    def __init__(
        self,
        store: Store,
        journal: AuditLog,
        facts: FactCache,
        *,
        ender: Ender,
        clock: Clock,
        issuers: frozenset[str] = frozenset(),
    ) -> None:
        """Whoever comes from one of `issuers` can be locked out before they were ever seen as staff."""
        self._issuers = issuers
        self._store = store
        self._journal = journal
        self._facts = facts
        self._ender = ender
        self._clock = clock
        self.debts = Debts(journal)
        """What could not be recorded yet."""

    async def end_all(self, actor: ActorId, visit: Visit) -> bool:
        """End all that a staff member has open, also what begins meanwhile; False if that goes on and on.

        Raises StoreError, and then some of it may go on.
        """
        for _ in range(_MOST_ROUNDS):
            begun = await self._store.list_begun(actor, at=self._clock())
            if not begun:
                return True
            for one in begun:
                await self._ender.end(one.id, by=visit.id, caller=visit.caller, client=visit.client)
        return False

    async def lock(self, actor: ActorId, visit: Visit) -> bool:
        """Lock somebody out, and end all that they have open; False if nobody of that issuer can come in anywhere.

        The lock is stored first of all and ends their sessions, so that nothing begins any more; raises StoreError.
        """
        known = await self._store.find_staff(actor)
        if known is None and actor.issuer not in self._issuers:
            return False
        record = Record(
            kind="staff",
            reason="locked",
            actor=name_actor(actor, None),
            by=visit.id,
            client_id=visit.client,
            client_ip=visit.caller.client_ip,
            user_agent=visit.caller.user_agent,
            request_id=visit.caller.request_id,
        )
        recorded = await self._recorded(record)
        try:
            if known is None:
                await lock_unseen(self._store, actor, at=self._clock())
            else:
                await self._store.disable_staff(actor, disabled=True)
        except StoreError:
            if recorded:
                # Whoever reads the record of it must not take it for done.
                await self._note(structs.replace(record, decision="deny", reason="store_unavailable"))
            raise
        finally:
            self._facts.forget_staff(actor)
        if not recorded:
            self.debts.add(record)
        await self.end_all(actor, visit)
        return True

    async def _recorded(self, record: Record) -> bool:
        try:
            await self.debts.settle()
            await self._journal.append(record, durable=True)
        except JournalError:
            log.exception("that a staff member was locked out could not be recorded yet")
            return False
        return True

    async def _note(self, record: Record) -> None:
        if not self.debts.is_settled or not await self._recorded(record):
            self.debts.add(record)

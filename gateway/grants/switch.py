"""The kill-switch: all assumption stopped, or let go on; each time on the record."""

import logging

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.owed import Debts
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.stores.store import KillSwitch, Store, StoreError
from policy.model import ClientId

log = logging.getLogger(__name__)


class Overtaken(Exception):
    """Somebody has set the switch meanwhile, and theirs stands."""


class Switch:
    """Sets it for every account and every node."""

    def __init__(self, store: Store, journal: AuditLog, *, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self.debts = Debts(journal)
        """What could not be recorded yet."""

    async def find(self) -> KillSwitch:
        """Return it as it is; raises StoreError."""
        return await self._store.find_kill_switch()

    async def turn_on(
        self, *, by: str, reason: str, client: ClientId | None = None, caller: Caller | None = None
    ) -> KillSwitch:
        """Stop everything, whatever else is going on; raises StoreError, and then nothing has changed.

        It does not wait for its record.
        """
        switch = KillSwitch(on=True, by=by, reason=reason, at=self._clock())
        await self._store.set_kill_switch(switch)
        record = record_switch("on", by=by, reason=reason, client=client, caller=caller)
        try:
            await self.debts.settle()
            await self._journal.append(record, durable=True)
        except JournalError:
            log.exception("that the kill-switch was turned on could not be recorded yet")
            self.debts.add(record)
        return switch

    async def turn_off(
        self, *, by: str, reason: str, client: ClientId | None = None, caller: Caller | None = None
    ) -> KillSwitch:
        """Let go on what the accounts allow, once that is on the record; nothing is done if it is off already.

        Raises JournalError, StoreError, and Overtaken if it was set again since this began: whoever turned it on knows
        of something that whoever turns it off had not heard of.
        """
        await self.debts.settle()
        seen = await self._store.find_kill_switch()
        if not seen.on:
            return seen
        await self._journal.append(
            record_switch("off", by=by, reason=reason, client=client, caller=caller), durable=True
        )
        try:
            return await self._let_go(seen, by=by, reason=reason)
        except (StoreError, Overtaken):
            # Whoever reads the record of it must not take it for done.
            failed = record_switch("off_failed", by=by, reason=reason, client=client, caller=caller)
            try:
                await self._journal.append(failed, durable=True)
            except JournalError:
                self.debts.add(failed)
            raise

    async def _let_go(self, seen: KillSwitch, *, by: str, reason: str) -> KillSwitch:
        switch = KillSwitch(on=False, by=by, reason=reason, at=self._clock())
        if not await self._store.set_kill_switch(switch, known=seen):
            raise Overtaken
        return switch


def record_switch(
    done: str, *, by: str, reason: str, client: ClientId | None = None, caller: Caller | None = None
) -> Record:
    """Return the record of what was done to it: `on`, `off` or `off_failed`."""
    return Record(
        kind="kill_switch",
        reason=done,
        by=by,
        stated_reason=reason or None,
        client_id=client,
        client_ip=None if caller is None else caller.client_ip,
        user_agent=None if caller is None else caller.user_agent,
        request_id=None if caller is None else caller.request_id,
    )

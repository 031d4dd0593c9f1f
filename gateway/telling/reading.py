"""Puts into the outbox what the journal says that somebody is to be told of: a sink whose receiver is the store.

So nothing in the way of a request knows of notices, and what is on the record is told though every process died since.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from gateway.audit.segment import Entry
from gateway.audit.sinks.outlet import Answered, Encoded, Sent, Unreachable
from gateway.clock import Clock
from gateway.stores.outbox import Contacts, Notice
from gateway.stores.store import Store, StoreError
from gateway.telling.addressing import Addressing
from gateway.telling.events import UNKNOWN, Event, is_unread, read_event
from gateway.telling.spreading import begin_round
from policy.model import AccountId

log = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""For the store to take a batch."""
KEPT: Final = timedelta(days=30)
"""How much longer than notices are tried the store knows which there were: what is read again is told once."""
_AHEAD: Final = timedelta(days=1)
"""No clock of ours is further from another: what says that it happens later than this says nothing."""


def wants(entry: Entry) -> bool:
    """Tell whether somebody is to be told of a record; of one that makes us fail the security team is."""
    return _read(entry) is not None


def _read(entry: Entry) -> Event | None:
    """Return what a record tells people; never raises, for then all that stands behind it would be told to nobody."""
    try:
        return read_event(entry)
    except Exception:
        log.exception("a record of the journal cannot be read for notices, and the security team is told so")
        return Event(name="evidence", at=UNKNOWN, facts={"why": "unreadable"})


class Enqueuer(Answered):
    """Implements Outlet: `send` returns once the store holds the notices."""

    def __init__(
        self,
        store: Store,
        addressing: Addressing,
        *,
        since: float,
        most_age: timedelta,
        clock: Clock,
        enqueued: Callable[[], None],
        unread: Callable[[], None],
    ) -> None:
        """Tell of nothing that happened before `since`, in seconds since 1970, or is older than is known to be told.

        `enqueued` is called on the loop that runs now, whenever there may be something to send, and `unread` on the
        sink's thread, before anybody is told that a part of the journal cannot be read; it may raise OSError.
        """
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._addressing = addressing
        self._since = since
        self._most_age = most_age + KEPT
        self._clock = clock
        self._enqueued = enqueued
        self._unread = unread

    def send(self, batch: list[Encoded]) -> Sent:
        """See `Outlet.send`; called on the sink's thread."""
        if any(is_unread(one.entry) for one in batch):
            try:
                self._unread()
            except OSError as error:
                log.warning("that a part of the journal cannot be read cannot be kept, only told: %s", error)
        work = self._enqueue(batch)
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise Unreachable("the gateway ends") from error
        try:
            future.result(SECONDS)
        except (StoreError, TimeoutError, CancelledError) as error:
            future.cancel()
            raise Unreachable("the store does not take the notices") from error
        self._arrived += 1
        return Sent(len(batch))

    def close(self) -> None:
        """Hold nothing open."""

    async def _enqueue(self, batch: list[Encoded]) -> None:
        known: dict[str, Contacts | None] = {}
        notices: list[Notice] = []
        now = self._clock()
        oldest = max(self._since, (now - self._most_age).timestamp())
        for one in batch:
            event = _dated(_read(one.entry), now)
            if event is None or event.at.timestamp() < oldest:
                continue
            if event.account not in known:
                known[event.account] = await self._contacts(event)
            notices += self._addressing.notices(event, known[event.account], about=one.id)
            if (link := begin_round(event, about=one.id)) is not None:
                notices.append(link)
        if notices and await self._store.add_notices(notices, now=now):
            self._enqueued()

    async def _contacts(self, event: Event) -> Contacts | None:
        return await self._store.find_contacts(AccountId(event.account)) if event.account else None


def _dated(event: Event | None, now: datetime) -> Event | None:
    """Return it as of now if it does not say when it happened: our own records do, so this one was altered."""
    if event is not None and (event.at == UNKNOWN or event.at > now + _AHEAD):
        return replace(event, at=now)
    return event

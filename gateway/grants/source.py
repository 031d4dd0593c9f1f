"""Where the facts of an account come from, and how they are had anew where nobody tells of a change."""

import asyncio
import logging
from typing import Protocol

from gateway.grants.facts import FactCache
from gateway.proxy.live import Live
from gateway.stores.store import AccountRecord, Store, StoreError
from policy.model import AccessRequest, AccountId, Facts

log = logging.getLogger(__name__)


class AccountSource(Protocol):
    """Knows accounts and their grants; the store is one, and so is the app itself (`gateway.grants.http_source`)."""

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        """Return the account with its newest grant, or None if there is no such account.

        Raises StoreError for whatever keeps it from being known now; what it returns is never a guess.
        """


class Freshness:
    """Has a source asked anew that tells nobody of its changes, such as the app."""

    def __init__(self, source: AccountSource, *, store: Store, facts: FactCache, live: Live) -> None:
        """Ask `source`; `store` tells every other process, `facts` and `live` are those of this one."""
        self._source = source
        self._store = store
        self._facts = facts
        self._live = live

    async def refresh(self, account: AccountId) -> None:
        """Have the source asked, and cut what is no longer allowed.

        Every process looks at the account again, whatever comes out, and no answer that was under way before can undo
        it. Raises StoreError if the source did not answer, or if the store was away, and then nobody else is told.
        """
        self._facts.forget_account(account)
        try:
            before = await self._store.find_account(account)
            record = await self._source.find_account(account)
            if before is not None and (record is None or record.account.epoch == before.account.epoch):
                # Somewhere an older answer may be under way that says something else: it can be stored no more.
                await self._store.touch_account(account)
        except StoreError:
            try:
                await self._store.touch_account(account)
            finally:
                await self._live.look_again(self._live.of_account(account), self._load)
            raise
        state = record.account if record is not None else None
        self._live.account_changed(account, state, self._facts.grant_of(record))

    async def follow(self, seconds: float) -> None:
        """Ask again, so often, about each account in which something is open; runs until cancelled.

        What cannot be known is cut, as it would not be let in.
        """
        while True:
            await asyncio.sleep(seconds)
            exchanges = self._live.all()
            for account in {exchange.permit.account for exchange in exchanges}:
                self._facts.forget_account(account)
            try:
                await self._live.look_again(exchanges, self._load)
            except Exception:
                # Whatever it was, it must not be the last look.
                log.exception("what is open could not be looked at")

    async def _load(self, request: AccessRequest) -> Facts:
        return await self._facts.of_request(request.account, request.claims)

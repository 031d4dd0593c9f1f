"""The store, and a journal of the command line's own, for the commands that need them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.evidence.checkpoint import NoteSigner
from gateway.audit.log import JournalBusy
from gateway.audit.writing.journal import Journal
from gateway.clock import boot_seconds, utc_now
from gateway.config.model import Config
from gateway.data_directory import claim_directory
from gateway.grants.service import GrantService
from gateway.stores import opening
from gateway.stores.store import Store
from gateway.tokens.keys import open_keys, read_terms

ORIGIN = "cli"
"""Of the command line's own journal."""
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """An open store and journal, for a command that changes something."""

    store: Store
    journal: Journal
    grants: GrantService


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Store]:
    """Open the store, for a command that only reads."""
    claim_directory(Path(config.server.data_directory))
    store = await opening.open_store(config)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_office(config: Config, *, origin: str = ORIGIN) -> AsyncIterator[Office]:
    """Open the store and the command line's own journal; a running gateway hears of changes within a moment."""
    async with open_store(config) as store:
        async with opening.one_at_a_time(store):
            keys = await open_keys(store, read_terms(config), now=utc_now())
        signer = NoteSigner(keys.journal.private, name=origin)
        journal = await _open_journal(config, origin, signer)
        try:
            roles = frozenset(config.grants.administrator_roles)
            grants = GrantService(store, journal, accepted_roles=roles, clock=utc_now)
            yield Office(store=store, journal=journal, grants=grants)
            await grants.debts.settle()
        finally:
            await journal.close()


async def _open_journal(config: Config, origin: str, signer: NoteSigner) -> Journal:
    """Open the command line's journal; while another command has it, wait a little."""
    give_up = boot_seconds() + _PATIENCE_SECONDS
    while True:
        try:
            return await Journal.open(
                config.journal_directory,
                origin=origin,
                clock=utc_now,
                signer=signer,
                patience_seconds=config.audit.patience_seconds,
            )
        except JournalBusy:
            if boot_seconds() > give_up:
                raise
        await asyncio.sleep(0.05)

"""What lives as long as the process: the store, the journal, the facts, and what is open."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.checkpoint import NoteSigner
from gateway.audit.journal import Journal
from gateway.clock import Clock, Ticks
from gateway.config.model import Config
from gateway.files import claim_directory, write_new
from gateway.grants.facts import FactCache
from gateway.grants.watch import Watch
from gateway.proxy.live import Live
from gateway.stores.sqlite import SqliteStore, open_sqlite
from gateway.tasks import Tasks
from gateway.tokens.keys import KeyRing, open_keys
from policy.routes import Profile

ORIGIN = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """The place of one process among those that serve one configuration."""

    origin: str = ORIGIN
    """Of its journal, which nobody else writes."""
    shared: bool = False
    """Whether others serve the same ports, and somebody has prepared what is made once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What must not be lost by a reload, and the time it is kept by."""

    store: SqliteStore
    journal: Journal
    facts: FactCache
    live: Live
    clock: Clock
    ticks: Ticks

    async def look_again(self) -> None:
        """Decide anew about everything open, on facts fetched anew."""
        self.facts.forget_all()
        await self.live.anything_changed(lambda request: self.facts.of_request(request.account, request.claims))


async def prepare(stack: AsyncExitStack, config: Config, clock: Clock) -> tuple[SqliteStore, KeyRing]:
    """Open the store, and make once what is not there yet: its directory, its shape, the keys, the journal's key.

    Raises ConfigError, StoreError, OSError.
    """
    claim_directory(Path(config.server.data_directory))
    store, keys = await _open_store(stack, config, clock)
    write_new(config.journal_key, keys.journal.public_pem())
    return store, keys


async def open_state(
    stack: AsyncExitStack, config: Config, profile: Profile, *, post: Post, clock: Clock, ticks: Ticks
) -> State:
    """Open the state until `stack` ends; raises ConfigError, StoreError, JournalError, OSError."""
    opening = _open_store if post.shared else prepare
    store, keys = await opening(stack, config, clock)
    journal = await Journal.open(
        config.journal_directory,
        origin=post.origin,
        clock=clock,
        ticks=ticks,
        signer=NoteSigner(keys.journal.private, name=post.origin),
        segment_bytes=config.audit.segment_mib * 1024 * 1024,
        checkpoint_seconds=config.audit.checkpoint_seconds,
    )
    stack.push_async_callback(journal.close)
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    facts = FactCache(
        store,
        ttl_seconds=config.grants.fact_ttl_seconds,
        absent_ttl_seconds=config.grants.absent_ttl_seconds,
        trial_permissions=frozenset(config.grants.trial_permissions),
        ticks=ticks,
        tasks=tasks,
    )
    live = Live(profile, clock)
    state = State(store=store, journal=journal, facts=facts, live=live, clock=clock, ticks=ticks)
    watch = await Watch.begin(store.data_version)
    tasks.start(watch.run(state.look_again), name="watch the store")
    return state


async def _open_store(stack: AsyncExitStack, config: Config, clock: Clock) -> tuple[SqliteStore, KeyRing]:
    store = await open_sqlite(config.store_path)
    stack.push_async_callback(store.close)
    return store, await open_keys(store, config.tokens.signing_key, now=clock())

"""What lives as long as the process: the store, the journal, the facts, and what is open."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.api.receipts import RECEIPT_WAIT_SECONDS
from gateway.audit.index.asking import IndexTurns, LogIndex
from gateway.audit.index.opening import open_index
from gateway.audit.index.process import Indexer
from gateway.audit.removal.keeping import held_accounts, read_retention
from gateway.audit.removal.upkeep import Upkeep
from gateway.audit.sinks.held import Sinks
from gateway.audit.witnesses.opening import open_witnesses
from gateway.audit.witnesses.showing import Witnesses
from gateway.audit.writing.journal import Journal
from gateway.audit.writing.strangers import Persons, Strangers
from gateway.clock import Clock, SteadyClock, Ticks
from gateway.config.model import Config
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.grants.follow import Follower
from gateway.grants.mark import Mark
from gateway.late import START_SECONDS, Late, LateJournal
from gateway.pauses import Pauses
from gateway.proxy.live import Live
from gateway.staff.rules import read_rules
from gateway.stores.store import Store, StoreError
from gateway.stores.tidying import keep_tidy
from gateway.taken import Taken
from gateway.tasks import Tasks
from gateway.tokens.dpop import LIFE
from gateway.tokens.keys import KeyRing, read_terms
from gateway.tokens.stored import StoredKeys
from policy.routes import Profile
from policy.times import LEEWAY

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """The place of one process among those that serve one configuration."""

    origin: str
    """Of its journal, which nobody else writes."""
    shared: bool = False
    """Whether others serve the same ports, and somebody has prepared what is made once."""
    without_store: bool = False
    """Whether somebody has waited in vain for the store just now, so that nobody waits for it again at the start."""
    fellows: Mapping[str, Path] = field(default_factory=dict)
    """By origin, the sockets at which each of them, itself too, tells the others its numbers; none if it is alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What must not be lost by a reload, and the time it is kept by."""

    post: Post
    """Which of those that serve together this process is."""
    store: Store
    journal: Journal | LateJournal
    strangers: Strangers
    """Through whom refusals of those go into it of whom nothing is known."""
    persons: Persons
    """And through whom those of people who are known, and may send as many forms as they like."""
    facts: FactCache
    live: Live
    follower: Follower
    clock: Clock
    ticks: Ticks
    counts: Counts
    seconds_set_back: Callable[[], float]
    """How far the wall clock is behind `clock`."""
    late: Late
    stored_keys: StoredKeys
    proofs_taken: Taken
    tasks: Tasks
    """What runs as long as the process."""
    upkeep: Callable[[], Upkeep]
    """Makes what takes care of the journal once that is open."""
    witnesses: Witnesses
    """To whom checkpoints are shown."""
    sinks: Sinks
    """Where records go."""
    indexer: Indexer | None
    """Who keeps the index over the journal; None: nobody."""
    log_index: LogIndex | None
    """Whom to ask about the journal."""
    receipt_turns: IndexTurns = field(default_factory=lambda: IndexTurns(seconds=RECEIPT_WAIT_SECONDS))
    """Who has a receipt made, from whichever door: each making reads the whole journal."""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once no more connections are taken: whoever holds a stream open for somebody who looks on ends it."""

    async def keys(self, config: Config) -> KeyRing:
        """Return the keys for `config`, which know no stored one until the store is open.

        Raises ConfigError, StoreError.
        """
        terms = read_terms(config)
        self.stored_keys.needs = terms.needs
        if self.late.is_open:
            await self.stored_keys.renew()
        return KeyRing(terms, self.stored_keys)

    async def begin(self) -> None:
        """Follow the store from here on; if it does not answer, that is tried again as long as it takes."""
        try:
            await self.follower.begin()
        except StoreError as exc:
            log.warning("the store does not answer: staff are kept out until it does: %s", exc)
        self.follower.start(self.tasks)
        self.tasks.start(keep_tidy(self.store, self.clock), name="tidy what browsers held")
        self.tasks.start(self.upkeep().run(), name="take care of the journal")

    async def open_late(self) -> None:
        """Go on trying to open what could not be opened at the start; returns once that is done."""
        pauses = Pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while not self.late.is_open:
            await asyncio.sleep(pauses.next())
            try:
                await self.late.try_to_open()
            except Exception:
                # Whatever it is, the next try may be better, and nobody is let in until then.
                log.exception("the store is open, but not all that is needed with it")
        await self.begin()

    async def look_again(self) -> None:
        """Decide anew about everything open, on facts fetched anew."""
        self.facts.forget_all()
        await self.live.anything_changed(lambda request: self.facts.of_request(request.account, request.claims))


async def open_state(
    stack: AsyncExitStack,
    config: Config,
    profile: Profile,
    *,
    post: Post,
    clock: Clock | None,
    ticks: Ticks,
    patience_seconds: float,
) -> State:
    """Open the state until `stack` ends; raises ConfigError, JournalError, OSError.

    If the store cannot be opened within some seconds, that is left to `State.open_late`. Without a `clock` it is kept
    by the wall clock, which is not followed backwards. Staff wait no longer than `patience_seconds` for facts, and the
    start, if that is longer than those seconds, as long for the store.
    """
    steady = SteadyClock()
    clock = clock or steady.now
    late = Late(config, origin=post.origin, shared=post.shared, clock=clock, ticks=ticks)
    stack.push_async_callback(late.close)
    if not post.without_store:
        await late.try_to_open(seconds=max(START_SECONDS, patience_seconds))
    mark = Mark.open(Path(config.server.data_directory), post.origin)
    stack.push_async_callback(mark.close)
    # Ended before the mark is written for the last time.
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    strangers = Strangers(late.journal, ticks=ticks)
    stack.callback(strangers.say)
    persons = Persons(late.journal, ticks=ticks)
    stack.callback(persons.say)
    facts = FactCache(
        late.store,
        ttl_seconds=config.grants.fact_ttl_seconds,
        absent_ttl_seconds=config.grants.absent_ttl_seconds,
        trial_permissions=frozenset(config.grants.trial_permissions),
        rules=read_rules(config),
        ticks=ticks,
        tasks=tasks,
        patience_seconds=patience_seconds,
    )
    live = Live(profile, clock, patience_seconds=patience_seconds)
    stored_keys = StoredKeys(late.store, clock)
    witnesses = open_witnesses(config, ticks=ticks)
    tasks.start(witnesses.run(), name="show checkpoints to witnesses")

    sinks = Sinks(clock, ticks)
    sinks.renew(sinks.prepare(config))
    stack.push_async_callback(sinks.close)

    indexer, log_index = open_index(config) if config.audit.index else (None, None)

    async def read_keys() -> None:
        await stored_keys.renew()
        live.keys_changed()

    state = State(
        post=post,
        store=late.store,
        journal=late.journal,
        strangers=strangers,
        persons=persons,
        facts=facts,
        live=live,
        follower=Follower(
            late.store,
            facts=facts,
            live=live,
            mark=mark,
            ticks=ticks,
            ttl_seconds=config.grants.fact_ttl_seconds,
            read_keys=read_keys,
        ),
        clock=clock,
        ticks=ticks,
        counts=Counts(),
        seconds_set_back=steady.seconds_set_back,
        late=late,
        stored_keys=stored_keys,
        upkeep=lambda: Upkeep(
            config.journal_directory,
            origin=post.origin,
            journal=late.journal,
            terms=read_retention(config.audit.retention),
            held=lambda: held_accounts(late.store),
            clock=clock,
        ),
        proofs_taken=Taken(seconds=(LIFE + 2 * LEEWAY).total_seconds(), ticks=ticks),
        tasks=tasks,
        witnesses=witnesses,
        sinks=sinks,
        indexer=indexer,
        log_index=log_index,
    )
    if late.is_open:
        await state.begin()
    return state

"""The composition root: opens the state, a generation and every listener, and takes all of it down again."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway.audit.log import AuditLog
from gateway.building import open_generation
from gateway.clock import Clock, Ticks, boot_seconds
from gateway.config.model import Config
from gateway.console.account.door import without_staff
from gateway.doors import Doors
from gateway.generation import Generation
from gateway.grants.follow import Follower
from gateway.grants.patience import FACTS_SECONDS
from gateway.health import Health
from gateway.profiles import load_profile
from gateway.proxy.limits import PoolLimits
from gateway.proxy.listener import make_listener
from gateway.proxy.live import Live
from gateway.proxy.pool import Pool, parse_upstream_url
from gateway.proxy.triage import trusting
from gateway.routes import Routes
from gateway.selftest.door import with_door
from gateway.staff.rules import read_rules
from gateway.starting import START_ERRORS
from gateway.state import Post, State, open_state
from gateway.stores.store import Store
from gateway.tasks import Tasks
from gateway.tokens.keys import KeyRing

log = logging.getLogger(__name__)

# Whoever asked through the public listener has gone by then.
_CONTROL_SECONDS = 0.5
_AGAIN_SECONDS = 1.0
# More than our front can be configured to let in: what the library refuses by itself it quotes, in its answer and in
# the log, and that may be a credential.
_LONGEST_LINE = 2 * 1024 * 1024
_MOST_LINES = 20_000


@asynccontextmanager
async def open_gateway(
    config: Config,
    *,
    post: Post | None = None,
    clock: Clock | None = None,
    ticks: Ticks = boot_seconds,
    patience_seconds: float = FACTS_SECONDS,
) -> AsyncIterator["Gateway"]:
    """Run a gateway until the block ends; raises one of START_ERRORS if it cannot start.

    A store that cannot be opened is no reason not to: staff are kept out until it can, and customers are served.
    Staff who wait longer than `patience_seconds` for what is known of them are refused.
    At its end it takes no more connections, and what is under way gets `server.shutdown_seconds`.
    """
    async with AsyncExitStack() as stack:
        profile = without_staff(with_door(load_profile(config.upstream.profile)))
        post = post or Post(origin=config.server.node)
        state = await open_state(
            stack, config, profile, post=post, clock=clock, ticks=ticks, patience_seconds=patience_seconds
        )
        socket = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="locum-"))) / "control.sock"
        way = Pool(parse_upstream_url(f"unix:{socket}"), limits=PoolLimits(max_connections=config.limits.max_in_flight))
        generation = await open_generation(config, profile, state, control=way)
        state.live.renew(profile, generation.keys)
        state.facts.renew(config.grants.trial_permissions, generation.accounts.find_account, read_rules(config))
        gateway = Gateway(state, generation, control=way, post=post)
        stack.push_async_callback(gateway.close_generations)
        await gateway.open_control(stack, socket)
        await gateway.metrics.open(stack)
        stack.push_async_callback(way.close)
        stack.push_async_callback(gateway.close_doors)
        await gateway.open_doors(shared=post.shared)
        if not state.late.is_open:
            opening = Tasks()
            stack.push_async_callback(opening.close)
            opening.start(gateway.open_late(), name="open the store")
        yield gateway


class Gateway:
    """A running gateway: what the demo and the tests look at, and how it is renewed."""

    def __init__(self, state: State, generation: Generation, *, control: Pool, post: Post) -> None:
        """Use `open_gateway`."""
        # Only now, because nothing but a running gateway has a use for the library behind it.
        from gateway.metrics.door import Metrics  # noqa: PLC0415

        self._state = state
        self._generation = generation
        self._way_to_control = control
        self._control = Routes(generation.control)
        self._admin = Routes(generation.admin)
        config = generation.config
        self._listener = make_listener(generation.answer, config.listener, trusting(config))
        health = Health(state)
        self.metrics = Metrics(
            state,
            self._listener,
            post,
            upstream_connections=self._count_upstream_connections,
            keys=lambda: self.keys,
        )
        """What monitoring reads."""
        self._doors = Doors(self._listener, self._admin.application(*health.routes(), *self.metrics.routes()))
        self._retiring = Tasks()
        self._renewing = asyncio.Lock()
        self._retired: set[Generation] = set()
        """Those that have requests under way still."""

    @property
    def public_url(self) -> str:
        """Where everybody comes in."""
        return self._doors.public_url

    @property
    def admin_url(self) -> str:
        """Where grants are changed and health is asked."""
        return self._doors.admin_url

    @property
    def store(self) -> Store:
        """The store."""
        return self._state.store

    @property
    def journal(self) -> AuditLog:
        """The journal of this process."""
        return self._state.journal

    @property
    def live(self) -> Live:
        """The open assumed exchanges of this process."""
        return self._state.live

    @property
    def follower(self) -> Follower:
        """Who hears of the store's changes."""
        return self._state.follower

    @property
    def keys(self) -> KeyRing:
        """The keys in force."""
        return self._generation.keys

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._generation.config

    async def renew(self, config: Config) -> None:
        """Answer under `config` from the next request on; raises one of START_ERRORS, and then nothing has changed.

        What is under way goes on with the parts it began with, and no connection is closed; only staff's open
        exchanges are decided anew, and cut if the new profile does not permit them. What cannot change while we run
        must be as in the configuration in force: see `gateway.workers.fixed`.
        """
        async with self._renewing:
            await self._renew(config)

    async def open_late(self) -> None:
        """Open the store that could not be at the start, then answer with what is in it, its keys above all."""
        await self._state.open_late()
        while True:
            try:
                async with self._renewing:
                    await self._renew(self.config)
            except START_ERRORS as exc:
                log.warning("the store is open, but staff cannot be let in yet: %s", exc)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                log.info("the store is open, and staff are let in again")
                return

    async def _renew(self, config: Config) -> None:
        profile = without_staff(with_door(load_profile(config.upstream.profile)))
        sinks = self._state.sinks.prepare(config)
        new = await open_generation(config, profile, self._state, control=self._way_to_control)
        try:
            self._doors.renew_certificate(config)
        except BaseException:
            await new.close()
            raise
        # INVARIANT: from here to the end of the swap nothing fails, and nothing else runs.
        old, self._generation = self._generation, new
        self._state.live.renew(profile, new.keys)
        self._state.facts.renew(config.grants.trial_permissions, new.accounts.find_account, read_rules(config))
        self._listener.renew(new.answer, config.listener, trusting(config))
        self._state.sinks.renew(sinks)
        self._control.renew(new.control)
        self._admin.renew(new.admin)
        self._retiring.start(self._retire(old), name="retire the old configuration")
        try:
            await self._state.look_again()
        except Exception:
            # The new one is in force all the same, and what is open is looked at again each second.
            log.exception("what is open could not be looked at")

    def keep_index(self, tasks: Tasks) -> None:
        """Have the index over the journal kept by a process of its own, as long as `tasks` run."""
        if self._state.indexer is not None:
            tasks.start(self._state.indexer.keep(), name="keep the index")

    def cut(self) -> None:
        """Wait for no request under way any more, now or at the end."""
        self._doors.cut()

    async def open_control(self, stack: AsyncExitStack, socket: Path) -> None:
        """Serve the control plane on a socket of our own: one more upstream of the proxy."""
        runner = web.AppRunner(
            self._control.application(),
            access_log=None,
            shutdown_timeout=_CONTROL_SECONDS,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_LINES,
            # Or anybody's few bytes would be made many, on the loop that customers are served by.
            auto_decompress=False,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(socket)).start()

    async def open_doors(self, *, shared: bool) -> None:
        """Take connections; raises ConfigError, OSError."""
        await self._doors.open(self.config, shared=shared)

    async def close_doors(self) -> None:
        """Take no more, and wait for what is under way as long as the configuration in force says."""
        self._state.leaving.set()
        await self._doors.close(self.config.server.shutdown_seconds)

    async def _retire(self, old: Generation) -> None:
        self._retired.add(old)
        try:
            await old.retire()
        finally:
            self._retired.discard(old)

    def _count_upstream_connections(self) -> int:
        return sum(one.upstream_connections for one in (self._generation, *self._retired))

    async def close_generations(self) -> None:
        """Close what is in force, and what waits for its last request."""
        await self._retiring.close()
        await self._generation.close()

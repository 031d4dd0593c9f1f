"""The process that the operator started, when there are several: it keeps the workers and serves nothing itself."""

import asyncio
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gateway.clock import utc_now
from gateway.config.model import Config, ConfigError
from gateway.late import prepare
from gateway.profiles import load_profile
from gateway.stores.store import StoreError
from gateway.tasks import Tasks
from gateway.workers.child import Child
from gateway.workers.fixed import settle
from gateway.workers.hang_up import hear
from gateway.workers.orders import Begin, Done, Refused, Renew, Stop
from gateway.workers.ports import reserved
from gateway.workers.stopping import Announce, Read, Stopping
from gateway.workers.vigil import Vigil, tick_seconds

log = logging.getLogger(__name__)

_CALM_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_REPLY_SECONDS = 30.0
_BEGIN_SECONDS = 60.0
_AGAIN_SECONDS = 1.0
_MARGIN_SECONDS = 2.0
"""Behind the time for requests under way, for a worker to close its journal and the rest."""


Answer = Done | Refused | None
"""What a worker says to an order, None if it has ended."""


class Spawn(Protocol):
    """Starts a worker process that waits for its first order; raises OSError."""

    async def __call__(self, *, scratch: str) -> Child:
        """See `Child.start`."""


class WorkersFailed(Exception):
    """A worker could not begin, and so nothing was begun."""


def count_workers(config: Config) -> int:
    """Return how many processes are to serve; "auto" is one to each core that we may use."""
    wanted = config.server.workers
    if wanted != "auto":
        return wanted
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


class Pause:
    """How long to wait before a worker is started again: the first time not at all, then longer each time."""

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lived_seconds: float) -> float:
        """Return the seconds to wait after a worker has lived so long; once it was calm, all is forgotten."""
        seconds = 0.0 if lived_seconds >= _CALM_SECONDS else self._next
        self._next = min(max(2 * seconds, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        return seconds


class Supervisor:
    """Starts the workers, starts a dead one again, hands on new configurations, and ends them all."""

    def __init__(
        self,
        config: Config,
        read: Read,
        *,
        count: int,
        spawn: Spawn = Child.start,
        reply_seconds: float = _REPLY_SECONDS,
    ) -> None:
        self._given = config
        """As the operator has it; the workers' differs in the ports."""
        self._served = config
        self._read = read
        self._count = count
        self._spawn = spawn
        self._reply_seconds = reply_seconds
        self._scratch = ""
        self._stopping = Stopping()
        self._hang_up = asyncio.Event()
        self._children: dict[int, Child] = {}
        """Every process there is, by number."""
        self._up: dict[int, Child] = {}
        """Those that serve."""
        self._waited_in_vain = False
        """Whether the store did not open for us, before any worker began."""
        self._slow: set[Child] = set()
        """Those that serve another configuration than the one in force until they have taken it."""
        self._tasks = Tasks()

    async def run(self, announce: Announce) -> None:
        """Serve until SIGTERM or SIGINT; a second one cuts what is under way.

        Raises ConfigError, OSError or WorkersFailed if it cannot. SIGHUP hands a new configuration on.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.ask)
        hear(self._hang_up.set)
        load_profile(self._given.upstream.profile)  # before anything is made
        async with AsyncExitStack() as once:
            try:
                await prepare(once, self._given, utc_now)
            except StoreError as exc:
                self._waited_in_vain = True
                log.warning("nothing could be prepared for the workers, so they will have to do it: %s", exc)
        server = self._given.server
        with (
            # For the profile in force, and what a killed worker leaves behind.
            tempfile.TemporaryDirectory(prefix="locum-") as scratch,
            reserved(server.listen, "server.listen") as listen,
            reserved(server.admin_listen, "server.admin_listen") as admin_listen,
        ):
            self._scratch = scratch
            self._served = _with_ports(self._kept(self._given), listen, admin_listen)
            await self._run(announce)

    async def _run(self, announce: Announce) -> None:
        begun: list[asyncio.Future[Done]] = [asyncio.get_running_loop().create_future() for _ in range(self._count)]
        keepers = [asyncio.ensure_future(self._keep(index, first)) for index, first in enumerate(begun)]
        all_begun = asyncio.gather(*begun)
        stop = asyncio.ensure_future(self._stopping.asked.wait())
        waiting: set[asyncio.Future[Any]] = {all_begun, stop}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            # Whoever was told to stop may end before it has begun, and that is no failure.
            if not self._stopping.asked.is_set():
                done, *_ = all_begun.result()
                self._waited_in_vain = False
                announce(done.public_url, done.admin_url)
                self._tasks.start(self._follow(), name="hand on new configurations")
                self._tasks.start(self._watch(), name="look for workers that hang")
                await stop
        except BaseException:
            self._stopping.now.set()
            raise
        finally:
            await self._tasks.close()
            all_begun.cancel()
            stop.cancel()
            await asyncio.gather(all_begun, stop, return_exceptions=True)
            await self._end(keepers)

    async def _keep(self, index: int, first: "asyncio.Future[Done]") -> None:
        """Keep one worker until we stop; whether it could begin for the first time is the result of `first`."""
        pause, loop = Pause(), asyncio.get_running_loop()
        while not self._stopping.asked.is_set():
            started = loop.time()
            try:
                how = await self._live(index, first)
            except Exception as exc:
                log.exception("worker %s was lost sight of", self._origin(index))
                how = "has gone"
                if (child := self._children.pop(index, None)) is not None:
                    child.kill()
                self._up.pop(index, None)
                if not first.done():
                    first.set_exception(WorkersFailed(f"a worker was lost sight of: {type(exc).__name__}"))
            if self._stopping.asked.is_set() or not first.done() or first.cancelled() or first.exception() is not None:
                break
            seconds = pause.after(loop.time() - started)
            log.error("worker %s %s: it is started again in %g s", self._origin(index), how, seconds)
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.asked.wait()
            except TimeoutError:
                continue

    async def _live(self, index: int, first: "asyncio.Future[Done]") -> str:
        """Start a worker and wait for its end; return how that came."""
        reply: Answer = None
        try:
            child = await self._spawn(scratch=self._scratch)
        except OSError as exc:
            reply = Refused(why=f"a worker cannot be started: {exc}", in_config=False)
            how = reply.why
        else:
            self._children[index] = child
            if self._stopping.asked.is_set():
                child.tell(Stop(now=True))
            else:
                reply = await self._begin(index, child)
            if isinstance(reply, Done) and not first.done():
                first.set_result(reply)
            code = await child.ended()
            del self._children[index]
            self._up.pop(index, None)
            how = f"(process {child.pid}) has ended, {_said(code)}"
            how += f" ({reply.why})" if isinstance(reply, Refused) else ""
        if not first.done():
            first.set_exception(_failed(reply, how))
        return how

    def _origin(self, index: int) -> str:
        """Return whose journal a worker writes."""
        return f"{self._served.server.node}-{index}"

    async def _begin(self, index: int, child: Child) -> Answer:
        config = self._served
        origins = map(self._origin, range(self._count))
        order = Begin(
            origin=self._origin(index),
            config=config,
            fellows={origin: f"{self._scratch}/{origin}.sock" for origin in origins},
            without_store=self._waited_in_vain,
        )
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                reply = await child.ask(order)
        except TimeoutError:
            log.error("process %d does not begin within %g s: killed", child.pid, _BEGIN_SECONDS)  # noqa: TRY400 - the process's
            child.kill()
            return None
        if isinstance(reply, Done):
            self._up[index] = child
            log.info("worker %s serves (process %d)", self._origin(index), child.pid)
            if config is not self._served:
                # It was overtaken by a new configuration while it began.
                self._bring(child)
        else:
            child.tell(Stop(now=True))
        return reply

    async def _watch(self) -> None:
        """Kill a worker whose event loop stands still, so that it is started again."""
        vigil, loop = Vigil(), asyncio.get_running_loop()
        while True:
            deadline = self._served.server.worker_deadline_seconds
            for child in vigil.look(self._up.values(), loop.time(), deadline):
                log.error("process %d has given no sign of life for %g s: killed", child.pid, deadline)
                child.kill()
            await asyncio.sleep(tick_seconds(deadline))

    async def _follow(self) -> None:
        while True:
            await self._hang_up.wait()
            self._hang_up.clear()
            try:
                await self._renew()
            except (ConfigError, OSError) as exc:
                log.error("the new configuration is refused, the old one stays in force: %s", exc)  # noqa: TRY400 - the operator's
            except Exception:
                log.exception("the new configuration could not be handed on")

    async def _renew(self) -> None:
        """Hand the configuration on as it is now; one worker tries it first. Raises ConfigError, and keeps the old.

        Nobody is replaced for it: it is the store that makes a worker slow, and customers are served meanwhile.
        """
        if self._slow:
            raise ConfigError(f"{_named(self._slow)} is not done with the last one: send the signal again later")
        given = settle(self._given, self._read())
        load_profile(given.upstream.profile)
        served = _with_ports(self._kept(given), self._served.server.listen, self._served.server.admin_listen)
        if not self._up:
            raise ConfigError("no worker is up that could try it: send the signal again")
        old = self._given, self._served
        for first in list(self._up.values()):
            reply = await self._ask(first, served)
            if isinstance(reply, Refused):
                raise ConfigError(reply.why)
            if reply is not None:
                break
        else:
            raise ConfigError("no worker has answered: send the signal again")
        self._given, self._served = given, served
        # From the same step on, a worker that is just beginning sees the new one itself.
        others = [child for child in self._up.values() if child is not first]
        replies = await asyncio.gather(*(self._ask(child, served) for child in others))
        refused = [reply.why for reply in replies if isinstance(reply, Refused)]
        if refused:
            self._given, self._served = old
            for child in self._up.values():
                if child not in self._slow:
                    self._bring(child)
            raise ConfigError(f"not every worker takes it: {refused[0]}")
        log.info("the new configuration is in force")

    async def _ask(self, child: Child, config: Config) -> Answer:
        """Hand a configuration on; who is slow keeps the one in force, whatever it says in the end."""
        asking = asyncio.ensure_future(child.ask(Renew(config=config)))
        try:
            # Not cancelled at its end: what a worker was told it does in the end, and then it says so.
            await asyncio.wait({asking}, timeout=self._reply_seconds)
        except asyncio.CancelledError:
            asking.cancel()
            raise
        if asking.done():
            return asking.result()
        self._bring(child, asking)
        why = f"process {child.pid} is not done within {self._reply_seconds:g} s, and keeps the old one"
        return Refused(why=why, in_config=False)

    def _bring(self, child: Child, asking: "asyncio.Future[Answer] | None" = None) -> None:
        """Have a worker serve what is in force, however long that takes, once it has answered what it was asked."""
        self._slow.add(child)
        self._tasks.start(self._bring_on(child, asking), name="bring a worker to the configuration in force")

    async def _bring_on(self, child: Child, asking: "asyncio.Future[Answer] | None") -> None:
        try:
            if asking is not None and not isinstance(await asking, Done):
                return
            while True:
                config = self._served
                reply = await child.ask(Renew(config=config))
                if reply is None or (isinstance(reply, Done) and config is self._served):
                    return
                if isinstance(reply, Refused):
                    log.error("process %d does not take the configuration in force yet: %s", child.pid, reply.why)
                    await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            self._slow.discard(child)

    async def _end(self, keepers: Sequence["asyncio.Future[None]"]) -> None:
        """End every worker: first by asking, after the time for requests under way by killing."""
        self._stopping.asked.set()
        now = self._stopping.now
        ended = asyncio.gather(*keepers)
        again = asyncio.ensure_future(now.wait())
        waiting: set[asyncio.Future[Any]] = {ended, again}
        self._tell_all(Stop(now=now.is_set()))
        patience = self._served.server.shutdown_seconds + _MARGIN_SECONDS
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if again.done() and not ended.done():
            self._tell_all(Stop(now=True))
            await asyncio.wait({ended}, timeout=_MARGIN_SECONDS)
        again.cancel()
        for child in self._children.values():
            log.error("process %d did not end in time: killed", child.pid)
            child.kill()
        await ended

    def _kept(self, config: Config) -> Config:
        """Return `config` with a copy of the operator's own profile, so that a worker started later has the same."""
        profile = config.upstream.profile
        if not profile.endswith(".toml"):
            return config
        copy = Path(tempfile.mkdtemp(dir=self._scratch)) / Path(profile).name
        shutil.copyfile(profile, copy)
        upstream = msgspec.structs.replace(config.upstream, profile=str(copy))
        return msgspec.structs.replace(config, upstream=upstream)

    def _tell_all(self, order: Stop) -> None:
        for child in self._children.values():
            child.tell(order)


def _with_ports(config: Config, listen: str, admin_listen: str) -> Config:
    server = msgspec.structs.replace(config.server, listen=listen, admin_listen=admin_listen)
    return msgspec.structs.replace(config, server=server)


def _failed(reply: Answer, how: str) -> Exception:
    if isinstance(reply, Refused):
        return ConfigError(reply.why) if reply.in_config else WorkersFailed(reply.why)
    return WorkersFailed(f"a worker {how}")


def _named(children: Iterable[Child]) -> str:
    return ", ".join(f"process {child.pid}" for child in children)


def _said(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"

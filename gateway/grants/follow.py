"""Follows the store's changes: what changed is forgotten, what is open of it is looked at again, never backwards.

The truth is the store's count of its changes; what a push says is only that it is time to read them. So a hint that is
late, doubled, forged or lost does no harm: the changes are read each second in any case, and four times as often while
there is no push. While they cannot be read, facts go on growing old, and what is open is looked at when its facts are.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from gateway.clock import Ticks
from gateway.grants.facts import FactCache
from gateway.grants.levels import levels
from gateway.grants.mark import RECOVERY_LEAP, Mark
from gateway.grants.together import Parts
from gateway.pauses import Pauses
from gateway.proxy.live import Exchange, Live
from gateway.stores.store import Changes, Push, Store, StoreChange, StoreError
from gateway.tasks import Tasks
from policy.model import AccessRequest, AccountId, ActorId, AssumptionId, DenyReason, Facts

log = logging.getLogger(__name__)

_BEAT_SECONDS = 0.25
_SILENCE_SECONDS = 1.0
_READ_SECONDS = 1.0
_MARK_SECONDS = 1.0
# The first change behind a silence is read at once. A flood is read in a hundred pieces a second, and of each what
# somebody here has to do with is applied in slices, between other people's turns.
_REST_SECONDS = 0.01
_SLICE = 64
# Facts that grow old one shortly behind the other are looked at together.
_LEAST_PAUSE_SECONDS = 0.02
_LEAP = RECOVERY_LEAP // 2
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


class Follower:
    """Nothing is believed of the store until it has said where it is, and nothing of an older copy of it."""

    def __init__(
        self,
        store: Store,
        *,
        facts: FactCache,
        live: Live,
        mark: Mark,
        ticks: Ticks,
        ttl_seconds: float,
        read_keys: Callable[[], Awaitable[None]],
    ) -> None:
        """Tell `facts` and `live` of the changes of `store`; facts are good for `ttl_seconds` of `ticks`.

        `read_keys` is called when the signing keys may have changed, and raises StoreError.
        """
        self._store = store
        self._read_keys = read_keys
        self._facts = facts
        self._live = live
        self._mark = mark
        self._ticks = ticks
        self._ttl = ttl_seconds
        self._beaten_at = ticks()
        self._listening = False
        self._losses = 0
        """How often that ended, or could not begin."""
        self._beats_next = 0.0
        """When, in seconds of `ticks`."""
        self._beat_sooner = asyncio.Event()
        live.begun = self._begun_with
        self._begun = False
        self._stale = False
        self._unsure: dict[Exchange, None] = {}
        """What is open and has to be looked at, in the order in which that was found."""
        self._something_unsure = asyncio.Event()
        facts.halt(DenyReason.STORE_UNAVAILABLE)

    @property
    def is_lost(self) -> bool:
        """Tell whether changes are noticed as facts grow old only, and not as they are made."""
        return self._losses > 0 and not self._listening

    @property
    def losses(self) -> int:
        """Count how often that began."""
        return self._losses

    @property
    def position(self) -> int:
        """Return the store's highest count of its changes that was seen here."""
        return self._mark.highest

    @property
    def is_stale(self) -> bool:
        """Tell whether the store is an older copy of itself."""
        return self._stale

    def start(self, tasks: Tasks) -> None:
        """Follow until `tasks` end."""
        tasks.start(self._follow(), name="follow the store")
        tasks.start(self._look(), name="look at what is open")
        tasks.start(self._beat_on(), name="watch over the push")
        tasks.start(self._keep_mark(), name="keep the highest position")

    async def begin(self) -> None:
        """Read where the store is; raises StoreError, and then the first change that is heard of does it."""
        await self.hear()

    async def hear(self) -> int:
        """Read what has changed and apply it; returns how many changes there were. Raises StoreError."""
        before = self._mark.place
        found = await self._read()
        is_older = found.position < before.position or before.is_of_another_history(found.tag)
        if not is_older:
            await self._hear_of_keys(found.changes)
        if is_older:
            self._turn_back(found.position)
        elif self._stale:
            if found.position > before.position:
                self._go_on(found)
        else:
            await self._apply(found.changes)
            self._mark.raise_to(found.position, found.newest_tag)
            if not self._begun:
                self._begun = True
                self._facts.halt(None)
        return found.position - before.position

    async def _hear_of_keys(self, changes: Sequence[StoreChange] | None) -> None:
        if changes is not None and all(change.account or change.assumption or change.staff for change in changes):
            return
        try:
            await self._read_keys()
        except StoreError:
            # Which tokens count is not known.
            self._begun = False
            self._facts.halt(DenyReason.STORE_UNAVAILABLE)
            raise

    def beat(self) -> float:
        """Look at what is open if this process stood still for as long as facts last, or, while no change is heard of,
        at what is decided on facts that are too old, or are not the newest; return in how many seconds to come again.

        Facts need nothing done then: they grow old while we stand still.
        """
        now = self._ticks()
        stood_still = now - self._beaten_at > self._ttl
        self._beaten_at = now
        self._beats_next = now + _BEAT_SECONDS
        if stood_still:
            self.look_at_all()
        elif not self._listening:
            self._suspect_old_ones()
        return max(self._beats_next - now, _LEAST_PAUSE_SECONDS)

    def look_at_all(self) -> None:
        """Look at everything open, and soon: maybe nobody did for a long time."""
        self._suspect(self._live.all())

    async def look(self) -> None:
        """Decide anew about all that has to be looked at."""
        unsure, self._unsure = list(self._unsure), {}
        await self._live.look_again(unsure, self._load)

    async def _follow(self) -> None:
        pauses = Pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while True:
            with self._losing():
                async with self._store.listen() as push:
                    await self.hear()
                    self._found()
                    pauses.reset()
                    await self._hear_on(push)
            await self._rest(pauses.next())

    async def _rest(self, seconds: float) -> None:
        """Wait, and read the changes meanwhile though nobody says when: only the channel may be lost."""
        while seconds > 0:
            await asyncio.sleep(min(seconds, _BEAT_SECONDS))
            seconds -= _BEAT_SECONDS
            with self._losing():
                await self.hear()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """Have what fails end the listening, and nothing else: another change must be heard of."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - whatever it was, it must not be the last change that is heard of
            self._lose(exc)

    async def _hear_on(self, push: Push) -> None:
        waiting = asyncio.ensure_future(push.wait())
        try:
            while True:
                await asyncio.wait({waiting}, timeout=_SILENCE_SECONDS)
                if waiting.done():
                    waiting.result()
                    # Before the changes are read, so that what comes meanwhile is a hint to read once more.
                    waiting = asyncio.ensure_future(push.wait())
                await self.hear()
                await asyncio.sleep(_REST_SECONDS)
        finally:
            waiting.cancel()
            # Not awaited itself: its end must not be taken for ours, nor ours for its.
            await asyncio.wait({waiting})
            if not waiting.cancelled():
                waiting.exception()

    async def _read(self) -> Changes:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await self._store.read_changes(self._mark.highest)
        except TimeoutError as exc:
            raise StoreError("the store does not say what has changed") from exc

    async def _apply(self, changes: Sequence[StoreChange] | None) -> None:
        if changes is None:
            # Maybe the operator has acted: what was seen of single accounts before counts no more.
            self._facts.believe_anew()
            self._suspect(self._live.all())
            return
        # INVARIANT: the position goes up only behind the last of them, so that none is left out if this is cut short.
        if any(change.account is None and change.assumption is None and change.staff is None for change in changes):
            self._forget_everything()
        for level in levels(self._facts, self._live):
            names = {level.name(change) for change in changes}
            names.discard(None)
            for number, name in enumerate(level.known(names) | level.busy(names), 1):
                level.forget(name)
                self._suspect(level.open_of(name))
                if not number % _SLICE:
                    await asyncio.sleep(0)

    def _forget_everything(self) -> None:
        self._facts.forget_all()
        self._suspect(self._live.all())

    def _turn_back(self, position: int) -> None:
        if not self._stale:
            log.error(
                "the store is an older copy of itself: it counts %d changes, and %d were seen before%s. Staff are kept"
                " out until you end what its past may have brought back: run `locum recover`",
                position,
                self._mark.highest,
                "" if position < self._mark.highest else ", of which it does not know the last",
            )
            # It goes on counting, and would be believed again once it has made as many other changes. No copy leaps so
            # far by itself as the operator's command does. Once is enough, whoever finds it again after a restart.
            if self._mark.highest - position < _LEAP // 2:
                self._mark.raise_to(self._mark.highest + _LEAP)
            self._stale = True
            self._facts.halt(DenyReason.STORE_STALE)
            self._suspect(self._live.all())

    def _go_on(self, found: Changes) -> None:
        log.warning("the operator has ended what the store's past may have brought back, so it is believed again")
        self._stale, self._begun = False, True
        if found.changes is None:
            self._facts.believe_anew()
        self._mark.raise_to(found.position, found.newest_tag)
        self._facts.halt(None)

    def _found(self) -> None:
        if self.is_lost:
            log.info("changes of the store are heard of again")
            # Another server may have taken over meanwhile, and what it has not got was never told as a change.
            self._forget_everything()
        self._listening = True

    def _lose(self, error: Exception) -> None:
        if not isinstance(error, StoreError):
            log.error("a change of the store could not be followed, and is tried again", exc_info=error)
        if not self.is_lost:
            self._losses += 1
            log.warning("no change of the store is heard of until facts grow old; listening again: %s", error)
        self._listening = False
        self._beat_sooner.set()

    def _suspect_old_ones(self) -> None:
        for account, assumption, actor, exchanges in self._live.by_assumption():
            entry = self._facts.entry(Parts(account, assumption, actor))
            if entry is None:
                self._suspect(exchanges)
            else:
                self._suspect([exchange for exchange in exchanges if exchange.facts is not entry.facts])
                self._beats_next = min(self._beats_next, entry.until)

    def _begun_with(self, account: AccountId, assumption: AssumptionId, actor: ActorId) -> None:
        # Its facts may grow old before those of all that was open at the last beat.
        if not self._listening:
            entry = self._facts.entry(Parts(account, assumption, actor))
            if entry is None or entry.until < self._beats_next:
                self._beat_sooner.set()

    def _suspect(self, exchanges: Iterable[Exchange]) -> None:
        self._unsure.update(dict.fromkeys(exchanges))
        if self._unsure:
            self._something_unsure.set()

    async def _look(self) -> None:
        while True:
            await self._something_unsure.wait()
            self._something_unsure.clear()
            try:
                await self.look()
            except Exception:
                log.exception("what is open could not be looked at")

    async def _load(self, request: AccessRequest) -> Facts:
        kept = self._facts.at_hand(request.account, request.claims)
        if kept is not None:
            return kept
        loaded = await self._facts.of_request(request.account, request.claims)
        # The very ones that are at hand from now on, by which it is known how old they are.
        return self._facts.at_hand(request.account, request.claims) or loaded

    async def _beat_on(self) -> None:
        while True:
            pause = self.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._beat_sooner.wait()
                self._beat_sooner.clear()
                await asyncio.sleep(_LEAST_PAUSE_SECONDS)

    async def _keep_mark(self) -> None:
        # By itself, because a disk may hang.
        while True:
            await asyncio.sleep(_MARK_SECONDS)
            if not self._mark.is_written:
                await self._mark.keep()

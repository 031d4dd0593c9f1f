"""The store and the journal, which may be opened only after the start, so that customers are served meanwhile.

Until then what stands in for them fails every call, and so staff are refused: nothing can be known of them or recorded.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from gateway.audit.completion import Completion
from gateway.audit.evidence.checkpoint import NoteSigner
from gateway.audit.log import AuditLog, Instead, JournalBusy, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.journal import Journal
from gateway.clock import Clock, Ticks
from gateway.config.model import Config
from gateway.data_directory import in_turn
from gateway.files import write_new
from gateway.stores.opening import one_at_a_time, open_store
from gateway.stores.store import Store, StoreError
from gateway.tokens.keys import KeyRing, open_keys, read_terms

log = logging.getLogger(__name__)

START_SECONDS = 5.0
"""So long customers may wait for a store of which nobody knows whether it will answer."""
_PATIENT_SECONDS = 60.0
"""And so long a try may take while they are served: longer than a store takes to say that it cannot."""
_BUSY_SECONDS = 2.0
"""And so long for a journal that another process has: a command that rewrites what was written last."""
_AGAIN_SECONDS = 0.05
_UNOPENED = "the journal has not been opened yet, because its key is in the store or another process has it"


class LateStore:
    """Implements Store by handing every call on; before there is a store to hand it to, each raises StoreError."""

    def __init__(self) -> None:
        """Stand for nothing yet."""
        self.opened: Store | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or not hasattr(Store, name):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            if self.opened is None:
                raise StoreError("the store has not been opened yet")
            return getattr(self.opened, name)(*args, **options)

        return call


class LateJournal(AuditLog):
    """Implements AuditLog likewise; before there is a journal, nothing can be recorded."""

    def __init__(self) -> None:
        """Stand for nothing yet."""
        self.opened: Journal | None = None

    @property
    def healthy(self) -> bool:
        return self.opened is not None and self.opened.healthy

    @property
    def size(self) -> int:
        """How many records there are."""
        return 0 if self.opened is None else self.opened.size

    @property
    def failures(self) -> int:
        """How often writing has failed."""
        return 0 if self.opened is None else self.opened.failures

    @property
    def notes_waiting(self) -> int:
        """How many notes are kept in memory."""
        return 0 if self.opened is None else self.opened.notes_waiting

    @property
    def notes_lost(self) -> int:
        """How many were more than could be kept."""
        return 0 if self.opened is None else self.opened.notes_lost

    async def append(self, record: Record, *, durable: bool = False, instead: Instead | None = None) -> int:
        if self.opened is None:
            raise JournalError(_UNOPENED)
        return await self.opened.append(record, durable=durable, instead=instead)

    def note(self, note: Record | Completion) -> None:
        if self.opened is None:
            raise JournalError(_UNOPENED)  # a bug: nothing can have been recorded that there is anything to say of
        self.opened.note(note)

    async def checkpoint(self) -> None:
        """Sign what there is; raises JournalError."""
        if self.opened is None:
            raise JournalError(_UNOPENED)
        await self.opened.checkpoint()

    async def rotate(self) -> None:
        """Go on in a new segment; raises JournalError."""
        if self.opened is None:
            raise JournalError(_UNOPENED)
        await self.opened.rotate()

    async def close(self) -> None:
        if self.opened is not None:
            await self.opened.close()


class Late:
    """The store and the journal, which may be opened only after the start."""

    def __init__(self, config: Config, *, origin: str, shared: bool, clock: Clock, ticks: Ticks) -> None:
        """Open nothing yet; `origin` and `shared` as in `gateway.state.Post`."""
        self.is_open = False
        self._config = config
        self._origin = origin
        self._shared = shared
        self._clock = clock
        self._ticks = ticks
        self._store, self._journal = LateStore(), LateJournal()
        self._stack = AsyncExitStack()

    @property
    def store(self) -> Store:
        """The store itself once it is open, and else what stands in for it."""
        return self._store.opened or cast("Store", self._store)

    @property
    def journal(self) -> Journal | LateJournal:
        """The journal, likewise."""
        return self._journal.opened or self._journal

    async def try_to_open(self, *, seconds: float = _PATIENT_SECONDS) -> None:
        """Open both, or log why that cannot be within `seconds`; raises ConfigError, JournalError, OSError.

        Logged is that the store does not open, and that another process has the journal; raised is what else is wrong.
        """
        try:
            async with AsyncExitStack() as attempt:
                self._store.opened, self._journal.opened = await self._open(attempt, seconds)
                self._stack = attempt.pop_all()
        except StoreError as exc:
            log.error("the store cannot be opened: staff are kept out, customers are served; tried again: %s", exc)  # noqa: TRY400 - the operator's
        except JournalBusy as exc:
            log.error("the journal cannot be opened: staff are kept out, customers are served; tried again: %s", exc)  # noqa: TRY400 - the operator's
        else:
            self.is_open = True

    async def close(self) -> None:
        """Let go of what is open."""
        await self._stack.aclose()

    async def _open(self, stack: AsyncExitStack, seconds: float) -> tuple[Store, Journal]:
        config = self._config
        if self._shared and config.journal_key.exists():
            async with _in_time(seconds):
                store, keys = await _open_store(stack, config, self._clock)
        else:
            # If nobody could prepare anything for the workers, each of them tries, and one goes first.
            store, keys = await prepare(stack, config, self._clock, seconds=seconds)
        journal = await self._open_journal(NoteSigner(keys.journal.private, name=self._origin))
        stack.push_async_callback(journal.close)
        return store, journal

    async def _open_journal(self, signer: NoteSigner) -> Journal:
        """Open it, and wait a little while another process has it; raises JournalBusy, JournalError."""
        config = self._config
        until = asyncio.get_running_loop().time() + _BUSY_SECONDS
        while True:
            try:
                return await Journal.open(
                    config.journal_directory,
                    origin=self._origin,
                    clock=self._clock,
                    ticks=self._ticks,
                    signer=signer,
                    segment_bytes=config.audit.segment_mib * 1024 * 1024,
                    checkpoint_seconds=config.audit.checkpoint_seconds,
                    patience_seconds=config.audit.patience_seconds,
                    always_durable=config.audit.durability == "power",
                )
            except JournalBusy:
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)


async def prepare(
    stack: AsyncExitStack, config: Config, clock: Clock, *, seconds: float = START_SECONDS
) -> tuple[Store, KeyRing]:
    """Open the store, and make once what is not there yet: its directory, its shape, the keys, the journal's key.

    Raises ConfigError, OSError, and StoreError, also if the store takes longer than `seconds`.
    """
    async with _in_time(seconds), in_turn(Path(config.server.data_directory)) as hand:
        store, keys = await _open_store(stack, config, clock)
        await hand.run(partial(write_new, config.journal_key, keys.journal.public_pem()))
    return store, keys


@asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise StoreError(
            f"it does not open within {seconds:g} s: check that it answers, and that nobody keeps it locked"
        ) from exc


async def _open_store(stack: AsyncExitStack, config: Config, clock: Clock) -> tuple[Store, KeyRing]:
    store = await open_store(config)
    stack.push_async_callback(store.close)
    async with one_at_a_time(store):
        keys = await open_keys(store, read_terms(config), now=clock(), read_seconds=None)
    return store, keys

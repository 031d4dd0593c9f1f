"""What a page shows of files: read by a thread, and for nobody longer than they can wait."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.audit.hand import Hand

T = TypeVar("T")


class FromDisk(Generic[T]):
    """Reads one thing for whoever asks; however many ask at once, the disk is asked once."""

    def __init__(self, ask: Callable[[], T], *, hand: Hand, patience_seconds: float) -> None:
        """`ask` is called by the `hand`'s thread; nobody waits longer than `patience_seconds` for it."""
        self._ask = ask
        self._hand = hand
        self._patience = patience_seconds
        self._reading: asyncio.Future[T] | None = None

    async def read(self) -> T | None:
        """Return what it is now; None if the disk does not say in time, or cannot be read."""
        if self._reading is None:
            self._reading = self._hand.run(self._ask)
            self._reading.add_done_callback(self._have_read)
        reading = self._reading
        await asyncio.wait([reading], timeout=self._patience)
        if not reading.done() or reading.cancelled() or reading.exception() is not None:
            return None
        return reading.result()

    def _have_read(self, reading: asyncio.Future[T]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # which whoever asked is told of, if anybody still waits

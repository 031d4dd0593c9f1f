"""Asking whoever writes an origin to go on in a new segment, so that what there is can be rewritten.

Who asks puts an empty file `<origin>.rotate` beside the segments; who writes the origin takes it away once that is
done.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from gateway.audit.hand import Hand
from gateway.audit.log import JournalError
from gateway.audit.removal.rewriting import is_written

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0


class Rotates(Protocol):
    """A journal that can go on in a new segment."""

    async def rotate(self) -> None:
        """See `gateway.audit.writing.journal.Journal.rotate`."""


def ask_to_rotate(directory: Path, origins: Iterable[str]) -> list[Path]:
    """Ask the writers of these origins, and return what each takes away when it has done it; raises OSError."""
    marks = [directory / f"{origin}.rotate" for origin in origins]
    for mark in marks:
        mark.touch(mode=0o600)
    return marks


async def have_rotated(directory: Path, journal: Rotates, origins: Iterable[str], *, own: str, seconds: float) -> None:
    """Ask those of these origins that are written, `journal` being the one of `own`; waits so long at the most.

    Raises JournalError, OSError.
    """
    others = []
    for origin in origins:
        if origin == own:
            await journal.rotate()
        elif is_written(directory, origin):
            others.append(origin)
    marks = ask_to_rotate(directory, others)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while any(mark.exists() for mark in marks):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(_POLL_SECONDS)
    for mark in marks:
        mark.unlink(missing_ok=True)


async def keep_rotating(directory: Path, journal: Rotates, hand: Hand, *, origin: str) -> None:
    """Do what is asked of the writer of `origin`; runs until cancelled. `hand` waits for the disk."""
    mark = directory / f"{origin}.rotate"
    while True:
        if await hand.run(mark.exists):
            try:
                await journal.rotate()
                await hand.run(lambda: mark.unlink(missing_ok=True))
            except (JournalError, OSError) as error:
                log.warning("the journal of %s cannot go on in a new segment: %s", origin, error)
        await asyncio.sleep(_LOOK_SECONDS)

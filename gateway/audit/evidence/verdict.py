"""What came of the last time that a gateway verified its own journal, kept for whoever asks."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from gateway.files import write_new

DIRECTORY: Final = "verified"
"""In the data directory: where it is."""
_FILE = "verdict.json"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that verifies says of a journal."""

    count: int
    """How much is not as it has to be."""
    first: str = ""
    covered: Mapping[str, int] = {}
    """By origin, how many of its records checkpoints vouch for that fit."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and when it was begun to be found: what was recorded later is not in it."""

    at: datetime
    verdict: Verdict
    most: Mapping[str, int] = {}
    """By origin, the most of its records that any verdict up to this one has vouched for."""

    @property
    def lacking(self) -> list[str]:
        """The origins of which this verdict vouches for less than one before it: as if they were gone, or cut off."""
        return sorted(origin for origin, most in self.most.items() if self.verdict.covered.get(origin, 0) < most)


def weigh(verdict: Verdict, *, at: datetime, before: Kept | None) -> Kept:
    """Return a verdict with what is known of those before it."""
    most = dict(verdict.covered)
    for known in (before.most, before.verdict.covered) if before is not None else ():
        for origin, count in known.items():
            most[origin] = max(count, most.get(origin, 0))
    return Kept(at=at, verdict=verdict, most=most)


def keep(directory: Path, kept: Kept) -> None:
    """Put it in the place of the one before, whole; raises OSError."""
    write_new(directory / _FILE, msgspec.json.encode(kept), mode=0o600, fsync=os.fsync)


def read_kept(directory: Path) -> Kept | None:
    """Return the last one, None if there is none that can be read."""
    with suppress(OSError, msgspec.MsgspecError):
        kept = msgspec.json.decode((directory / _FILE).read_bytes(), type=Kept)
        if kept.at.tzinfo is not None:
            return kept
    return None

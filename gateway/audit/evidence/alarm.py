"""What was said of broken evidence and not taken back yet: each who finds such a thing has a file beside the verdict.

So it is known over starts, and by every process, whether there is anything to take back.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from gateway.files import write_new

Finder = Literal["verifying", "reading", "witness"]
"""Who: the process that verifies the journal, whoever reads it to tell people, or somebody who holds checkpoints."""
FINDERS: Final[tuple[Finder, ...]] = get_args(Finder)


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """When something was said, for the first and for the last time since it was taken back; both are aware."""

    since: datetime
    last: datetime


def raise_alarm(directory: Path, finder: Finder, *, at: datetime) -> None:
    """Keep that something is said now, `at`; raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = _read(directory, finder)
    alarm = Alarm(since=known.since if known else at, last=max(known.last, at) if known else at)
    write_new(_path(directory, finder), msgspec.json.encode(alarm), mode=0o600, fsync=os.fsync)


def standing(directory: Path) -> dict[Finder, Alarm]:
    """Return what is not taken back; of a file that cannot be read its time counts, for something was said."""
    return {finder: alarm for finder in FINDERS if (alarm := _read(directory, finder)) is not None}


def take_back(directory: Path, alarms: Mapping[Finder, Alarm]) -> None:
    """Forget these, but not what was said since they were read; raises OSError."""
    for finder, alarm in alarms.items():
        if _read(directory, finder) == alarm:
            _path(directory, finder).unlink(missing_ok=True)


def _read(directory: Path, finder: Finder) -> Alarm | None:
    path = _path(directory, finder)
    with suppress(OSError, msgspec.MsgspecError):
        alarm = msgspec.json.decode(path.read_bytes(), type=Alarm)
        if alarm.since.tzinfo is not None and alarm.last.tzinfo is not None:
            return alarm
    with suppress(OSError):
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return Alarm(since=at, last=at)
    return None


def _path(directory: Path, finder: Finder) -> Path:
    return directory / f"said-by-{finder}.json"

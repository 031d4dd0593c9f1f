"""Small journals for tests to attack, with a clock that ticks once a record."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.completion import Completion, Ended
from gateway.audit.evidence.checkpoint import NoteSigner
from gateway.audit.evidence.verify import verify
from gateway.audit.record import Record
from gateway.audit.search import read
from gateway.audit.writing.journal import Journal
from policy.model import AccountId, AssumptionId

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ENTRY = Record(kind="decision", decision="allow")


class SecondHand:
    """A wall clock that moves one second each time it is read."""

    def __init__(self, start: datetime = NOON) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Ticks:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def open_journal(directory: Path, *, origin: str = "node", signed: bool = True, **options: Any) -> Journal:
    signer = NoteSigner(KEY, name=origin) if signed else None
    options.setdefault("clock", SecondHand())
    return await Journal.open(directory, origin=origin, signer=signer, **options)


async def write_journal(directory: Path, count: int, **options: Any) -> None:
    """Write `count` records at once and close: the only checkpoint covers them all."""
    journal = await open_journal(directory, **options)
    await asyncio.gather(*(journal.append(ENTRY) for _ in range(count)))
    await journal.close()


def only_segment(directory: Path) -> Path:
    (path,) = directory.glob("*.jsonl")
    return path


def seqs_of(directory: Path) -> list[int]:
    """Return the number of each record, in the order of reading."""
    return [entry["seq"] for entry in read(directory)]


def reasons_of(directory: Path) -> list[str | None]:
    """Return the reason of each record, likewise."""
    return [entry.get("reason") for entry in read(directory)]


def end(of: int = 0, ended: Ended = "complete") -> Completion:
    """Return how an exchange ended."""
    return Completion(
        kind="completion",
        account=AccountId("acme"),
        assumption=AssumptionId("as_1"),
        completes=of,
        request_id=f"req_{of}",
        duration_us=1,
        ended=ended,
    )


def ends_of(directory: Path) -> list[tuple[int, str]]:
    """Return which decisions have a completion, and how each ended, in the order of reading."""
    return [(entry["completes"], entry["ended"]) for entry in read(directory) if entry["kind"] == "completion"]


def check(directory: Path) -> None:
    """Assert that all of it verifies."""
    report = verify(directory, public_key=KEY.public_key())
    assert report.ok, report.findings

"""Small journals with people in them, and what takes them out again, for tests about retention and erasure."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from gateway.audit.record import Record, name_actor
from gateway.audit.removal.erasure import Erased, Erasure, Whose
from gateway.audit.removal.retention import Keeping, Removal, Retention, Terms
from gateway.audit.removal.rewriting import Disk
from gateway.audit.removal.rotating import have_rotated
from gateway.audit.segment import list_segments
from policy.model import AccountId, ActorId, AgentId, AssumptionId
from tests.journals import NOON, SecondHand, open_journal

ISSUER = "https://idp.vendor.example"
STAFF = ("dana.k", "eve")
"""The dot, so that nothing random in base64 reads like a name that has to be gone."""
ACCOUNTS = ("acme", "beta")
EACH = 8
"""Records of a day, and so of a segment."""


def a_decision(number: int, *, day: int = 0) -> Record:
    """Return one of a day: two staff members, each in an account of their own."""
    who = number % 2
    return Record(
        kind="decision",
        decision="allow",
        account=AccountId(ACCOUNTS[who]),
        actor=name_actor(ActorId(issuer=ISSUER, subject=STAFF[who]), STAFF[who].title()),
        assumption=AssumptionId(f"as_{day}_{who}"),
        client_ip="192.0.2.7",
        granted_by=f"owner@{ACCOUNTS[who]}.example",
        path=f"/tickets/{number}",
        stated_reason="cannot reproduce",
        subject=AgentId(f"maria-of-{ACCOUNTS[who]}"),
        ticket=f"SUP-{day}{who}",
    )


async def write_days(directory: Path, days: Iterable[int], *, origin: str = "gateway") -> None:
    """Write a segment for each day after NOON's."""
    for day in days:
        journal = await open_journal(directory, origin=origin, clock=SecondHand(NOON + timedelta(days=day)))
        await asyncio.gather(*(journal.append(a_decision(number, day=day)) for number in range(EACH)))
        await journal.close()


class Office:
    """Whoever takes something out of a journal: an origin of its own, and a list of holds."""

    def __init__(self, directory: Path, *, day: int = 100, disk: Disk | None = None) -> None:
        self.directory = directory
        self.held: set[str] = set()
        self.now: datetime = NOON + timedelta(days=day)
        self.disk = disk or Disk()

    async def __aenter__(self) -> Self:
        self.journal = await open_journal(self.directory, origin="cli", clock=SecondHand(self.now))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.close()

    async def erase(
        self, whose: Whose, *, account: str | None = None, seconds: float = 0.2, looks_for: str | None = None
    ) -> Erased:
        async def close() -> None:
            origins = list_segments(self.directory)
            await have_rotated(self.directory, self.journal, origins, own="cli", seconds=seconds)

        erasure = Erasure(directory=self.directory, recorder=self.journal, held=self._held, close=close, disk=self.disk)
        named = None if account is None else AccountId(account)
        return await erasure.erase(whose, account=named, by="pat", why="asked for", looks_for=looks_for)

    def retention(self, terms: Terms) -> Retention:
        return Retention(
            directory=self.directory,
            terms=terms,
            origin="cli",
            recorder=self.journal,
            held=self._held,
            run=self._run,
            disk=self.disk,
        )

    async def retain(self, *, days: int = 0, size: int = 0, **accounts: Keeping) -> list[Removal]:
        terms = Terms(usual=Keeping(days=days, bytes=size), accounts=accounts)
        return await self.retention(terms).retain(now=self.now)

    async def _held(self) -> frozenset[str]:
        return frozenset(self.held)

    async def _run(self, work):
        return work()

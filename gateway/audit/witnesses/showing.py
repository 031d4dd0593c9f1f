"""Shows the newest checkpoint of every origin to each witness: in turn, again until it is taken, never an older one.

One process of a machine does it for all, also for those that have ended: whoever has the lock in the journal's
directory. It works on files alone, so that no request meets it, and no witness keeps another waiting. What a witness
has taken stands in `witnesses/<its name>/<origin>` of that directory, with its cosignature if it made one.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, find_origins, open_note, read_newest
from gateway.audit.hand import Hand
from gateway.audit.witnesses.target import Target, WitnessConflict, WitnessFailed
from gateway.clock import Ticks
from gateway.files import write_new
from gateway.locks import Claim, Lock, claim
from gateway.pauses import Pauses
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""After the first failure; each further one takes longer, and so does waiting for the lock."""
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Tally:
    """How it goes with one witness, for monitoring."""

    taken: int = 0
    """Checkpoints that it has taken."""
    failures: int = 0
    """Attempts that failed, conflicts among them."""
    conflicts: int = 0
    """Attempts at which it knew of another history, or at which ours had gone back."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    """By origin, the tick since which there is a checkpoint that it has not taken."""

    def lag_seconds(self, now: float) -> float:
        """Return for how long the checkpoint that has waited longest has waited."""
        return max((now - since for since in self.waiting_since.values()), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One witness as the operator has named it."""

    name: str
    open: Callable[[Hand], Target]
    every_seconds: float
    """It is not shown more often than this."""


class Witnesses:
    """Everybody to whom checkpoints are shown."""

    def __init__(
        self,
        directory: Path,
        witnesses: Sequence[Shown],
        *,
        ticks: Ticks,
        pause_seconds: float = PAUSE_SECONDS,
        claim: Claim = claim,
    ) -> None:
        """`directory` is the journal's; `run` does the rest."""
        self.tallies: Mapping[str, Tally] = {witness.name: Tally() for witness in witnesses}
        """By name; of the processes of a machine only one has numbers other than 0."""
        self.ticks = ticks
        """The clock of the tallies."""
        self._directory = directory
        self._witnesses = witnesses
        self._pause = pause_seconds
        self._lock = Lock(directory / "witnesses.lock", claim=claim)

    async def run(self) -> None:
        """Show them until cancelled; does nothing while another process of this machine does."""
        if not self._witnesses:
            return
        hand, tasks = Hand("witnesses"), Tasks()
        try:
            while not await hand.run(self._take_turn):  # noqa: ASYNC110 - another process has it
                await asyncio.sleep(self._pause)
            for witness in self._witnesses:
                tasks.start(self._show(witness), name=f"show checkpoints to {witness.name}")
            await asyncio.Event().wait()
        finally:
            await tasks.close()
            hand.stop(self._lock.release)

    def _take_turn(self) -> bool:
        """Return whether this process shows them; not if another does, or there is no journal yet; for the hand."""
        with suppress(OSError):
            return self._lock.take()
        return False

    async def _show(self, witness: Shown) -> None:
        hand = Hand(f"witness-{witness.name}")
        showing = _Showing(self._directory, witness, hand, tally=self.tallies[witness.name], ticks=self.ticks)
        try:
            await showing.run(Pauses(self._pause, _LONGEST_PAUSE_SECONDS))
        finally:
            hand.stop()
            await showing.close()


class _Showing:
    """What one witness has taken, and what it has not."""

    def __init__(self, directory: Path, witness: Shown, hand: Hand, *, tally: Tally, ticks: Ticks) -> None:
        self._directory = directory
        self._kept = directory / "witnesses" / witness.name
        self._witness = witness
        self._target = witness.open(hand)
        self._hand = hand
        self._tally = tally
        self._ticks = ticks
        self._taken: dict[str, Checkpoint] = {}
        self._silent = False

    async def close(self) -> None:
        await self._target.close()

    async def run(self, pauses: Pauses) -> None:
        while True:
            if await self._show_all():
                self._silent = False
                pauses.reset()
                await asyncio.sleep(self._witness.every_seconds)
                continue
            await asyncio.sleep(max(self._witness.every_seconds, pauses.next()))

    async def _show_all(self) -> bool:
        """Show what is new; return whether all of it was taken."""
        try:
            newest = await self._hand.run(self._read_newest)
        except OSError as error:
            self._failed(f"the checkpoints cannot be read: {error.strerror}")
            return False
        waiting = []
        for note, checkpoint in newest:
            if self._taken.get(checkpoint.origin) == checkpoint:
                self._tally.waiting_since.pop(checkpoint.origin, None)
            else:
                self._tally.waiting_since.setdefault(checkpoint.origin, self._ticks())
                waiting.append((note, checkpoint))
        # One origin's conflict keeps no other from being shown.
        return all([await self._show_one(note, checkpoint) for note, checkpoint in waiting])

    async def _show_one(self, note: bytes, checkpoint: Checkpoint) -> bool:
        origin, taken = checkpoint.origin, self._taken.get(checkpoint.origin)
        if taken is not None and taken.size >= checkpoint.size:
            self._alarm(
                f"it has taken {taken.size} records of `{origin}`; here are {checkpoint.size}, and not the same"
            )
            return False
        try:
            kept = await self._target.show(note, checkpoint)
            await self._hand.run(lambda: self._keep(origin, kept))
        except WitnessConflict as error:
            self._alarm(str(error))
            return False
        except WitnessFailed as error:
            self._failed(str(error))
            return False
        except OSError as error:
            self._failed(f"what it has taken cannot be kept: {error.strerror}")
            return False
        self._taken[origin] = checkpoint
        self._tally.taken += 1
        self._tally.waiting_since.pop(origin, None)
        return True

    def _alarm(self, why: str) -> None:
        self._tally.failures += 1
        self._tally.conflicts += 1
        log.error("the witness %s: %s: verify the journal", self._witness.name, why)

    def _failed(self, why: str) -> None:
        self._tally.failures += 1
        if not self._silent:
            # Once, until it works again: the metrics tell the rest.
            self._silent = True
            log.warning("the witness %s: %s", self._witness.name, why)

    def _read_newest(self) -> list[tuple[bytes, Checkpoint]]:
        """Return the newest checkpoint of each origin; for the hand, as is what follows."""
        found = []
        for origin in find_origins(self._directory):
            if origin not in self._taken:
                self._remember(origin)
            note = read_newest(self._directory, origin=origin)
            with suppress(CheckpointError):
                if note is not None and (checkpoint := open_note(note, key=None)).origin == origin:
                    found.append((note, checkpoint))
        return found

    def _remember(self, origin: str) -> None:
        with suppress(FileNotFoundError, CheckpointError):
            self._taken[origin] = open_note((self._kept / origin).read_bytes(), key=None)

    def _keep(self, origin: str, note: bytes) -> None:
        self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(self._kept / origin, note, mode=0o600, fsync=os.fsync)

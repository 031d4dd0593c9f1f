"""What brings notices to somebody, and what can come of that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.stores.outbox import Notice, Target


class NotNow(Exception):
    """Theirs, and it may pass: all of it is tried again later.

    The message is for the log: it names no address, no credential and nothing that the other side has said.
    """


class NotThis(Exception):
    """Theirs, and about what is said: they do not take these words, and may take others.

    The message is for the log, as that of NotNow.
    """

    def __init__(self, why: str, *, for_good: bool) -> None:
        super().__init__(why)
        self.for_good = for_good
        """Whether it is of no use to try the same again."""


class Never(Exception):
    """Theirs: this recipient does not take it, however often."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Notices that go to one recipient in one piece, and their order there."""

    target: Target
    notices: Sequence[Notice]
    is_bare: bool = False
    """Whether it is told without the words of strangers, of whom one could see to it that nobody takes it."""


class Courier(Protocol):
    """Brings parcels of one channel."""

    most: int
    """How many notices one parcel may hold."""
    pause_seconds: float
    """So long nothing more goes to whom it has just brought something."""

    def bring(self, parcel: Parcel) -> None:
        """Return once the other side has taken it. Called on a thread that may be kept.

        Raises NotNow, NotThis or Never.
        """

"""What a sink sends through, and what can come of that."""

from dataclasses import dataclass
from typing import Final, Protocol

from gateway.audit.segment import Entry

NOT_AS_IT_IS: Final = frozenset({400, 413, 422})
"""By these statuses a receiver refuses records as they are, however often they come."""


class Unreachable(Exception):
    """Theirs, and it may pass: nobody answers, or they take nothing now. All of it is sent again later.

    The message is for the log: it names no address, no credential and nothing that the other side has said.
    """

    def __init__(self, why: str, *, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after
        """In seconds, if they said so."""


class Refused(Exception):
    """Theirs: they do not take these records as they are, however often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One record on its way."""

    entry: Entry
    id: str
    """The same each time it is sent, and no other record's."""
    line: bytes
    """In the sink's format, without its end of line."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a batch that was answered for each of its records."""

    taken: int
    """So many from the first on are dealt with; the rest is sent again."""
    refused: tuple[int, ...] = ()
    """Which of these they will never take."""
    unnamed: int = 0
    """And how many more, without its being said which."""


class Outlet(Protocol):
    """Sends batches from one thread, and opens what it needs when it needs it."""

    def send(self, batch: list[Encoded]) -> Sent:
        """Send and return what came of it; raises Unreachable or Refused.

        Nothing takes much longer than the sink's timeout.
        """

    def settled(self) -> int:
        """Return how many of the batches sent since the last failure have arrived for certain; raises Unreachable."""

    def finish(self) -> int:
        """Say goodbye and return the same, for the last time; raises Unreachable."""

    def close(self) -> None:
        """Let go of what is open."""


class Answered:
    """What outlets have in common of which a batch has arrived once `send` returns."""

    def __init__(self) -> None:
        self._arrived = 0
        """Batches, for `send` to count."""

    def settled(self) -> int:
        """See `Outlet.settled`."""
        arrived, self._arrived = self._arrived, 0
        return arrived

    def finish(self) -> int:
        """See `Outlet.finish`; there is nothing to say."""
        return self.settled()

"""What the raw suite sent in this process, and what came of it that should not have: `./dev test` says both at its end."""

from dataclasses import dataclass


@dataclass
class Tally:
    """Counted where bytes are sent, and where a world of attack ends."""

    messages: int = 0
    """How often raw bytes were sent on a connection of their own."""
    strangers: int = 0
    """Requests at an upstream that nobody sent by the oracle's reading, and bytes there that are no request."""

    operations: int = 0
    """Of the history that is checked: requests, revokes and faults."""

    def __str__(self) -> str:
        raw = f"raw bytes: {self.messages} messages sent, {self.strangers} requests at the upstream that should not be there"
        return raw + (f"; history: {self.operations} operations on three nodes checked" if self.operations else "")


TALLY = Tally()

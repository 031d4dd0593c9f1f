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
    latest_seconds: float = 0.0
    """In it, how long behind an acknowledged revoke a request was still let through."""
    bound_seconds: float = 0.0
    """And how long it may be."""

    def take_over(self, other: "Tally") -> None:
        """Count what another process has counted as well."""
        self.messages += other.messages
        self.strangers += other.strangers
        self.operations += other.operations
        self.latest_seconds = max(self.latest_seconds, other.latest_seconds)
        self.bound_seconds = max(self.bound_seconds, other.bound_seconds)

    def __str__(self) -> str:
        raw = f"raw bytes: {self.messages} messages sent, {self.strangers} requests at the upstream that should not be there"
        if not self.operations:
            return raw
        return (
            f"{raw}; history: {self.operations} operations on three nodes checked, latest allow behind an acknowledged"
            f" revoke: {1000 * self.latest_seconds:.0f} ms of {1000 * self.bound_seconds:.0f}"
        )


TALLY = Tally()

"""How a sink fares, for health and metrics; written by its thread, read by the loop."""

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Status:
    """The numbers of one sink in this process."""

    name: str
    kind: str
    runs: bool = False
    """Whether this process is the one that sends; of several workers only one does."""
    state: Literal["starting", "ok", "failing", "elsewhere"] = "starting"
    sent: int = 0
    refused: int = 0
    """Records that were given up because the other side does not take them."""
    gaps: int = 0
    """Records that could not be sent because they are not there to be read."""
    failures: int = 0
    """Tries that came to nothing."""
    bytes_behind: int = 0
    waiting_since: float | None = None
    """When the oldest record was written that is known to wait, in seconds since 1970; None: nothing waits."""
    succeeded_at: float | None = None
    """When something was last taken, likewise."""

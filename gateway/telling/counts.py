"""How the notices of one process fare, in plain numbers; the loop writes and reads them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from gateway.audit.sinks.status import Status
from gateway.stores.outbox import Waiting

CHANNELS: Final = ("mail", "webhook", "none")
SENT: Final = "sent"
NO_CONTACT: Final = "failed_no_contact"
NO_CHANNEL: Final = "failed_no_channel"
REFUSED: Final = "failed_refused"
TOO_OLD: Final = "failed_too_old"
OUTCOMES: Final = (SENT, NO_CONTACT, NO_CHANNEL, REFUSED, TOO_OLD)


@dataclass(slots=True)
class NoticeCounts:
    """Counted since the process began, but for what waits."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By channel and outcome."""
    failures: int = 0
    """Tries that came to nothing."""
    waiting: Waiting | None = None
    """Of all processes, as the store last said; None: it did not, or there are no notices here."""
    reading: Status | None = None
    """How whatever makes notices of the journal fares; its thread writes it. None: there are no notices here."""

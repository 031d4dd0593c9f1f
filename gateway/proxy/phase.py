"""Where a connection of a client is, from one request to the next and to its end."""

from enum import Enum, auto


class Phase(Enum):
    """What a connection waits for, and so what its next bytes are."""

    IDLE = auto()
    """Nothing of a request is here."""
    HEAD = auto()
    """A part of a head is here."""
    ACTIVE = auto()
    """A request is being answered; what comes is its body, and then the requests behind it."""
    STREAM = auto()
    """The protocol was switched; what comes is not ours to read."""
    CLOSING = auto()
    """The last response was written; what comes is thrown away."""

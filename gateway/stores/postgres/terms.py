"""How the database is used, as the configuration says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTerms:
    """How long is waited, in seconds, and how many connections a process may have."""

    read_seconds: float = 0.4
    """For the answer to a question, a free connection and the connecting included."""
    write_seconds: float = 5.0
    """Likewise for a change; the server itself gives up on its locks then."""
    quiet_seconds: float = 1.0
    """So long a channel may say nothing before it is asked whether it still lives."""
    least_connections: int = 1
    most_connections: int = 8
    migrate: bool = True
    """Whether opening brings the database to this version's shape."""

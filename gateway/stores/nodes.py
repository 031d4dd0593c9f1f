"""The machines that keep a journal each under a store that they share, as the store has heard of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One that ships its journal, or did so once."""

    name: str
    """As its machine has made it up, or whatever stands in the database, which is not ours to believe."""
    origins: tuple[str, ...]
    """By whom its newest segments were written: the names that people know."""
    heard_at: datetime
    """When it has shipped last, by the database's clock."""
    silent_seconds: float
    """How long ago that is, by the same clock."""
    through: datetime | None
    """By the node's own clock, until when all that was recorded there has been shipped; None: not everything yet."""


class Nodes(Protocol):
    """Tells which there are."""

    async def read(self) -> Sequence[Node]:
        """Return them by name, some hundreds at the most; raises StoreError, within seconds."""

"""Whoever reads a page that is open: a stream to it is theirs for as long as they may read it, and no longer."""

from typing import Protocol


class Reader(Protocol):
    """Somebody who was let in when their stream began."""

    async def may_be_over(self) -> bool:
        """Tell at little cost whether a look at them is due, beyond those at each change of the store.

        Their time is over, or of somebody it is heard that they have signed out. Raises StoreError.
        """

    async def is_over(self) -> bool:
        """Look whether they may read the page no more; raises StoreError where that cannot be told now."""

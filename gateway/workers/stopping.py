"""What a process that serves and one that only keeps others both need to be told by signals."""

import asyncio
from collections.abc import Callable

from gateway.config.model import Config

Read = Callable[[], Config]
"""Reads the configuration anew; raises ConfigError."""
Announce = Callable[[str, str], None]
"""Is told once, when all is ready, the public and the admin URL."""


class Stopping:
    """Has somebody asked to stop, and have they asked again?"""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()
        """The second time: nothing more is waited for."""

    def ask(self) -> None:
        """Stop; the second time at once."""
        if self.asked.is_set():
            self.now.set()
        self.asked.set()

    async def then(self, cut: Callable[[], object]) -> None:
        """Call `cut` at the second word."""
        await self.now.wait()
        cut()

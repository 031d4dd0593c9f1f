"""How many questions the app is asked at a time about who is there, and how few of them for one network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.devices.guesses import site_of

MOST: Final = 16
"""At a time: strangers are asked about too, and the connections to the app are its customers'."""
_OF_CONNECTIONS: Final = 8
"""One in so many of the connections to the app at the most."""
_OF_NETWORK: Final = 4
"""One in so many of all questions for each network."""
_OF_WAITING: Final = 3 / 8
"""So many of one network, compared with the connections to the app, are under way or wait: less than the front lets one
address have under way of everything together."""
LONGEST_WAIT_SECONDS: Final = 20.0
"""Less than the front waits for an answer of ours."""


@dataclass(slots=True)
class _Share:
    turns: asyncio.Semaphore
    users: int = 0


class Questions:
    """Hands out turns in order of asking, to each network from its own share: whoever asks all the time waits alone."""

    def __init__(self, connections: int) -> None:
        """`connections` are those that there are to the app."""
        most = max(1, min(MOST, connections // _OF_CONNECTIONS))
        self._all = asyncio.Semaphore(most)
        self._of_network = max(1, most // _OF_NETWORK)
        self._waiting = max(2, int(connections * _OF_WAITING))
        self._shares: dict[str, _Share] = {}

    @asynccontextmanager
    async def turn(self, address: str | None) -> AsyncIterator[None]:
        """Have a turn until the block ends; raises TimeoutError if none comes in `LONGEST_WAIT_SECONDS`.

        Also, and at once, if too many of the same network wait. Who comes without an address, by a Unix socket, may
        be anybody, and has no share.
        """
        network = site_of(address)
        if network and network in self._shares and self._shares[network].users >= self._waiting:
            raise TimeoutError
        share = self._shares.get(network) or _Share(asyncio.Semaphore(self._of_network))
        self._shares[network] = share
        share.users += 1
        try:
            async with AsyncExitStack() as held:
                async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                    if network:
                        await held.enter_async_context(share.turns)
                    await held.enter_async_context(self._all)
                yield
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[network]

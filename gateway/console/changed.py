"""Tells an open page that it is out of date, and nothing of what has changed: once, by an event stream.

Where no stream gets through, `once=on` asks whether it is so now, and no more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp import web

from gateway.console.readers import Reader
from gateway.console.stream_places import StreamPlaces
from gateway.console.streams import Stream, Streams
from gateway.pages.render import SAFE_HEADERS
from gateway.stores.store import StoreError

# Below what the front allows a request of ours; the browser comes again by itself, and is looked at anew.
STREAM_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.5
# Time alone changes something, too: an end that comes, another process that is not heard of.
_AT_LEAST_EVERY: Final = 8
IsSame = Callable[[], Awaitable[bool]]
"""Tells whether all is as the page shows it; raises StoreError."""


class Changed:
    """Waits with open pages of one kind until what they show is so no more."""

    def __init__(
        self, *, position: Callable[[], int], leaving: asyncio.Event, of_one: int, places: StreamPlaces
    ) -> None:
        """Look whenever the store's `position` is another one; all ends once the gateway is `leaving`.

        A page beyond the `of_one` that one reader may have open, or without one of the `places`, asks every ten seconds
        instead.
        """
        self._position = position
        self._streams = Streams(leaving=leaving, seconds=STREAM_SECONDS, of_one=of_one, by_address=places)

    async def answer(
        self, request: web.Request, whose: Hashable, is_same: IsSame, reader: Reader
    ) -> web.StreamResponse:
        """Send `changed` once all is not the same, and nothing before; asked `once`, say it at once, as JSON.

        A `reader` whose session has ended is told that there is another page, and nothing else. Raises StoreError as
        long as nothing is sent.
        """
        same = await is_same()
        if request.query.get("once") == "on":
            return web.json_response({"changed": not same}, headers=SAFE_HEADERS)
        return await self._streams.answer(request, whose, partial(self._tell, is_same, same, reader))

    async def _tell(self, is_same: IsSame, same: bool, reader: Reader, stream: Stream) -> None:
        with suppress(StoreError):
            while same and not stream.is_over:
                await self._wait(stream, reader)
                same = not await reader.is_over() and await is_same()
        if not same:
            await stream.send("changed")

    async def _wait(self, stream: Stream, reader: Reader) -> None:
        """Return once something may have changed, whatever, or nobody waits any more."""
        before = self._position()
        for _ in range(_AT_LEAST_EVERY):
            if await stream.rest(LOOK_SECONDS) or self._position() != before or await reader.may_be_over():
                return

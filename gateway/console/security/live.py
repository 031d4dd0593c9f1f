"""Tells an open page that something has changed: `GET /console/live`, server-sent events without any contents."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp import web

from gateway.console.security.admission import Admission
from gateway.console.security.frame import Frame
from gateway.console.security.marks import Marks
from gateway.console.security.visit import PATH, Visit
from gateway.console.streams import Stream, Streams
from gateway.stores.store import StoreError

LIVE_STREAM: Final = f"{PATH}/live"
STREAM_SECONDS: Final = 60.0
"""The browser comes again by itself then, and is looked at anew."""
MOST_STREAMS: Final = 64
"""In one process; a page beyond that is kept up to date by asking for itself now and then."""
MOST_OF_ONE: Final = 16
"""For one person, or one client, by however many sessions."""
_LOOK_SECONDS = 0.5
# Time alone changes something, too: an end that comes, another process that is not heard of.
_TELL_ALL_THE_SAME = 40
# So many looks after a role was taken or a session ended, its streams end.
_ASK_EVERY = 4


class LiveStream:
    """Waits with open pages until what their reader may see is not as it was when they were made."""

    def __init__(
        self,
        *,
        admission: Admission,
        frame: Frame,
        marks: Marks,
        leaving: asyncio.Event,
    ) -> None:
        """All streams end once the gateway is `leaving`."""
        self._admission = admission
        self._frame = frame
        self._marks = marks
        self._streams = Streams(leaving=leaving, seconds=STREAM_SECONDS, of_one=MOST_OF_ONE, of_all=MOST_STREAMS)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [web.get(LIVE_STREAM, self._frame.guarded(self.follow), allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send `changed` each time that it may be so, twice a second at the most."""
        visit = await self._admission.for_stream(request)
        if isinstance(visit, web.Response):
            return visit
        tell = partial(self._tell, visit, request.query.get("seen", ""))
        return await self._streams.answer(request, visit.person, tell)

    async def _tell(self, visit: Visit, seen: str, stream: Stream) -> None:
        """Tell of changes until nobody may see them any more, or nobody is there."""
        since = looks = 0
        # Who has gone is noticed without anything to tell: their place is somebody else's.
        with suppress(StoreError):
            while not stream.is_over:
                mark = await self._marks.now(visit.account)
                if mark != seen or since >= _TELL_ALL_THE_SAME:
                    seen, since = mark, 0
                    await stream.send("changed")
                await stream.rest(_LOOK_SECONDS)
                since, looks = since + 1, looks + 1
                if looks % _ASK_EVERY == 0 and not await self._admission.still(visit):
                    return

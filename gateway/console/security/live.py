"""Tells an open page that something has changed: `GET /console/live`, server-sent events without any contents."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Final

from aiohttp import web

from gateway.console.security.admission import Admission
from gateway.console.security.frame import Frame
from gateway.console.security.marks import Marks
from gateway.console.security.visit import PATH, Visit
from gateway.console.streams import has_left, rest
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
STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveStream:
    """Waits with open pages until what their reader may see is not as it was when they were made."""

    def __init__(
        self,
        *,
        admission: Admission,
        frame: Frame,
        marks: Marks,
        seconds: float,
        leaving: asyncio.Event,
    ) -> None:
        """End each stream after so many `seconds`, and all of them once the gateway is `leaving`."""
        self._admission = admission
        self._frame = frame
        self._marks = marks
        self._seconds = seconds
        self._leaving = leaving
        self._open: Counter[str] = Counter()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [web.get(LIVE_STREAM, self._frame.guarded(self.follow), allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send `changed` each time that it may be so, twice a second at the most."""
        visit = await self._admission.for_stream(request)
        if isinstance(visit, web.Response):
            return visit
        if self._open.total() >= MOST_STREAMS or self._open[visit.person] >= MOST_OF_ONE:
            return web.Response(status=503, headers={"Retry-After": "10", "Cache-Control": "no-store"})
        response = web.StreamResponse(headers=STREAM_HEADERS)
        self._open[visit.person] += 1
        try:
            with suppress(ConnectionResetError, TimeoutError, StoreError):  # who leaves the page breaks off
                await response.prepare(request)
                await response.write(b"retry: 2000\n\n")
                async with asyncio.timeout(self._seconds):
                    await self._tell(request, response, visit)
        finally:
            self._open[visit.person] -= 1
            if not self._open[visit.person]:
                del self._open[visit.person]
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, visit: Visit) -> None:
        """Tell of changes until nobody may see them any more, or nobody is there."""
        seen = request.query.get("seen", "")
        since = looks = 0
        # Who has gone is noticed without anything to tell: their place is somebody else's.
        while not (has_left(request) or self._leaving.is_set()):
            mark = await self._marks.now(visit.account)
            if mark != seen or since >= _TELL_ALL_THE_SAME:
                seen, since = mark, 0
                await response.write(b"event: changed\ndata: 1\n\n")
            await rest(self._leaving, _LOOK_SECONDS)
            since, looks = since + 1, looks + 1
            if looks % _ASK_EVERY == 0 and not await self._admission.still(visit):
                return

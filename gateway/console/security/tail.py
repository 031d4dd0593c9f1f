"""The log as it comes: `GET /console/log/tail`, and its server-sent events of rows that are ready to be shown."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.audit.index.finding import Found
from gateway.audit.index.places import HIGHEST, id_at
from gateway.audit.search.query import Query
from gateway.clock import Clock
from gateway.console.security.frame import Frame
from gateway.console.security.log_asking import FAULTS, LogReader, say
from gateway.console.security.log_page import HERE
from gateway.console.security.log_query import LOG, Asked, AskedWrongly, read_asked
from gateway.console.security.log_view import show_rows
from gateway.console.security.visit import Visit
from gateway.console.streams import Stream, Streams

TAIL: Final = f"{LOG}/tail"
EVENTS: Final = f"{TAIL}/events"
_MOST_SHOWN: Final = 200
_FIRST_ROWS: Final = 20
_AGAIN_MILLISECONDS: Final = 3000
_BEGINS_MICROSECONDS: Final = 5_000_000
"""So far back a stream begins: what happened before is in the index."""


class TailTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a gateway those who follow may take."""

    look_seconds: float = 1.0
    """How often it is looked for new records, and whether the session is one still."""
    rows: int = 50
    """So many are sent at a time; of more, those in between are left out."""
    stream_seconds: float = 20.0
    """So long a stream is; the page begins the next one by itself."""
    write_seconds: float = 5.0
    """Who does not take what is sent for so long is cut."""
    most: int = 20
    most_of_one: int = 3
    """Of one person, by however many sessions."""


class Tail:
    """Lets auditors watch what happens, within bounds, and for as long as they may."""

    def __init__(
        self,
        frame: Frame,
        reader: LogReader,
        *,
        clock: Clock,
        leaving: asyncio.Event,
        terms: TailTerms | None = None,
    ) -> None:
        """Nobody follows any more once the gateway is `leaving`."""
        self._frame = frame
        self._reader = reader
        self._clock = clock
        self._terms = terms = terms or TailTerms()
        self.streams = Streams(
            leaving=leaving,
            seconds=terms.stream_seconds,
            of_one=terms.most_of_one,
            of_all=terms.most,
            again_milliseconds=_AGAIN_MILLISECONDS,
            write_seconds=terms.write_seconds,
        )

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        guarded = self._frame.guarded
        return [
            web.get(TAIL, guarded(self.show, again=LOG), allow_head=False),
            web.get(EVENTS, guarded(self.follow, again=LOG), allow_head=False),
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the newest, and what a script goes on from; without one, a link shows what has come since."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        try:
            asked, query = self._read(request)
        except AskedWrongly as exc:
            return self._message(visit, f"This cannot be searched: {exc}.", status=400)
        await self._reader.record(visit, "followed", query, asked.link(TAIL))
        try:
            if asked.after is None:
                # What is younger is told by the stream, whichever process wrote it.
                cursor = self._begin() - 1
                page, _ = await self._reader.search(visit, query, limit=_FIRST_ROWS, before=cursor + 1)
                found = page.found
            else:
                page, _ = await self._reader.search(visit, query, limit=_MOST_SHOWN, after=asked.after)
                found = page.found[::-1]
                cursor = found[0].id if found else asked.after
        except FAULTS as exc:
            return self._message(visit, say(exc), status=503)
        return self._frame.page(
            visit,
            "security_log_tail.html",
            here=HERE,
            asked=asked,
            rows=show_rows(found, {}, asked),
            since=asked.after is not None,
            events=asked.link(EVENTS),
            cursor=cursor,
            most=_MOST_SHOWN,
            again=asked.link(TAIL, after=str(cursor)),
            log=asked.link(),
            tail=TAIL,
        )

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send what comes until the stream's time is over, or the session is."""
        visit = await self._frame.admission.for_stream(request)
        if isinstance(visit, web.Response):
            return visit
        try:
            asked, query = self._read(request)
        except AskedWrongly as exc:
            return self._frame.pages.message("Not searched", f"{exc}.", status=400, again=LOG)
        with self.streams.places.place(visit.person) as is_free:
            if not is_free:
                said = "As many follow the log as may at a time. Close another page that does, and try again."
                return self._frame.pages.message("Too many follow", said, status=503, again=LOG)
            await self._reader.record(visit, "followed", query, asked.link(TAIL))
            return await self.streams.run(request, partial(self._tell, visit, asked, query))

    async def _tell(self, visit: Visit, asked: Asked, query: Query, stream: Stream) -> None:
        cursor = asked.after if asked.after is not None else self._begin() - 1
        while not stream.is_over:
            if not await self._frame.may_still(visit, now=self._clock()):
                await stream.send("over")
                return
            found, skipped = await self._look(visit, query, cursor)
            if found:
                cursor = found[-1].id
                await stream.send("rows", self._rows(found, asked, skipped=skipped))
            await stream.rest(self._terms.look_seconds)
        await stream.send("next")

    async def _look(self, visit: Visit, query: Query, cursor: int) -> tuple[list[Found], bool]:
        """Return what has come behind a cursor, the oldest first, and whether some of it was left out."""
        # The next look may find what this one could not.
        with suppress(*FAULTS):
            page, _ = await self._reader.search(visit, query, limit=self._terms.rows, after=cursor)
            if not page.more:
                return page.found, False
            newest, _ = await self._reader.search(visit, query, limit=self._terms.rows)
            return newest.found[::-1], True
        return [], False

    def _rows(self, found: list[Found], asked: Asked, *, skipped: bool) -> bytes:
        rows = show_rows(found[::-1], {}, asked)
        html = "".join(self._frame.pages.part("security_log_row.html", row=row) for row in rows)
        said: dict[str, Any] = {"cursor": str(found[-1].id), "rows": html, "skipped": skipped}
        return msgspec.json.encode(said)

    def _begin(self) -> int:
        return id_at(round(self._clock().timestamp() * 1e6) - _BEGINS_MICROSECONDS)

    def _read(self, request: web.Request) -> tuple[Asked, Query]:
        """Return what is followed: its time begins now; raises AskedWrongly."""
        given = {name: value for name, value in request.query.items() if name in ("q", "ends", "after")}
        now = round(self._clock().timestamp() * 1e6)
        asked = read_asked(given, now)
        if asked.after is not None:
            asked = replace(asked, after=min(asked.after, HIGHEST - 1))
        # Of the time only the cursor says anything: what was long before is found by a search.
        return asked, replace(asked, since=None, range="all").query

    def _message(self, visit: Visit, said: str, *, status: int) -> web.Response:
        return self._frame.page(visit, "security_log_message.html", here=HERE, status=status, said=said, log=LOG)

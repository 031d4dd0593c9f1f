"""The log as it comes: `GET /console/log/tail`, and its server-sent events of rows that are ready to be shown."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.audit.index.finding import Found
from gateway.audit.index.places import HIGHEST, id_at
from gateway.audit.search.query import Query
from gateway.clock import Clock
from gateway.console.security.frame import Frame
from gateway.console.security.live import STREAM_HEADERS
from gateway.console.security.log_asking import FAULTS, LogReader, say
from gateway.console.security.log_page import HERE
from gateway.console.security.log_query import LOG, Asked, AskedWrongly, read_asked
from gateway.console.security.log_view import show_rows
from gateway.console.security.visit import Visit
from gateway.console.streams import has_left, rest
from gateway.stores.store import StoreError

TAIL: Final = f"{LOG}/tail"
EVENTS: Final = f"{TAIL}/events"
_MOST_SHOWN: Final = 200
_FIRST_ROWS: Final = 20
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
        self._leaving = leaving
        self._terms = terms or TailTerms()
        self._following: Counter[str] = Counter()

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
        if self._following.total() >= self._terms.most or self._following[visit.person] >= self._terms.most_of_one:
            said = "As many follow the log as may at a time. Close another page that does, and try again."
            return self._frame.pages.message("Too many follow", said, status=503, again=LOG)
        async with self._place(visit):
            await self._reader.record(visit, "followed", query, asked.link(TAIL))
            response = web.StreamResponse(headers=STREAM_HEADERS)
            with suppress(ConnectionResetError):  # who leaves the page breaks off
                try:
                    await response.prepare(request)
                    await self._stream(request, response, visit, asked, query)
                except TimeoutError:
                    # Nothing is kept for somebody who does not read.
                    if request.transport is not None:
                        request.transport.abort()
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, visit: Visit, asked: Asked, query: Query
    ) -> None:
        cursor = asked.after if asked.after is not None else self._begin() - 1
        loop, terms = asyncio.get_running_loop(), self._terms
        until = loop.time() + terms.stream_seconds
        await self._send(response, b"retry: 3000\n\n")
        while loop.time() < until and not has_left(request):
            if not await self._may_still(visit):
                await self._send(response, b"event: over\ndata: 1\n\n")
                return
            found, skipped = await self._look(visit, query, cursor)
            if found:
                cursor = found[-1].id
                await self._send(response, self._rows(found, asked, skipped=skipped))
            if await rest(self._leaving, terms.look_seconds):
                break
        await self._send(response, b"event: next\ndata: 1\n\n")

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

    async def _may_still(self, visit: Visit) -> bool:
        try:
            return self._clock() < visit.ends_at and await self._frame.admission.still(visit)
        except StoreError:
            return False

    def _rows(self, found: list[Found], asked: Asked, *, skipped: bool) -> bytes:
        rows = show_rows(found[::-1], {}, asked)
        html = "".join(self._frame.pages.part("security_log_row.html", row=row) for row in rows)
        said: dict[str, Any] = {"cursor": str(found[-1].id), "rows": html, "skipped": skipped}
        return b"event: rows\ndata: " + msgspec.json.encode(said) + b"\n\n"

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        """Send it; raises TimeoutError if it is not taken."""
        async with asyncio.timeout(self._terms.write_seconds):
            await response.write(data)

    @asynccontextmanager
    async def _place(self, visit: Visit) -> AsyncIterator[None]:
        self._following[visit.person] += 1
        try:
            yield
        finally:
            self._following[visit.person] -= 1
            if not self._following[visit.person]:
                del self._following[visit.person]

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

"""Tells open pages what is new in the account's log: how much there is, and what those who are in did last."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp import web
from cachetools import TTLCache

from gateway.audit.search import Query, QueryError
from gateway.clock import Clock, Ticks
from gateway.console.account.admission import Admission
from gateway.console.account.door import PATH
from gateway.console.account.log import LOG_LIVE
from gateway.console.account.log_asking import ASKING_FAULTS, AccountIndex, of_deeds
from gateway.console.account.log_filters import read_filters, read_place
from gateway.console.account.log_view import Row, describe
from gateway.console.account.readers import OpenReader
from gateway.console.changed import LOOK_SECONDS, STREAM_SECONDS
from gateway.console.readers import Reader
from gateway.console.stream_places import StreamPlaces
from gateway.console.streams import Stream, Streams
from gateway.pages.render import SAFE_HEADERS, Pages
from gateway.stores.store import Store, StoreError
from policy.model import AccountId, AssumptionId, Deny, DenyReason

LAST: Final = f"{PATH}/live/last"
MOST_NEWER: Final = 50
"""Beyond that it is only said that there are so many: a page is never told of every request of busy staff."""
MOST_STREAMS: Final = 16
"""Of one account at a time."""
_LOOKS_BETWEEN: Final = 6
"""At the reader's session, for one at the log."""
_AGAIN_MILLISECONDS: Final = 5000
_LAST_SECONDS: Final = 2.0
"""So long what was found out about who did what last is told again."""
_MOST_LAST: Final = 20
_MOST_REMEMBERED: Final = 256


class LastDeeds:
    """What was done last in each assumption that is open, as far as that can be found out at once."""

    def __init__(self, index: AccountIndex | None, ticks: Ticks, *, patience_seconds: float) -> None:
        """A page waits no longer than `patience_seconds` for them."""
        self._index = index
        self._patience = patience_seconds
        self._known: TTLCache[AccountId, dict[AssumptionId, Row]] = TTLCache(
            _MOST_REMEMBERED, ttl=_LAST_SECONDS, timer=ticks
        )

    @property
    def are_kept(self) -> bool:
        """Whether there is anybody to ask."""
        return self._index is not None

    async def of(self, account: AccountId, sids: Sequence[AssumptionId]) -> Mapping[AssumptionId, Row]:
        """Return them by assumption; those are left out of which nothing is known now."""
        if self._index is None or not sids:
            return {}
        known = self._known.get(account)
        if known is None:
            known = self._known[account] = {}
            with suppress(TimeoutError, *ASKING_FAULTS):
                async with asyncio.timeout(self._patience):
                    for sid in sids[:_MOST_LAST]:
                        await self._find(self._index, account, sid, known)
        return {sid: known[sid] for sid in sids if sid in known}

    async def _find(
        self, index: AccountIndex, account: AccountId, sid: AssumptionId, known: dict[AssumptionId, Row]
    ) -> None:
        query = of_deeds(Query.of_assumption(sid))
        page = await index.newest(query, account=account, limit=1, by_itself=True)
        for one in page.found:
            # Names that differ in upper and lower case only are found together.
            if one.entry.get("assumption") == sid:
                known[sid] = describe(one.entry)


class LiveLog:
    """Answers what open pages ask by themselves: little, seldom, and only where nobody who searches waits for it."""

    def __init__(
        self,
        *,
        admission: Admission,
        open_reader: OpenReader,
        index: AccountIndex | None,
        last: LastDeeds,
        store: Store,
        pages: Pages,
        clock: Clock,
        leaving: asyncio.Event,
        places: StreamPlaces,
    ) -> None:
        """All streams end once the gateway is `leaving`."""
        self._admission = admission
        self._open_reader = open_reader
        self._index = index
        self._last = last
        self._store = store
        self._pages = pages
        self._clock = clock
        self._streams = Streams(
            leaving=leaving,
            seconds=STREAM_SECONDS,
            of_one=MOST_STREAMS,
            by_address=places,
            again_milliseconds=_AGAIN_MILLISECONDS,
        )

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [
            web.get(LOG_LIVE, self.follow, allow_head=False),
            web.get(LAST, self.show_last, allow_head=False),
        ]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send `newer`, with how many there are that the page does not show, each time that this is another number."""
        visit = await self._admission.for_stream(request)
        if isinstance(visit, web.Response):
            return visit
        if self._index is None:
            return web.Response(status=404, headers=SAFE_HEADERS)
        try:
            query = of_deeds(read_filters(request).query())
            seen = read_place(",".join(request.query.getall("seen", [])))
        except QueryError:
            return web.Response(status=400, headers=SAFE_HEADERS)
        reader = self._open_reader(request, visit)
        tell = partial(self._tell, self._index, query, reader, account=visit.account, seen=seen)
        return await self._streams.answer(request, visit.account, tell)

    async def _tell(
        self, index: AccountIndex, query: Query, reader: Reader, stream: Stream, *, account: AccountId, seen: int
    ) -> None:
        said = 0
        while not stream.is_over:
            with suppress(*ASKING_FAULTS):
                page = await index.newest(query, account=account, limit=MOST_NEWER, by_itself=True)
                newer = sum(one.id > seen for one in page.found)
                if newer > said:
                    said = newer
                    await stream.send("newer", b"%d%b" % (newer, b"+" if newer == MOST_NEWER else b""))
            if said == MOST_NEWER or await self._wait(stream, reader):
                return

    async def _wait(self, stream: Stream, reader: Reader) -> bool:
        """Return once it is time for another look at the log, and whether somebody is there who may read it."""
        try:
            for _ in range(_LOOKS_BETWEEN):
                if await stream.rest(LOOK_SECONDS) or (await reader.may_be_over() and await reader.is_over()):
                    return True
            return await reader.is_over()
        except StoreError:
            return True

    async def show_last(self, request: web.Request) -> web.Response:
        """Return what each who is in did last, by assumption, for the page that is open."""
        try:
            visit = await self._admission.for_stream(request)
            if isinstance(visit, web.Response):
                return visit
            inside = await self._store.list_assumptions(at=self._clock(), account=visit.account)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
        found = await self._last.of(visit.account, [one.id for one in inside])
        return web.json_response({sid: _said(row) for sid, row in found.items()}, headers=SAFE_HEADERS)


def _said(row: Row) -> dict[str, str | None]:
    return {"at": row.at.isoformat() if row.at else None, "what": row.what, "said": row.said if row.refused else ""}

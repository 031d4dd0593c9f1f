"""An account's own part of the log: `GET /.locum/account/log`, and one assumption: `/.locum/account/log/{sid}`."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from gateway.audit.index.asking import Busy
from gateway.audit.index.database import TooCostly
from gateway.audit.index.finding import Found
from gateway.audit.log import JournalError
from gateway.audit.search import Query, QueryError
from gateway.clock import Clock
from gateway.console.account.admission import Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.log_asking import ASKING_FAULTS, AccountIndex, AccountRecords, Readings, of_deeds
from gateway.console.account.log_filters import DECISIONS, Filters, nothing, read_filters
from gateway.console.account.log_story import Kept, Story, tell
from gateway.console.account.log_view import describe, is_sid, size
from gateway.pages.render import Pages
from gateway.stores.store import Store, StoreError
from policy.model import AssumptionId, Deny, DenyReason

LOG: Final = f"{PATH}/log"
LOG_LIVE: Final = f"{PATH}/live/log"
ROWS_A_PAGE: Final = 50
MOST_OF_ASSUMPTION: Final = 10_000
_MOST_OF_BEGINNING: Final = 20
_USUAL_LAG: Final = 4096
"""In bytes: that this page was asked for is on the record before it is answered, and so is what others do meanwhile."""
_PAGE = re.compile(r"[0-9]{1,6}", re.ASCII)
_TOO_COSTLY: Final = "This takes too long: look for a shorter time, or for less at once."
_UNUSABLE: Final = "The list cannot be read now, or is being made: try again in a minute."
Show = Callable[[web.Request, Visit], Awaitable[web.Response]]


class AccountLog:
    """Shows administrators what was done in their account's agents' place; nothing here changes anything."""

    def __init__(
        self,
        *,
        admission: Admission,
        index: AccountIndex | None,
        readings: Readings,
        store: Store,
        pages: Pages,
        clock: Clock,
    ) -> None:
        """Show what `index` finds; without it there is no list, and of an assumption what the store knows."""
        self._admission = admission
        self._index = index
        self._readings = readings
        self._store = store
        self._pages = pages
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [
            web.get(LOG, self._serve(self._list), allow_head=False),
            web.get(f"{LOG}/{{sid}}", self._serve(self._show), allow_head=False),
        ]

    def _serve(self, show: Show) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            try:
                visit = await self._admission.for_page(request)
                return visit if isinstance(visit, web.Response) else await show(request, visit)
            except StoreError:
                return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
            except JournalError:
                return self._pages.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), again=PATH)
            except Busy as exc:
                return busy(self._pages, exc, again=LOG)

        return serve

    async def _list(self, request: web.Request, visit: Visit) -> web.Response:
        filters = nothing()
        if self._index is None:
            inside = await self._store.list_assumptions(at=self._clock(), account=visit.account)
            return self._page(visit, filters, inside=inside[:ROWS_A_PAGE])
        try:
            filters = read_filters(request)
            query = filters.query()
        except QueryError as exc:
            return self._page(visit, filters, status=400, fault=f"{str(exc)[:1].upper()}{str(exc)[1:]}.")
        try:
            await self._readings.record(visit, "searched", query, filters.address())
            page = await self._index.newest(
                of_deeds(query), account=visit.account, limit=ROWS_A_PAGE, before=filters.before
            )
        except ASKING_FAULTS as exc:
            status, fault = _fault(exc)
            return self._page(visit, filters, status=status, fault=fault)
        return self._page(visit, filters, page=page)

    def _page(
        self,
        visit: Visit,
        filters: Filters,
        *,
        status: int = 200,
        fault: str = "",
        page: AccountRecords | None = None,
        **more: Any,
    ) -> web.Response:
        found, older, lag = (page.found, page.next, page.lag) if page is not None else ([], None, None)
        newest = str(found[0].id if found else 0)
        is_live = page is not None and filters.before is None
        return self._pages.page(
            "account_log.html",
            status=status,
            scripts=True,
            account=visit.account,
            person=visit.person,
            leaving=visit.leaving,
            here=LOG,
            back=PATH,
            filters=filters,
            decisions=DECISIONS,
            fault=fault,
            rows=[describe(one.entry) for one in found] if page is not None else None,
            older=filters.address(before=str(older)) if older is not None else "",
            live=f"{LOG_LIVE}{filters.address(seen=newest)}" if is_live else "",
            behind=size(lag.bytes) if lag is not None and lag.bytes > _USUAL_LAG else "",
            unread=lag is not None and any(lag.unread),
            has_index=self._index is not None,
            now=self._clock(),
            **{"inside": [], **more},
        )

    async def _show(self, request: web.Request, visit: Visit) -> web.Response:
        sid = sid_of(request)
        if sid is None:
            return unknown(self._pages)
        await self._readings.record(visit, "shown", Query.of_assumption(sid), sid, assumption=sid)
        kept = await self._kept(visit, sid)
        story, is_whole, fault = None, True, ""
        try:
            story, is_whole = await self._tell(request, visit, sid, kept)
        except ASKING_FAULTS as exc:
            status, fault = _fault(exc)
            if kept.assumption is None:
                return self._pages.message("Not shown", fault, status=status, again=f"{LOG}/{sid}")
        if story is None and kept.assumption is None:
            return unknown(self._pages)
        return self._pages.page(
            "account_log_one.html",
            scripts=True,
            account=visit.account,
            person=visit.person,
            leaving=visit.leaving,
            here=LOG,
            back=PATH,
            sid=sid,
            story=story,
            kept=kept,
            fault=fault,
            is_whole=is_whole,
            most=MOST_OF_ASSUMPTION,
            has_index=self._index is not None,
            now=self._clock(),
        )

    async def _tell(
        self, request: web.Request, visit: Visit, sid: AssumptionId, kept: Kept
    ) -> tuple[Story | None, bool]:
        """Return what the log tells of an assumption, and whether that is all of it; raises ASKING_FAULTS."""
        if self._index is None:
            return None, True
        query = Query.of_assumption(sid)
        page = await self._index.newest(query, account=visit.account, limit=MOST_OF_ASSUMPTION)
        first: list[Found] = []
        if page.next is not None:
            first = (await self._index.oldest(query, account=visit.account, limit=_MOST_OF_BEGINNING)).found
        # A long one takes a while to put together, and customers are served meanwhile.
        story = await asyncio.to_thread(
            tell,
            [one.entry for one in reversed(page.found)],
            sid,
            first=[one.entry for one in first],
            kept=kept,
            now=self._clock(),
            page=_page_of(request),
        )
        return story, page.next is None

    async def _kept(self, visit: Visit, sid: AssumptionId) -> Kept:
        """Return what the store has of the account's own assumption; another account's is as good as none."""
        found = await self._store.find_assumption(sid)
        if found is None or found.account != visit.account:
            return Kept()
        return Kept(assumption=found, grant=await self._store.find_grant(found.grant_id))


def unknown(pages: Pages) -> web.Response:
    """Say the same of an assumption that is not there and of another account's."""
    said = "Your account’s log has no record of this assumption. What happened a moment ago may not be in it yet."
    return pages.message("Not there", said, status=404, again=LOG)


def busy(pages: Pages, fault: Busy, *, again: str) -> web.Response:
    """Say that this has to wait, and why."""
    return pages.message("Not yet", _sentence(fault), status=503, again=again)


def sid_of(request: web.Request) -> AssumptionId | None:
    """Return which assumption an address names; None if it can be none."""
    sid = request.match_info["sid"]
    return AssumptionId(sid) if is_sid(sid) else None


def _page_of(request: web.Request) -> int:
    said = request.query.get("page", "")
    return int(said) if _PAGE.fullmatch(said) else 1


def _fault(fault: Exception) -> tuple[int, str]:
    """Return how what a question raised is answered, and in which words."""
    if isinstance(fault, TooCostly):
        return 422, _TOO_COSTLY
    return (503, _sentence(fault)) if isinstance(fault, Busy) else (503, _UNUSABLE)


def _sentence(fault: Exception) -> str:
    said = str(fault)
    return f"{said[:1].upper()}{said[1:]}."

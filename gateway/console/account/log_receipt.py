"""The receipt of an assumption, for the account's own administrators: `GET /.locum/account/log/{sid}/receipt`."""

from aiohttp import web

from gateway.audit.evidence.making import Ending
from gateway.audit.index.asking import Busy
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.log import JournalError
from gateway.audit.search import Query
from gateway.console.account.admission import Admission, Visit
from gateway.console.account.log import LOG, busy, sid_of, unknown
from gateway.console.account.log_asking import AccountIndex, Readings
from gateway.console.account.log_receipts import KEPT_MINUTES, ReceiptDesk
from gateway.pages.render import SAFE_HEADERS, Pages
from gateway.stores.store import Store, StoreError
from policy.model import AccountId, AssumptionId, Deny, DenyReason


class AccountReceipts:
    """Hands out receipts of the account's own assumptions; who asked for one is on the record before it is made."""

    def __init__(
        self,
        *,
        admission: Admission,
        index: AccountIndex | None,
        readings: Readings,
        store: Store,
        desk: ReceiptDesk,
        pages: Pages,
    ) -> None:
        self._admission = admission
        self._index = index
        self._store = store
        self._readings = readings
        self._desk = desk
        self._pages = pages

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(f"{LOG}/{{sid}}/receipt", self.hand_out, allow_head=False)]

    async def hand_out(self, request: web.Request) -> web.Response:
        """Answer with the receipt, or with a page that says why there is none, or none yet."""
        visit = await self._admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        sid = sid_of(request)
        if sid is None:
            return unknown(self._pages)
        here = f"{LOG}/{sid}"
        if request.headers.getall("Sec-Fetch-Site", ["none"]) not in (["none"], ["same-origin"]):
            # Or any page could have the whole journal read for it, again and again.
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE), again=here)
        try:
            await self._readings.record(visit, "receipt", Query(terms=()), sid, assumption=sid)
            return await self._fetch(visit, sid)
        except (StoreError, JournalError) as exc:
            is_journals = isinstance(exc, JournalError)
            reason = DenyReason.JOURNAL_UNAVAILABLE if is_journals else DenyReason.STORE_UNAVAILABLE
            return self._pages.refusal(Deny(reason=reason), again=here)
        except Busy as exc:
            return busy(self._pages, exc, again=here)

    async def _fetch(self, visit: Visit, sid: AssumptionId) -> web.Response:
        if not await self._is_known(visit, sid):
            return unknown(self._pages)
        return self._answer(visit, sid, await self._desk.fetch(visit.account, sid))

    async def _is_known(self, visit: Visit, sid: AssumptionId) -> bool:
        """Tell whether the store or the account's list has it: for any other the whole journal would be read in vain.

        Where the list cannot be asked now, that is done all the same: there may be one.
        """
        found = await self._store.find_assumption(sid)
        if found is not None:
            return found.account == visit.account
        if self._index is None:
            return True
        try:
            page = await self._index.newest(Query.of_assumption(sid), account=visit.account, limit=1)
        except (TooCostly, IndexUnusable):
            return True
        return bool(page.found)

    def _answer(self, visit: Visit, sid: AssumptionId, made: tuple[int, bytes] | None) -> web.Response:
        here = f"{LOG}/{sid}"
        if made is None:
            return being_made(self._pages, visit.account, sid)
        status, receipt = made
        if status == Ending.NOTHING_TO_PROVE:
            return unknown(self._pages)
        if status == Ending.NOT_SIGNED_YET:
            said = "Its records are not signed yet, so nothing would prove them. Try again in a moment."
            return self._pages.message("Not yet", said, status=503, again=here)
        if status == Ending.ALTERED:
            said = "The log does not bear out what it says, so there is no receipt. Ask the vendor to verify it."
            return self._pages.message("No receipt", said, status=500, again=here)
        if status != Ending.MADE:
            said = "The receipt could not be made now. If that stays so, ask the vendor for it."
            return self._pages.message("No receipt", said, status=503, again=here)
        # An id of ours holds nothing that a file's name or a header could be broken by.
        name = {"Content-Disposition": f'attachment; filename="{sid}.receipt.json"'}
        return web.Response(body=receipt, content_type="application/json", headers=SAFE_HEADERS | name)


def being_made(pages: Pages, account: AccountId, sid: AssumptionId) -> web.Response:
    """Return the page for whoever asks for a receipt that is not there yet."""
    return pages.page("account_log_making.html", account=account, here=f"{LOG}/{sid}", kept_minutes=KEPT_MINUTES)

"""`GET /.locum/log/receipts/{sid}` of the admin listener: a receipt, for whoever hands it to the customer.

The whole journal is read for it, so another process does that, with low priority: no request waits for it. There is one
at a time of each client, one of all who are limited to an account, and two in all, those of the accounts' own pages
included. That a receipt was asked for is on the record before it is made.
"""

import re
from functools import partial
from typing import Final

from aiohttp import web

from gateway.audit.evidence.making import Ending
from gateway.audit.evidence.ordering import ReceiptMaker
from gateway.audit.index.asking import AskersTurns, Busy, IndexTurns
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.caller import Caller
from gateway.clients import AUDIT_ROLE, ClientAuthenticator
from gateway.grants.admitting import Faults, admitting
from gateway.grants.answers import problem
from gateway.stores.store import Client, StoreError
from policy.model import AssumptionId

PATH = "/.locum/log/receipts/{assumption}"
RECEIPT_WAIT_SECONDS: Final = 15.0
"""So long a request waits for its turn."""
_ASSUMPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)

_FAULTS: Faults = {
    Busy: (503, "busy", "other receipts are being made: try again in a moment"),
    StoreError: (503, "store_unavailable", "clients cannot be told apart now: try again in a moment"),
    JournalError: (503, "journal_unavailable", "this could not be recorded, so nothing was read"),
}


class ReceiptApi:
    """For clients with the role `audit`; one that is limited to an account gets receipts of that account only."""

    def __init__(
        self, clients: ClientAuthenticator, journal: AuditLog, maker: ReceiptMaker, *, making: IndexTurns
    ) -> None:
        """Have `maker` make them in turns of `making`; who asks goes on the record in `journal`."""
        self._clients = clients
        self._journal = journal
        self._maker = maker
        self._own = AskersTurns(seconds=RECEIPT_WAIT_SECONDS)
        self._turns = making

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        show = admitting(self._show, clients=self._clients, role=AUDIT_ROLE, problem=_problem, faults=_FAULTS)
        return [web.get(PATH, show, allow_head=False)]

    async def _show(self, request: web.Request, client: Client) -> web.Response:
        """Return the receipt of an assumption."""
        assumption = request.match_info["assumption"]
        if _ASSUMPTION.fullmatch(assumption) is None:
            return _not_found()
        async with self._own.turn(client.id):
            await self._turns.take(client.account)
            try:
                await self._journal.append(_record(client, Caller.direct(request), assumption), durable=True)
                return await self._make(assumption, client)
            finally:
                self._turns.give_back(client.account)

    async def _make(self, assumption: str, client: Client) -> web.Response:
        try:
            status, receipt = await self._maker.make(assumption, client.account)
        except TimeoutError:
            return _problem(503, "too_slow", "the receipt takes too long here: use `locum audit receipt`")
        except OSError:
            status, receipt = Ending.FAILED, b""
        if status == Ending.NOTHING_TO_PROVE:
            return _not_found()
        if status == Ending.NOT_SIGNED_YET:
            return _problem(503, "not_signed_yet", "its records are under no checkpoint yet: try again in a moment")
        if status == Ending.ALTERED:
            return _problem(500, "journal_altered", "the journal does not bear it out: run `locum audit verify`")
        if status != Ending.MADE:
            return _problem(503, "not_made", "the receipt could not be made: the gateway's log says why")
        name = f'attachment; filename="{assumption}.receipt.json"'
        headers = {"Cache-Control": "no-store", "Content-Disposition": name}
        return web.Response(body=receipt, content_type="application/json", headers=headers)


def _record(client: Client, caller: Caller, assumption: str) -> Record:
    return Record(
        kind="audit",
        reason="receipt",
        assumption=AssumptionId(assumption),
        client_id=client.id,
        account=client.account,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


_problem = partial(problem, "log")


def _not_found() -> web.Response:
    """Say the same of what is not there and of what is another account's."""
    return _problem(404, "unknown_assumption", "there is no record of this assumption")

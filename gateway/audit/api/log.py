"""The log on the admin listener: search, one assumption, counts; for clients with the role `audit` and no others."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from gateway.audit.api.asked import AskedLog, Asker
from gateway.audit.index.asking import AskersTurns, Busy, LogIndex
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.index.finding import Lag, Tally
from gateway.audit.index.grouping import DIMENSIONS
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.search import Query, QueryError
from gateway.audit.search.account_part import HIDDEN, elsewhere, of_theirs, their_part
from gateway.audit.search.timeline import build_timeline
from gateway.audit.segment import Entry
from gateway.caller import Caller
from gateway.clients import AUDIT_ROLE, ClientAuthenticator
from gateway.clock import Ticks
from gateway.grants.admitting import Faults, Handler, admitting
from gateway.grants.answers import answer, problem
from gateway.stores.store import Client, StoreError
from policy.model import AssumptionId

PATH = "/.locum/log"
_DEFAULT_LIMIT, _MOST = 100, 1000
_MOST_OF_ASSUMPTION = 10_000
_MOST_VALUES = 1000
_CURSOR = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class _Malformed(Exception):
    """The caller's fault: the message says what to write instead."""


_FAULTS: Faults = {
    QueryError: (400, "malformed", ""),
    _Malformed: (400, "malformed", ""),
    TooCostly: (422, "too_costly", ""),
    Busy: (503, "busy", ""),
    IndexUnusable: (503, "index_unavailable", "the index cannot be read, or is being made: try again later"),
    StoreError: (503, "store_unavailable", "nobody can be let in now: try again in a moment"),
    JournalError: (503, "journal_unavailable", "this could not be recorded, so it was not done"),
}
How = Callable[[web.Request, Client, LogIndex], Awaitable[web.Response]]


class LogApi:
    """`GET /.locum/log/records`, `/.locum/log/assumptions/{sid}` and `/.locum/log/stats`.

    A client that is limited to an account gets nothing of any other, and cannot tell it from what is not there; of a
    request with its account's token to another account's host it sees neither where that went nor for what.
    """

    def __init__(
        self, index: LogIndex | None, clients: ClientAuthenticator, journal: AuditLog, *, ticks: Ticks
    ) -> None:
        """Answer from `index`, None if there is none; who has asked for what goes into `journal`."""
        self._index = index
        self._clients = clients
        self._asked = AskedLog(journal, ticks=ticks)
        self._turns = AskersTurns()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [
            web.get(f"{PATH}/records", self._admitting(self._records), allow_head=False),
            web.get(f"{PATH}/assumptions/{{sid}}", self._admitting(self._assumption), allow_head=False),
            web.get(f"{PATH}/stats", self._admitting(self._stats), allow_head=False),
        ]

    def _admitting(self, how: How) -> Handler:
        async def ask(request: web.Request, client: Client) -> web.Response:
            if self._index is None:
                return _problem(503, "no_index", "there is no index to ask: set `index = true` in [audit]")
            async with self._turns.turn(client.id):
                return await how(request, client, self._index)

        return admitting(ask, clients=self._clients, role=AUDIT_ROLE, problem=_problem, faults=_FAULTS)

    async def _records(self, request: web.Request, client: Client, index: LogIndex) -> web.Response:
        given = _read(request, "q", "limit", "before", "after")
        query = Query.parse(given.get("q", ""))
        limit = _number(given, "limit") if "limit" in given else _DEFAULT_LIMIT
        if not 0 < limit <= _MOST:
            raise _Malformed(f"`limit` must be from 1 to {_MOST}")
        before, after = (_number(given, name) if name in given else None for name in ("before", "after"))
        if before is not None and after is not None:
            raise _Malformed("give `before` or `after`, not both")
        await self._record(request, client, "searched", query, given.get("q", ""))
        query = _of_client(query, client)
        page, lag = await index.search(query, limit=limit, before=before, after=after, account=client.account)
        last = page.found[-1].id if page.found else after
        follows = page.more or after is not None
        return answer(
            {
                "records": [{"cursor": str(one.id), "record": _shown(one.entry, client)} for one in page.found],
                "next": str(last) if follows and last is not None else None,
                "behind": _behind(lag, client),
            }
        )

    async def _assumption(self, request: web.Request, client: Client, index: LogIndex) -> web.Response:
        _read(request)
        sid = request.match_info["sid"]
        query = Query.of_assumption(sid)
        await self._record(request, client, "shown", query, sid, assumption=AssumptionId(sid))
        page, lag = await index.search(
            query, limit=_MOST_OF_ASSUMPTION, before=None, after=None, account=client.account
        )
        timeline = build_timeline([_shown(one.entry, client) for one in reversed(page.found)], sid)
        if timeline is None:
            return _problem(404, "unknown_assumption", "there is no record of this assumption that you may read")
        return answer({**timeline.document(), "complete": not page.more, "behind": _behind(lag, client)})

    async def _stats(self, request: web.Request, client: Client, index: LogIndex) -> web.Response:
        given = _read(request, "q", "by")
        query = Query.parse(given.get("q", ""))
        by = tuple(filter(None, given.get("by", "").split(","))) or DIMENSIONS
        if unknown := set(by) - set(DIMENSIONS):
            raise _Malformed(f"`by` knows {', '.join(DIMENSIONS)}, and not `{min(unknown)}`")
        await self._record(request, client, "counted", query, given.get("q", ""))
        query = _of_client(query, client)
        hides = client.account is not None and not HIDDEN.isdisjoint(by)
        less = elsewhere(query) if hides else None
        tally, lag = await index.stats(query, account=client.account, less=less)
        return answer({"total": tally.total, **_counts(tally, by), "behind": _behind(lag, client)})

    async def _record(
        self, request: web.Request, client: Client, reason: str, query: Query, text: str, **more: Any
    ) -> None:
        """Put on the record who has asked for what; raises JournalError."""
        asker = Asker(client=client.id, account=client.account, caller=Caller.direct(request))
        await self._asked.record(asker, reason, query, text, **more)


def _of_client(query: Query, client: Client) -> Query:
    return query if client.account is None else of_theirs(query)


def _shown(entry: Entry, client: Client) -> Entry:
    return entry if client.account is None else their_part(entry)


def _read(request: web.Request, *known: str) -> dict[str, str]:
    """Return the parameters of a request, each of which may be there once; raises _Malformed."""
    for name in request.query:
        if name not in known:
            raise _Malformed(f"there is no parameter `{name[:64]}` here: use {', '.join(known) or 'none'}")
        if len(request.query.getall(name)) > 1:
            raise _Malformed(f"`{name}` is there twice")
    return dict(request.query)


def _number(given: Mapping[str, str], name: str) -> int:
    if _CURSOR.fullmatch(given[name]) is None or abs(number := int(given[name])) >= 2**63:
        raise _Malformed(f"`{name}` must be a whole number; a cursor is one that an earlier answer gave")
    return number


def _counts(tally: Tally, by: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {name: dict(tally.by[name].most_common(_MOST_VALUES)) if name in tally.by else {} for name in by}


def _behind(lag: Lag | None, client: Client) -> dict[str, int] | dict[str, bool] | None:
    """Return how much of the files is not in the index, yet or at all; of all accounts, as files are read.

    Whoever may know of one account hears whether there is any, for how much is others' affair.
    """
    if lag is None:
        return None
    lines, files = lag.unread
    if client.account is not None:
        return {"behind": lag.bytes > 0, "unread": lines + files > 0}
    return {"bytes": lag.bytes, "files": lag.segments, "unread_lines": lines, "unread_files": files}


_problem = partial(problem, "log")

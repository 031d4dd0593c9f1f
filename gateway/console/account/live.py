"""Tells an open page that it is out of date: `GET /.locum/account/live`, server-sent events without any contents.

Where no stream gets through, `once=on` asks whether it is so now, and no more.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Final

import msgspec
from aiohttp import web

from gateway.clock import Clock
from gateway.console.account.admission import Admission
from gateway.console.account.door import PATH
from gateway.console.streams import has_left, rest
from gateway.pages.render import Pages
from gateway.stores.store import Store, StoreError
from policy.model import AccountId, Deny, DenyReason

LIVE: Final = f"{PATH}/live"
# Below what the front allows a request of ours; the browser comes again by itself, and is looked at anew.
STREAM_SECONDS: Final = 20.0
MOST_STREAMS: Final = 64
"""Of one account in a process; a page beyond them asks every ten seconds instead."""
_LOOK_SECONDS = 0.5
# Time alone changes something, too: an end that comes, another process that is not heard of.
_AT_LEAST_EVERY = 8
SAFE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Marks:
    """What an account is like, as a text by which no more can be told than that it is as before."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def of(self, account: AccountId) -> str:
        """Return it as it is now; raises StoreError."""
        now = self._clock()
        record = await self._store.find_account(account)
        inside = await self._store.list_assumptions(at=now, account=account)
        halted = (await self._store.find_kill_switch()).on
        live = record is not None and record.grant is not None and record.grant.is_live(now)
        asked = await self._store.list_waiting(account, at=now)
        epoch = record.account.epoch if record else None
        said = (epoch, live, halted, [assumption.id for assumption in inside], [request.id for request in asked])
        return sha256(msgspec.json.encode(said)).hexdigest()[:32]


class LiveAccount:
    """Waits with an open page until the account is not as the page shows it."""

    def __init__(
        self,
        *,
        admission: Admission,
        marks: Marks,
        pages: Pages,
        position: Callable[[], int],
        seconds: float,
        leaving: asyncio.Event,
    ) -> None:
        """Look whenever the store's `position` is another one.

        End each stream after so many `seconds`, and all of them once the gateway is `leaving`.
        """
        self._admission = admission
        self._marks = marks
        self._pages = pages
        self._position = position
        self._seconds = seconds
        self._leaving = leaving
        self._open: Counter[AccountId] = Counter()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(LIVE, self.follow, allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send `changed` once that is so, and nothing before; asked `once`, say at once whether it is, as JSON."""
        try:
            visit = await self._admission.for_stream(request)
            if isinstance(visit, web.Response):
                return visit
            seen = request.query.get("seen", "")
            is_same = await self._marks.of(visit.account) == seen
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
        if request.query.get("once") == "on":
            return web.json_response({"changed": not is_same}, headers=SAFE_HEADERS)
        if self._open[visit.account] >= MOST_STREAMS:
            return web.Response(status=503, headers={**SAFE_HEADERS, "Retry-After": "10"})
        response = web.StreamResponse(headers={**SAFE_HEADERS, "Content-Type": "text/event-stream"})
        self._open[visit.account] += 1
        try:
            with suppress(ConnectionResetError):  # who leaves the page breaks off
                await response.prepare(request)
                await response.write(b"retry: 2000\n\n")
                with suppress(TimeoutError, StoreError):
                    async with asyncio.timeout(self._seconds):
                        while is_same and not (self._leaving.is_set() or has_left(request)):
                            is_same = await self._next(request, visit.account) == seen
                if not is_same:
                    await response.write(b"event: changed\ndata: 1\n\n")
        finally:
            self._open[visit.account] -= 1
            if not self._open[visit.account]:
                del self._open[visit.account]
        return response

    async def _next(self, request: web.Request, account: AccountId) -> str:
        """Return the mark once something may have changed, whatever, or nobody waits any more; raises StoreError."""
        before = self._position()
        for _ in range(_AT_LEAST_EVERY):
            if await rest(self._leaving, _LOOK_SECONDS) or has_left(request) or self._position() != before:
                break
        return await self._marks.of(account)

"""Tells an account's open page that it is out of date: `GET /.locum/account/live`."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec
from aiohttp import web

from gateway.clock import Clock
from gateway.console.account.admission import Admission
from gateway.console.account.door import PATH
from gateway.console.account.readers import OpenReader
from gateway.console.changed import Changed
from gateway.console.stream_places import StreamPlaces
from gateway.pages.render import Pages
from gateway.stores.store import Store, StoreError
from policy.model import AccountId, Deny, DenyReason

LIVE: Final = f"{PATH}/live"
MOST_STREAMS: Final = 64
"""Of one account in a process."""


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
        open_reader: OpenReader,
        marks: Marks,
        pages: Pages,
        position: Callable[[], int],
        leaving: asyncio.Event,
        places: StreamPlaces,
    ) -> None:
        """See `Changed`."""
        self._admission = admission
        self._open_reader = open_reader
        self._marks = marks
        self._pages = pages
        self._changed = Changed(position=position, leaving=leaving, of_one=MOST_STREAMS, places=places)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(LIVE, self.follow, allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Say whether the account is as the page has `seen` it, as `Changed.answer` does."""
        try:
            visit = await self._admission.for_stream(request)
            if isinstance(visit, web.Response):
                return visit
            account, seen = visit.account, request.query.get("seen", "")

            async def is_same() -> bool:
                return await self._marks.of(account) == seen

            return await self._changed.answer(request, account, is_same, self._open_reader(request, visit))
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)

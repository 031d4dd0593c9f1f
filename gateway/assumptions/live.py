"""Tells a staff member's open page that it is out of date: `GET /.locum/live`."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec
from aiohttp import web
from markupsafe import Markup

from gateway.clock import Clock
from gateway.console.changed import Changed
from gateway.console.stream_places import StreamPlaces
from gateway.grants.asking import GrantRequests
from gateway.pages.render import Pages
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.staff.verify import SignedIn
from gateway.stores.store import StaffSession, Store, StoreError
from policy.asking import state_of
from policy.model import ActorId, Deny, DenyReason

LIVE: Final = "/.locum/live"
MOST_STREAMS: Final = 8
"""Of one person in a process, by however many sessions."""


class StaffMarks:
    """What the page lists of a person's own, as a text by which no more can be told than that it is as before."""

    def __init__(self, store: Store, requests: GrantRequests, clock: Clock) -> None:
        self._store = store
        self._requests = requests
        self._clock = clock

    async def of(self, actor: ActorId) -> str:
        """Return it as it is now; raises StoreError."""
        now = self._clock()
        switch = await self._store.find_kill_switch()
        begun = await self._store.list_begun(actor, at=now)
        held = [
            id_ for one in {each.account for each in begun} for id_ in await self._store.list_held(actor, one, at=now)
        ]
        asked = [(one.id, state_of(one, now)) for one in await self._requests.asked_by(actor)]
        said = (actor, switch.on, switch.reason, [one.id for one in begun], sorted(held), asked)
        return sha256(msgspec.json.encode(said)).hexdigest()[:32]


class LivePart:
    """A part of the home page: where it hears that it is out of date. It comes before what it is about."""

    def __init__(self, marks: StaffMarks, pages: Pages) -> None:
        self._marks = marks
        self._pages = pages

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:
        """Return it; raises StoreError."""
        mark = await self._marks.of(visitor.signed_in.staff.id)
        # What was typed into a form that was refused is not thrown away, nor is the form sent again.
        return self._pages.part(
            "staff_live.html", live=f"{LIVE}?seen={mark}", home=HOME, loads_itself=request.method == "GET"
        )


class StaffReader:
    """The staff member who reads an open page: a `gateway.console.readers.Reader`.

    A lock is a change of the store, a sign-out is told; what time ends is seen by the session as it was found last.
    """

    def __init__(self, visitors: Visitors, session: bytes) -> None:
        self._visitors = visitors
        self._session = session
        self._found: StaffSession | None = None
        self._heard: str | None = None

    async def may_be_over(self) -> bool:
        """See `Reader`."""
        if self._found is None or not self._visitors.is_live(self._found):
            return True
        return await self._visitors.ends.heard() != self._heard

    async def is_over(self) -> bool:
        """See `Reader`: whoever is locked out reads it no more, either."""
        return isinstance(await self.look(), Deny)

    async def look(self) -> SignedIn | Deny:
        """Return who it is, or why nobody may read the page by this session; raises StoreError."""
        # Before the look: what ends behind it is heard of the next time.
        self._heard = await self._visitors.ends.heard()
        self._found = await self._visitors.find(self._session)
        if self._found is None:
            return Deny(reason=DenyReason.STAFF_SIGNED_OUT)
        return await self._visitors.judge(self._found)


class LiveStaff:
    """Waits with an open page until what is its reader's own is not as the page shows it, or they are signed out."""

    def __init__(
        self,
        *,
        visitors: Visitors,
        marks: StaffMarks,
        pages: Pages,
        position: Callable[[], int],
        leaving: asyncio.Event,
        places: StreamPlaces,
    ) -> None:
        """See `Changed`."""
        self._visitors = visitors
        self._marks = marks
        self._pages = pages
        self._changed = Changed(position=position, leaving=leaving, of_one=MOST_STREAMS, places=places)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(LIVE, self.follow, allow_head=False)]

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Say whether what is their own is as the page has `seen` it, as `Changed.answer` does.

        It is no use of the session, which ends as if nobody listened.
        """
        if not self._visitors.is_on or not self._visitors.is_here(request):
            return self._pages.message("Not here", "Staff do not sign in at this address.", status=404)
        if request.headers.getall("Sec-Fetch-Site", ["same-origin"]) != ["same-origin"]:
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE), again=HOME)
        reader, seen = StaffReader(self._visitors, self._visitors.session_of(request)), request.query.get("seen", "")
        try:
            signed_in = await reader.look()
            if isinstance(signed_in, Deny):
                return self._pages.refusal(signed_in, again=HOME)
            actor = signed_in.staff.id

            async def is_same() -> bool:
                return await self._marks.of(actor) == seen

            return await self._changed.answer(request, actor, is_same, reader)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=HOME)

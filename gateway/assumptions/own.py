"""What a staff member has begun and may end: a part of the home page, and `POST /.locum/assumptions/end`."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from markupsafe import Markup

from gateway.assumptions.handing import BROWSER
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.pages.render import Pages
from gateway.refusals import REFUSALS
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.stores.store import Store, StoreError
from gateway.tokens.ending import Ender
from policy.model import AssumptionId, Deny, DenyReason

PATH: Final = "/.locum/assumptions/end"
_MOST_FORM_BYTES = 4096


class OwnAssumptions:
    """The list of those that go on, by whatever way they were begun, and why no other can be begun now."""

    def __init__(self, store: Store, pages: Pages, *, most: int, clock: Clock) -> None:
        """Let each have `most` open."""
        self._store = store
        self._pages = pages
        self._most = most
        self._clock = clock

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:  # noqa: ARG002 - see HomePart
        """Return the list, empty if there is none; raises StoreError."""
        begun = await self._store.list_begun(visitor.signed_in.staff.id, at=self._clock())
        switch = await self._store.find_kill_switch()
        hindered = []
        if switch.on:
            hindered.append(f"{_say(DenyReason.KILL_SWITCH)} {switch.reason}".strip())
        if len(begun) >= self._most:
            hindered.append(_say(DenyReason.TOO_MANY_ASSUMPTIONS))
        return self._pages.part("own.html", action=PATH, visitor=visitor, begun=begun, hindered=hindered)


class EndOwnEndpoint:
    """Ends one of them for whoever has begun it; it only takes power away."""

    def __init__(self, *, visitors: Visitors, store: Store, ender: Ender, pages: Pages) -> None:
        self._visitors = visitors
        self._store = store
        self._ender = ender
        self._pages = pages

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.end)]

    async def end(self, request: web.Request) -> web.Response:
        """End it, recorded and stored when this answers; what has ended before is told the same."""
        if not self._visitors.is_on or not self._visitors.is_here(request):
            return self._pages.message("Not here", "No assumption ends at this address.", status=404)
        try:
            refused = await self._end(request, await read_form(request, _MOST_FORM_BYTES))
        except FormError as exc:
            refused = Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc))
        except StoreError:
            refused = Deny(reason=DenyReason.STORE_UNAVAILABLE)
        if refused is not None:
            return self._pages.refusal(refused, again=HOME)
        return web.Response(status=303, headers={"Location": HOME, "Cache-Control": "no-store"})

    async def _end(self, request: web.Request, fields: Sequence[tuple[str, str]]) -> Deny | None:
        visitor = await self._visitors.who(request)
        if visitor is None:
            return Deny(reason=DenyReason.STAFF_SIGNED_OUT, detail="nobody is signed in here any more")
        if isinstance(visitor, Deny):
            return visitor
        wrong = self._visitors.check_form(request, fields, visitor)
        if wrong is not None:
            return Deny(reason=DenyReason.CROSS_SITE, detail=wrong)
        named = [AssumptionId(value) for name, value in fields if name == "assumption"]
        found = await self._store.find_assumption(named[0]) if len(named) == 1 else None
        if found is None or found.actor != visitor.signed_in.staff.id:
            # Of somebody else's not even that it is there.
            return Deny(reason=DenyReason.ASSUMPTION_UNKNOWN)
        caller = Caller.through_front(request)
        await self._ender.end(found.id, by=found.actor.subject, caller=caller, client=BROWSER)
        return None


def _say(reason: DenyReason) -> str:
    title = REFUSALS[reason].title
    return f"{title[:1].upper()}{title[1:]}."

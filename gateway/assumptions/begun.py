"""What a staff member has begun and may end: a part of the home page, and the two forms that end one or all of it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web
from markupsafe import Markup

from gateway.assumptions.handing import BROWSER
from gateway.assumptions.session import SESSION
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.pages.render import Pages
from gateway.places import Places
from gateway.refusals import REFUSALS
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.stores.store import Store, StoreError
from gateway.tokens.ending import Ender
from policy.model import ActorId, Assumption, AssumptionId, Deny, DenyReason

END: Final = "/.locum/assumptions/end"
END_ALL: Final = "/.locum/assumptions/end-all"
_MOST_FORM_BYTES = 4096
_Find = Callable[[Sequence[tuple[str, str]], ActorId], Awaitable[Sequence[Assumption] | Deny]]


class BegunAssumptions:
    """The list of those that go on, by whatever way they were begun, and why no other can be begun now."""

    def __init__(self, store: Store, pages: Pages, places: Places, *, most: int, clock: Clock) -> None:
        """Let each have `most` open."""
        self._store = store
        self._pages = pages
        self._places = places
        self._most = most
        self._clock = clock

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:  # noqa: ARG002 - see HomePart
        """Return the list; raises StoreError."""
        actor, now = visitor.signed_in.staff.id, self._clock()
        begun = await self._store.list_begun(actor, at=now)
        switch = await self._store.find_kill_switch()
        hindered = []
        if switch.on:
            hindered.append(f"{_say(DenyReason.KILL_SWITCH)} {switch.reason}".strip())
        if len(begun) >= self._most:
            hindered.append(_say(DenyReason.TOO_MANY_ASSUMPTIONS))
        accounts = {one.account for one in begun}
        held = {id_ for account in accounts for id_ in await self._store.list_held(actor, account, at=now)}
        return self._pages.part(
            "begun.html",
            end=END,
            end_all=END_ALL,
            visitor=visitor,
            begun=[
                (one, f"{self._places.of_account(one.account)}{SESSION}" if one.id in held else "") for one in begun
            ],
            hindered=hindered,
        )

    def _place(self, assumption: Assumption) -> str:
        return f"{self._places.of_account(assumption.account)}{SESSION}"


class EndBegunEndpoint:
    """Ends them for whoever has begun them; it only takes power away."""

    def __init__(self, *, visitors: Visitors, store: Store, ender: Ender, pages: Pages, clock: Clock) -> None:
        self._visitors = visitors
        self._store = store
        self._ender = ender
        self._pages = pages
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(END, self.end), web.post(END_ALL, self.end_all)]

    async def end(self, request: web.Request) -> web.Response:
        """End one, recorded and stored when this answers; what has ended before is told the same."""
        return await self._answer(request, self._find_one)

    async def end_all(self, request: web.Request) -> web.Response:
        """End all that the person has open now, one after the other; who has none is told the same."""
        return await self._answer(request, self._find_all)

    async def _answer(self, request: web.Request, find: _Find) -> web.Response:
        if not self._visitors.is_on or not self._visitors.is_here(request):
            return self._pages.message("Not here", "No assumption ends at this address.", status=404)
        try:
            refused = await self._end(request, await read_form(request, _MOST_FORM_BYTES), find)
        except FormError as exc:
            refused = Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc))
        except StoreError:
            refused = Deny(reason=DenyReason.STORE_UNAVAILABLE)
        if refused is not None:
            return self._pages.refusal(refused, again=HOME)
        return web.Response(status=303, headers={"Location": HOME, "Cache-Control": "no-store"})

    async def _end(self, request: web.Request, fields: Sequence[tuple[str, str]], find: _Find) -> Deny | None:
        visitor = await self._visitors.who(request)
        if visitor is None:
            return Deny(reason=DenyReason.STAFF_SIGNED_OUT, detail="nobody is signed in here any more")
        if isinstance(visitor, Deny):
            return visitor
        wrong = self._visitors.check_form(request, fields, visitor)
        if wrong is not None:
            return Deny(reason=DenyReason.CROSS_SITE, detail=wrong)
        found = await find(fields, visitor.signed_in.staff.id)
        if isinstance(found, Deny):
            return found
        caller = Caller.through_front(request)
        for one in found:
            await self._ender.end(one.id, by=one.actor.subject, caller=caller, client=BROWSER)
        return None

    async def _find_one(self, fields: Sequence[tuple[str, str]], actor: ActorId) -> Sequence[Assumption] | Deny:
        named = [AssumptionId(value) for name, value in fields if name == "assumption"]
        found = await self._store.find_assumption(named[0]) if len(named) == 1 else None
        if found is None or found.actor != actor:
            # Of somebody else's not even that it is there.
            return Deny(reason=DenyReason.ASSUMPTION_UNKNOWN)
        return [found]

    async def _find_all(self, _fields: Sequence[tuple[str, str]], actor: ActorId) -> Sequence[Assumption] | Deny:
        return await self._store.list_begun(actor, at=self._clock())


def _say(reason: DenyReason) -> str:
    title = REFUSALS[reason].title
    return f"{title[:1].upper()}{title[1:]}."

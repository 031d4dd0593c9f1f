"""What a browser stands in for at a host, and the end of it: `/.locum/session` and `/.locum/session/end`."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.assumptions.holder import Held, Holder
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.pages.render import Pages
from gateway.proxy.wire import Headers
from gateway.refusals import REFUSALS
from gateway.stores.store import StoreError
from policy.decide import reach
from policy.model import Deny, DenyReason

SESSION: Final = "/.locum/session"
END: Final = "/.locum/session/end"
_SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class SessionEndpoint:
    """Answers people with pages and scripts of the app with JSON."""

    def __init__(self, *, holder: Holder, pages: Pages, staff_origin: str, clock: Clock) -> None:
        self._holder = holder
        self._pages = pages
        self._again = f"{staff_origin}/.locum/"
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(SESSION, self.session), web.post(END, self.end)]

    async def session(self, request: web.Request) -> web.Response:
        """Say who stands in for whom, why, until when and how far; `active` false and nothing more for nobody."""
        try:
            held = await self._holder.find(request)
        except StoreError:
            held = Deny(reason=DenyReason.STORE_UNAVAILABLE)
        if not _wants_page(request):
            return self._answer(held)
        if isinstance(held, Held):
            return self._pages.page("session.html", end=END, **self._describe(held))
        if held is None:
            return self._nobody("This browser stands in for nobody here.")
        lines = self._holder.farewell(request, held)
        if not lines:
            # Nothing here opens as an ordinary visitor as long as the cookie is there.
            return self._pages.refusal(held, again=SESSION)
        title = REFUSALS[held.reason].title
        return _with(lines, self._nobody(f"{title[:1].upper()}{title[1:]}."))

    async def end(self, request: web.Request) -> web.Response:
        """End it, recorded and stored when this answers; whoever ends nothing is told the same.

        Where it cannot be told what the browser holds, it keeps that.
        """
        caller = Caller.through_front(request)
        # Ours comes by itself with whatever page's form.
        if not self._holder.is_own_page(request):
            return self._refusal(request, Deny(reason=DenyReason.CROSS_SITE))
        try:
            doubt = await self._holder.end(request, caller)
        except StoreError:
            return self._refusal(request, Deny(reason=DenyReason.STORE_UNAVAILABLE))
        if doubt is not None:
            return self._refusal(request, doubt)
        ended = self._nobody("It has ended.") if _wants_page(request) else _json(200, {"active": False})
        return _with(self._holder.dropping, ended)

    def _answer(self, held: Held | Deny | None) -> web.Response:
        if isinstance(held, Held):
            said = self._describe(held)
            times = {name: _time(said[name]) for name in ("since", "until")}
            return _json(200, {"active": True, **said, **times})
        if held is not None and (status := REFUSALS[held.reason].status) in (400, 503):
            # Nobody knows; the cookie may be as good as ever.
            return _json(status, {"reason": str(held.reason)})
        return _json(200, {"active": False})

    def _nobody(self, said: str) -> web.Response:
        return self._pages.page("session_over.html", said=said, again=self._again)

    def _refusal(self, request: web.Request, deny: Deny) -> web.Response:
        if _wants_page(request):
            return self._pages.refusal(deny, again=SESSION)
        return _json(REFUSALS[deny.reason].status, {"reason": str(deny.reason)})

    def _describe(self, held: Held) -> dict[str, Any]:
        claims, facts = held.claims, held.facts
        assumption = facts.assumption
        return {
            "actor": {
                "issuer": claims.actor.issuer,
                "subject": claims.actor.subject,
                "name": facts.staff.name if facts.staff else claims.actor.subject,
            },
            "agent": claims.subject,
            "account": claims.account,
            "ticket": assumption.ticket if assumption else "",
            "reason": assumption.reason if assumption else "",
            "session": claims.assumption,
            "since": assumption.started_at if assumption else claims.issued_at,
            "until": held.ends_at,
            "seconds_left": max(0, int((held.ends_at - self._clock()).total_seconds())),
            "scopes": sorted(map(str, reach(claims, facts))),
        }


def _wants_page(request: web.Request) -> bool:
    return any(value.lstrip().lower().startswith("text/html") for value in request.headers.getall("Accept", []))


def _with(lines: Headers, response: web.Response) -> web.Response:
    for name, value in lines:
        response.headers.add(name.decode("ascii"), value.decode("latin-1"))
    return response


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(status: int, body: dict[str, Any]) -> web.Response:
    headers = {**_SAFE, "Retry-After": "1"} if status == 503 else _SAFE
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)

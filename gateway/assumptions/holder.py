"""What the browser of a control-plane request holds at the host that it asks."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from gateway.assumptions.handing import BROWSER
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.grants.facts import FactCache
from gateway.proxy.browsers import Browsers
from gateway.proxy.cookies import CookieCredential
from gateway.proxy.triage import name_of
from gateway.proxy.wire import Headers, RequestHead
from gateway.stores.store import StoreError
from gateway.tokens.ending import Ender
from policy.decide import check_standing, ends_at
from policy.model import AssumptionClaims, Deny, DenyReason, Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An assumption that stands now, whatever may be asked under it."""

    claims: AssumptionClaims
    facts: Facts
    ends_at: datetime
    """When it ends by itself."""


class Holder:
    """Tells whether a browser stands in for somebody at a host, by the same rules as in front of the app."""

    def __init__(self, browsers: Browsers, facts: FactCache, ender: Ender, *, clock: Clock) -> None:
        self._browsers = browsers
        self._facts = facts
        self._ender = ender
        self._clock = clock

    @property
    def dropping(self) -> Headers:
        """What takes every cookie of an assumption away from a browser."""
        return self._browsers.dropping

    def is_host_of(self, request: web.Request, claims: AssumptionClaims) -> bool:
        """Tell whether the request was sent to the host that the claims are for."""
        return _host(request) == claims.audience.encode("ascii")

    def is_own_page(self, request: web.Request) -> bool:
        """Tell whether the browser says that a page of the very host that is asked has sent the request."""
        return self._browsers.is_own_page(request.raw_headers)

    async def find(self, request: web.Request) -> Held | Deny | None:
        """Return what the browser holds, why that stands no more, or None if it holds nothing; raises StoreError."""
        credential = self._credential(request)
        if credential is None or isinstance(credential, Deny):
            return credential
        try:
            async with asyncio.timeout(self._facts.patience_seconds):
                claims = await self._browsers.admit(credential)
                if isinstance(claims, Deny):
                    return claims
                facts = await self._facts.of_request(claims.account, claims)
        except TimeoutError as exc:
            raise StoreError("what the browser holds could not be told in time") from exc
        now = self._clock()
        reason = check_standing(
            claims, facts, account=claims.account, audience=_host(request).decode("latin-1"), now=now
        )
        if reason is not None:
            return Deny(reason=reason)
        return Held(claims=claims, facts=facts, ends_at=ends_at(claims, facts))

    async def end(self, request: web.Request, caller: Caller) -> Deny | None:
        """End what the browser holds, on the record, or say why it cannot be told what that is; raises StoreError.

        Of what stands no more, and of what is for another host, there is nothing to end here.
        """
        credential = self._credential(request)
        if isinstance(credential, Deny):
            return credential if credential.reason is DenyReason.AMBIGUOUS_HEADER else None
        if credential is None:
            return None
        claims = await self._browsers.admit(credential)
        if not isinstance(claims, Deny) and self.is_host_of(request, claims):
            await self._ender.end(claims.assumption, by=claims.actor.subject, caller=caller, client=BROWSER)
        return None

    def farewell(self, request: web.Request, deny: Deny) -> Headers:
        """Return what takes the cookie away with an answer that tells a person that it is over; empty if it stays.

        By the same rule as in front of the app.
        """
        head = RequestHead(
            method=request.method.encode("ascii"), target=request.path_qs.encode("utf-8"), headers=request.raw_headers
        )
        farewell = self._browsers.farewell(head, deny)
        return () if farewell is None else farewell.lines

    def _credential(self, request: web.Request) -> CookieCredential | Deny | None:
        found = self._browsers.cookies.find(request.raw_headers)
        if found is None:
            return None
        return Deny(reason=found.assumption) if isinstance(found.assumption, DenyReason) else found.assumption


def _host(request: web.Request) -> bytes:
    hosts = [value for name, value in request.raw_headers if name.lower() == b"host"]
    return name_of(hosts[0]) if len(hosts) == 1 else b""

"""What a self-test asks for: a place behind the decision that is neither the app's nor any customer's.

It is reached as the app is: with an assumption token, under a live grant, on the record, and cut with the rest. No
token that is issued has its scope, for no profile lists it; only whoever holds the signing key makes one.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from typing import Final

from aiohttp import web

from gateway.caller import CLIENT_HEADER
from policy.model import Scope
from policy.routes import METHODS, Profile, RouteRule

PREFIX: Final = b"/.locum/selftest/"
PING = "/.locum/selftest/ping"
STREAM = "/.locum/selftest/stream"
SCOPE = Scope(resource="selftest", write=False)
WHO: Final = "locum selftest"
"""Who acts in a self-test, and for whom."""

_RULE = RouteRule(
    id="locum.selftest",
    methods=frozenset({"GET"}),
    path=re.compile(f"{re.escape(PING)}|{re.escape(STREAM)}"),
    scope=SCOPE,
)
_TICK_SECONDS = 0.005
_MOST_TICKS = 12_000  # a minute of them


def with_door(profile: Profile) -> Profile:
    """Return the profile with the self-test's rule beside its own; none of those can speak about it and widen it."""
    rules = (*profile.rules, _RULE)
    by_method = {method: tuple(rule for rule in rules if rule.speaks_of(method)) for method in METHODS}
    return replace(profile, rules=rules, by_method=by_method, _matched={})


def routes() -> list[web.AbstractRouteDef]:
    """Return the routes of the control plane; the front lets nobody there without a Permit."""
    return [web.get(PING, _ping, allow_head=False), web.get(STREAM, _stream, allow_head=False)]


async def _ping(request: web.Request) -> web.Response:
    _only_behind_the_decision(request)
    return web.Response(status=204)


async def _stream(request: web.Request) -> web.StreamResponse:
    """Send a byte every few milliseconds, so that whoever reads knows how late the last one came."""
    _only_behind_the_decision(request)
    response = web.StreamResponse()
    with suppress(ConnectionResetError):  # a cut is how it ends
        await response.prepare(request)
        for _ in range(_MOST_TICKS):
            await response.write(b".")
            await asyncio.sleep(_TICK_SECONDS)
    return response


def _only_behind_the_decision(request: web.Request) -> None:
    """Refuse what the front has passed on without a decision: it says who is connected, and nobody else may say so.

    The front knows this place by its exact bytes, and a path that only reads the same has another spelling there.
    """
    if CLIENT_HEADER in request.headers:
        raise web.HTTPNotFound

"""A gateway whose provider tells it of sign-outs, over raw sockets."""

import itertools
import json
from urllib.parse import urlencode

from policy.events import LOGOUT, SESSION_REVOKED
from tests.forgery import DROP
from tests.gateway_world import AUDIENCE

LOGOUT_URL = "/.locum/backchannel-logout"
EVENTS_URL = "/.locum/ssf/events"
FORM = "application/x-www-form-urlencoded"
SET = "application/secevent+jwt"
_numbers = itertools.count(1)


def logout_claims(world, subject="dana", **changes):
    at = int(world.clock.now.timestamp())
    return _kept({
        "iss": world.issuer.issuer,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": at,
        "exp": at + 120,
        "jti": f"logout-{next(_numbers)}",
        "events": {LOGOUT: {}},
    }, changes)  # fmt: skip


def event_claims(world, subject="dana", **changes):
    return _kept({
        "iss": world.issuer.issuer,
        "aud": AUDIENCE,
        "iat": int(world.clock.now.timestamp()),
        "jti": f"event-{next(_numbers)}",
        "sub_id": person(world, subject),
        "events": {SESSION_REVOKED: {"initiating_entity": "admin", "reason_admin": {"en": "left the team"}}},
    }, changes)  # fmt: skip


def person(world, subject="dana"):
    return {"format": "iss_sub", "iss": world.issuer.issuer, "sub": subject}


def logout_token(world, subject="dana", *, type_="logout+jwt", algorithm="RS256", **changes):
    return world.issuer.signed(logout_claims(world, subject, **changes), type_=type_, algorithm=algorithm)


def event_token(world, subject="dana", *, type_="secevent+jwt", algorithm="RS256", **changes):
    return world.issuer.signed(event_claims(world, subject, **changes), type_=type_, algorithm=algorithm)


async def tell(world, token, *, target=LOGOUT_URL, kind=FORM, body=None, method="POST"):
    """Send a logout token; return (status, headers, body)."""
    body = urlencode({"logout_token": token}).encode() if body is None else body
    return await world.get(target=target, method=method, headers=[("Content-Type", kind)], body=body)


async def push(world, token, *headers, target=EVENTS_URL, kind=SET, body=None, method="POST"):
    """Push an event; return (status, headers, body)."""
    body = token.encode() if body is None else body
    return await world.get(target=target, method=method, headers=[("Content-Type", kind), *headers], body=body)


def answer(reply):
    """Return the status and what the JSON body says, if there is one."""
    status, _, body = reply
    return status, json.loads(body) if body else None


def _kept(claims, changes):
    return {name: value for name, value in (claims | changes).items() if value is not DROP}

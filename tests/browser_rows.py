"""Browsers that stand in by rows put into the store, for tests that need no sign-in before."""

from datetime import timedelta
from hashlib import sha256
from json import dumps

from gateway.proxy.browsers import Browsers
from gateway.stores.browsing import BrowserAssumption
from policy.model import AssumptionId
from tests.gateway_world import ISSUER
from tests.oauth_world import payload_of


def browsers_of(store, facts, tasks, clock, *, issuer=ISSUER, idle=timedelta(minutes=30)):
    """What knows of browsers, for a gateway put together by hand."""
    return Browsers(store, facts, issuer=issuer, idle=idle, script_cookies=frozenset(), clock=clock, tasks=tasks)


async def hold(world, token, value):
    """Have whoever sends this cookie's value hold the assumption of a token, for as long as that is good."""
    now, claims = world.clock.now, payload_of(token)
    await world.gateway.store.add_browser(
        BrowserAssumption(
            digest=sha256(value.encode()).digest(),
            assumption=AssumptionId(claims["sid"]),
            claims=dumps(claims),
            expires_at=now + timedelta(seconds=claims["exp"] - claims["iat"]),
            seen_at=now,
        ),
        at=now,
    )

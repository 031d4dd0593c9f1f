"""A gateway whose OAuth endpoints are asked by hand: one client that gets tokens, one that asks about them."""

import base64
import hashlib
import secrets
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import urlencode

from joserfc import jwt

from gateway.clients import digest_of
from gateway.places import Places
from gateway.proxy.proofs import HeldKeys
from gateway.stores.store import Client
from gateway.taken import Taken
from gateway.tokens.compact import read_compact
from gateway.tokens.dpop import Nonces, Proofs
from policy.model import ClientId
from tests.gateway_world import HOST, ISSUER, open_world
from tests.token_endpoint_world import TOKEN_URL, post

INTROSPECT = "/.locum/oauth/introspect"
PLACE = f"{ISSUER}{TOKEN_URL}"
REVOKE = "/.locum/oauth/revoke"
PLACES = Places(issuer=ISSUER, host_of=lambda account: f"{account}.helpdesk.example")


def held_keys(signing, clock, ticks):
    """Return what judges proofs at the data plane, with nonces of a key of ours."""
    proofs = Proofs(Nonces(SimpleNamespace(signing=signing, published=lambda: [signing]), clock), clock)
    return HeldKeys(proofs, PLACES, Taken(seconds=70, ticks=ticks))


@asynccontextmanager
async def open_oauth(directory, **options):
    """A gateway with a grant that includes test tickets, and clients: `app`, `other` (token), `api` (introspect)."""
    async with open_world(directory, **options) as world:
        assert 200 == (await world.choose("week", ["read", "test_tickets"]))[0]
        await world.add_account("beta")
        assert 200 == (await world.choose("week", account="beta"))[0]
        for name, role in (("other", "token"), ("api", "introspect"), ("desk", "grants")):
            await world.gateway.store.add_client(
                Client(id=ClientId(name), secret_digest=digest_of("plain"), roles=frozenset({role}))
            )
        yield world


def basic(name):
    """Return the header line of one of the clients beside `app`."""
    return "Authorization: Basic " + base64.b64encode(f"{name}:plain".encode()).decode()


async def introspect(world, token, *, by="api", **more):
    """Ask about a token; return (status, headers, document)."""
    return await post(world, urlencode({"token": token} | more), target=INTROSPECT, headers=[basic(by)])


async def revoke(world, token, *, by=None, **more):
    """Take a token back, as `app` unless said otherwise; return (status, headers, document)."""
    lines = [f"Authorization: {world.basic()}"] if by is None else [basic(by)]
    return await post(world, urlencode({"token": token} | more), target=REVOKE, headers=lines)


def payload_of(token):
    """Return what a token says, unverified."""
    return read_compact(token).payload


def proof(world, *, key, alg="ES256", header=None, token=None, **changes):
    """Return a proof of a request to the token endpoint, or to the app with a `token`; None drops a claim."""
    claims = {
        "jti": secrets.token_hex(8),
        "iat": int(world.clock.now.timestamp()),
        "htm": "POST" if token is None else "GET",
        "htu": PLACE if token is None else f"https://{HOST}/tickets/1",
    }
    if token is not None:
        claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    head = {"alg": alg, "typ": "dpop+jwt", "jwk": key.as_dict(private=False)} | (header or {})
    return jwt.encode({name: value for name, value in head.items() if value is not None}, claims, key, algorithms=[alg])

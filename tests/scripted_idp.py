"""An identity provider that answers what a test tells it to, and ID tokens in its name."""

import json
from contextlib import asynccontextmanager

from gateway.asking import open_asker
from gateway.staff.issuer import Issuer
from tests.forgery import DROP, NOON, PRIVATE, Forger, b64
from tests.journals import Ticks
from tests.rawwire import RecordingUpstream, response

IDP = "https://idp.vendor.example"
ME = "locum"
AT = int(NOON.timestamp())


def jwk(kid="k1", **changes):
    """The forger's public key as an issuer publishes it."""
    entry = {"kty": "OKP", "crv": "Ed25519", "x": b64(PRIVATE.public_key().public_bytes_raw()), "kid": kid} | changes
    return {name: value for name, value in entry.items() if value is not DROP}


def id_token(issuer=IDP, kid="k1", *, header=None, **changes):
    """An ID token of the forger: {iss, sub, aud, iat, exp, groups} with changes."""
    payload = {"iss": issuer, "sub": "dana", "aud": ME, "iat": AT, "exp": AT + 300, "groups": ["support"]} | changes
    forger = Forger(private=PRIVATE, key_id=kid)
    return forger.token(payload, {"alg": "EdDSA", "kid": kid, "typ": "JWT"} if header is None else header)


@asynccontextmanager
async def issuer_of(address, ticks=None):
    async with open_asker(most=4) as http:
        yield Issuer(address, http=http, ticks=ticks or Ticks())


@asynccontextmanager
async def idp(discovery=None, keys=None, *, slash=""):
    """A scripted issuer; each answer is raw bytes, a document, or None for the right one."""

    def raw(answer):
        return response(json.dumps(answer).encode()) if isinstance(answer, dict) else answer

    def script(request):
        if request.target == b"/.well-known/openid-configuration":
            right = {"issuer": upstream.url + slash, "jwks_uri": f"{upstream.url}/keys"}
            return raw(right if discovery is None else discovery)
        return raw({"keys": [jwk()]} if keys is None else keys)

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url + slash) as issuer:
        yield upstream, issuer

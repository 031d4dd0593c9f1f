"""Claims from the userinfo endpoint: only those that were asked for, only what the ID token lacks, of the same person."""

import json
from contextlib import asynccontextmanager

import pytest

from gateway.config.check_sign_in import check_sign_in
from gateway.config.load import build
from gateway.config.model import ConfigError, SignIn
from gateway.staff.issuer import IssuerError
from gateway.staff.sign_in.provider import CodeRefused
from tests.forgery import DROP
from tests.gateway_world import document
from tests.rawwire import response
from tests.scripted_idp import ME
from tests.test_id_tokens import ATTEMPT, provider, right

GROUPS = SignIn(client_id=ME, userinfo_claims=("groups", "department"))


@asynccontextmanager
async def asking(said, *, section=GROUPS, metadata=None, **changes):
    """A provider whose ID token has `changes`, and whose userinfo endpoint answers as `said`."""
    upstreams = []

    def answer(url):
        made = right(url, **{"groups": DROP} | changes)
        asked = upstreams[0].requests[-1]
        if asked.target != b"/userinfo":
            return made
        assert (b"GET", [b"Bearer at-1"]) == (asked.method, asked.values(b"authorization"))
        return response(json.dumps(said).encode()) if isinstance(said, dict) else said

    known = {"userinfo_endpoint": "http://127.0.0.1:%d/userinfo"}
    async with provider(answer, section=section, metadata=metadata) as world:
        upstreams.append(world[0])
        if metadata is None:
            issuer = world[1].issuer
            world[1]._issuer = Named(world[1]._issuer, known["userinfo_endpoint"] % int(issuer.rpartition(":")[2]))
        yield world


class Named:
    """The issuer, with a userinfo endpoint in what it says of itself."""

    def __init__(self, issuer, endpoint):
        self._whole, self.issuer, self._endpoint = issuer, issuer.issuer, endpoint

    async def metadata(self):
        return {**await self._whole.metadata(), "userinfo_endpoint": self._endpoint}

    async def keys_for(self, token, *, stranger=False, direct=False):
        return await self._whole.keys_for(token, stranger=stranger, direct=direct)


async def test_what_the_id_token_lacks_is_asked_for():
    """And nothing else of what is answered counts."""
    said = {"sub": "dana", "groups": ["support"], "acr": "high", "email": "d@x.example"}
    async with asking(said) as (_, asked):
        claims = await asked.redeem("c0de", ATTEMPT)
    assert (["support"], "dana") == (claims["groups"], claims["sub"])
    assert set() == {"acr", "email", "department"} & claims.keys()


async def test_what_the_id_token_says_counts():
    """With all that is wanted in it, nobody is asked; with a part, the signed part stays."""
    async with asking({"sub": "dana", "groups": ["root"]}, groups=["support"], department="x") as (upstream, asked):
        assert ["support"] == (await asked.redeem("c0de", ATTEMPT))["groups"]
        assert b"/userinfo" not in [seen.target for seen in upstream.requests]
    async with asking({"sub": "dana", "groups": ["root"], "department": "y"}, groups=["support"]) as (_, asked):
        claims = await asked.redeem("c0de", ATTEMPT)
        assert (["support"], "y") == (claims["groups"], claims["department"])


@pytest.mark.parametrize("said", [{"sub": "eve", "groups": ["support"]}, {"groups": ["support"]}, {"sub": ["dana"]}])
async def test_what_is_said_of_somebody_else_refuses_the_sign_in(said):
    """OpenID Connect Core 1.0 section 5.3.2."""
    async with asking(said) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (response(b"{}", status=b"401 Unauthorized"), CodeRefused),
        (response(b"{}", status=b"503 Unavailable"), IssuerError),
        (response(b"eyJ.e30.x"), IssuerError),
        (response(b"", status=b"302 Found", headers=[(b"Location", b"/elsewhere")]), IssuerError),
    ],
)
async def test_without_an_answer_nobody_is_signed_in(said, fault):
    """Not with fewer claims, either: a rule that says what somebody must not be would let them in."""
    async with asking(said) as (_, asked):
        with pytest.raises(fault):
            await asked.redeem("c0de", ATTEMPT)


@pytest.mark.parametrize("endpoint", [{}, {"userinfo_endpoint": "http://idp.vendor.example/userinfo"}])
async def test_a_provider_without_a_safe_endpoint_signs_nobody_in(endpoint):
    """The access token goes over TLS or stays where it is."""
    async with asking({}, metadata=endpoint) as (_, asked):
        with pytest.raises(IssuerError):
            await asked.redeem("c0de", ATTEMPT)


@pytest.mark.parametrize("name", ["sub", "amr", "auth_time", "sid"])
def test_what_a_signature_has_to_say_is_no_such_claim(tmp_path, name):
    """It is refused at the start, by its path."""
    wanted = document(tmp_path, upstream="http://127.0.0.1:9", issuer="https://idp.vendor.example")
    wanted["staff"]["sign_in"] = {"client_id": ME, "userinfo_claims": ["groups", name]}
    with pytest.raises(ConfigError, match=r"staff\.sign_in\.userinfo_claims\[1\]"):
        check_sign_in(build(wanted, {}, base=tmp_path))

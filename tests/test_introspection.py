"""Introspection tells of a token what the data plane would make of it, and of a dead one nothing at all (RFC 7662)."""

import json
import sqlite3
from contextlib import closing
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from gateway.stores.store import KillSwitch
from policy.model import ActorId
from tests.forgery import Forger
from tests.gateway_world import HOST, ISSUER
from tests.oauth_world import INTROSPECT, basic, introspect, open_oauth, payload_of
from tests.token_attacks import header_attacks, payload_attacks, spellings
from tests.token_endpoint_world import post

shared = pytest.mark.asyncio(loop_scope="module")
DEAD = {"active": False}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these: none of them changes anything."""
    async with open_oauth(tmp_path_factory.mktemp("introspection")) as world:
        yield world


@shared
async def test_a_live_token_is_told_as_it_says_itself(world):
    """RFC 7662 section 2.2, and the same `act` and details as in the token (RFC 8693 section 4.1, RFC 9396)."""
    token = await world.token(actor_token=world.actor_token(acr="phrh", amr=["hwk"], auth_time=world.clock.now))
    status, headers, document = await introspect(world, token)
    assert 200 == status
    assert "application/json" == headers["content-type"].partition(";")[0]
    assert "no-store" == headers["cache-control"]
    payload = payload_of(token)
    assert {"active": True, "token_type": "Bearer"} | payload == document
    assert {"sub": "dana", "iss": world.issuer.issuer} == document["act"]
    assert ("phrh", ["hwk"], "maria", HOST) == (document["acr"], document["amr"], document["sub"], document["aud"])


@shared
async def test_a_hint_at_the_type_changes_nothing(world):
    """RFC 7662 section 2.1: the server may pass it over, and an unknown one is no error."""
    token = await world.token()
    for hint in ("access_token", "refresh_token", "nonsense"):
        assert True is (await introspect(world, token, token_type_hint=hint))[2]["active"]


@shared
async def test_what_is_no_token_of_ours_is_inactive_and_nothing_more(world):
    """Foreign, damaged, forged, an assertion or an ID token: the same two words for each."""
    good = await world.token()
    forger = Forger(private=world.gateway.keys.signing.private, key_id=world.gateway.keys.signing.id)
    forger.now = world.clock.now
    tokens = [token for _, token in [*header_attacks(forger), *payload_attacks(forger), *spellings(good)]]
    tokens += ["x", "a.b.c", world.actor_token(), good[:-1], good[1:], "é", forger.token(header=forger.header(typ="x"))]
    for token in tokens[::3] + tokens[-8:]:
        assert (200, DEAD) == (await introspect(world, token))[::2], token


@shared
@pytest.mark.parametrize("by", ["other", "desk", "nobody"])
async def test_only_a_client_with_its_own_role_may_ask(world, by):
    """RFC 7662 section 2.1: whoever could ask without it could try tokens out."""
    status, headers, document = await introspect(world, await world.token(), by=by)
    assert (401, "invalid_client") == (status, document["error"])
    assert 'Basic realm="locum"' == headers["www-authenticate"]


@shared
async def test_a_client_without_a_secret_learns_nothing(world):
    """Not even with the token itself as a bearer token."""
    token = await world.token()
    for lines in (["X-None: 1"], [f"Authorization: Bearer {token}"]):
        status, _, document = await post(world, urlencode({"token": token}), target=INTROSPECT, headers=lines)
        assert (401, "invalid_client") == (status, document["error"])


@shared
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", "application/x-www-form-urlencoded"),
        ("token=", "application/x-www-form-urlencoded"),
        ("token=a&token=b", "application/x-www-form-urlencoded"),
        ("token=a&token_type_hint=x&token_type_hint=x", "application/x-www-form-urlencoded"),
        ("token=a&client_secret=plain", "application/x-www-form-urlencoded"),
        ("token=a&client_id=app", "application/x-www-form-urlencoded"),
        ('{"token": "a"}', "application/json"),
        ("token=a", "text/plain"),
        ("token=" + "x" * 20000, "application/x-www-form-urlencoded"),
    ],
)
async def test_the_request_is_one_form_with_one_token(world, body, kind):
    """Parameter pollution, JSON and a second way to authenticate are refused."""
    status, _, document = await post(world, body, target=INTROSPECT, headers=[basic("api")], kind=kind)
    assert (400, "invalid_request") == (status, document["error"])


@shared
async def test_a_token_in_the_query_is_refused_and_get_is_not_served(world):
    """RFC 7662 section 4: what stands in a URL stands in logs."""
    token = await world.token()
    target = f"{INTROSPECT}?token={token}"
    assert 400 == (await post(world, "token=a", target=target, headers=[basic("api")]))[0]
    assert 405 == (await post(world, "", method="GET", target=target, headers=[basic("api")], kind=None))[0]


# --- every end ---


async def off(world, _claims):
    await world.choose("off")


async def reduced(world, _claims):
    await world.choose("week", ["read"])


async def chosen_anew(world, _claims):
    await world.choose("off")
    await world.choose("week")


async def grant_expired(world, _claims):
    await world.choose("day")
    world.clock.forward(days=1)


async def token_expired(world, _claims):
    world.clock.forward(seconds=900)


async def not_yet(world, _claims):
    world.clock.forward(seconds=-6)  # further than two clocks may be apart


async def ended(world, claims):
    await world.gateway.store.end_assumption(claims["sid"], at=world.clock.now)


async def locked(world, _claims):
    dana = ActorId(issuer=world.issuer.issuer, subject="dana")
    assert await world.gateway.store.disable_staff(dana, disabled=True)


async def signed_out(world, _claims):
    dana = ActorId(issuer=world.issuer.issuer, subject="dana")
    assert await world.gateway.store.sign_out(dana, since=world.clock.now, at=world.clock.now)


async def halted(world, _claims):
    await world.gateway.store.set_kill_switch(KillSwitch(on=True, by="security", at=world.clock.now))


async def suspended(world, _claims):
    with closing(sqlite3.connect(world.directory / "locum.sqlite3", isolation_level=None)) as other:
        other.execute("UPDATE accounts SET suspended = 1 WHERE id = 'acme'")


@pytest.mark.parametrize(
    "end",
    [
        off, reduced, chosen_anew, grant_expired, token_expired, not_yet, ended, locked, signed_out, halted, suspended,
    ],
)  # fmt: skip
async def test_a_dead_token_is_inactive_and_not_a_word_more(tmp_path, end):
    """By whatever way it ended: as soon as the data plane refuses it, and though its `exp` lies ahead."""
    async with open_oauth(tmp_path) as world:
        token = await world.token(scope="tickets:write:test" if end is reduced else "tickets:read")
        assert True is (await introspect(world, token))[2]["active"]
        await end(world, payload_of(token))
        # The push comes by itself; at the latest the facts are too old after two seconds.
        if end not in (token_expired, not_yet, grant_expired):
            world.clock.forward(seconds=3)
        status, _, document = await introspect(world, token)
        assert (200, DEAD) == (status, document)
        assert 200 != (await world.get(token))[0]


async def test_the_scope_is_what_is_left_of_it(tmp_path):
    """A grant that was reduced leaves the token what it can still do."""
    async with open_oauth(tmp_path) as world:
        token = await world.token(scope="tickets:read tickets:write:test")
        assert "tickets:read tickets:write:test" == (await introspect(world, token))[2]["scope"]
        await world.choose("week", ["read"])
        world.clock.forward(seconds=3)
        assert "tickets:read" == (await introspect(world, token))[2]["scope"]


async def test_a_store_that_does_not_answer_is_no_answer(tmp_path):
    """503 and when to come back, neither active nor dead: whoever asks must not be told what nobody knows."""
    async with open_oauth(tmp_path) as world:
        token = await world.token()
        with closing(sqlite3.connect(world.directory / "locum.sqlite3", isolation_level=None)) as other:
            for table in ("assumptions", "accounts", "staff"):
                other.execute("PRAGMA legacy_alter_table = ON")
                other.execute(f"ALTER TABLE {table} RENAME TO gone")
                world.clock.forward(seconds=3)
                status, headers, document = await introspect(world, token)
                assert (503, "temporarily_unavailable", "1") == (status, document["error"], headers["retry-after"])
                assert "active" not in document
                other.execute(f"ALTER TABLE gone RENAME TO {table}")
                world.clock.forward(seconds=3)
                assert True is (await introspect(world, token))[2]["active"]
        await world.gateway.store.close()
        world.clock.forward(seconds=3)
        assert 503 == (await introspect(world, token))[0]


async def test_asking_leaves_nothing_of_the_token_behind(tmp_path):
    """Neither the journal nor the store learns a token that somebody asks about."""
    async with open_oauth(tmp_path) as world:
        token = await world.token()
        await introspect(world, token)
        for path in (tmp_path / "journal").iterdir():
            assert token.encode() not in path.read_bytes()
        assert ISSUER in json.dumps(payload_of(token))

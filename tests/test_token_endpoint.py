"""The token endpoint: what it issues, and that it issues nothing while a part of us is away."""

import sqlite3
from urllib.parse import urlencode

import jwt
import pytest
import pytest_asyncio

from gateway.demo.issuer import Fault
from policy.claims import TOKEN_TYPE
from tests.gateway_world import HOST, ISSUER, open_world
from tests.token_endpoint_world import form, issued, open_endpoint, post

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these: none of them changes anything."""
    async with open_endpoint(tmp_path_factory.mktemp("endpoint")) as world:
        yield world


@shared
async def test_the_answer_is_that_of_rfc_8693(world):
    """Every member that section 2.2.1 asks for, what was really granted, and nothing to renew it with."""
    before = issued(world)
    status, headers, document = await post(world, urlencode(form(world, scope="tickets:read")))
    assert 200 == status
    assert {
        "access_token", "issued_token_type", "token_type", "expires_in", "scope", "authorization_details",
    } == set(document)  # fmt: skip
    assert (ACCESS_TOKEN, "Bearer", 900, "tickets:read") == (
        document["issued_token_type"],
        document["token_type"],
        document["expires_in"],
        document["scope"],
    )
    assert ("no-store", "no-cache") == (headers["cache-control"], headers["pragma"])
    assert "application/json" == headers["content-type"].partition(";")[0]
    assert 1 == issued(world) - before
    [details] = document["authorization_details"]
    record = await world.gateway.store.find_account("acme")
    assert {
        "type": "account_assumption", "identifier": record.grant.id, "locations": [HOST], "account": "acme",
        "ticket": "SUP-1", "grant_epoch": 1,
    } == details  # fmt: skip


@shared
async def test_the_token_says_what_rfc_9068_asks_for(world):
    """Type, issuer, audience, both people, the client, the times and how staff had signed in."""
    _, answer = await world.ask(scope="tickets:read", actor_token=world.actor_token("dana", amr=["hwk"], acr="phr"))
    token = answer["access_token"]
    header = jwt.get_unverified_header(token)
    assert {"alg": "EdDSA", "typ": TOKEN_TYPE, "kid": world.gateway.keys.signing.id} == header
    claims = jwt.decode(
        token,
        world.gateway.keys.signing.public,
        algorithms=["EdDSA"],
        options={"verify_aud": False, "verify_exp": False},
    )
    now = int(world.clock.now.timestamp())
    wanted = {
        "iss": ISSUER, "aud": HOST, "sub": "maria", "act": {"sub": "dana", "iss": world.issuer.issuer},
        "client_id": "app", "scope": "tickets:read", "iat": now, "nbf": now, "exp": now + 900,
        "acr": "phr", "amr": ["hwk"], "auth_time": now,
        "authorization_details": answer["authorization_details"],
    }  # fmt: skip
    assert wanted == {name: value for name, value in claims.items() if name not in ("sid", "jti")}
    assert claims["sid"] and claims["jti"]
    [record] = world.records(kind="token", decision="allow", token_id=claims["jti"])
    assert claims["sid"] == record["assumption"]
    assert ("maria", "acme", "SUP-1", "cannot reproduce", "app") == tuple(
        record[name] for name in ("subject", "account", "ticket", "stated_reason", "client_id")
    )


@shared
async def test_no_two_tokens_are_the_same(world):
    """Each exchange starts an assumption of its own."""
    tokens = [jwt.decode(await world.token(), options={"verify_signature": False}) for _ in range(3)]
    assert 3 == len({claims["sid"] for claims in tokens}) == len({claims["jti"] for claims in tokens})


@shared
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "tickets:read"),
        ("", "tickets:read"),
        ("tickets:read tickets:read", "tickets:read"),
        ("tickets:write:test", "tickets:write:test"),
        ("tickets:read tickets:write tickets:write:test", "tickets:read tickets:write:test"),
    ],
)
async def test_scopes_only_ever_shrink(world, asked, expected):
    """Nothing asked is reading only; what the account does not allow is left out, and the answer says so."""
    status, document = await world.ask(scope=asked)
    assert (200, expected) == (status, document["scope"])
    assert expected == jwt.decode(document["access_token"], options={"verify_signature": False})["scope"]


async def test_staff_get_no_more_than_their_rule(tmp_path):
    """What the vendor's rule does not give a person, no account can."""

    def change(document):
        document["staff"]["rules"] = [{"subject": "dana", "permissions": ["read"]}]

    async with open_world(tmp_path, change=change) as world:
        await world.choose("week", ["read", "write", "test_tickets"])
        status, document = await world.ask(scope="tickets:read tickets:write")
        assert (200, "tickets:read") == (status, document["scope"])
        status, document = await world.ask(scope="tickets:write")
        assert (400, "invalid_scope", "permission_not_granted") == (status, document["error"], document["reason"])


async def test_no_token_outlives_its_grant(tmp_path):
    """Near the grant's end the token ends with it; after it there is none."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        end = world.clock.now.timestamp() + 86400
        for left, expected in ((901, 900), (900, 900), (899, 899), (1, 1)):
            world.clock.forward(seconds=end - left - world.clock.now.timestamp())
            _, document = await world.ask()
            claims = jwt.decode(document["access_token"], options={"verify_signature": False})
            assert (expected, min(end, claims["iat"] + 900)) == (document["expires_in"], claims["exp"])
        world.clock.forward(seconds=1)
        status, document = await world.ask()
        assert (400, "grant_expired") == (status, document["reason"])


@shared
async def test_a_trial_account_is_assumable_without_a_setting(world):
    """Its implicit grant carries what the operator allows for trials, and has an id of its own."""
    status, document = await world.ask(account="newcomer", scope="tickets:read tickets:write")
    assert (200, "tickets:read") == (status, document["scope"])
    assert "trial_newcomer" == document["authorization_details"][0]["identifier"]


@shared
async def test_the_keys_are_published_and_verify_what_is_issued(world):
    """The set holds public members only, and the token's `kid` is in it."""
    async with world.http.get(f"{world.gateway.public_url}/.locum/jwks.json") as answer:
        assert (200, "application/jwk-set+json") == (answer.status, answer.content_type)
        assert "max-age=60" == answer.headers["Cache-Control"]
        document = await answer.json(content_type=None)
    assert ["keys"] == list(document)
    [key] = document["keys"]
    assert {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"} == {
        k: key[k] for k in ("kty", "crv", "use", "alg")
    }
    assert {"kty", "crv", "x", "kid", "use", "alg"} == set(key)
    token = await world.token()
    assert key["kid"] == jwt.get_unverified_header(token)["kid"]
    jwt.decode(token, jwt.PyJWK(key), algorithms=["EdDSA"], audience=HOST, options={"verify_exp": False})


# --- when a part of us is away ---


async def test_what_cannot_be_recorded_is_not_issued(tmp_path):
    """With a broken journal there is no token, and no assumption in the store."""
    async with open_world(tmp_path) as world:
        await world.choose("week")
        await world.gateway.journal.close()
        for changes in ({}, {"scope": "invoices:read"}):
            status, headers, document = await post(world, urlencode(form(world, **changes)))
            assert (503, "temporarily_unavailable") == (status, document["error"])
            assert "journal_unavailable" == document["reason"]
            assert "1" == headers["retry-after"]
            assert "access_token" not in document
        assert 0 == issued(world)


async def test_the_record_is_there_before_the_assumption(tmp_path):
    """A store that fails after the record leaves an issue on record that nobody got, never the other way round."""
    async with open_world(tmp_path) as world:
        await world.choose("week")
        await world.token()
        with sqlite3.connect(world.directory / "locum.sqlite3") as database:
            database.execute(
                "CREATE TRIGGER full BEFORE INSERT ON assumptions BEGIN SELECT RAISE(ABORT, 'no room'); END"
            )
        database.close()
        status, document = await world.ask()
        assert "access_token" not in document
        assert 503 == status
        assert 1 == issued(world)
        assert 2 == len(world.records(kind="token", decision="allow"))
        assert 1 == len(world.records(kind="token", decision="deny", reason="store_unavailable"))


async def test_without_the_store_nothing_is_issued(tmp_path):
    """The store's absence is no client's and no account's doing: 503, come back later."""
    async with open_world(tmp_path) as world:
        await world.choose("week")
        body = urlencode(form(world))
        await world.gateway.store.close()
        status, headers, document = await post(world, body)
        assert (503, "store_unavailable", "1") == (status, document["reason"], headers["retry-after"])


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SILENT])
async def test_without_the_issuer_nothing_is_issued(tmp_path, fault):
    """Who staff are cannot be known, so nobody is staff; once the issuer is back, at once."""
    async with open_world(tmp_path) as world:
        await world.choose("week")
        world.issuer.down(fault)
        status, document = await world.ask()
        assert (503, "temporarily_unavailable", "issuer_unavailable") == (status, document["error"], document["reason"])
        world.issuer.up()
        assert 200 == (await world.ask())[0]

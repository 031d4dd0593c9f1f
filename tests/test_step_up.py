"""Staff's own sign-in has to be strong and fresh, at the exchange and for as long as they stand in (RFC 9470)."""

import json
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace

from tests.gateway_world import parse
from tests.oauth_world import introspect, open_oauth, payload_of
from tests.token_endpoint_world import form, post


def demanding(**more):
    def change(document):
        document["staff"] |= {"max_age_seconds": 3600} | more

    return change


@pytest.fixture
async def world(tmp_path):
    async with open_oauth(tmp_path, change=demanding(require_acr=["phrh", "phr"])) as world:
        yield world


async def ask(world, **changes):
    actor = world.actor_token(**({"acr": "phrh", "auth_time": world.clock.now} | changes))
    return await post(world, urlencode(form(world, actor_token=actor)))


async def token(world, **changes):
    status, _, document = await ask(world, **changes)
    assert 200 == status, document
    return document["access_token"]


async def test_a_token_says_how_staff_signed_in(world):
    """RFC 9470 section 6: `acr` and `auth_time` are in the token and at introspection."""
    one = await token(world)
    now = int(world.clock.now.timestamp())
    assert ("phrh", now) == (payload_of(one)["acr"], payload_of(one)["auth_time"])
    document = (await introspect(world, one))[2]
    assert ("phrh", now) == (document["acr"], document["auth_time"])


@pytest.mark.parametrize("changes", [{"acr": "pwd"}, {"acr": "PHRH"}, {"acr": "phrh phr"}])
async def test_too_weak_a_sign_in_is_told_what_it_has_to_be(world, changes):
    """The client learns which contexts and which age to ask the provider for."""
    status, _, document = await ask(world, **changes)
    assert (400, "insufficient_user_authentication") == (status, document["error"])
    assert ("phrh phr", "3600") == (document["acr_values"], document["max_age"])


async def test_a_sign_in_that_has_grown_too_old_ends_the_assumption(world):
    """At the door, too: 401 with what to ask for, from the very second on; and nobody is told it is alive."""
    world.clock.forward(hours=1)
    one = await token(world, auth_time=world.clock.now - timedelta(seconds=3595))
    assert 200 == (await world.get(one))[0]
    world.clock.forward(seconds=4)
    assert 200 == (await world.get(one))[0]
    assert True is (await introspect(world, one))[2]["active"]
    world.clock.forward(seconds=1)
    status, headers, body = await world.get(one)
    assert (401, "staff_authentication_weak") == (status, json.loads(body)["reason"])
    challenge = headers["www-authenticate"]
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'acr_values="phrh phr"' in challenge
    assert 'max_age="3600"' in challenge
    assert {"active": False} == (await introspect(world, one))[2]


async def test_what_is_open_ends_with_the_sign_in(world):
    """No answer tells that it may go on for longer than the sign-in is good."""
    world.clock.forward(hours=1)
    one = await token(world, auth_time=world.clock.now - timedelta(seconds=3570))
    _, headers, _ = await world.get(one)
    end = (world.clock.now + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert end == headers["x-locum-expires"]


async def test_a_rule_that_has_become_stricter_counts_at_the_next_request(tmp_path):
    """A token of before, with the weaker sign-in, is refused as soon as the configuration is in force."""
    async with open_oauth(tmp_path, change=demanding(require_acr=["pwd", "phrh"])) as world:
        weak, strong = await token(world, acr="pwd"), await token(world, acr="phrh")
        config = world.gateway.config
        await world.gateway.renew(replace(config, staff=replace(config.staff, require_acr=("phrh",))))
        status, headers, _ = await world.get(weak)
        assert (401, True) == (status, 'acr_values="phrh"' in headers["www-authenticate"])
        assert 200 == (await world.get(strong))[0]


async def test_a_method_that_is_asked_for_from_now_on_counts_at_the_next_request(tmp_path):
    """All of the methods, for tokens of before, and at introspection; a second factor that was there is still there."""
    async with open_oauth(tmp_path) as world:
        weak = [await token(world, amr=amr) for amr in (["pwd"], ["pwd", "MFA"], ["mfa"], [])]
        strong = await token(world, amr=["pwd", "mfa"])
        config = world.gateway.config
        await world.gateway.renew(replace(config, staff=replace(config.staff, require_amr=("mfa", "pwd"))))
        answers = [await world.get(one) for one in weak]
        reasons = {(status, json.loads(body)["reason"]) for status, _, body in answers}
        assert {(401, "staff_authentication_weak")} == reasons
        assert [False] * 4 == [(await introspect(world, one))[2]["active"] for one in weak]
        assert 200 == (await world.get(strong))[0]
        assert True is (await introspect(world, strong))[2]["active"]


async def test_it_is_never_about_the_customer(world):
    """A customer's request is nobody's sign-in: it passes."""
    raw = b"GET /tickets/1 HTTP/1.1\r\nHost: acme.helpdesk.example\r\nConnection: close\r\n\r\n"
    assert 200 == parse(await world.raw(raw))[0]

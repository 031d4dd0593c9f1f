"""The main job: staff stand in only while, and only as far as, the account allows."""

import jwt
import pytest

from tests.gateway_world import HOST, open_world


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as world:
        yield world


async def test_staff_stand_in_while_the_account_allows_it(world):
    """Off is refused, one day lets in as the agent, off again refuses the same token."""
    status, refused = await world.ask(scope="tickets:read")
    assert (400, "grant_off") == (status, refused["reason"])

    assert 200 == (await world.choose("day"))[0]
    token = await world.token()
    status, headers, body = await world.get(token)
    assert (200, b"ok") == (status, body)
    assert "no-store" == headers["cache-control"]

    assert 200 == (await world.choose("off"))[0]
    status, headers, body = await world.get(token)
    assert 403 == status
    assert b"grant_revoked" in body


async def test_the_app_learns_who_is_there_and_never_sees_our_credential(world):
    """The assertion names agent, actor, account and grant; the token stays here."""
    await world.choose("day")
    token = await world.token()
    await world.get(token)
    [request] = world.upstream.requests
    assert token.encode() not in request.head
    [assertion] = [value for name, value in request.headers if name == b"X-Locum-Assertion"]
    key = jwt.PyJWK(
        (await (await world.http.get(f"{world.gateway.public_url}/.locum/jwks.json")).json(content_type=None))["keys"][
            0
        ]
    )
    claims = jwt.decode(assertion, key, algorithms=["EdDSA"], audience="helpdesk")
    assert ("maria", "dana", "acme", "none") == (claims["sub"], claims["act"]["sub"], claims["account"], claims["seat"])
    assert 60 >= claims["exp"] - claims["iat"]


async def test_ordinary_traffic_goes_through_as_it_came(world):
    """What a customer sends arrives byte for byte, but for the lines about the connection."""
    raw = (
        b"GET /a/../%2e/x;y?q=%zz#f HTTP/1.1\r\nhOST: " + HOST.encode() + b"\r\nX-B: 2\r\nx-a: 1\r\nX-B: \xe9\r\n"
        b"Cookie: a=b;  c=d\r\nAuthorization: Bearer abc.def.ghi\r\n\r\n"
    )
    answer = await world.raw(raw)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    [request] = world.upstream.requests
    assert raw == request.head

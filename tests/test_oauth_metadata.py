"""What Locum says of itself: on the issuer's host and nowhere else, and never by a host that a stranger names."""

import json

import aiohttp
import pytest
import pytest_asyncio

from gateway.places import RESOURCE_METADATA, SERVER_METADATA, Places
from tests.browser_world import open_browser
from tests.gateway_world import HOST, ISSUER, open_world, parse

shared = pytest.mark.asyncio(loop_scope="module")
STAFF_HOST = "assume.vendor.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these: none of them changes anything."""
    async with open_world(tmp_path_factory.mktemp("metadata")) as world:
        yield world


async def fetch(world, target, *, host=STAFF_HOST, lines=(), method="GET"):
    """Return (status, headers, body) of a request without a credential."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    return parse(await world.raw("\r\n".join(head).encode() + b"\r\n\r\n"))


@shared
async def test_the_server_says_where_everything_is(world):
    """RFC 8414 section 2: every member that is required, and each address at the issuer's origin."""
    status, headers, body = await fetch(world, SERVER_METADATA)
    assert (200, "application/json") == (status, headers["content-type"].partition(";")[0])
    assert "max-age=" in headers["cache-control"]
    document = json.loads(body)
    assert ISSUER == document["issuer"]
    assert {
        "token_endpoint": f"{ISSUER}/.locum/oauth/token",
        "introspection_endpoint": f"{ISSUER}/.locum/oauth/introspect",
        "revocation_endpoint": f"{ISSUER}/.locum/oauth/revoke",
        "jwks_uri": f"{ISSUER}/.locum/jwks.json",
    } == {name: value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))}
    assert ["urn:ietf:params:oauth:grant-type:token-exchange"] == document["grant_types_supported"]
    assert ["account_assumption"] == document["authorization_details_types_supported"]
    assert "client_secret_basic" in document["token_endpoint_auth_methods_supported"]
    assert "tickets:read" in document["scopes_supported"]
    assert "authorization_endpoint" not in document


@shared
async def test_every_address_that_it_names_is_served(world):
    """Nothing is announced that is not there: each endpoint knows its method and asks who is there."""
    document = json.loads((await fetch(world, SERVER_METADATA))[2])
    for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint"):
        target = document[name].removeprefix(ISSUER)
        assert 401 == (await fetch(world, target, method="POST", lines=["Content-Length: 0"]))[0]
        assert 405 == (await fetch(world, target))[0]
    assert 200 == (await fetch(world, document["jwks_uri"].removeprefix(ISSUER)))[0]


@shared
@pytest.mark.parametrize(
    ("host", "target"),
    [
        (HOST, SERVER_METADATA),
        ("helpdesk.example", SERVER_METADATA),
        (f"x.{STAFF_HOST}", SERVER_METADATA),
        (STAFF_HOST, f"{SERVER_METADATA}/other"),
        (STAFF_HOST, f"{SERVER_METADATA}/"),
        (STAFF_HOST, f"{SERVER_METADATA}?x=1"),
        (STAFF_HOST, "/.well-known/openid-configuration"),
        (STAFF_HOST, "/.well-known/oauth-protected-resource"),
        (HOST, "/.well-known/oauth-protected-resource"),
        (STAFF_HOST, SERVER_METADATA.replace("-", "%2d")),
    ],
)
async def test_what_is_known_of_other_hosts_stays_the_app_s(world, host, target):
    """Our document is at one path of one host; everything else below `/.well-known/` goes through untouched."""
    heard = len(world.upstream.requests)
    assert 200 == (await fetch(world, target, host=host))[0]
    assert target.encode() == world.upstream.requests[heard].target
    assert 1 == len(world.upstream.requests) - heard


@shared
async def test_the_issuer_s_host_may_be_written_in_capitals_and_with_a_port(world):
    """RFC 9110 section 4.2.3: a host is the same in either case."""
    for host in (STAFF_HOST.upper(), f"{STAFF_HOST}:443", f"{STAFF_HOST}."):
        assert ISSUER == json.loads((await fetch(world, SERVER_METADATA, host=host))[2])["issuer"]


@shared
async def test_no_forwarded_host_moves_an_address(world):
    """Whoever could say where the token endpoint is would get everybody's secrets."""
    lines = ["X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "X-Original-Host: evil.example"]
    for target, host in ((SERVER_METADATA, STAFF_HOST), (RESOURCE_METADATA, HOST)):
        plain = (await fetch(world, target, host=host))[2]
        assert plain == (await fetch(world, target, host=host, lines=lines))[2]
        assert b"evil" not in plain


@shared
async def test_each_account_s_host_is_a_resource(world):
    """RFC 9728 section 2: it says who issues its tokens, and that they belong into a header."""
    status, headers, body = await fetch(world, RESOURCE_METADATA, host=HOST)
    document = json.loads(body)
    assert (200, "application/json") == (status, headers["content-type"].partition(";")[0])
    assert (f"https://{HOST}", [ISSUER], ["header"]) == (
        document["resource"],
        document["authorization_servers"],
        document["bearer_methods_supported"],
    )
    assert 404 == (await fetch(world, RESOURCE_METADATA, host="elsewhere.example"))[0]


@shared
@pytest.mark.parametrize("lines", [[], ["X-Forwarded-Host: evil.example", "Forwarded: host=evil.example"]])
async def test_a_401_says_where_to_ask(world, lines):
    """RFC 9728 section 5.1: the challenge names the metadata of the host that refused, by configuration alone."""
    headers = [tuple(line.split(": ")) for line in lines]
    status, found, _ = await world.get("eyJhbGciOiJFZERTQSIsImtpZCI6ImxvY3Vt.x.y", headers=headers)
    assert 401 == status
    assert f'resource_metadata="https://{HOST}{RESOURCE_METADATA}"' in found["www-authenticate"]
    assert "evil" not in found["www-authenticate"]
    status, _, body = await fetch(world, RESOURCE_METADATA, host=HOST)
    assert f"https://{HOST}" == json.loads(body)["resource"]


@shared
async def test_a_refusal_for_no_account_names_no_place(world):
    """A host that is nobody's gets no address made of its own name."""
    raw = b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nAuthorization: Bearer "
    status, headers, _ = parse(await world.raw(raw + b"eyJhbGciOiJFZERTQSIsImtpZCI6ImxvY3Vt.x.y\r\n\r\n"))
    assert 401 == status
    assert "resource_metadata" not in headers["www-authenticate"]


async def test_an_issuer_with_a_path_has_its_document_behind_the_known_one(tmp_path):
    """RFC 8414 section 3.1: the known path stands between the host and the issuer's own."""

    def change(document):
        document["server"]["issuer"] = f"{ISSUER}/desk"

    async with open_world(tmp_path, change=change) as world:
        status, _, body = await fetch(world, f"{SERVER_METADATA}/desk")
        document = json.loads(body)
        assert (200, f"{ISSUER}/desk") == (status, document["issuer"])
        # What we serve is below the root of the host, whatever we are called.
        assert f"{ISSUER}/.locum/oauth/token" == document["token_endpoint"]
        heard = len(world.upstream.requests)
        await fetch(world, SERVER_METADATA)
        assert 1 == len(world.upstream.requests) - heard


@pytest.mark.parametrize(
    ("issuer", "origin", "host", "account"),
    [
        ("https://a.example", "https://a.example", "a.example", "https://acme.b.example"),
        ("https://a.example/x/y", "https://a.example", "a.example", "https://acme.b.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", "http://acme.b.example:8080"),
        ("https://A.example:8443", "https://A.example:8443", "a.example", "https://acme.b.example:8443"),
    ],
)
def test_places_follow_from_the_issuer(issuer, origin, host, account):
    """Scheme and port are the same at every host, for they are those of one door."""
    places = Places(issuer=issuer, host_of=lambda name: f"{name}.b.example")
    assert (origin, host, account) == (places.origin, places.host, places.of_account("acme"))


@shared
async def test_a_browser_elsewhere_may_read_it(world):
    """It holds nothing that is not public, and clients in browsers need it (RFC 8414 section 3)."""
    async with aiohttp.ClientSession() as http:
        address = world.gateway.public_url + RESOURCE_METADATA
        async with http.get(address, headers={"Host": HOST, "Origin": "https://elsewhere.example"}) as answer:
            assert "*" == answer.headers["Access-Control-Allow-Origin"]


async def test_where_devices_ask_is_told_where_staff_can_sign_in(tmp_path):
    """RFC 8628 section 4: the endpoint, its grant type, and that a public client has nothing to prove."""
    async with open_browser(tmp_path, stand_in=False) as browser:
        document = json.loads((await fetch(browser.world, SERVER_METADATA))[2])
        assert f"{ISSUER}/.locum/oauth/device" == document["device_authorization_endpoint"]
        assert "urn:ietf:params:oauth:grant-type:device_code" == document["grant_types_supported"][-1]
        for name in ("token", "revocation"):
            assert "none" in document[f"{name}_endpoint_auth_methods_supported"]
        assert "none" not in document["introspection_endpoint_auth_methods_supported"]
        target = document["device_authorization_endpoint"].removeprefix(ISSUER)
        assert 401 == (await fetch(browser.world, target, method="POST", lines=["Content-Length: 0"]))[0]

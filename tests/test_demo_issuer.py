"""The demo's identity provider is good enough to be believed, and can fail in the ways that matter."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, CookieJar

from gateway.demo.issuer import DemoIssuer, Fault

AUDIENCE = "support-console"


@pytest.fixture
async def issuer():
    async with DemoIssuer() as issuer:
        yield issuer


@pytest.fixture
async def http():
    async with ClientSession(timeout=ClientTimeout(total=5)) as http:
        yield http


async def fetch(http, url):
    async with http.get(url) as response:
        assert 200 == response.status
        return await response.json()


async def key_of(http, issuer, token):
    """Find the published key as a client does: discovery, key set, `kid`."""
    discovery = await fetch(http, f"{issuer.issuer}/.well-known/openid-configuration")
    keys = await fetch(http, discovery["jwks_uri"])
    kid = jwt.get_unverified_header(token)["kid"]
    return next((jwt.PyJWK(key) for key in keys["keys"] if key["kid"] == kid), None)


async def verify(http, issuer, token):
    key = await key_of(http, issuer, token)
    assert key is not None, "the key is not published"
    algorithm = jwt.get_unverified_header(token)["alg"]
    return jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE, issuer=issuer.issuer)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_token_verifies_with_an_independent_library(issuer, http, algorithm):
    """What discovery and key set say is enough to verify a token."""
    token = issuer.token("dana", audience=AUDIENCE, groups=["support"], name="Dana", algorithm=algorithm)
    claims = await verify(http, issuer, token)
    assert ("dana", ["support"], "Dana", "phrh") == tuple(claims[n] for n in ("sub", "groups", "name", "acr"))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_changed_token_does_not_verify(issuer, http, algorithm):
    """The signature covers the claims."""
    header, claims, signature = issuer.token("dana", audience=AUDIENCE, algorithm=algorithm).split(".")
    _, others, _ = issuer.token("root", audience=AUDIENCE, algorithm=algorithm).split(".")
    assert claims != others
    with pytest.raises(jwt.InvalidSignatureError):
        await verify(http, issuer, f"{header}.{others}.{signature}")


async def test_every_es256_signature_has_both_numbers_in_full(issuer, http):
    """A small r or s keeps its leading zeros; without them about one signature in 128 would be short."""
    tokens = [issuer.token("dana", audience=AUDIENCE, algorithm="ES256") for _ in range(1500)]
    signatures = [base64.urlsafe_b64decode(token.rpartition(".")[2] + "==") for token in tokens]
    short = [index for index, raw in enumerate(signatures) if raw[0] == 0 or raw[32] == 0]
    assert short, "the sample holds no small number; this test has shown nothing"
    assert {64} == {len(raw) for raw in signatures}
    await verify(http, issuer, tokens[short[0]])


async def test_times_follow_the_clock_and_the_arguments():
    """Times are whole seconds of the clock given; `auth_time` may lie before."""
    now = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with DemoIssuer(clock=lambda: now) as issuer:
        token = issuer.token("dana", audience="a", lifetime_seconds=60, auth_time=now - timedelta(hours=1))
    claims = jwt.decode(token, options={"verify_signature": False})
    start = int(now.timestamp())
    expected = {"iat": start, "nbf": start, "exp": start + 60, "auth_time": start - 3600}
    assert expected == {name: claims[name] for name in expected}


async def test_overrides_replace_and_remove_claims(issuer):
    """A test can spoil any single claim."""
    token = issuer.token("dana", audience="a", iss="https://evil.example", exp=None, nonce="n-1")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert "https://evil.example" == claims["iss"]
    assert "n-1" == claims["nonce"]
    assert "exp" not in claims


@pytest.mark.parametrize("overlap", [True, False])
async def test_after_a_rotation_former_keys_are_published_only_with_overlap(issuer, http, overlap):
    """New tokens verify at once; old ones for as long as their key is published."""
    before = issuer.token("dana", audience=AUDIENCE)
    issuer.rotate(overlap=overlap)
    await verify(http, issuer, issuer.token("dana", audience=AUDIENCE))
    assert overlap == (await key_of(http, issuer, before) is not None)


async def test_only_public_numbers_are_published(issuer, http):
    """The key set holds nothing to sign with, and both keys are as strong as they say."""
    rsa, ec = (await fetch(http, f"{issuer.issuer}/jwks.json"))["keys"]
    assert {"kty", "n", "e", "kid", "use", "alg"} == set(rsa)
    assert {"kty", "crv", "x", "y", "kid", "use", "alg"} == set(ec)
    assert 2048 == jwt.PyJWK(rsa).key.key_size


async def test_every_fetch_is_counted_also_the_failing_ones(issuer, http):
    """A test can say how often the issuer was asked."""
    await fetch(http, f"{issuer.issuer}/.well-known/openid-configuration")
    issuer.down()
    for _ in range(2):
        async with http.get(f"{issuer.issuer}/jwks.json") as response:
            assert 503 == response.status
    assert (1, 2) == (issuer.discovery_fetches, issuer.jwks_fetches)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks.json"])
async def test_faults_are_what_they_say_and_end(issuer, http, path):
    """Garbage is no JSON, an aborted answer is none, and after `up` all is well."""
    url = issuer.issuer + path
    issuer.down(Fault.GARBAGE)
    with pytest.raises(ValueError):
        await fetch(http, url)
    issuer.down(Fault.ABORTING)
    with pytest.raises(ClientError):
        await fetch(http, url)
    issuer.up()
    assert await fetch(http, url)


async def test_a_foreign_discovery_document_names_another_issuer(issuer, http):
    """A client that does not compare the issuer (OpenID Connect Discovery section 4.3) would fall for it."""
    issuer.down(Fault.FOREIGN)
    document = await fetch(http, f"{issuer.issuer}/.well-known/openid-configuration")
    assert issuer.issuer != document["issuer"]


async def test_a_silent_issuer_answers_nothing_until_it_recovers(http):
    """Whoever waits gets an answer after `up`, and the issuer can be stopped while somebody waits."""
    async with asyncio.timeout(30), DemoIssuer() as issuer:
        issuer.down(Fault.SILENT)
        with pytest.raises(TimeoutError):
            await http.get(f"{issuer.issuer}/jwks.json", timeout=ClientTimeout(total=0.1))
        async with asyncio.TaskGroup() as waiting:
            answer = waiting.create_task(fetch(http, f"{issuer.issuer}/jwks.json"))
            issuer.up()
        assert (await answer)["keys"]


async def test_a_link_signs_in_for_one_question_and_the_next_one_asks_again():
    """Whoever is led to it twice can be somebody else; who was invited by nobody is led nowhere."""
    names = ("client_id", "redirect_uri", "state", "nonce", "code_challenge", "response_type")
    asked = dict.fromkeys(names, "x") | {"code_challenge_method": "S256"}
    # aiohttp's jar keeps nothing of an address without a name, unless it is told to.
    async with DemoIssuer(with_sign_in=True) as issuer, ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
        then = f"{issuer.issuer}/.well-known/openid-configuration"
        async with http.get(issuer.invite("dana", then=then)) as answer:
            assert (200, then) == (answer.status, str(answer.url))
        seen = []
        for _ in range(2):
            async with http.get(f"{issuer.issuer}/authorize", params=asked, allow_redirects=False) as answer:
                seen.append((answer.status, "Who are you?" in await answer.text()))
        assert [(303, False), (200, True)] == seen
        async with http.get(f"{issuer.issuer}/as/sam") as answer:
            assert 404 == answer.status

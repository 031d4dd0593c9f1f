"""What a code is worth: the provider's answer and its ID token, looked at to the letter."""

import base64
import hashlib
import json
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.asking import open_asker
from gateway.config.model import SignIn
from gateway.config.section import Secret
from gateway.origin import Origin
from gateway.staff.issuer import Issuer, IssuerError
from gateway.staff.sign_in.attempt import Attempt
from gateway.staff.sign_in.provider import CodeRefused, Provider
from gateway.tokens.compact import read_compact
from gateway.tokens.signing import SigningKey, open_foreign, read_jwks
from tests.forgery import DROP, NOON, Forger, b64
from tests.journals import Ticks
from tests.rawwire import RecordingUpstream, response, then_close
from tests.scripted_idp import ME, id_token, jwk

ATTEMPT = Attempt.begin("/.locum/", now=NOON)
OTHER = Attempt.begin("/.locum/", now=NOON)
AT = int(NOON.timestamp())
AT_HASH = b64(hashlib.sha512(b"at-1").digest()[:32])
WITH_MAX_AGE = {"max_age_seconds": 60}


@asynccontextmanager
async def provider(answer, *, metadata=None, section=None, key=None, now=NOON, max_age_seconds=None, acr=()):
    """A provider whose token endpoint answers with `answer(issuer)`: raw bytes, or a document."""

    def script(request):
        url = upstream.url
        if request.target == b"/.well-known/openid-configuration":
            document = {
                "issuer": url,
                "jwks_uri": f"{url}/keys",
                "authorization_endpoint": f"{url}/authorize",
                "token_endpoint": f"{url}/token",
            } | (metadata or {})
            return response(json.dumps({k: v for k, v in document.items() if v is not DROP}).encode())
        if request.target == b"/keys":
            return response(json.dumps({"keys": [jwk()]}).encode())
        made = answer(url)
        return response(json.dumps(made).encode()) if isinstance(made, dict) else made

    async with RecordingUpstream(script) as upstream, open_asker(most=4) as http:
        issuer = Issuer(upstream.url, http=http, ticks=Ticks())
        made = Provider(
            issuer,
            section or SignIn(client_id=ME),
            http=http,
            origin=Origin.of("https://assume.vendor.example"),
            key=key,
            acr=acr,
            max_age_seconds=max_age_seconds,
            clock=lambda: now,
        )
        yield upstream, made


def right(issuer, *, header=None, **changes):
    claims = {"nonce": ATTEMPT.nonce} | changes
    return {"access_token": "at-1", "token_type": "Bearer", "id_token": id_token(issuer, header=header, **claims)}


GOOD = {
    "the least": {},
    "a list of one audience": {"aud": [ME]},
    "made for us": {"azp": ME},
    "an access token of its own": {"at_hash": AT_HASH},
    "issued ten minutes ago": {"iat": AT - 600, "exp": AT + 1},
    "a clock five seconds ahead": {"iat": AT + 5},
}


@pytest.mark.parametrize("changes", GOOD.values(), ids=GOOD)
async def test_a_code_is_worth_the_claims_of_its_id_token(changes):
    """Verified with the provider's key, and of this sign-in."""
    async with provider(lambda issuer: right(issuer, **changes)) as (_, asked):
        claims = await asked.redeem("c0de", ATTEMPT)
        assert ("dana", ATTEMPT.nonce) == (claims["sub"], claims["nonce"])


REFUSED = {
    "no nonce": {"nonce": DROP},
    "the nonce of another sign-in (code injection)": {"nonce": OTHER.nonce},
    "the state as a nonce": {"nonce": ATTEMPT.state},
    "a nonce that is no text": {"nonce": [ATTEMPT.nonce]},
    "a nonce with more behind": {"nonce": ATTEMPT.nonce + "="},
    "another issuer (mix-up)": {"iss": "https://evil.example"},
    "the issuer with a slash": {"iss": "SLASH"},
    "another audience": {"aud": "other"},
    "our audience among others": {"aud": [ME, "other"]},
    "no audience": {"aud": DROP},
    "made for another client": {"azp": "other"},
    "made for nobody": {"azp": ""},
    "nobody's": {"sub": DROP},
    "a subject that is no text": {"sub": 7},
    "an empty subject": {"sub": ""},
    "expired": {"exp": AT},
    "no end": {"exp": DROP},
    "from the future": {"iat": AT + 6},
    "not to be used yet": {"nbf": AT + 6},
    "issued long ago": {"iat": AT - 606},
    "no time of issue": {"iat": DROP},
    "another access token's": {"at_hash": b64(hashlib.sha512(b"at-2").digest()[:32])},
    "the access token's hash by another algorithm": {"at_hash": b64(hashlib.sha256(b"at-1").digest()[:16])},
    "a hash that is no text": {"at_hash": 7},
    "a logout token's event": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
async def test_an_id_token_that_does_not_fit_is_refused(changes):
    """One claim is wrong, all else is right."""

    def answer(issuer):
        return right(issuer, **{k: f"{issuer}/" if v == "SLASH" else v for k, v in changes.items()})

    async with provider(answer) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)


HEADERS = {
    "no algorithm": {"alg": "none", "kid": "k1"},
    "a secret's algorithm": {"alg": "HS256", "kid": "k1"},
    "an unknown key": {"alg": "EdDSA", "kid": "k2"},
    "something critical": {"alg": "EdDSA", "kid": "k1", "crit": ["b64"], "b64": True},
    "a logout token": {"alg": "EdDSA", "kid": "k1", "typ": "logout+jwt"},
    "a security event": {"alg": "EdDSA", "kid": "k1", "typ": "application/secevent+jwt"},
    "an access token": {"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_a_token_of_another_kind_or_key_is_refused(header):
    """Whatever its claims say."""
    async with provider(lambda issuer: right(issuer, header=header)) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)


async def test_a_token_that_somebody_else_signed_is_refused():
    """With the provider's key id, and every claim right."""
    forger = Forger(private=Ed25519PrivateKey.generate(), key_id="k1")

    def answer(issuer):
        payload = {"iss": issuer, "sub": "dana", "aud": ME, "iat": AT, "exp": AT + 300, "nonce": ATTEMPT.nonce}
        return {"id_token": forger.token(payload, {"alg": "EdDSA", "kid": "k1", "typ": "JWT"})}

    async with provider(answer) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)


async def test_a_sign_in_without_its_time_is_refused_where_its_age_counts():
    """OpenID Connect Core 1.0 section 3.1.2.1: with `max_age`, the ID token has to have `auth_time`."""
    async with provider(right, **WITH_MAX_AGE) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)
    async with provider(lambda issuer: right(issuer, auth_time=AT - 3), **WITH_MAX_AGE) as (_, asked):
        assert AT - 3 == (await asked.redeem("c0de", ATTEMPT))["auth_time"]


ANSWERS = {
    "no ID token": {"access_token": "at-1"},
    "an ID token that is no text": {"id_token": ["x"]},
    "an ID token that is none": {"id_token": "x.y.z"},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_without_an_id_token_is_refused(answer):
    """An access token by itself says nothing about who is there."""
    async with provider(lambda _issuer: answer) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)


async def test_a_hash_of_an_access_token_that_is_not_there_is_refused():
    """There is nothing that it could fit."""
    async with provider(lambda issuer: right(issuer, at_hash=AT_HASH) | {"access_token": None}) as (_, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)


REFUSALS = {
    "a code that was used": response(b'{"error":"invalid_grant"}', status=b"400 Bad Request"),
    "a client that is not known": response(b'{"error":"invalid_client"}', status=b"401 Unauthorized"),
    "somewhere else": response(b"{}", status=b"307 Go", headers=[(b"Location", b"/again")]),
    "an odd success": response(b'{"id_token":"x"}', status=b"201 Created"),
}


@pytest.mark.parametrize("raw", REFUSALS.values(), ids=REFUSALS)
async def test_what_the_provider_refuses_is_refused(raw):
    """Whoever came has to begin again; no redirect is followed, so code and proof go nowhere else."""
    async with provider(lambda _issuer: raw) as (upstream, asked):
        with pytest.raises(CodeRefused):
            await asked.redeem("c0de", ATTEMPT)
        assert 1 == sum(request.method == b"POST" for request in upstream.requests)


FAULTS = {
    "an error of its own": response(b"{}", status=b"500 Oh"),
    "too much to do": response(b"{}", status=b"429 Too Many Requests"),
    "HTML": response(b"<html>"),
    "a list": response(b"[]"),
    "too long": response(b'{"id_token":"' + b"x" * 70_000 + b'"}'),
    "a broken answer": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
    "no HTTP": b"\x00\x00",
}


@pytest.mark.parametrize("raw", FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_the_provider_is_told_from_a_refusal(raw):
    """Nobody is let in either way."""

    async with provider(lambda _issuer: raw) as (upstream, asked):
        with pytest.raises(IssuerError):
            await asked.redeem("c0de", ATTEMPT)
        assert 1 == sum(request.method == b"POST" for request in upstream.requests)


METADATA = {
    "no token endpoint": {"token_endpoint": DROP},
    "no authorization endpoint": {"authorization_endpoint": DROP},
    "a token endpoint in the clear": {"token_endpoint": "http://idp.example/token"},
    "an authorization endpoint in the clear": {"authorization_endpoint": "http://idp.example/a"},
    "a script for an endpoint": {"authorization_endpoint": "javascript:alert(1)"},
    "a fragment": {"authorization_endpoint": "https://idp.example/a#b"},
    "a line break": {"authorization_endpoint": "https://idp.example/a\r\nSet-Cookie: x=1"},
    "a place to sign out in the clear": {"end_session_endpoint": "http://idp.example/end"},
    "an endpoint that is no text": {"token_endpoint": 7},
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
async def test_endpoints_that_cannot_be_used_safely_are_not_used(metadata):
    """Nobody is sent there, and no code either."""
    async with provider(right, metadata=metadata) as (upstream, asked):
        with pytest.raises(IssuerError):
            await asked.question(ATTEMPT)
        with pytest.raises(IssuerError):
            await asked.redeem("c0de", ATTEMPT)
        assert [] == [request for request in upstream.requests if request.method == b"POST"]


async def test_the_question_has_what_the_standards_ask_for_and_no_secret():
    """PKCE by S256, state and nonce of this attempt, age and context as configured; a query that is there is kept."""
    section = SignIn(client_id="a b&c", client_secret=Secret("s3cret"), scopes=("openid", "groups"))
    metadata = {"authorization_endpoint": "https://idp.example/authorize?tenant=1"}
    async with provider(right, metadata=metadata, section=section, max_age_seconds=60, acr=("phr", "phrh")) as (
        _,
        asked,
    ):
        place = urlsplit(await asked.question(ATTEMPT))
        fresh = dict(parse_qsl(urlsplit(await asked.question(ATTEMPT, fresh=True)).query))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(ATTEMPT.verifier.encode()).digest()).rstrip(b"=").decode()
    expected = {
        "tenant": "1",
        "response_type": "code",
        "client_id": "a b&c",
        "redirect_uri": "https://assume.vendor.example/.locum/sign-in/callback",
        "scope": "openid groups",
        "state": ATTEMPT.state,
        "nonce": ATTEMPT.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "max_age": "60",
        "acr_values": "phr phrh",
    }
    assert ("https", "idp.example", "/authorize") == place[:3]
    assert expected == dict(parse_qsl(place.query, strict_parsing=True))
    assert expected | {"prompt": "login"} == fresh
    assert ATTEMPT.verifier not in place.query
    assert "s3cret" not in place.query


def posted(upstream):
    [request] = [request for request in upstream.requests if request.method == b"POST"]
    return request, dict(parse_qsl(request.body.decode(), strict_parsing=True))


async def test_a_client_with_a_secret_proves_itself_in_the_header():
    """RFC 6749 section 2.3.1, encoded before they are joined; nothing of it is in the form."""
    section = SignIn(client_id="a:b", client_secret=Secret("p%:+ /ü"))
    async with provider(lambda issuer: right(issuer, aud="a:b"), section=section) as (upstream, asked):
        await asked.redeem("c0de", ATTEMPT)
        request, form = posted(upstream)
    [authorization] = request.values(b"authorization")
    kind, _, pair = authorization.decode().partition(" ")
    name, _, secret = base64.b64decode(pair).decode().partition(":")
    assert ("Basic", "a:b", "p%:+ /ü") == (kind, unquote_plus(name), unquote_plus(secret))
    assert {
        "grant_type": "authorization_code",
        "code": "c0de",
        "redirect_uri": "https://assume.vendor.example/.locum/sign-in/callback",
        "code_verifier": ATTEMPT.verifier,
    } == form


async def test_a_public_client_names_itself():
    """PKCE is what keeps its codes from others."""
    async with provider(right) as (upstream, asked):
        await asked.redeem("c0de", ATTEMPT)
        request, form = posted(upstream)
    assert [] == request.values(b"authorization")
    assert (ME, ATTEMPT.verifier) == (form["client_id"], form["code_verifier"])


async def test_a_client_with_a_key_signs_who_it_is():
    """RFC 7523 section 3: for this provider alone, for a minute, with an id that is never used twice."""
    key = SigningKey("ours", Ed25519PrivateKey.generate())
    seen = set()
    async with provider(right, key=key) as (upstream, asked):
        for _ in range(2):
            await asked.redeem("c0de", ATTEMPT)
        for request in (request for request in upstream.requests if request.method == b"POST"):
            form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
            assert "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" == form["client_assertion_type"]
            token = read_compact(form["client_assertion"])
            claims = open_foreign(token, read_jwks({"keys": [key.jwk()]}))
            assert {"iss": ME, "sub": ME, "aud": upstream.url, "iat": AT, "exp": AT + 60} == {
                name: value for name, value in claims.items() if name != "jti"
            }
            seen.add(claims["jti"])
            assert [] == request.values(b"authorization")
    assert 2 == len(seen)


async def test_the_farewell_names_the_client_and_no_token():
    """RP-Initiated Logout: without a hint, so that no token stands in an address; None where there is no such place."""
    metadata = {"end_session_endpoint": "https://idp.example/end"}
    async with provider(right, metadata=metadata) as (_, asked):
        place = urlsplit(await asked.farewell())
    assert {"client_id": ME, "post_logout_redirect_uri": "https://assume.vendor.example/.locum/"} == dict(
        parse_qsl(place.query)
    )
    async with provider(right) as (_, asked):
        assert None is await asked.farewell()


def test_what_goes_to_the_provider_tells_nothing_of_the_cookie():
    """State, nonce and verifier are three values, each of 256 bits, and another attempt has others."""
    made = [ATTEMPT.state, ATTEMPT.nonce, ATTEMPT.verifier, OTHER.state, OTHER.nonce, OTHER.verifier]
    assert 6 == len(set(made))
    assert {43} == {len(one) for one in made}
    assert ATTEMPT == Attempt.read(ATTEMPT.value)
    assert not any(one in ATTEMPT.value for one in made)
    assert ATTEMPT.value not in repr(ATTEMPT)


@pytest.mark.parametrize("at", range(len(ATTEMPT.value)))
def test_a_cookie_with_one_other_character_is_another_attempt(at):
    """Whatever it still reads as, the provider's answer does not fit it."""
    other = "A" if ATTEMPT.value[at] != "A" else "B"
    found = Attempt.read(ATTEMPT.value[:at] + other + ATTEMPT.value[at + 1 :])
    assert found is None or found.state != ATTEMPT.state


def test_an_attempt_is_over_after_ten_minutes():
    """And one that would begin in the future never counts."""
    assert not ATTEMPT.is_over(NOON)
    assert not ATTEMPT.is_over(NOON + timedelta(minutes=10, microseconds=-1))
    assert ATTEMPT.is_over(NOON + timedelta(minutes=10))
    assert ATTEMPT.is_over(NOON - timedelta(seconds=6))

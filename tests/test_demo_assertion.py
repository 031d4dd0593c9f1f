"""The demo helpdesk believes a gateway's assertion and nothing less, and the assertion leaves no licence's trace."""

import asyncio
import base64
import json
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.demo.helpdesk import DemoHelpdesk
from tests.demo_world import AGENT_ROUTES, AUDIENCE, ISSUER, START, TYPE, Gateway, open_client, open_desk

CLAIMS = ["iss", "aud", "sub", "act", "sid", "account", "scope", "grant_id", "seat", "jti", "iat", "exp"]


@pytest.fixture
async def gateway():
    gateway = Gateway()
    async with gateway.server:
        yield gateway


@pytest.fixture
async def desk(gateway):
    async with open_desk(gateway) as desk:
        yield desk


@pytest.fixture
async def client(desk):
    async with open_client(desk) as client:
        yield client


def unsigned(gateway, header):
    """An assertion with a header that no library would sign, under a signature of its own making."""
    parts = [json.dumps(part).encode() for part in (header, gateway.claims())]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(gateway.key.sign(signed)).rstrip(b"=")
    return (signed + b"." + signature).decode()


# --- an assertion that is genuine -------------------------------------------------------------------------------


async def test_an_assertion_acts_as_the_agent_and_names_the_actor(gateway, client):
    """The app knows both: in whose place, and who."""
    status, document = await client.send("GET", "/whoami", assertion=gateway.assertion())
    assert 200 == status
    assert ("acme", "maria") == (document["account"], document["agent"])
    assert {"sub": "dana", "iss": "https://idp.example"} == document["act"]
    assert ("as-1", "g-1") == (document["sid"], document["grant_id"])


async def test_an_assertion_makes_no_session_login_user_or_seat(gateway, client):
    """What a licence is counted by is the same before and after any use of an assertion."""
    before = await client.send("GET", "/seats")
    for path in ("/tickets", "/tickets/1", "/whoami"):
        async with client.open("GET", path, assertion=gateway.assertion()) as response:
            assert 200 == response.status
            assert "Set-Cookie" not in response.headers
    status, _ = await client.send("POST", "/tickets/1/reply", assertion=gateway.assertion(), data={"text": "x"})
    assert 201 == status
    assert before == await client.send("GET", "/seats")
    assert {"used": 5, "total": 5, "available": 0, "users": 6, "logins": 0, "sessions": 0} == before[1]


async def test_a_reply_says_by_whom_and_for_whom(gateway, client):
    """A staff member's reply and the agent's own can be told apart for ever."""
    cookie = await client.sign_in("maria")
    await client.send("POST", "/tickets/1/reply", assertion=gateway.assertion(), json={"text": "from staff"})
    _, ticket = await client.send("POST", "/tickets/1/reply", cookie=cookie, data={"text": "from maria"})
    expected = [
        {"by": "dana", "for": "maria", "text": "from staff"},
        {"by": "maria", "for": None, "text": "from maria"},
    ]
    assert expected == ticket["replies"]


async def test_an_assertion_counts_more_than_a_cookie(gateway, client):
    """The owner's cookie beside an assertion for maria lends no power of the owner's."""
    cookie = await client.sign_in("owner")
    _, document = await client.send("GET", "/whoami", assertion=gateway.assertion(), cookie=cookie)
    assert "maria" == document["agent"]
    status, _ = await client.send("GET", "/admin", assertion=gateway.assertion(), cookie=cookie)
    assert 403 == status


@pytest.mark.parametrize(("offset", "status"), [(-6, 401), (-5, 200), (0, 200), (59.999, 200), (60, 401), (61, 401)])
async def test_an_assertion_holds_from_issue_to_just_before_expiry(gateway, client, offset, status):
    """Five seconds of a fast gateway clock are forgiven, not one moment after the expiry."""
    assertion = gateway.assertion()
    gateway.now = START + timedelta(seconds=offset)
    assert status == (await client.send("GET", "/tickets", assertion=assertion))[0]


# --- assertions that are not ------------------------------------------------------------------------------------

NOW = int(START.timestamp())
WRONG_CLAIMS = {
    "another issuer": {"iss": "https://gateway.example.evil"},
    "issuer with a slash": {"iss": ISSUER + "/"},
    "another audience": {"aud": "other-app"},
    "audience among others": {"aud": [AUDIENCE, "other-app"]},
    "another account": {"account": "globex"},
    "account in capitals": {"account": "ACME"},
    "takes a seat": {"seat": "named"},
    "unknown agent": {"sub": "nobody"},
    "a requester, not an agent": {"sub": "walter"},
    "expired": {"iat": NOW - 60, "exp": NOW},
    "not yet issued": {"iat": NOW + 6, "exp": NOW + 60},
    "longer than a minute": {"exp": NOW + 61},
    "fractional expiry": {"exp": NOW + 30.5},
    "expiry as text": {"exp": str(NOW + 30)},
    "expiry not a number": {"exp": float("nan")},
    "actor as text": {"act": "dana"},
    "actor without issuer": {"act": {"sub": "dana"}},
    **{f"no {name}": {name: None} for name in CLAIMS},
}


@pytest.mark.parametrize("changes", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
async def test_a_signed_assertion_with_a_wrong_claim_is_refused(gateway, client, changes):
    """A good signature is not enough: each claim must be there and be ours."""
    status, document = await client.send("GET", "/tickets", assertion=gateway.assertion(**changes))
    assert (401, "untrusted_assertion") == (status, document["error"])


GOOD_HEADER = {"alg": "EdDSA", "typ": TYPE, "kid": "locum-1"}
WRONG_HEADERS = {
    "none": {"alg": "none"},
    "None": {"alg": "None"},
    "another algorithm": {"alg": "HS256"},
    "algorithm in small letters": {"alg": "eddsa"},
    "algorithms": {"alg": ["EdDSA"]},
    "no algorithm": {"alg": None},
    "an ID token": {"typ": "JWT"},
    "an access token": {"typ": "at+jwt"},
    "no type": {"typ": None},
    "kid a number": {"kid": 1},
    "kid a list": {"kid": ["locum-1"]},
    "kid unknown": {"kid": "../../dev/null"},
    "kid missing": {"kid": None},
    "crit": {"crit": ["exp"]},
    "empty crit": {"crit": []},
    "jwk": {"jwk": {"kty": "OKP"}},
    "jku": {"jku": "https://evil.example/jwks.json"},
    "not base64 encoded": {"b64": False},
}


@pytest.mark.parametrize("changes", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
async def test_an_assertion_with_any_other_header_is_refused(gateway, client, changes):
    """One algorithm, one type, one key id and nothing else, although the signature is right."""
    assert 200 == (await client.send("GET", "/tickets", assertion=unsigned(gateway, GOOD_HEADER)))[0]
    header = {name: value for name, value in (GOOD_HEADER | changes).items() if value is not None}
    status, document = await client.send("GET", "/tickets", assertion=unsigned(gateway, header))
    assert (401, "untrusted_assertion") == (status, document["error"])


async def test_a_symmetric_signature_made_with_the_public_key_is_refused(gateway, client):
    """What everybody knows is no secret to sign with."""
    secret = gateway.key.public_key().public_bytes_raw()
    headers = {"typ": TYPE, "kid": "locum-1"}
    forged = jwt.encode(gateway.claims(), secret, algorithm="HS256", headers=headers)
    assert 401 == (await client.send("GET", "/tickets", assertion=forged))[0]


async def test_an_assertion_signed_by_another_key_is_refused(gateway, client):
    """The key counts, not its name."""
    forged = gateway.assertion(key=Ed25519PrivateKey.generate())
    assert 401 == (await client.send("GET", "/tickets", assertion=forged))[0]


async def test_no_character_of_an_assertion_can_be_changed_dropped_or_added(gateway, client):
    """There is exactly one spelling of an assertion."""
    genuine = gateway.assertion()
    assert 200 == (await client.send("GET", "/whoami", assertion=genuine))[0]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spoiled = [genuine[:-1], genuine[1:], genuine + "A", genuine + "=", genuine + ".", genuine + "." + genuine]
    for index, character in enumerate(genuine):
        other = "A" if character == "." else alphabet[alphabet.index(character) ^ 1]
        spoiled.append(genuine[:index] + other + genuine[index + 1 :])
    for forged in spoiled:
        assert 401 == (await client.send("GET", "/whoami", assertion=forged))[0], forged


@pytest.mark.parametrize(
    "nonsense", ["x", "..", "a.b.c", "é.é.é", "[" * 4000, base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.e30"]
)
async def test_what_is_no_jwt_at_all_is_refused(client, nonsense):
    """Nonsense is the caller's fault, never an error of the app."""
    status, document = await client.send("GET", "/tickets", assertion=nonsense)
    assert (401, "untrusted_assertion") == (status, document["error"])


async def test_a_repeated_claim_is_refused(gateway, client):
    """Two readers could believe different ones."""
    head = base64.urlsafe_b64encode(json.dumps(GOOD_HEADER).encode()).rstrip(b"=")
    text = json.dumps(gateway.claims()).removesuffix("}") + ', "sub": "owner"}'
    signed = head + b"." + base64.urlsafe_b64encode(text.encode()).rstrip(b"=")
    signature = base64.urlsafe_b64encode(gateway.key.sign(signed)).rstrip(b"=")
    assert 401 == (await client.send("GET", "/tickets", assertion=(signed + b"." + signature).decode()))[0]


async def test_two_assertions_are_refused(gateway, client):
    """Nobody has to guess which one the app believes."""
    twice = [("Host", "acme.helpdesk.localhost"), *[("X-Locum-Assertion", gateway.assertion())] * 2]
    async with client.http.get(f"{client.desk.url}/tickets", headers=twice) as response:
        assert 401 == response.status


async def test_a_bad_assertion_does_not_fall_back_to_the_session(gateway, client):
    """A failed check is a refusal, not silence."""
    cookie = await client.sign_in("maria")
    forged = gateway.assertion(key=Ed25519PrivateKey.generate())
    assert 401 == (await client.send("GET", "/tickets", assertion=forged, cookie=cookie))[0]


async def test_a_bad_assertion_changes_nothing(gateway, desk, client):
    """The check comes before the effect."""
    before = dict(desk.accounts["acme"].tickets)
    forged = gateway.assertion(exp=NOW)
    for method, path in AGENT_ROUTES:
        body = {"data": {"text": "x", "title": "x", "name": "x"}} if method == "POST" else {}
        assert 401 == (await client.send(method, path, assertion=forged, **body))[0], path
    assert before == desk.accounts["acme"].tickets


async def test_without_a_trusted_gateway_every_assertion_is_refused(gateway):
    """Off is the default in the app too."""
    async with DemoHelpdesk() as desk, open_client(desk) as client:
        status, _ = await client.send("GET", "/tickets", assertion=gateway.assertion())
    assert 401 == status
    assert 0 == gateway.fetches


# --- the gateway's keys -----------------------------------------------------------------------------------------


async def test_many_unknown_keys_cause_one_refetch_a_minute(gateway, client):
    """An attacker cannot turn the app against the gateway's key set."""
    await client.send("GET", "/tickets", assertion=gateway.assertion())
    async with asyncio.TaskGroup() as group:
        for index in range(50):
            group.create_task(client.send("GET", "/tickets", assertion=gateway.assertion(kid=f"forged-{index}")))
    assert 2 == gateway.fetches
    gateway.now += timedelta(seconds=60)
    for index in range(3):
        await client.send("GET", "/tickets", assertion=gateway.assertion(kid=f"forged-{index}"))
    assert 3 == gateway.fetches


async def test_a_new_key_is_found_at_once_after_the_first_fetch(gateway, client):
    """A rotation right after the start costs nobody a minute."""
    await client.send("GET", "/tickets", assertion=gateway.assertion())
    gateway.keys = {"locum-2": Ed25519PrivateKey.generate()}
    assert 200 == (await client.send("GET", "/tickets", assertion=gateway.assertion(kid="locum-2")))[0]
    assert 401 == (await client.send("GET", "/tickets", assertion=gateway.assertion(kid="locum-1")))[0]


async def test_known_keys_outlive_an_outage_of_the_key_set(gateway, client):
    """A failed fetch takes no key away and lets nobody in."""
    await client.send("GET", "/tickets", assertion=gateway.assertion())
    gateway.status = 503
    assert 401 == (await client.send("GET", "/tickets", assertion=gateway.assertion(kid="locum-9")))[0]
    assert 200 == (await client.send("GET", "/tickets", assertion=gateway.assertion()))[0]


async def test_a_key_set_that_never_answers_well_lets_nobody_in(gateway, client):
    """No key, no entry; and the failing key set is asked once."""
    gateway.status = 500
    for _ in range(3):
        assert 401 == (await client.send("GET", "/tickets", assertion=gateway.assertion()))[0]
    assert 1 == gateway.fetches


@pytest.mark.parametrize("changes", [{"use": "enc"}, {"alg": "ES256"}, {"crv": "X25519"}, {"kty": "EC"}])
async def test_a_key_published_for_something_else_verifies_nothing(gateway, client, changes):
    """A key is used for what it was published for."""
    other = Ed25519PrivateKey.generate()
    gateway.extra_jwks = [gateway.jwk("other", other, **changes)]
    assertion = gateway.assertion(key=other, kid="other")
    assert 401 == (await client.send("GET", "/tickets", assertion=assertion))[0]
    gateway.extra_jwks = [gateway.jwk("other", other)]
    assert 200 == (await client.send("GET", "/tickets", assertion=assertion))[0]

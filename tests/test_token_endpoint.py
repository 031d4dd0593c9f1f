"""The token endpoint: what it issues, and every way in which it refuses, by name, on the record, with nothing issued."""

import base64
import json
import re
import sqlite3
from urllib.parse import quote_plus, urlencode

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clients import digest_of
from gateway.demo.issuer import Fault
from gateway.stores.store import Client
from policy.claims import TOKEN_TYPE
from policy.model import AccountType, ActorId, ClientId, DenyReason
from tests.forgery import Forger
from tests.gateway_world import AGENT_TYPE, HOST, ID_TOKEN, ISSUER, open_world, parse

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TOKEN_URL = "/.locum/oauth/token"
shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for every refusal here: none of them changes anything."""
    async with open_world(tmp_path_factory.mktemp("endpoint")) as world:
        for account in ("closed", "other"):
            await world.add_account(account)
        await world.add_account("locked", suspended=True)
        await world.add_account("newcomer", kind=AccountType.TRIAL)
        assert 200 == (await world.choose("week", ["read", "test_tickets"]))[0]
        assert 200 == (await world.choose("week", account="other"))[0]
        assert 200 == (await world.choose("week", account="locked"))[0]
        for name, secret, roles in (
            ("reader", "plain", {"grants"}),
            ("odd name", "p:ss word+%", {"token"}),
        ):
            await world.gateway.store.add_client(
                Client(id=ClientId(name), secret_digest=digest_of(secret), roles=frozenset(roles))
            )
        yield world


def issued(world):
    """Count the assumptions that the store holds, past the gateway."""
    with sqlite3.connect(world.directory / "locum.sqlite3") as database:
        [count] = database.execute("SELECT count(*) FROM assumptions").fetchone()
    database.close()
    return count


async def post(world, body, *, method="POST", target=TOKEN_URL, headers=(), kind="application/x-www-form-urlencoded"):
    """Send a request by hand; return (status, headers, document)."""
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += list(headers) or [f"Authorization: {world.basic()}"]
    status, found, content = parse(await world.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body))
    return status, found, json.loads(content) if "json" in found.get("content-type", "") else content


def form(world, **changes):
    """Return the fields of a flawless request; None drops one."""
    details = [{"type": "account_assumption", "account": "acme", "ticket": "SUP-1", "reason": "cannot reproduce"}]
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "maria",
        "subject_token_type": AGENT_TYPE,
        "actor_token": world.actor_token(),
        "actor_token_type": ID_TOKEN,
        "audience": HOST,
        "authorization_details": json.dumps(details),
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


# --- what is issued ---


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


# --- what is refused ---


def _details(text):
    return {"authorization_details": text}


def _entry(**members):
    entry = {"type": "account_assumption", "account": "acme", "ticket": "SUP-1", "reason": "why"} | members
    return _details(json.dumps([{name: value for name, value in entry.items() if value is not None}]))


BAD_DETAILS = "invalid_authorization_details"
REFUSED = {
    "no grant type": ({"grant_type": None}, "invalid_request", "exchange_malformed", "grant_type"),
    "empty grant type": ({"grant_type": ""}, "invalid_request", "exchange_malformed", "grant_type"),
    "client credentials": ({"grant_type": "client_credentials"}, "unsupported_grant_type", "exchange_malformed", "grant type"),
    "password": ({"grant_type": "password"}, "unsupported_grant_type", "exchange_malformed", "grant type"),
    "a refresh token is asked for": (
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        "invalid_request", "exchange_malformed", "only",
    ),
    "an ID token is asked for": ({"requested_token_type": ID_TOKEN}, "invalid_request", "exchange_malformed", "only"),
    "no subject": ({"subject_token": None}, "invalid_request", "exchange_malformed", "subject_token"),
    "empty subject": ({"subject_token": ""}, "invalid_request", "exchange_malformed", "subject_token"),
    "no subject type": ({"subject_token_type": None}, "invalid_request", "exchange_malformed", "subject_token"),
    "subject is an access token": ({"subject_token_type": ACCESS_TOKEN}, "invalid_request", "exchange_malformed", "agent"),
    "subject is an ID token": ({"subject_token_type": ID_TOKEN}, "invalid_request", "exchange_malformed", "agent"),
    "no actor": ({"actor_token": None}, "invalid_request", "exchange_malformed", "actor_token"),
    "actor without its type": ({"actor_token_type": None}, "invalid_request", "exchange_malformed", "actor_token"),
    "actor is an access token": ({"actor_token_type": ACCESS_TOKEN}, "invalid_request", "exchange_malformed", "ID token"),
    "actor is nobody's token": ({"actor_token": "abc"}, "invalid_request", "token_invalid", "actor token"),
    "actor is longer than 8 KiB": ({"actor_token": "a" * 9000}, "invalid_request", "token_invalid", "8192"),
    "no audience": ({"audience": None}, "invalid_target", "exchange_malformed", "audience"),
    "a resource": ({"resource": f"https://{HOST}/"}, "invalid_target", "exchange_malformed", "resource"),
    "another account's audience": ({"audience": "other.helpdesk.example"}, "invalid_target", "invalid_target", "audience"),
    "audience in capitals": ({"audience": HOST.upper()}, "invalid_target", "invalid_target", "audience"),
    "audience as a URL": ({"audience": f"https://{HOST}"}, "invalid_target", "invalid_target", "audience"),
    "audience with a blank": ({"audience": HOST + " "}, "invalid_target", "invalid_target", "audience"),
    "unknown scope": ({"scope": "invoices:read"}, "invalid_scope", "invalid_scope", "profile"),
    "a known and an unknown scope": ({"scope": "tickets:read invoices:read"}, "invalid_scope", "invalid_scope", "profile"),
    "more than the account allows": ({"scope": "tickets:write"}, "invalid_scope", "permission_not_granted", "account"),
    "scopes with a tab between": ({"scope": "tickets:read\ttickets:write"}, "invalid_scope", "exchange_malformed", "not a scope"),
    "scopes with a line between": ({"scope": "tickets:read\ntickets:write"}, "invalid_scope", "exchange_malformed", "not a scope"),
    "scopes with two blanks between": ({"scope": "tickets:read  tickets:write"}, "invalid_scope", "exchange_malformed", "not a scope"),
    "a blank scope": ({"scope": " "}, "invalid_scope", "exchange_malformed", "not a scope"),
    "a scope in capitals": ({"scope": "Tickets:Read"}, "invalid_scope", "exchange_malformed", "not a scope"),
    "a wildcard": ({"scope": "*"}, "invalid_scope", "exchange_malformed", "not a scope"),
    "a scope in other letters": ({"scope": "tickets:re\u0430d"}, "invalid_scope", "exchange_malformed", "not a scope"),
    "a scope with quotes": ({"scope": 'a"b\\c'}, "invalid_scope", "exchange_malformed", "not a scope"),
    "65 scopes": ({"scope": " ".join(["tickets:read"] * 65)}, "invalid_scope", "exchange_malformed", "64"),
    "no details": (_details(None), BAD_DETAILS, "exchange_malformed", "array"),
    "details are no JSON": (_details("{"), BAD_DETAILS, "exchange_malformed", "array"),
    "details are null": (_details("null"), BAD_DETAILS, "exchange_malformed", "one object"),
    "details are an object": (_details('{"type":"account_assumption"}'), BAD_DETAILS, "exchange_malformed", "one object"),
    "details are empty": (_details("[]"), BAD_DETAILS, "exchange_malformed", "one object"),
    "details are a text": (_details('["account_assumption"]'), BAD_DETAILS, "exchange_malformed", "one object"),
    "details nest 1500 deep": (_details("[" * 1500 + "]" * 1500), BAD_DETAILS, "exchange_malformed", "array"),
    "two details": (
        _details('[{"type":"account_assumption","account":"acme"},{"type":"account_assumption","account":"other"}]'),
        BAD_DETAILS, "exchange_malformed", "one object",
    ),
    "account twice": (
        _details('[{"type":"account_assumption","account":"acme","account":"other","ticket":"1","reason":"r"}]'),
        BAD_DETAILS, "exchange_malformed", "array",
    ),
    "another type": (_entry(type="payment"), BAD_DETAILS, "exchange_malformed", "type"),
    "no type": (_entry(type=None), BAD_DETAILS, "exchange_malformed", "type"),
    "an unknown member": (_entry(actions=["write"]), BAD_DETAILS, "exchange_malformed", "type"),
    "no account": (_entry(account=None), BAD_DETAILS, "exchange_malformed", "account"),
    "empty account": (_entry(account=""), BAD_DETAILS, "exchange_malformed", "account"),
    "account is a list": (_entry(account=["acme"]), BAD_DETAILS, "exchange_malformed", "texts"),
    "ticket is a number": (_entry(ticket=5), BAD_DETAILS, "exchange_malformed", "texts"),
    "reason is an object": (_entry(reason={"a": 1}), BAD_DETAILS, "exchange_malformed", "texts"),
    "line break in the ticket": (_entry(ticket="SUP-1\nforged"), BAD_DETAILS, "exchange_malformed", "one line"),
    "carriage return in the reason": (_entry(reason="a\rb"), BAD_DETAILS, "exchange_malformed", "one line"),
    "escape sequence in the reason": (_entry(reason="\x1b[31m"), BAD_DETAILS, "exchange_malformed", "one line"),
    "NUL in the account": (_entry(account="acme\x00"), BAD_DETAILS, "exchange_malformed", "one line"),
    "line separator": (_entry(reason="a\u2028b"), BAD_DETAILS, "exchange_malformed", "one line"),
    "half a character": (_entry(reason="a\ud800b"), BAD_DETAILS, "exchange_malformed", "one line"),
    "ticket of 129": (_entry(ticket="x" * 129), BAD_DETAILS, "exchange_malformed", "128"),
    "reason of 1001": (_entry(reason="x" * 1001), BAD_DETAILS, "exchange_malformed", "1000"),
    "no ticket": (_entry(ticket=None), BAD_DETAILS, "ticket_missing", "ticket"),
    "blank ticket": (_entry(ticket="   "), BAD_DETAILS, "ticket_missing", "ticket"),
    "no reason": (_entry(reason=None), BAD_DETAILS, "reason_missing", "why"),
    "blank reason": (_entry(reason="\u00a0 "), BAD_DETAILS, "reason_missing", "why"),
    "agent id with a slash": ({"subject_token": "maria/../admin"}, "invalid_request", "agent_invalid", "agent"),
    "agent id with a line break": ({"subject_token": "maria\r\nX-A: b"}, "invalid_request", "agent_invalid", "agent"),
    "agent id in other letters": ({"subject_token": "mari\u0430"}, "invalid_request", "agent_invalid", "agent"),
    "agent id of 129": ({"subject_token": "a" * 129}, "invalid_request", "agent_invalid", "agent"),
    "unknown account": ({"account": "nobody"}, "invalid_request", "unknown_account", "account"),
    "account in capitals": ({"account": "ACME"}, "invalid_request", "unknown_account", "account"),
    "account never opened": ({"account": "closed"}, "invalid_request", "grant_off", "administrator"),
    "suspended account": ({"account": "locked"}, "invalid_request", "account_suspended", "suspended"),
}  # fmt: skip


@shared
@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_has_its_name_and_issues_nothing(world, case):
    """The OAuth error, the reason, a line for people, a record; no token and no assumption."""
    changes, error, reason, words = REFUSED[case]
    before, written = issued(world), len(world.records(kind="token", decision="deny", reason=reason))
    status, document = await world.ask(**changes)
    assert (400, error, reason) == (status, document["error"], document["reason"])
    assert words in document["error_description"]
    assert {"error", "error_description", "reason"} == set(document)
    assert re.fullmatch(r"[ !#-\[\]-~]+", document["error_description"]), "RFC 6749 section 5.2"
    assert before == issued(world)
    assert 1 == len(world.records(kind="token", decision="deny", reason=reason)) - written


@shared
@pytest.mark.parametrize("name", sorted([
    "grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience",
    "authorization_details",
]))  # fmt: skip
async def test_a_parameter_sent_twice_is_refused(world, name):
    """Also with the same value, and also if one of the two is empty (RFC 6749 section 3.2)."""
    for again in (form(world)[name], ""):
        for fields in ([*form(world).items(), (name, again)], [(name, again), *form(world).items()]):
            status, _, document = await post(world, urlencode(fields))
            assert (400, "invalid_request") == (status, document["error"])
            assert f"`{name}` is there twice" in document["error_description"]


@shared
async def test_what_is_unknown_or_empty_is_passed_over(world):
    """RFC 6749 section 3.2: parameters nobody knows are ignored, those without a value count as left out."""
    extra = {"x": "1", "resource": "", "requested_token_type": "", "scope": ""}
    assert 200 == (await post(world, urlencode(form(world) | extra)))[0]


@shared
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_only_post_is_served(world, method):
    """A token is never asked for in a way that caches, logs or prefetchers repeat."""
    before = issued(world)
    status, _, _ = await post(world, b"", method=method, target=f"{TOKEN_URL}?{urlencode(form(world))}")
    assert 405 == status
    assert before == issued(world)


@shared
async def test_the_query_is_never_read(world):
    """Parameters in the query are refused, also beside a good body, and no part of them reaches the record."""
    canary = "canary-in-the-query"
    for body in ("", urlencode(form(world))):
        status, _, document = await post(world, body, target=f"{TOKEN_URL}?actor_token={canary}")
        assert (400, "invalid_request") == (status, document["error"])
        assert "never in the query" in document["error_description"]
    assert not [record for record in world.records() if canary in json.dumps(record)]


@shared
@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"{}", "application/json", "urlencoded"),
        (b"a=b", "", "urlencoded"),
        (b"a=b", "multipart/form-data; boundary=x", "urlencoded"),
        (b"a=b", "text/plain", "urlencoded"),
        (b"no-equals-sign", "application/x-www-form-urlencoded", "not a form"),
        (b"a=\xff", "application/x-www-form-urlencoded", "not a form"),
        (b"subject_token=%ff", "application/x-www-form-urlencoded", "not a form"),
        (b"subject_token=%ED%A0%80", "application/x-www-form-urlencoded", "not a form"),
        (b"a=" + b"x" * 17_000, "application/x-www-form-urlencoded", "16384"),
        (b"", "application/x-www-form-urlencoded", "grant_type"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(world, body, kind, words):
    """JSON, other forms, other encodings, too much of it, or nothing."""
    status, _, document = await post(world, body, kind=kind)
    assert (400, "invalid_request") == (status, document["error"])
    assert words in document["error_description"]


def _basic(name, secret):
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@shared
@pytest.mark.parametrize(
    "lines",
    [
        ["X-None: 1"],
        ["Authorization: Basic"],
        ["Authorization: Basic !!!!"],
        ["Authorization: Basic " + base64.b64encode(b"app").decode()],
        ["Authorization: Basic " + base64.b64encode(b"app:\xff").decode()],
        ["Authorization: Basic " + base64.b64encode(b"app:" + b"x" * 2000).decode()],
        ["Authorization: " + _basic("app", "wrong")],
        ["Authorization: " + _basic("app", "")],
        ["Authorization: " + _basic("nobody", "x")],
        ["Authorization: " + _basic("", "")],
        ["Authorization: " + _basic("reader", "plain")],
        ["Authorization: Bearer abc"],
    ],
)
async def test_a_caller_who_is_not_a_known_client_gets_401(world, lines):
    """No secret, a wrong one, an unknown name, or the role for another API."""
    before = issued(world)
    status, headers, document = await post(world, urlencode(form(world)), headers=lines)
    assert (401, "invalid_client") == (status, document["error"])
    assert 'Basic realm="locum"' == headers["www-authenticate"]
    assert "no-store" == headers["cache-control"]
    assert before == issued(world)


@shared
async def test_two_authorizations_are_none(world):
    """Even if both are right."""
    line = f"Authorization: {world.basic()}"
    status, _, _ = await post(world, urlencode(form(world)), headers=[line, line])
    assert 401 == status


@shared
async def test_a_client_s_name_and_secret_are_form_encoded(world):
    """RFC 6749 section 2.3.1: both are form-encoded before they are joined by a colon."""
    right = _basic(quote_plus("odd name"), quote_plus("p:ss word+%"))
    assert 200 == (await world.ask(authorization=right))[0]


@shared
async def test_a_secret_in_the_body_is_no_authentication(world):
    """Only the header counts."""
    fields = form(world) | {"client_id": "app", "client_secret": world.secret}
    assert 401 == (await post(world, urlencode(fields), headers=["X-None: 1"]))[0]


@shared
async def test_who_acts_already_cannot_stand_in(world):
    """An assumption token buys nothing: not as the actor, not as the subject; nor does a token with a chain."""
    token = await world.token()
    before = issued(world)
    for changes, reason in (
        ({"actor_token": token}, "token_invalid"),
        ({"actor_token": token, "actor_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "token_invalid"),
        ({"subject_token": token}, "agent_invalid"),
        ({"subject_token": token, "subject_token_type": ACCESS_TOKEN}, "exchange_malformed"),
        ({"subject_token": token, "subject_token_type": ACCESS_TOKEN, "actor_token": None}, "exchange_malformed"),
        ({"actor_token": world.actor_token(act={"sub": "eve"})}, "exchange_chained"),
        ({"actor_token": world.actor_token(may_act={"sub": "eve"})}, "exchange_chained"),
        ({"actor_token": world.actor_token(act={})}, "exchange_chained"),
        ({"actor_token": world.actor_token(act=False)}, "exchange_chained"),
    ):
        status, document = await world.ask(**changes)
        assert (400, "invalid_request", reason) == (status, document["error"], document["reason"])
    assert before == issued(world)


@shared
@pytest.mark.parametrize(
    ("changes", "reason", "error"),
    [
        ({"groups": ["sales"]}, DenyReason.STAFF_NOT_ALLOWED, "invalid_request"),
        ({"groups": []}, DenyReason.STAFF_NOT_ALLOWED, "invalid_request"),
        ({"audience": "other-app"}, DenyReason.TOKEN_INVALID, "invalid_request"),
        ({"iss": "https://idp.evil.example"}, DenyReason.TOKEN_INVALID, "invalid_request"),
    ],
)
async def test_the_actor_must_be_staff(world, changes, reason, error):
    """No rule, or not our issuer's word for us."""
    status, document = await world.ask(actor_token=world.actor_token(**changes))
    assert (400, error, reason) == (status, document["error"], document["reason"])


@shared
async def test_a_self_made_actor_is_nobody(world):
    """A token in the issuer's name, signed by somebody else, with or without the issuer's key id."""
    forger = Forger(private=Ed25519PrivateKey.generate(), key_id="x", issuer=world.issuer.issuer, now=world.clock.now)
    kid = jwt.get_unverified_header(world.actor_token())["kid"]
    for header in (forger.header(), forger.header(kid=kid), forger.header(kid=kid, alg="none"), {"alg": "EdDSA"}):
        payload = forger.claims(aud="locum", sub="dana", groups=["support"])
        del payload["act"]
        _, document = await world.ask(actor_token=forger.token(payload, header))
        assert DenyReason.TOKEN_INVALID == document["reason"]


async def test_a_disabled_staff_member_gets_no_token(tmp_path):
    """Also with a fresh token of the issuer, who may not know it yet."""
    async with open_world(tmp_path) as world:
        await world.choose("week")
        await world.token()
        dana = ActorId(issuer=world.issuer.issuer, subject="dana")
        assert await world.gateway.store.disable_staff(dana, disabled=True)
        world.clock.forward(seconds=3)
        status, document = await world.ask()
        assert (400, "staff_disabled") == (status, document["reason"])


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

"""The token endpoint: every way in which it refuses, by name, on the record, with nothing issued."""

import base64
import json
import re
from urllib.parse import quote_plus, urlencode

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policy.model import ActorId, DenyReason
from tests.forgery import Forger
from tests.gateway_world import HOST, ID_TOKEN, open_world
from tests.token_endpoint_world import TOKEN_URL, form, issued, open_endpoint, post

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these: none of them changes anything."""
    async with open_endpoint(tmp_path_factory.mktemp("endpoint")) as world:
        yield world


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
    "for another host": (_entry(locations=["other.helpdesk.example"]), "invalid_target", "invalid_target", "audience"),
    "for two hosts": (_entry(locations=[HOST, "other.helpdesk.example"]), "invalid_target", "invalid_target", "audience"),
    "the host is a text": (_entry(locations=HOST), BAD_DETAILS, "exchange_malformed", "list"),
    "the host is a number": (_entry(locations=[5]), BAD_DETAILS, "exchange_malformed", "list"),
    "line break in the host": (_entry(locations=[HOST + "\n"]), BAD_DETAILS, "exchange_malformed", "one line"),
    "another grant": (_entry(identifier="grant_0"), "invalid_request", "grant_revoked", "ended"),
    "the grant is a list": (_entry(identifier=["grant_0"]), BAD_DETAILS, "exchange_malformed", "texts"),
    "another client's id": ({"client_id": "reader"}, "invalid_request", "exchange_malformed", "client_id"),
    "a secret in the body as well": ({"client_secret": "plain"}, "invalid_request", "exchange_malformed", "one way"),
    "account of 257": ({"account": "a" * 257}, BAD_DETAILS, "exchange_malformed", "256"),
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
        ({"actor_token": token}, "exchange_chained"),
        ({"actor_token": token, "actor_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "exchange_chained"),
        ({"actor_token": token[:-1]}, "exchange_chained"),
        ({"subject_token": token}, "exchange_chained"),
        ({"subject_token": token, "subject_token_type": ACCESS_TOKEN}, "exchange_chained"),
        ({"subject_token": token, "subject_token_type": ACCESS_TOKEN, "actor_token": None}, "exchange_chained"),
        ({"subject_token": token, "extra": [("subject_token", "maria")]}, "exchange_chained"),
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

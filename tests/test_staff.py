"""Staff are who the vendor's issuer says they are, to us, now; and they stay so only while nobody locks them out."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.config.model import StaffRuleTable, StaffSection
from gateway.demo.issuer import DemoIssuer, Fault, public_jwk, sign
from gateway.staff.issuer import Issuer, IssuerError
from gateway.staff.verify import SignedIn, StaffVerifier
from gateway.tokens.compact import read_compact
from gateway.tokens.signing import KeyRefused, TokenRefused, read_jwks, verify_foreign
from policy.model import ActorId, Deny, DenyReason, Permission
from policy.staff import SignInPolicy, StaffRule, admit
from tests.forgery import DROP, NOON, PRIVATE, Forger, b64
from tests.gateway_world import TestClock, open_world
from tests.journals import Ticks
from tests.rawwire import RecordingUpstream, hold, response, then_close

IDP = "https://idp.vendor.example"
ME = "locum"
AT = int(NOON.timestamp())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(kid="k1", **changes):
    """The forger's public key as an issuer publishes it."""
    entry = {"kty": "OKP", "crv": "Ed25519", "x": b64(PRIVATE.public_key().public_bytes_raw()), "kid": kid} | changes
    return {name: value for name, value in entry.items() if value is not DROP}


def id_token(issuer=IDP, kid="k1", *, header=None, **changes):
    """An ID token of the forger: {iss, sub, aud, iat, exp, groups} with changes."""
    payload = {"iss": issuer, "sub": "dana", "aud": ME, "iat": AT, "exp": AT + 300, "groups": ["support"]} | changes
    forger = Forger(private=PRIVATE, key_id=kid)
    return forger.token(payload, {"alg": "EdDSA", "kid": kid, "typ": "JWT"} if header is None else header)


def judge(token, keys=None, *, now=NOON):
    keys = read_jwks({"keys": [jwk()]}) if keys is None else keys
    return verify_foreign(read_compact(token), keys, issuer=IDP, audience=ME, now=now)


# --- the token ---


def test_a_good_token_is_accepted():
    """The attacks below start from here."""
    assert "dana" == judge(id_token())["sub"]
    assert "dana" == judge(id_token(aud=[ME]))["sub"]


@pytest.mark.parametrize(
    "issuer",
    [
        IDP[:-1],
        IDP[8:],
        IDP + "/",
        IDP + ".evil.example",
        IDP.upper(),
        IDP.replace("https", "http"),
        "",
        [IDP],
        None,
        {},
        DROP,
    ],
)
def test_the_issuer_is_compared_whole(issuer):
    """No part of it, no longer one, no other case, no list with it."""
    with pytest.raises(TokenRefused):
        judge(id_token(iss=issuer))


@pytest.mark.parametrize(
    "audience",
    [
        "loc",
        "locum2",
        "LOCUM",
        "locum/",
        " locum",
        "",
        ["locum", "other"],
        ["other"],
        [],
        [["locum"]],
        None,
        5,
        {"locum": 1},
        DROP,
    ],
)
def test_the_audience_is_us_and_nobody_else(audience):
    """A token for several parties could have been taken from one of the others."""
    with pytest.raises(TokenRefused):
        judge(id_token(aud=audience))


@pytest.mark.parametrize("name", ["exp", "iat"])
@pytest.mark.parametrize("value", [DROP, None, str(AT + 300), AT + 300.0, True, [], "never"])
def test_a_time_is_a_whole_number(name, value):
    """A token without an end, or with one in another form, is refused."""
    with pytest.raises(TokenRefused):
        judge(id_token(**{name: value}))


def test_the_end_is_sharp_and_the_beginning_has_five_seconds():
    """Clocks differ a little; what has expired has expired."""
    for seconds, ok in ((0, True), (299, True), (300, False), (301, False), (-5, True), (-6, False), (-3600, False)):
        try:
            judge(id_token(), now=NOON + timedelta(seconds=seconds))
            accepted = True
        except TokenRefused:
            accepted = False
        assert ok == accepted, seconds
    for changes in ({"nbf": AT + 6}, {"nbf": "soon"}, {"nbf": AT + 0.5}, {"iat": 10**400}, {"exp": -(10**400)}):
        with pytest.raises(TokenRefused):
            judge(id_token(**changes))


@pytest.mark.parametrize("subject", [DROP, None, "", 5, ["dana"], {"dana": 1}])
def test_a_token_names_somebody(subject):
    """Nobody is not staff."""
    with pytest.raises(TokenRefused):
        judge(id_token(sub=subject))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k1"},
        {"alg": "None", "kid": "k1"},
        {"kid": "k1"},
        {"alg": "HS256", "kid": "k1"},
        {"alg": "RS256", "kid": "k1"},
        {"alg": ["EdDSA"], "kid": "k1"},
        {"alg": {}, "kid": "k1"},
        {"alg": "EdDSA"},
        {"alg": "EdDSA", "kid": "k2"},
        {"alg": "EdDSA", "kid": ["k1"]},
        {"alg": "EdDSA", "kid": {"a": 1}},
        {"alg": "EdDSA", "kid": "k1", "crit": ["exp"]},
        {"alg": "EdDSA", "kid": "k1", "crit": []},
        {"alg": "EdDSA", "kid": "k1", "b64": False, "crit": ["b64"]},
        {"alg": "EdDSA", "kid": "k9", "jwk": jwk("k9")},
    ],
)
def test_the_header_of_a_staff_token_chooses_nothing(header):
    """The issuer's published key and its algorithm decide."""
    with pytest.raises(TokenRefused):
        judge(id_token(header=header))


def test_a_key_in_the_header_counts_for_nothing():
    """The forger's own key along with the token does not verify it."""
    stranger = Forger(private=ed25519.Ed25519PrivateKey.generate(), key_id="k1")
    payload = {"iss": IDP, "sub": "dana", "aud": ME, "iat": AT, "exp": AT + 300}
    own = jwk(x=b64(stranger.private.public_key().public_bytes_raw()))
    for extra in ({"jwk": own}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example/x"}):
        with pytest.raises(TokenRefused):
            judge(stranger.token(payload, {"alg": "EdDSA", "kid": "k1"} | extra))


# --- the key set ---


def _rs256(kid, private=RSA):
    return sign(
        {"alg": "RS256", "kid": kid}, {"iss": IDP, "sub": "dana", "aud": ME, "iat": AT, "exp": AT + 300}, key=private
    )


SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it is to be refused
UNFIT = {
    "for encryption": jwk(use="enc"),
    "use is no text": jwk(use=["sig"]),
    "operations lack verify": jwk(key_ops=["encrypt"]),
    "operations are sign only": jwk(key_ops=["sign"]),
    "operations are a text": jwk(key_ops="verify"),
    "operations are empty": jwk(key_ops=[]),
    "algorithm of another kind": jwk(alg="RS256"),
    "algorithm of secrets": jwk(alg="HS256"),
    "algorithm none": jwk(alg="none"),
    "algorithm is a list": jwk(alg=["EdDSA"]),
    "algorithm is a table": jwk(alg={"EdDSA": 1}),
    "with its private half": jwk() | json.loads(OKPAlgorithm.to_jwk(PRIVATE)),
    "RSA with its private half": json.loads(RSAAlgorithm.to_jwk(RSA)) | {"kid": "k1"},
    "EC with its private half": json.loads(ECAlgorithm.to_jwk(EC)) | {"kid": "k1"},
    "RSA of 1024 bits": public_jwk(SHORT) | {"kid": "k1"},
    "a secret": json.loads(HMACAlgorithm.to_jwk(b"s" * 32)) | {"kid": "k1"},
    "another curve": json.loads(OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key())) | {"kid": "k1"},
    "a curve nobody knows": jwk(crv="Ed99"),
    "a curve that is a list": jwk(crv=["Ed25519"]),
    "no key at all": {"kid": "k1"},
    "no type": jwk(kty=DROP),
    "type is a list": jwk(kty=["OKP"]),
    "key of too few bytes": jwk(x="AAAA"),
    "key is a number": jwk(x=5),
    "key is missing": jwk(x=DROP),
    "no id": jwk(kid=DROP),
    "another id": jwk("k2"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_an_unfit_key_verifies_nothing_and_spoils_nothing(case):
    """A key for another purpose, too weak, or not readable is passed over; a good one beside it still counts."""
    alone = read_jwks({"keys": [UNFIT[case]]})
    tokens = [id_token(), _rs256("k1"), _rs256("k1", SHORT)]
    for token in tokens:
        with pytest.raises(TokenRefused):
            judge(token, alone)
    beside = read_jwks({"keys": [UNFIT[case], jwk("k3")]})
    assert "dana" == judge(id_token(kid="k3"), beside)["sub"]


def test_the_key_decides_its_algorithm():
    """An RSA key verifies RS and PS only, the EC key its curve's, whatever the token would like."""
    keys = read_jwks({"keys": [public_jwk(RSA) | {"kid": "r"}, public_jwk(EC) | {"kid": "e"}, jwk("o")]})
    found = {key.id: key.algorithms for key in keys}
    assert {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} == found["r"]
    assert ({"ES256"}, {"EdDSA"}) == (found["e"], found["o"])
    assert "dana" == judge(_rs256("r"), keys)["sub"]
    pinned = read_jwks({"keys": [public_jwk(RSA) | {"kid": "r", "alg": "RS512"}]})
    with pytest.raises(TokenRefused):
        judge(_rs256("r"), pinned)


def test_two_keys_of_one_id_are_none():
    """Which of them was meant cannot be told."""
    with pytest.raises(TokenRefused):
        judge(id_token(), read_jwks({"keys": [jwk(), jwk()]}))


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": None}, {"keys": "k"}, "keys", 5])
def test_what_is_no_key_set_is_refused_as_a_whole(document):
    """It must not look like an issuer that has no keys any more."""
    with pytest.raises(KeyRefused):
        read_jwks(document)
    assert () == read_jwks({"keys": [None, 5, [], "k"]})


# --- the issuer ---


@asynccontextmanager
async def issuer_of(address, ticks=None):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as http:
        yield Issuer(address, http=http, ticks=ticks or Ticks())


def token_of(kid):
    return read_compact(id_token(kid=kid))


@asynccontextmanager
async def idp(discovery=None, keys=None, *, slash=""):
    """A scripted issuer; each answer is raw bytes, a document, or None for the right one."""

    def raw(answer):
        return response(json.dumps(answer).encode()) if isinstance(answer, dict) else answer

    def script(request):
        if request.target == b"/.well-known/openid-configuration":
            right = {"issuer": upstream.url + slash, "jwks_uri": f"{upstream.url}/keys"}
            return raw(right if discovery is None else discovery)
        return raw({"keys": [jwk()]} if keys is None else keys)

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url + slash) as issuer:
        yield upstream, issuer


async def test_discovery_leads_to_the_keys():
    """The document under the well-known path, then the keys it names; a second token asks nobody."""
    async with idp() as (upstream, issuer):
        for _ in range(3):
            assert ["k1"] == [key.id for key in await issuer.keys_for(token_of("k1"))]
        assert [b"/.well-known/openid-configuration", b"/keys"] == [request.target for request in upstream.requests]


async def test_an_issuer_may_end_in_a_slash():
    """Its documents are asked for without a second slash, and its name is still compared whole."""
    async with idp(slash="/") as (upstream, issuer):
        assert await issuer.keys_for(token_of("k1"))
        assert b"/.well-known/openid-configuration" == upstream.requests[0].target


BIG = b'{"keys":[],"x":"' + b"x" * 70_000 + b'"}'
REDIRECT = response(b"", status=b"302 Found", headers=[(b"Location", b"/keys")])
BROKEN = {
    "500": response(b"{}", status=b"500 Oops"),
    "404": response(b"{}", status=b"404 Not Found"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a redirect": REDIRECT,
    "HTML": response(b"<!doctype html><title>Sign in</title>"),
    "nothing": response(b""),
    "null": response(b"null"),
    "a list": response(b"[]"),
    "a text": response(b'"keys"'),
    "JSON cut short": response(b'{"keys":[{"kty":'),
    "not UTF-8": response(b'{"keys":"\xff\xfe"}'),
    "nested 30000 deep": response(b'{"keys":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "too long": response(BIG),
    "a body cut short": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
    "a head cut short": then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "no HTTP": then_close(b"220 mail.example ESMTP\r\n"),
    "a closed connection": then_close(b""),
    "a false gzip": response(b"{}", headers=[(b"Content-Encoding", b"gzip")]),
}


@pytest.mark.parametrize("where", ["discovery", "keys"])
@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_issuer_has_no_keys(where, case, caplog):
    """Whatever comes instead of a document: it cannot be asked, a line in the log says so, and no redirect is followed."""
    async with idp(**{where: BROKEN[case]}) as (upstream, issuer):
        with caplog.at_level(logging.WARNING), pytest.raises(IssuerError):
            await issuer.keys_for(token_of("k1"))
        assert "could not be fetched" in caplog.text
        # By address: aiohttp repeats a GET once when the connection breaks off before the answer.
        asked = {request.target for request in upstream.requests}
        assert {b"/.well-known/openid-configuration"} | ({b"/keys"} if where == "keys" else set()) == asked


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://other.example", "jwks_uri": "http://127.0.0.1/keys"},
        {"jwks_uri": "http://127.0.0.1/keys"},
        {"issuer": None},
        {},
    ],
)
async def test_a_foreign_discovery_document_is_not_believed(discovery):
    """It must be this issuer's own (OpenID Connect Discovery 1.0 section 4.3), and name its keys."""
    async with idp(discovery) as (upstream, issuer):
        with pytest.raises(IssuerError):
            await issuer.keys_for(token_of("k1"))
        assert 1 == len(upstream.requests)


@pytest.mark.parametrize(
    "address",
    ["http://idp.invalid/keys", "http://10.0.0.1/keys", "http://127.0.0.1.evil.invalid/", "file:///dev/null", "ftp://127.0.0.1/", "/keys", "", "http://[", 5],
)  # fmt: skip
async def test_keys_come_over_tls_or_from_this_machine(address):
    """Anything else could be anybody's; it is refused before a name is looked up."""

    def script(request):
        return response(json.dumps({"issuer": upstream.url, "jwks_uri": address}).encode())

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url) as issuer:
        with pytest.raises(IssuerError, match=r"https|names no keys|cannot be asked"):
            await issuer.keys_for(token_of("k1"))


@pytest.mark.parametrize(
    "address", ["http://idp.vendor.example", "ftp://127.0.0.1", "idp.vendor.example", "file:///etc"]
)
async def test_an_issuer_in_the_clear_is_never_asked(address):
    """Plain http is for loopback alone."""
    async with issuer_of(address) as issuer:
        with pytest.raises(IssuerError, match=r"https|cannot be asked"):
            await issuer.keys_for(token_of("k1"))


async def test_new_keys_are_found_and_old_ones_forgotten():
    """After a rotation an unknown key id leads to the new set; a key that is gone from it verifies nothing more."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:

        async def verify(token):
            parsed = read_compact(token)
            keys = await issuer.keys_for(parsed)
            return verify_foreign(parsed, keys, issuer=demo.issuer, audience=ME, now=datetime.now(UTC))  # noqa: TID251 - the demo's clock

        old = demo.token("dana", audience=ME)
        assert "dana" == (await verify(old))["sub"]
        demo.rotate(overlap=False)
        new = demo.token("dana", audience=ME)
        with pytest.raises(TokenRefused):
            await verify(new)
        ticks.now += 60
        assert "dana" == (await verify(new))["sub"]
        with pytest.raises(TokenRefused):
            await verify(old)


async def test_unknown_keys_are_asked_for_once_a_minute():
    """Ten thousand invented key ids make one fetch a minute, also when they come at once."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        await asyncio.gather(*[issuer.keys_for(token_of(f"first-{n}")) for n in range(50)])
        assert 1 == demo.jwks_fetches
        for minute in range(1, 4):
            ticks.now = minute * 60 - 0.001
            await asyncio.gather(*[issuer.keys_for(token_of(f"{minute}-{n}")) for n in range(50)])
            assert minute == demo.jwks_fetches
            ticks.now = minute * 60
            for n in range(2500):
                await issuer.keys_for(token_of(f"{minute}.{n}"))
            assert minute + 1 == demo.jwks_fetches


async def test_keys_are_fetched_anew_each_hour():
    """A key that the issuer took back does not count for ever."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        known = read_compact(demo.token("dana", audience=ME))
        await issuer.keys_for(known)
        ticks.now = 3599
        await issuer.keys_for(known)
        assert 1 == demo.jwks_fetches
        ticks.now = 3600
        await issuer.keys_for(known)
        assert 2 == demo.jwks_fetches


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SILENT])
async def test_an_outage_keeps_the_keys_known_last(fault):
    """While the issuer is away what it said goes on counting, and it is asked no more than once a minute."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        known = read_compact(demo.token("dana", audience=ME))
        before = await issuer.keys_for(known)
        demo.down(fault)
        ticks.now = 7200
        for _ in range(20):
            assert before == await issuer.keys_for(known)
            assert before == await issuer.keys_for(token_of("unknown"))
        # aiohttp repeats a GET once when the connection breaks off before the answer.
        assert (3 if fault is Fault.ABORTING else 2) == demo.discovery_fetches


async def test_a_failed_or_cancelled_first_fetch_is_made_again():
    """There is nothing to lose by asking: the first answer is not put off for a minute."""
    answers = [response(b"", status=b"503 Away"), hold(asyncio.Event()), None]

    def script(request):
        right = {"keys": [jwk()], "issuer": upstream.url, "jwks_uri": f"{upstream.url}/keys"}
        return (answers.pop(0) if answers else None) or response(json.dumps(right).encode())

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url) as issuer:
        with pytest.raises(IssuerError):
            await issuer.keys_for(token_of("k"))
        asking = asyncio.ensure_future(issuer.keys_for(token_of("k")))
        await upstream.until(lambda: len(upstream.requests) == 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ["k1"] == [key.id for key in await issuer.keys_for(token_of("k"))]


# --- the person ---

READ, TEST, WRITE = Permission.READ, Permission.TEST_TICKETS, Permission.WRITE
PLAIN = SignInPolicy()


def person(**claims):
    return {"iss": IDP, "sub": "dana", "groups": ["support"]} | claims


def permissions_of(claims, *rules, policy=PLAIN):
    found = admit(claims, rules, policy, now=NOON)
    return found.reason if isinstance(found, Deny) else set(found.permissions)


def rule(*permissions, **conditions):
    return StaffRule(permissions=frozenset(permissions), **conditions)


def test_rules_add_up_and_no_rule_is_no():
    """Who fits several rules has what they give together; who fits none has nothing."""
    by_subject, by_group = rule(READ, subject="dana"), rule(TEST, group="support")
    by_claim = rule(WRITE, claim=("level", "3"))
    assert {READ, TEST} == permissions_of(person(level="2"), by_subject, by_group, by_claim)
    assert {READ, TEST, WRITE} == permissions_of(person(level="3"), by_subject, by_group, by_claim)
    assert {TEST} == permissions_of(person(sub="eve"), by_subject, by_group)
    for rules in ((), (rule(READ),), (rule(READ, subject="eve"),), (rule(READ, claim=("level", "3")),)):
        assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(person(), *rules)


def test_all_conditions_of_a_rule_hold_together():
    """Subject and group in one rule are an and."""
    both = rule(READ, subject="dana", group="leads")
    assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(person(), both)
    assert {READ} == permissions_of(person(groups=["leads"]), both)


@pytest.mark.parametrize(
    "subject",
    [
        "Dana@vendor.example",
        "dana@vendor.example ",
        "dana+x@vendor.example",
        "dana@evil.example@vendor.example",
        "dana",
        "d\u0430na@vendor.example",
        "dana@vendor.example\u200b",
    ],
)
def test_a_person_is_one_exact_subject(subject):
    """No case folding, no address tricks, no look-alike letters."""
    assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(
        person(sub=subject), rule(READ, subject="dana@vendor.example")
    )


@pytest.mark.parametrize(
    "groups", ["support", "support,x", {"support": True}, [["support"]], ["Support"], [5], None, 5]
)
def test_groups_are_a_list_of_texts(groups):
    """A text that contains the group's name is not the group."""
    assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(person(groups=groups), rule(READ, group="support"))


@pytest.mark.parametrize("value", [3, True, ["3"], "3 ", "03", None])
def test_a_claim_is_compared_as_the_text_it_is(value):
    """`3` is not "3"."""
    assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(person(level=value), rule(READ, claim=("level", "3")))


ANY = rule(READ, group="support")


@pytest.mark.parametrize(
    ("policy", "claims", "ok"),
    [
        (SignInPolicy(amr=frozenset({"mfa"})), {"amr": ["pwd", "mfa"]}, True),
        (SignInPolicy(amr=frozenset({"mfa"})), {"amr": ["pwd"]}, False),
        (SignInPolicy(amr=frozenset({"mfa"})), {"amr": "mfa"}, False),
        (SignInPolicy(amr=frozenset({"mfa"})), {}, False),
        (SignInPolicy(amr=frozenset({"mfa", "hwk"})), {"amr": ["mfa"]}, False),
        (SignInPolicy(acr=frozenset({"phr", "phrh"})), {"acr": "phrh"}, True),
        (SignInPolicy(acr=frozenset({"phr"})), {"acr": "phrh"}, False),
        (SignInPolicy(acr=frozenset({"phr"})), {"acr": ["phr"]}, False),
        (SignInPolicy(acr=frozenset({"phr"})), {"acr": {"phr": 1}}, False),
        (SignInPolicy(acr=frozenset({"phr"})), {}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": AT - 600}, True),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": AT - 601}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": str(AT)}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": float(AT)}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": 10**300}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": -1}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {}, False),
    ],
)
def test_staff_have_signed_in_well_enough(policy, claims, ok):
    """A second factor, a context, and how long ago: what is required and not said is not there."""
    expected = {READ} if ok else DenyReason.STAFF_AUTHENTICATION_WEAK
    assert expected == permissions_of(person(**claims), ANY, policy=policy)


async def test_the_verifier_puts_it_all_together():
    """From the token to the person with name, permissions and how they signed in; or one reason."""
    section = StaffSection(
        issuer="",
        audience=ME,
        rules=(StaffRuleTable(group="support", permissions=(READ,)),),
        require_amr=("mfa",),
    )
    async with idp() as (upstream, issuer):
        verifier = StaffVerifier(issuer, section, lambda: NOON)
        good = {"issuer": upstream.url, "amr": ["mfa"], "name": "Dana", "auth_time": AT}
        found = await verifier.verify(id_token(**good))
        assert isinstance(found, SignedIn)
        assert (ActorId(issuer=upstream.url, subject="dana"), "Dana") == (found.staff.id, found.staff.name)
        assert {"amr": ["mfa"], "auth_time": AT} == found.authentication
        for changes, reason in (
            ({"amr": ["pwd"]}, DenyReason.STAFF_AUTHENTICATION_WEAK),
            ({"groups": []}, DenyReason.STAFF_NOT_ALLOWED),
            ({"act": {"sub": "x"}}, DenyReason.EXCHANGE_CHAINED),
            ({"exp": AT}, DenyReason.TOKEN_INVALID),
            ({"kid": "unknown"}, DenyReason.TOKEN_INVALID),
            ({"name": "\ud800"}, DenyReason.TOKEN_INVALID),
        ):
            refused = await verifier.verify(id_token(**good | changes))
            assert isinstance(refused, Deny)
            assert reason == refused.reason
        nameless = await verifier.verify(id_token(**good | {"name": ["Dana"]}))
        assert "dana" == nameless.staff.name


# --- between issue and use ---


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as world:
        assert 200 == (await world.choose("week", ["read", "write"]))[0]
        yield world


async def test_a_locked_out_staff_member_is_refused_at_the_next_request(world):
    """At the latest when the fact has grown old; and let in again only when somebody lifts the lock by name."""
    dana = ActorId(issuer=world.issuer.issuer, subject="dana")
    token = await world.token()
    assert 200 == (await world.get(token))[0]
    await world.gateway.store.disable_staff(dana, disabled=True)
    world.clock.forward(seconds=2)
    status, _, body = await world.get(token)
    assert (403, True) == (status, b"staff_disabled" in body)
    assert "staff_disabled" == (await world.ask())[1]["reason"]
    assert b"staff_disabled" in (await world.get(token))[2]
    await world.gateway.store.disable_staff(dana, disabled=False)
    world.clock.forward(seconds=2)
    assert 200 == (await world.get(token))[0]


async def test_one_lock_keeps_out_one_person(world):
    """Another subject of the same issuer goes on; the same subject of another issuer would be somebody else."""
    token = await world.token(actor_token=world.actor_token("erin"))
    await world.token()
    assert await world.gateway.store.disable_staff(ActorId(issuer=world.issuer.issuer, subject="dana"), disabled=True)
    other = ActorId(issuer="https://other.example", subject="erin")
    assert not await world.gateway.store.disable_staff(other, disabled=True)
    world.clock.forward(seconds=2)
    assert 200 == (await world.get(token))[0]


async def test_who_signs_in_with_less_has_less_at_once(tmp_path):
    """The newest sign-in says what a person may do, also with tokens from before."""

    def change(document):
        document["staff"]["rules"] = [
            {"group": "support", "permissions": ["read"]},
            {"group": "leads", "permissions": ["write"]},
        ]

    async with open_world(tmp_path, change=change) as world:
        await world.choose("week", ["read", "write"])
        lead = world.actor_token(groups=["support", "leads"])
        token = await world.token("tickets:read tickets:write", actor_token=lead)
        assert 200 == (await world.get(token, "/tickets/1/reply", method="POST", body=b"hi"))[0]
        await world.token("tickets:read", actor_token=world.actor_token(groups=["support"]))
        status, _, body = await world.get(token, "/tickets/1/reply", method="POST", body=b"hi")
        assert (403, True) == (status, b"permission_not_granted" in body)
        assert 200 == (await world.get(token))[0]


async def test_an_ended_assumption_lets_nobody_in(world):
    """The token lives on and is worth nothing."""
    token = await world.token()
    sid = world.records(kind="token", decision="allow")[-1]["assumption"]
    assert await world.gateway.store.end_assumption(sid, at=world.clock.now)
    world.clock.forward(seconds=2)
    assert b"assumption_ended" in (await world.get(token))[2]


def test_the_test_clock_moves_both_hands():
    """What these tests call growing old is age on the ticks as well as on the wall."""
    clock = TestClock()
    before = clock.ticks()
    clock.forward(seconds=2)
    assert 2 == clock.ticks() - before

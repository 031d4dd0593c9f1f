"""Staff are who the vendor's issuer says they are, to us, now; and they stay so only while nobody locks them out."""

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.config.model import StaffRuleTable, StaffSection
from gateway.demo.issuer import public_jwk, sign
from gateway.staff.verify import SignedIn, StaffVerifier
from gateway.tokens.compact import CompactError, read_compact
from gateway.tokens.signing import KeyRefused, TokenRefused, read_jwks, verify_foreign
from policy.model import ActorId, Deny, DenyReason, Permission
from policy.rules import StaffRule, StandInRules
from policy.staff import SignInPolicy, admit, read_staff
from tests.forgery import DROP, NOON, PRIVATE, Forger, b64
from tests.gateway_world import TestClock, open_world
from tests.memory_store import MemoryStore
from tests.rsa_keys import rsa_key
from tests.scripted_idp import AT, IDP, ME, id_token, idp, jwk
from tests.token_attacks import damaged, twin

RSA = rsa_key()
EC = ec.generate_private_key(ec.SECP256R1())


def judge(token, keys=None, *, now=NOON):
    keys = read_jwks({"keys": [jwk()]}) if keys is None else keys
    return verify_foreign(read_compact(token), keys, issuer=IDP, audience=ME, now=now)


def signed(algorithm, key):
    """Return the keys of an issuer that signs with this one, and a good token of its."""
    claims = {"iss": IDP, "sub": "dana", "aud": ME, "iat": AT, "exp": AT + 300, "groups": ["support"]}
    token = jwt.encode({"alg": algorithm, "kid": "k1", "typ": "JWT"}, claims, key, algorithms=[algorithm])
    return read_jwks({"keys": [key.as_dict(private=False) | {"kid": "k1"}]}), token


SIGNERS = {
    "EdDSA": (read_jwks({"keys": [jwk()]}), id_token()),
    "ES256": signed("ES256", ECKey.generate_key("P-256")),
    "RS256": signed("RS256", RSAKey.import_key(RSA)),
}


# --- the token ---


def test_a_good_token_is_accepted():
    """The attacks below start from here."""
    assert "dana" == judge(id_token())["sub"]
    assert "dana" == judge(id_token(aud=[ME]))["sub"]


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_every_bit_of_a_token_counts(algorithm):
    """Each flipped, and each cut of it, is nobody's word."""
    keys, good = SIGNERS[algorithm]
    assert "dana" == judge(good, keys)["sub"]
    for bad in damaged(good):
        with pytest.raises((CompactError, TokenRefused)):
            judge(bad, keys)


def test_the_other_signature_of_a_token_tells_the_same():
    """ES256 gives anybody a second one, n - s for s; so nothing goes by a token's text."""
    keys, good = SIGNERS["ES256"]
    assert judge(good, keys) == judge(twin(good), keys)


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


SHORT = rsa_key(1024)
UNFIT = {
    "for encryption": jwk(use="enc"),
    "a secret that is not there": {"kty": "oct", "kid": "o1"},
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
    assert ({"ES256"}, {"EdDSA", "Ed25519"}) == (found["e"], found["o"])
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


# --- the person ---

READ, TEST, WRITE = Permission.READ, Permission.TEST_TICKETS, Permission.WRITE
PLAIN = SignInPolicy()
SUPPORT = frozenset({"support"})


def person(**claims):
    return {"iss": IDP, "sub": "dana", "groups": ["support"]} | claims


def permissions_of(claims, *rules, policy=PLAIN):
    rules = StandInRules(rules=rules)
    said = read_staff(claims, rules, policy)
    refused = said if isinstance(said, Deny) else admit(said, None, claims, rules, policy, now=NOON)
    return set(said.permissions) if refused is None else refused.reason


def rule(*permissions, **conditions):
    return StaffRule(permissions=frozenset(permissions), **conditions)


def test_rules_add_up_and_no_rule_is_no():
    """Who fits several rules has what they give together; who fits none has nothing."""
    by_subject, by_group = rule(READ, subject="dana"), rule(TEST, groups=SUPPORT)
    by_claim = rule(WRITE, claims=frozenset({("level", "3")}))
    assert {READ, TEST} == permissions_of(person(level="2"), by_subject, by_group, by_claim)
    assert {READ, TEST, WRITE} == permissions_of(person(level="3"), by_subject, by_group, by_claim)
    assert {TEST} == permissions_of(person(sub="eve"), by_subject, by_group)
    for rules in ((), (rule(READ),), (rule(READ, subject="eve"),), (rule(READ, claims=frozenset({("level", "3")})),)):
        assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(person(), *rules)


def test_all_conditions_of_a_rule_hold_together():
    """Subject and group in one rule are an and."""
    both = rule(READ, subject="dana", groups=frozenset({"leads"}))
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
    assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(person(groups=groups), rule(READ, groups=SUPPORT))


@pytest.mark.parametrize("value", [3, True, ["3"], "3 ", "03", None])
def test_a_claim_is_compared_as_the_text_it_is(value):
    """`3` is not "3"."""
    assert DenyReason.STAFF_NOT_ALLOWED == permissions_of(
        person(level=value), rule(READ, claims=frozenset({("level", "3")}))
    )


ANY = rule(READ, groups=SUPPORT)


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
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": AT + 5}, True),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": AT + 6}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": AT - 601}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": str(AT)}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": float(AT)}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": 10**300}, False),
        (SignInPolicy(max_age=timedelta(seconds=600)), {"auth_time": 2**38}, False),
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
        rules, nobody = StandInRules(rules=(ANY,)), MemoryStore()
        verifier = StaffVerifier(issuer, section, rules, lambda: NOON, store=nobody, forget=lambda _actor: None)
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

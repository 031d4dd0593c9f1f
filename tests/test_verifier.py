"""The verifier for Python apps believes what the gateway has signed for this app, now, and nothing near it."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm
from locum_verify import Assertion, KeySet, Refused, Verifier

from tests.asserting import AUDIENCE, ISSUER, KEYS, TYPE, assertion, b64, claims, compact, jwk, publishing
from tests.gateway_world import HOST, open_world
from tests.patience import PATIENCE_SECONDS
from tests.rsa_keys import rsa_key

ALGORITHMS = sorted(KEYS)
PUBLIC = KEYS["EdDSA"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PEM = KEYS["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SHORT = rsa_key(1024)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    """It knows a key of each kind, read from a file."""
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(algorithm) for algorithm in KEYS]}))
    return Verifier(issuer=ISSUER, audience=AUDIENCE, keys=KeySet(path.as_uri()))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_assertion_tells_who_is_there(verifier, algorithm):
    """With a key of each kind; the attacks below start from here."""
    found = verifier.verify(assertion(algorithm), account="acme")
    assert isinstance(found, Assertion)
    assert ("maria", "dana", "https://idp.vendor.example") == (found.subject, found.actor, found.actor_issuer)
    assert ("acme", "as_1", "grant_1") == (found.account, found.assumption, found.grant)
    assert {"tickets:read", "tickets:write"} == found.scopes
    assert "none" == found.claims["seat"]


ACT = {"sub": "dana", "iss": "x"}


def unfit_claims():
    """What is to be changed in good claims of now, by what is wrong then."""
    now = int(time.time())  # noqa: TID251 - the verifier's clock is the real one
    return {
        "another issuer": {"iss": "https://evil.example"},
        "a part of the issuer": {"iss": ISSUER[:-1]},
        "the issuer with a slash": {"iss": ISSUER + "/"},
        "issuers": {"iss": [ISSUER]},
        "another audience": {"aud": "chat"},
        "a part of the audience": {"aud": AUDIENCE[:-1]},
        "several audiences": {"aud": [AUDIENCE, "chat"]},
        "one audience in a list": {"aud": [AUDIENCE]},
        "expired": {"iat": now - 60, "exp": now},
        "from the future": {"iat": now + 120, "exp": now + 180},
        "a life of 61 seconds": {"exp": now + 3600},
        "no end": {"exp": ...},
        "an end that is a text": {"exp": str(now + 60)},
        "an end with a fraction": {"exp": now + 59.5},
        "an end that is true": {"exp": True},
        "no beginning": {"iat": ...},
        "no actor": {"act": ...},
        "an actor that is a text": {"act": "dana"},
        "an actor without an issuer": {"act": {"sub": "dana"}},
        "a chain of actors": {"act": ACT | {"act": ACT}},
        "an actor that is nobody": {"act": ACT | {"sub": ""}},
        "an actor that is a number": {"act": ACT | {"sub": 5}},
        "another account": {"account": "umbra"},
        **{f"no {name}": {name: ...} for name in ("sub", "sid", "account", "scope", "grant_id", "jti")},
        **{f"empty {name}": {name: ""} for name in ("sub", "sid", "account", "scope", "grant_id", "jti")},
        **{f"{name} in a list": {name: ["maria"]} for name in ("sub", "sid", "account", "scope")},
    }  # fmt: skip


CLAIMS = tuple(unfit_claims())


@pytest.mark.parametrize("case", CLAIMS)
def test_what_is_signed_is_not_yet_for_us(verifier, case):
    """Every claim is there, of its kind, and ours, exactly."""
    with pytest.raises(Refused):
        verifier.verify(assertion(**unfit_claims()[case]), account="acme")


def with_header(**header):
    return lambda: assertion(header=header)


HEADERS = {
    "none": lambda: assertion(header={"alg": "none"}),
    "None": with_header(alg="None"),
    "none, unsigned": lambda: assertion(header={"alg": "none"}).rpartition(".")[0] + ".",
    "no algorithm": with_header(alg=...),
    "algorithms": with_header(alg=["EdDSA"]),
    "another type": with_header(typ="at+jwt"),
    "the type in capitals": with_header(typ=TYPE.upper()),
    "no type": with_header(typ=...),
    "no key": with_header(kid=...),
    "a key that is a list": with_header(kid=["locum-eddsa"]),
    "an unknown key": with_header(kid="locum-other"),
    "a path for a key": with_header(kid="../../dev/null"),
    "SQL for a key": with_header(kid="' OR 1=1"),
    "crit": with_header(crit=["exp"]),
    "an empty crit": with_header(crit=[]),
    "b64": with_header(b64=False, crit=["b64"]),
    "jku": with_header(jku="https://evil.example/jwks"),
    "x5u": with_header(x5u="https://evil.example/x"),
    "jwk": lambda: assertion(header={"jwk": jwk(key=STRANGER)}, key=STRANGER),
    "cty": with_header(cty="JWT"),
    "another key of ours": with_header(kid="locum-es256"),
    "RS256 by the name of EdDSA": with_header(alg="RS256"),
    "HS256 with the public key": lambda: assertion("HS256", key=PUBLIC, header={"kid": "locum-eddsa"}),
    "HS256 with the JWK": lambda: assertion("HS256", key=json.dumps(jwk()).encode(), header={"kid": "locum-eddsa"}),
    "RS512 with the key for RS256": lambda: assertion("RS512", key=KEYS["RS256"], header={"kid": "locum-rs256"}),
    "PS256 with the key for RS256": lambda: assertion("PS256", key=KEYS["RS256"], header={"kid": "locum-rs256"}),
    "RS256's name over HS256": lambda: assertion("RS256", signed_as="HS256", key=b"x" * 32),
    "another key of the same id": lambda: assertion(key=STRANGER),
    "a header that is a list": lambda: compact(b"[]", b"{}"),
    "a header that is nothing": lambda: compact(b"", b"{}"),
    "a kid that is there twice": lambda: compact(
        json.dumps({"alg": "EdDSA", "typ": TYPE, "kid": "x"}).replace('"x"', '"x", "kid": "locum-eddsa"').encode(),
        json.dumps(claims()).encode(),
    ),
}  # fmt: skip
STRANGER = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize("case", HEADERS)
def test_the_header_chooses_nothing(verifier, case):
    """The gateway's published key and its one algorithm decide; no header says where to find another."""
    with pytest.raises(Refused):
        verifier.verify(HEADERS[case]())


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"null", b"{", b"\xff{}", b'"x"', b"[" * 100_000,
        json.dumps(claims()).replace('"maria"', '"owner", "sub": "maria"').encode(),
        json.dumps(claims()).replace('"sub": "dana"', '"sub": "erin", "sub": "dana"').encode(),
    ],
    ids=["nothing", "list", "null", "half", "no UTF-8", "text", "depth", "a member twice", "an inner member twice"],
)  # fmt: skip
def test_a_payload_is_read_in_one_way(verifier, payload):
    """Signed or not: what two readers would take for two things is nothing."""
    with pytest.raises(Refused):
        verifier.verify(compact(json.dumps({"alg": "EdDSA", "kid": "locum-eddsa", "typ": TYPE}).encode(), payload))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_byte_of_it_can_be_another(verifier, algorithm):
    """Each character flipped in one bit, and each end cut off, is refused; so is the same with anything more."""
    good = assertion(algorithm)
    assert verifier.verify(good)
    step = 1 if algorithm == "EdDSA" else 7
    for at in range(0, len(good), step):
        for damaged in (good[:at] + chr(ord(good[at]) ^ 1) + good[at + 1 :], good[:at]):
            with pytest.raises(Refused):
                verifier.verify(damaged)
    for more in ("=", "==", "A", "\n", " ", ".", ".x", "\x00", "é", f", {good}", f",{good}", f" {good}"):
        for changed in (good + more, more + good):
            with pytest.raises(Refused):
                verifier.verify(changed)


def test_the_last_character_has_one_spelling(verifier):
    """Bits behind the last whole byte, which decoders drop, make no second token of it."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for algorithm in ("EdDSA", "RS256"):
        good = assertion(algorithm)
        others = [good[:-1] + other for other in alphabet if other != good[-1]]
        alike = [one for one in others if _decode(one) == _decode(good)]
        assert alike
        for other in alike:
            with pytest.raises(Refused):
                verifier.verify(other)


def _decode(token):
    return base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")


def test_a_malleated_signature_tells_the_same(verifier):
    """ECDSA has two signatures for each; both say what was signed, so nothing may go by the text of a token."""
    good = assertion("ES256")
    head, raw = good.rpartition(".")[0], _decode(good)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = int.from_bytes(raw[:32]), order - int.from_bytes(raw[32:])
    assert (r, s) == decode_dss_signature(encode_dss_signature(r, s))
    twin = f"{head}.{b64(r.to_bytes(32) + s.to_bytes(32))}"
    assert twin != good
    assert verifier.verify(good) == verifier.verify(twin)


def test_a_long_text_costs_nothing(verifier):
    """Beyond eight kilobytes it is not even decoded."""
    with pytest.raises(Refused):
        verifier.verify(assertion(sub="x" * 9000))


def test_the_end_is_sharp_and_the_beginning_has_five_seconds(tmp_path):
    """An app's clock may be behind the gateway's a little; what has expired has expired."""
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk()]}))
    now = [1000.0]
    keys = KeySet((tmp_path / "jwks.json").as_uri())
    verifier = Verifier(issuer=ISSUER, audience=AUDIENCE, keys=keys, clock=lambda: now[0])
    token = assertion(now=1000)
    for at, good in ((995, True), (994.9, False), (1059.9, True), (1060, False)):
        now[0] = at
        assert good == _is_good(verifier, token), at
    assert not _is_good(verifier, assertion(iat=1000, exp=1061))


def _is_good(verifier, token, **more):
    try:
        verifier.verify(token, **more)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("bound", [False, True])
def test_an_assertion_for_one_request_is_for_no_other(verifier, bound):
    """Where it says for which; with `bound` it has to say so, and the request has to be known."""
    strict = Verifier(issuer=ISSUER, audience=AUDIENCE, keys=verifier._keys, bound=bound)
    said = {"method": "POST", "url": "https://acme.helpdesk.example/tickets?a=1"}
    token = assertion(htm="POST", htu=said["url"])
    assert _is_good(strict, token, **said)
    for change in (
        {"method": "GET"},
        {"method": "post"},
        {"method": None},
        {"url": said["url"] + "&b=2"},
        {"url": said["url"].replace("https", "http")},
        {"url": None},
    ):
        assert not _is_good(strict, token, **said | change)
    assert (not bound) == _is_good(strict, assertion(), **said)
    assert not _is_good(strict, assertion(htm="POST"), **said)
    assert not _is_good(strict, assertion(htu=said["url"]), **said)


def test_a_header_is_there_once(verifier):
    """None at all is the app's own login; two are refused, whatever they say."""
    good = assertion()
    assert None is verifier.read([])
    assert "maria" == verifier.read([good]).subject
    for lines in ([good, good], [good, ""], [""]):
        with pytest.raises(Refused):
            verifier.read(lines)


# --- keys ---

UNFIT = {
    "for encryption": jwk(use="enc"),
    "for signing only": jwk(key_ops=["sign"]),
    "operations that are a text": jwk(key_ops="verify"),
    "another algorithm": jwk(alg="RS256"),
    "an algorithm of secrets": jwk(alg="HS256"),
    "RSA for RS512": jwk("RS256", kid="locum-eddsa", alg="RS512"),
    "with its private half": jwk(d="AAAA"),
    "no id": jwk(kid=...),
    "an id that is a number": jwk(kid=5),
    "another curve": json.loads(OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key()))
    | {"kid": "locum-eddsa"},
    "too few bytes": jwk(x="AAAA"),
    "no bytes": jwk(x=...),
    "a secret": {"kty": "oct", "k": b64(PUBLIC), "kid": "locum-eddsa"},
    "no type": jwk(kty=...),
    "RSA of 1024 bits": jwk("RS256", key=SHORT, kid="locum-eddsa"),
    "no key": {"kid": "locum-eddsa"},
    "null": None,
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_an_unfit_key_verifies_nothing_and_spoils_nothing(tmp_path, case):
    """A good one beside it still counts."""
    good = jwk("ES256")
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [UNFIT[case], good]}))
    verifier = Verifier(issuer=ISSUER, audience=AUDIENCE, keys=KeySet((tmp_path / "jwks.json").as_uri()))
    for token in (assertion(), assertion("RS256", key=SHORT, header={"kid": "locum-eddsa"})):
        assert not _is_good(verifier, token)
    assert _is_good(verifier, assertion("ES256"))


@contextmanager
def asking():
    now = [0.0]
    with publishing() as publisher:
        keys = KeySet(publisher.url, ticks=lambda: now[0])
        yield publisher, keys, now


def test_two_keys_of_one_id_are_none():
    """Which of them was meant cannot be told."""
    with asking() as (publisher, keys, _):
        publisher.document = {"keys": [jwk(), jwk(key=STRANGER)]}
        assert None is keys.find("locum-eddsa")


def test_made_up_ids_cause_one_fetch_a_minute():
    """A known one causes none; a key that is made just behind the first fetch is found within a second."""
    with asking() as (publisher, keys, now):
        publisher.document = {"keys": [jwk()]}
        for number in range(100):
            assert None is keys.find(f"x{number}")
            assert keys.find("locum-eddsa")
        assert 1 == publisher.asked
        publisher.document = {"keys": [jwk(), jwk("ES256")]}
        now[0] = 1.0
        assert keys.find("locum-es256")
        for second in range(2, 60):
            now[0] = float(second)
            assert None is keys.find("x")
        assert 2 == publisher.asked
        now[0] = 61.0
        assert None is keys.find("x")
        assert 3 == publisher.asked


def test_a_key_that_was_withdrawn_is_forgotten():
    """Within a minute, asked for or not; a made-up id is no way to keep it."""
    with asking() as (publisher, keys, now):
        assert keys.find("locum-eddsa")
        publisher.document = {"keys": [jwk("ES256")]}
        now[0] = 59.0
        assert keys.find("locum-eddsa")
        now[0] = 60.0
        assert None is keys.find("locum-eddsa")
        assert keys.find("locum-es256")


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"document": b"<html>"}, {"document": {}}, {"document": b"x" * 70_000}]
)
def test_while_the_gateway_is_away_the_known_keys_count(fault):
    """Those that are not known are tried for once a second at the most; a fault is not a set without keys."""
    with asking() as (publisher, keys, now):
        assert keys.find("locum-eddsa")
        good = publisher.document
        for name, value in fault.items():
            setattr(publisher, name, value)
        now[0] = 599.0
        for _ in range(10):
            assert keys.find("locum-eddsa")
            assert None is keys.find("x")
        assert publisher.asked <= 3
        publisher.status, publisher.document = 200, good
        now[0] = 610.0
        assert keys.find("locum-rs256")


def test_the_known_keys_do_not_count_for_ever():
    """Whoever can keep an app from the set cannot keep a withdrawn key alive for more than ten minutes."""
    with asking() as (publisher, keys, now):
        assert keys.find("locum-eddsa")
        publisher.status = 503
        for second in range(60, 600, 20):
            now[0] = float(second)
            assert keys.find("locum-eddsa")
            assert None is keys.find("x")
        now[0] = 600.0
        assert None is keys.find("locum-eddsa")
        assert None is keys.find("locum-eddsa")
        publisher.status = 200
        now[0] = 602.0
        assert keys.find("locum-eddsa")


def test_whoever_has_a_known_key_waits_for_nobody():
    """An unknown one is looked for meanwhile, by one thread for all; and a key that has grown old waits a second."""
    with asking() as (publisher, keys, now), ThreadPoolExecutor(3) as others:
        assert keys.find("locum-eddsa")
        now[0] = 1.0
        with publisher.hanging():
            strangers = [others.submit(keys.find, name) for name in ("x", "y", "locum-late")]
            publisher.reached.wait(PATIENCE_SECONDS)
            assert keys.find("locum-eddsa")
            assert not any(stranger.done() for stranger in strangers)
            publisher.document = {"keys": [jwk(kid="locum-late")]}
        assert [None, None] == [stranger.result() for stranger in strangers[:2]]
        assert strangers[2].result()
        assert 2 == publisher.asked
        now[0] = 62.0
        with publisher.hanging():
            stranger = others.submit(keys.find, "x")
            publisher.reached.wait(PATIENCE_SECONDS)
            now[0] = 63.0
            assert keys.find("locum-late")
            assert not stranger.done()
        assert None is stranger.result()
        assert 3 == publisher.asked


def test_the_pause_begins_when_the_fetch_is_over():
    """Or keys that take long to be refused would be asked for without a pause."""
    with asking() as (publisher, keys, now), ThreadPoolExecutor(1) as others:
        publisher.status = 503
        with publisher.hanging():
            first = others.submit(keys.find, "x")
            publisher.reached.wait(PATIENCE_SECONDS)
            now[0] = 5.0
        assert None is first.result()
        for _ in range(10):
            assert None is keys.find("x")
        assert 1 == publisher.asked
        now[0] = 6.0
        assert None is keys.find("x")
        assert 2 == publisher.asked


def test_no_redirect_is_followed():
    """Wherever it points: the address is the operator's."""
    with asking() as (publisher, keys, _), publishing() as other:
        publisher.status, publisher.location = 302, other.url
        assert None is keys.find("locum-eddsa")
        assert 0 == other.asked


def test_no_proxy_of_the_environment_is_asked(monkeypatch):
    """Whoever sets a variable could else hand out keys."""
    with asking() as (_, keys, _), publishing() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert keys.find("locum-eddsa")
        assert 0 == proxy.asked


@pytest.mark.parametrize("url", ["http://gateway.example/jwks", "ftp://x/jwks", "//x/jwks", "", "http://127.0.0.1.x/"])
def test_keys_come_over_a_way_that_nobody_can_change(url):
    """https, this machine's loopback, or a file."""
    with pytest.raises(ValueError, match="https"):
        KeySet(url)


# --- with the gateway itself ---


@pytest.mark.parametrize("bind", [False, True])
async def test_what_the_gateway_sends_is_believed(tmp_path, bind):
    """Its own assertion, with its own published keys; bound to a request, it is for that one only."""

    def change(document):
        document["upstream"]["bind_assertions"] = bind

    async with open_world(tmp_path, change=change) as world:
        await world.choose("day")
        token = await world.token()
        await world.get(token, "/tickets/1?a=%C3%A9")
        [sent] = world.upstream.requests[-1].values(b"x-locum-assertion")
        async with world.http.get(f"{world.gateway.public_url}/.locum/jwks.json") as answer:
            (tmp_path / "jwks.json").write_bytes(await answer.read())
        keys = KeySet((tmp_path / "jwks.json").as_uri())
        verifier = Verifier(
            issuer="https://assume.vendor.example", audience="helpdesk", keys=keys, bound=bind, clock=_at(world)
        )
        request = {"method": "GET", "url": f"https://{HOST}/tickets/1?a=%C3%A9"}
        found = verifier.verify(sent.decode(), account="acme", **request)
        assert ("maria", "dana", "acme") == (found.subject, found.actor, found.account)
        assert (not bind) == _is_good(verifier, sent.decode(), method="GET", url=f"https://{HOST}/tickets/2")


def _at(world):
    return world.clock.now.timestamp


def test_the_library_is_met_at_one_seam():
    """Nothing of it escapes: whatever it raises is a refusal."""
    assert issubclass(Refused, Exception)
    assert not issubclass(Refused, jwt.PyJWTError)

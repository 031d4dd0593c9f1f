"""Tokens for the holder of a key only (RFC 9449): proofs by an unrelated library, at the token endpoint and the door."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.clients import digest_of
from gateway.stores.store import Client
from gateway.taken import Full, Taken
from gateway.tokens.dpop import Nonces, ProofRefused, Proofs, thumbprint
from gateway.tokens.signing import SigningKey
from policy import keys as life
from policy.keys import Key
from policy.model import ClientId
from tests.forgery import NOON, Forger
from tests.gateway_world import HOST, ISSUER, parse
from tests.oauth_world import PLACE, basic, introspect, open_oauth, payload_of, revoke
from tests.oauth_world import proof as made
from tests.token_attacks import damaged, twin
from tests.token_endpoint_world import TOKEN_URL, form, issued, post

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
shared = pytest.mark.asyncio(loop_scope="module")
KEYS = {
    "ES256": ECKey.generate_key("P-256"),
    "EdDSA": OKPKey.generate_key("Ed25519"),
    "RS256": RSAKey.generate_key(2048),
}
KEY = KEYS["ES256"]
OTHER = ECKey.generate_key("P-256")
BUSY = (503,)
"""What an address gets that asks for more at a time than one may have."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these: none of them changes anything."""
    async with open_oauth(tmp_path_factory.mktemp("dpop")) as world:
        await world.gateway.store.add_client(
            Client(id=ClientId("holder"), secret_digest=digest_of("plain"), roles=frozenset({"token"}), dpop=True)
        )
        world.nonce = None
        world.nonce = (await ask(world, proof(world)))[1]["dpop-nonce"]
        yield world


def proof(world, *, key=KEY, **changes):
    """Return a flawless proof with the gateway's nonce, but for the changes."""
    return made(world, key=key, **({"nonce": world.nonce} | changes))


async def ask(world, *proofs, by="holder", **changes):
    """Ask for a token with these proofs; return (status, headers, document)."""
    lines = [basic(by) if by != "app" else f"Authorization: {world.basic()}", *(f"DPoP: {one}" for one in proofs)]
    return await post(world, urlencode(form(world) | changes), headers=lines)


async def bound_token(world, **more):
    status, _, document = await ask(world, proof(world, **more))
    assert (200, "DPoP") == (status, document["token_type"]), document
    return document["access_token"]


async def use(world, token, *proofs, scheme="DPoP", target="/tickets/1", method="GET"):
    """Send a request to the app; return (status, headers, reason)."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: close", f"Authorization: {scheme} {token}"]
    lines += [f"DPoP: {one}" for one in proofs]
    status, headers, body = parse(await world.raw("\r\n".join(lines).encode() + b"\r\n\r\n"))
    return status, headers, json.loads(body).get("reason") if "problem" in headers.get("content-type", "") else None


# --- the token endpoint ---


@shared
@pytest.mark.parametrize("alg", KEYS)
async def test_a_token_is_bound_to_the_proof_s_key(world, alg):
    """Section 5 and 6.1: `cnf.jkt` is the thumbprint (RFC 7638) that the library works out, at introspection as well."""
    token = await bound_token(world, key=KEYS[alg], alg=alg)
    assert {"jkt": KEYS[alg].thumbprint()} == payload_of(token)["cnf"]
    document = (await introspect(world, token))[2]
    assert ("DPoP", {"jkt": KEYS[alg].thumbprint()}) == (document["token_type"], document["cnf"])
    status, _, _ = await use(world, token, proof(world, key=KEYS[alg], alg=alg, token=token))
    assert 200 == status


@shared
async def test_any_client_may_ask_for_a_bound_token(world):
    """And gets one for whoever bears it if it sends no proof."""
    status, _, document = await ask(world, proof(world), by="app")
    assert (200, "DPoP") == (status, document["token_type"])
    status, _, document = await ask(world, by="app")
    assert (200, "Bearer") == (status, document["token_type"])


@shared
async def test_a_client_that_must_be_bound_gets_nothing_without_a_proof(world):
    """`locum client add --dpop`: section 5 leaves it to the server to insist."""
    before = issued(world)
    status, _, document = await ask(world)
    assert (400, "invalid_dpop_proof", "proof_missing") == (status, document["error"], document["reason"])
    assert before == issued(world)


@shared
async def test_without_our_nonce_it_is_asked_for(world):
    """Section 8: 400 `use_dpop_nonce` with the header; then the same request with it is answered."""
    for nonce in (None, "", "other", "x" * 24):
        status, headers, document = await ask(world, proof(world, nonce=nonce))
        assert (400, "use_dpop_nonce") == (status, document["error"])
        assert "no-store" == headers["cache-control"]
        assert 200 == (await ask(world, proof(world, nonce=headers["dpop-nonce"])))[0]


@shared
@pytest.mark.parametrize(
    "htu", [PLACE, f"{PLACE}?x=1#y", f"https://{HOST}{TOKEN_URL}", PLACE.replace("https", "HTTPS")]
)
async def test_the_address_is_that_which_the_client_sees(world, htu):
    """Section 4.3: without query and fragment, at the issuer's host and at the account's, a host in either case."""
    assert 200 == (await ask(world, proof(world, htu=htu)))[0]
    assert 200 == (await ask(world, proof(world, htu=htu.replace(".example/", ".example:443/"))))[0]


WRONG = {
    "no jti": {"jti": None}, "empty jti": {"jti": ""}, "jti is a number": {"jti": 5}, "a long jti": {"jti": "x" * 257},
    "no htm": {"htm": None}, "another method": {"htm": "GET"}, "method in small letters": {"htm": "post"},
    "no htu": {"htu": None}, "another path": {"htu": f"{ISSUER}/.locum/oauth/revoke"}, "a path more": {"htu": PLACE + "/"},
    "another host": {"htu": f"https://evil.example{TOKEN_URL}"}, "another scheme": {"htu": PLACE.replace("https", "http")},
    "another port": {"htu": PLACE.replace(".example", ".example:8443")}, "a user": {"htu": PLACE.replace("//", "//x@")},
    "no host": {"htu": TOKEN_URL}, "htu is a list": {"htu": [PLACE]}, "htu is no address": {"htu": "https://[::"},
    "no iat": {"iat": None}, "iat is a text": {"iat": "now"}, "iat with a fraction": {"iat": 1.5}, "iat of 1970": {"iat": 0},
}  # fmt: skip


@shared
@pytest.mark.parametrize("name", WRONG)
async def test_a_proof_for_something_else_is_no_proof(world, name):
    """Section 4.3, claim by claim: nothing is issued."""
    before = issued(world)
    status, _, document = await ask(world, proof(world, **WRONG[name]))
    assert (400, "invalid_dpop_proof") == (status, document["error"])
    assert before == issued(world)


@shared
async def test_a_proof_is_of_the_last_minute(world):
    """Sixty seconds old, five ahead for the two clocks' difference, and not a second more."""
    now = int(world.clock.now.timestamp())
    for ago, right in ((60, True), (61, False), (-5, True), (-6, False), (3600, False)):
        status, _, _ = await ask(world, proof(world, iat=now - ago))
        assert (200 if right else 400) == status, ago


@shared
async def test_a_proof_s_header_is_judged_as_strictly(world):
    """Section 4.3: one header, one type, a public key that signs, nothing critical; all of a compact JWS's one spelling."""
    good = proof(world)
    private = KEY.as_dict(private=True)
    forger = Forger(private=KEYS["EdDSA"].private_key, key_id="x", now=world.clock.now)
    claims = payload_of(proof(world))
    okp = {"alg": "EdDSA", "typ": "dpop+jwt", "jwk": KEYS["EdDSA"].as_dict(private=False)}
    assert 200 == (await ask(world, forger.token(claims, okp)))[0]
    rsa = RSAKey.generate_key(2048)
    cases = {
        "nothing": "",
        "no type": proof(world, header={"typ": "JWT"}),
        "a token's type": proof(world, header={"typ": "at+jwt"}),
        "no key": forger.token(claims, okp | {"jwk": None}),
        "key is a text": forger.token(claims, okp | {"jwk": "x"}),
        "a private key": proof(world, header={"jwk": private}),
        "another key": proof(world, header={"jwk": OTHER.as_dict(private=False)}),
        "a key of another kind": proof(world, header={"jwk": rsa.as_dict(private=False)}),
        "a secret": forger.token(claims, okp | {"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}),
        "a key to encrypt": forger.token(claims, okp | {"jwk": okp["jwk"] | {"use": "enc"}}),
        "no algorithm": forger.token(claims, okp | {"alg": "none"}, sign=lambda _: b""),
        "critical": forger.token(claims, okp | {"crit": ["x"], "x": 1}),
        "padded": good + "=",
        "cut": good[:-1],
        "two parts": good.rpartition(".")[0],
        "the token": await world.token(),
    }
    for name, one in cases.items():
        status, _, document = await ask(world, one)
        assert (400, "invalid_dpop_proof") == (status, document["error"]), name
    assert 400 == (await ask(world, good, good))[0]
    assert 400 == (await ask(world, good, proof(world)))[0]
    assert 200 == (await ask(world, good))[0]


@shared
async def test_a_proof_buys_one_token(world):
    """Two hundred at a time: one is answered. On every node, for the store remembers it; by its `jti`, not by its text."""
    one = proof(world)
    statuses = [status for status, _, _ in await asyncio.gather(*(ask(world, one) for _ in range(200)))]
    assert (1, True) == (statuses.count(200), set(statuses) <= {200, 400, *BUSY})
    other = proof(world)
    assert [200, 400] == [(await ask(world, text))[0] for text in (twin(other), other)]


@pytest.mark.parametrize("alg", KEYS)
def test_every_bit_of_a_proof_counts(alg):
    """Each flipped, and each cut of it, is refused, whatever kind of key it brings along."""
    nonces = Nonces(SimpleNamespace(signing=SigningKey.generate("k", "EdDSA"), published=list), lambda: NOON)
    proofs, times = Proofs(nonces, lambda: NOON), SimpleNamespace(clock=SimpleNamespace(now=NOON))
    good = made(times, key=KEYS[alg], alg=alg, nonce=nonces.current())
    assert KEYS[alg].thumbprint() == proofs.read([good], method="POST", uris=[PLACE]).key
    for bad in damaged(good):
        with pytest.raises(ProofRefused):
            proofs.read([bad], method="POST", uris=[PLACE])


# --- the data plane ---


@shared
async def test_a_bound_token_is_worth_nothing_to_whoever_bears_it(world):
    """Section 7.2: as `Bearer`, without a proof or with somebody else's, it is refused, and the app hears nothing."""
    token = await bound_token(world)
    heard = len(world.upstream.requests)
    for scheme, proofs, reason in (
        ("Bearer", [], "proof_missing"),
        ("Bearer", [proof(world, token=token)], "proof_missing"),
        ("DPoP", [], "proof_missing"),
        ("DPoP", [proof(world, token=token), proof(world, token=token)], "proof_missing"),
        ("DPoP", [proof(world, token=token, key=OTHER)], "proof_invalid"),
        ("DPoP", ["x"], "proof_invalid"),
    ):
        status, headers, found = await use(world, token, *proofs, scheme=scheme)
        assert (401, reason) == (status, found)
        assert headers["www-authenticate"].startswith('DPoP realm="locum", error="')
        assert 'algs="EdDSA Ed25519 ES256 ' in headers["www-authenticate"]
    assert heard == len(world.upstream.requests)


@shared
async def test_a_token_that_is_not_bound_is_not_sent_as_one(world):
    """Otherwise a proof would look as if it had been worth something."""
    token = await world.token()
    status, _, reason = await use(world, token, proof(world, token=token))
    assert (401, "proof_missing") == (status, reason)


@shared
@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "POST"}, {"htm": None}, {"htu": f"https://{HOST}/tickets/2"}, {"htu": f"http://{HOST}/tickets/1"},
        {"htu": "https://beta.helpdesk.example/tickets/1"}, {"htu": f"https://{HOST}/tickets/%31"}, {"htu": None},
        {"ath": None}, {"ath": ""}, {"ath": "x" * 43}, {"iat": 0}, {"jti": None},
    ],
)  # fmt: skip
async def test_a_proof_is_for_this_method_address_and_token(world, changes):
    """Section 4.3 again, with `ath`: what was signed for one request opens no other."""
    token = await bound_token(world)
    status, headers, reason = await use(world, token, proof(world, token=token, **changes))
    assert (401, "proof_invalid") == (status, reason)
    assert 'error="invalid_dpop_proof"' in headers["www-authenticate"]


@shared
async def test_the_query_is_not_part_of_the_address(world):
    """Section 4.2: `htu` is without query and fragment."""
    token = await bound_token(world)
    assert 200 == (await use(world, token, proof(world, token=token), target="/tickets/1?view=all"))[0]


@shared
async def test_a_proof_counts_once(world):
    """Also on the same connection, and with the very same head; by its `jti`, not by its text."""
    token = await bound_token(world)
    one = proof(world, token=token, jti="once")
    assert 200 == (await use(world, token, one))[0]
    for again in (one, twin(one), proof(world, token=token, jti="once")):
        assert (401, "proof_invalid") == (await use(world, token, again))[::2]
    head = f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: DPoP {token}\r\nDPoP: {proof(world, token=token)}\r\n\r\n"
    raw = await world.raw((head * 2).encode(), responses=2)
    assert (1, 1) == (raw.count(b"HTTP/1.1 200"), raw.count(b"HTTP/1.1 401"))


@shared
async def test_of_two_hundred_copies_of_a_proof_at_once_one_reaches_the_app(world):
    """On connections of their own: one is answered, the app hears of one, and of the others none is let in later."""
    token = await bound_token(world)
    one, heard = proof(world, token=token), len(world.upstream.requests)
    answers = await asyncio.gather(*(use(world, token, one) for _ in range(200)))
    statuses = [status for status, _, _ in answers]
    assert (1, True) == (statuses.count(200), set(statuses) <= {200, 401, *BUSY})
    assert (401, "proof_invalid") == (await use(world, token, one))[::2]
    assert heard + 1 == len(world.upstream.requests)


@shared
async def test_the_door_asks_for_its_nonce_too(world):
    """Section 9: 401 `use_dpop_nonce`, with which the next proof is accepted."""
    token = await bound_token(world)
    status, headers, reason = await use(world, token, proof(world, token=token, nonce="old"))
    assert (401, "proof_nonce") == (status, reason)
    assert 'error="use_dpop_nonce"' in headers["www-authenticate"]
    assert 200 == (await use(world, token, proof(world, token=token, nonce=headers["dpop-nonce"])))[0]


@shared
async def test_the_app_never_sees_a_proof_of_staff_s_and_sees_every_customer_s(world):
    """It is our credential in one case and the app's own business in the other."""
    token = await bound_token(world)
    heard = len(world.upstream.requests)
    assert 200 == (await use(world, token, proof(world, token=token)))[0]
    assert [] == world.upstream.requests[heard].values(b"dpop")
    assert [] == world.upstream.requests[heard].values(b"authorization")
    own = proof(world)
    await world.get(None, headers=[("DPoP", own), ("Authorization", "DPoP abc")])
    assert [own.encode()] == world.upstream.requests[heard + 1].values(b"dpop")
    assert [b"DPoP abc"] == world.upstream.requests[heard + 1].values(b"authorization")


@shared
async def test_a_bound_token_can_be_taken_back_without_its_key(world):
    """RFC 7009 asks for the client, not for the key: whoever has lost it must be able to end things."""
    token = await bound_token(world, key=OTHER)
    assert 200 == (await revoke(world, token, by="holder"))[0]
    assert {"active": False} == (await introspect(world, token))[2]


async def test_a_nonce_is_good_for_minutes(tmp_path):
    """That of now and of just before, on every node with the same key; an older one is asked for anew."""
    async with open_oauth(tmp_path) as world:
        world.nonce = None
        nonce = (await ask(world, proof(world), by="app"))[1]["dpop-nonce"]
        lived = 0
        while (await ask(world, proof(world, nonce=nonce), by="app"))[0] == 200:
            world.clock.forward(seconds=10)
            lived += 10
        assert 150 <= lived <= 310


class Node:
    """One of several that share their keys; its clock is apart from the others' by so many seconds."""

    now = NOON
    times = (
        Key(id="locum-old", algorithm="EdDSA", signs_from=NOON - timedelta(days=1)),
        Key(id="locum-new", algorithm="EdDSA", signs_from=NOON),
    )
    keys = {key.id: SigningKey.generate(key.id, "EdDSA") for key in times}

    def __init__(self, seconds=0):
        self.apart = timedelta(seconds=seconds)
        self.nonces = Nonces(self, self.clock)

    def clock(self):
        return Node.now + self.apart

    @property
    def signing(self):
        return self.keys[life.signer(self.times, "EdDSA", self.clock()).id]

    def published(self):
        counting = [key for key in self.times if life.state(key, self.times, self.clock()) is not life.KeyState.GONE]
        return [self.keys[key.id] for key in counting]


def test_a_rotation_ends_no_nonce():
    """That of just before it is good just behind it, and on nodes of which one changes over before the other."""
    one, ahead, behind = Node(), Node(50), Node(-10)
    for second in range(-200, 200, 10):
        Node.now = NOON + timedelta(seconds=second)
        nonces = [node.nonces.current() for node in (one, ahead, behind)]
        for later in (0, 1, 90):
            Node.now = NOON + timedelta(seconds=second + later)
            assert all(node.nonces.is_good(nonce) for node in (one, ahead, behind) for nonce in nonces), second
        Node.now = NOON + timedelta(seconds=second + 360)
        assert not any(node.nonces.is_good(nonce) for node in (one, ahead, behind) for nonce in nonces), second


def test_the_nonces_of_a_key_that_is_gone_are_gone():
    """What it has made does not outlive it."""
    node = Node()
    Node.now = NOON - timedelta(seconds=1)
    nonce = node.nonces.current()
    Node.now = NOON
    assert node.nonces.is_good(nonce)
    node.times = (replace(node.times[0], ended_at=NOON), node.times[1])
    assert not node.nonces.is_good(nonce)
    assert node.nonces.is_good(node.nonces.current())


def test_the_thumbprint_is_that_of_the_standard():
    """The example of RFC 7638 section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    assert "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" == thumbprint({"kty": "RSA", "n": n, "e": "AQAB", "kid": "x"})


def test_what_was_taken_is_not_forgotten_to_make_room():
    """When there is no room, nothing more is taken until the oldest could count no more."""
    now = [0.0]
    taken = Taken(seconds=70, ticks=lambda: now[0], most=3)
    assert [True, True, True, False] == [taken.take(digest) for digest in (b"a", b"b", b"c", b"a")]
    with pytest.raises(Full):
        taken.take(b"d")
    assert False is taken.take(b"a")
    now[0] = 70.0
    assert True is taken.take(b"d")

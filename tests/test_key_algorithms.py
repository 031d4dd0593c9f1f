"""Each algorithm that we sign with, from the configuration to somebody else's library, and what is not accepted of it."""

import base64
import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import KeySet

from gateway.proxy.names import Names
from gateway.proxy.triage import Credential, find_credential
from gateway.tokens.hiding import hide_tokens
from gateway.tokens.signing import OUR_BEGINNING, SigningKey, TokenRefused, TokenVerifier
from policy.claims import ASSERTION_TYPE, TOKEN_TYPE
from tests.forgery import ISSUER, KEY, PRIVATE, Forger, b64, ring
from tests.gateway_world import HOST, open_world
from tests.rsa_keys import rsa_key
from tests.token_attacks import P256_ORDER as ORDER

KEYS = {
    "EdDSA": KEY,
    "ES256": SigningKey.generate("locum-00000000000000ec", "ES256"),
    "RS256": SigningKey("locum-00000000000000a5", rsa_key()),
}
every_algorithm = pytest.mark.parametrize("algorithm", KEYS)
FORGER = Forger(private=PRIVATE, key_id=KEY.id)
CLAIMS = FORGER.claims()


def is_accepted(verifier, token):
    try:
        verifier.verify(token)
    except TokenRefused:
        return False
    return True


# It would have the name "Ed25519" (RFC 9864), which hardly any library knows yet.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(("tokens", "assertions"), [*((name, name) for name in KEYS), ("EdDSA", "RS256")])
async def test_somebody_elses_library_verifies_what_is_signed_from_the_published_keys(tmp_path, tokens, assertions):
    """The token that staff get, and the assertion that the app gets, each with the algorithm that is configured."""

    def change(wanted):
        wanted["tokens"] = {"algorithm": tokens}
        wanted["identity"] = {"algorithm": assertions}

    async with open_world(tmp_path, change=change) as world:
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        assert 200 == (await world.get(token))[0]
        async with world.http.get(f"{world.gateway.public_url}/.locum/jwks.json") as answer:
            keys = KeySet.import_key_set(await answer.json(content_type=None))
        assert len({tokens, assertions}) == len(keys.keys)
        issued = jwt.decode(token, keys, algorithms=[tokens])
        assert (tokens, TOKEN_TYPE) == (issued.header["alg"], issued.header["typ"])
        assert ("maria", "dana", ISSUER) == (issued.claims["sub"], issued.claims["act"]["sub"], issued.claims["iss"])
        [assertion] = world.upstream.requests[-1].values(b"x-locum-assertion")
        told = jwt.decode(assertion.decode(), keys, algorithms=[assertions])
        assert (assertions, ASSERTION_TYPE) == (told.header["alg"], told.header["typ"])
        assert ("maria", "dana") == (told.claims["sub"], told.claims["act"]["sub"])
        assert 401 == (await world.get(assertion.decode()))[0]


@every_algorithm
def test_every_bit_of_a_token_counts(algorithm):
    """There is no bit whose flip leaves a token that is accepted, or one that the app would get to see."""
    key = KEYS[algorithm]
    verifier, good = TokenVerifier(ring(key), issuer=ISSUER), key.sign(CLAIMS, type_=TOKEN_TYPE).encode()
    assert is_accepted(verifier, good.decode())
    for index, bit in itertools.product(range(len(good)), range(8)):
        flipped = good[:index] + bytes([good[index] ^ 1 << bit]) + good[index + 1 :]
        header = ((b"Host", HOST.encode()), (b"Authorization", b"Bearer " + flipped))
        found = find_credential(header, Names().among(header), verifier)
        assert found is not None, (index, bit)
        if isinstance(found, Credential):
            assert not is_accepted(verifier, found.token), (index, bit)


@every_algorithm
def test_a_token_of_ours_is_found_wherever_it_is_and_never_written_down(algorithm):
    """By one search for what the tokens of every algorithm hold; cut off behind it too; no other issuer's has it."""
    key = KEYS[algorithm]
    token = key.sign(CLAIMS, type_=TOKEN_TYPE).encode()
    verifier = TokenVerifier(ring(key), issuer=ISSUER)
    assert 1 == token.count(OUR_BEGINNING)
    for cut in (len(token), 40, 36):
        headers = ((b"Host", HOST.encode()), (b"Cookie", b"a=b; t=" + token[:cut]))
        assert not isinstance(find_credential(headers, Names().among(headers), verifier), Credential)
        assert verifier.is_ours(token[:cut].decode())
    assert b"/x?a=(token)&b" == hide_tokens(b"/x?a=" + token + b"&b")
    theirs = SigningKey(f"app-{key.id}", key.private).sign({"iss": "https://app.example"}, type_="at+jwt")
    assert not verifier.is_ours(theirs)


def test_a_token_that_names_a_key_of_another_algorithm_is_refused():
    """Whichever of ours has signed it, and whatever its header says: the key says which algorithm it is for."""
    verifier = TokenVerifier(ring(*KEYS.values()), issuer=ISSUER)
    payload = KEY.sign(CLAIMS, type_=TOKEN_TYPE).split(".")[1]
    accepted = []
    for signer, named, said in itertools.product(KEYS.values(), KEYS.values(), KEYS):
        header = b64(b'{"alg":"%b","kid":"%b","typ":"at+jwt"}' % (said.encode(), named.id.encode()))
        if is_accepted(verifier, f"{header}.{payload}.{signed(signer, f'{header}.{payload}')}"):
            accepted.append((signer.algorithm, named.algorithm, said))
    assert [(name, name, name) for name in KEYS] == accepted


@every_algorithm
def test_a_signature_has_one_value(algorithm):
    """Its twins, its halves the other way round, longer and shorter ones are refused; so is none at all."""
    key = KEYS[algorithm]
    verifier = TokenVerifier(ring(key), issuer=ISSUER)
    for number in range(20):
        token = key.sign(CLAIMS | {"jti": f"token-{number}"}, type_=TOKEN_TYPE)
        assert is_accepted(verifier, token)
        beginning, _, signature = token.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        half = len(raw) // 2
        first, second = raw[:half], raw[half:]
        others = [
            second + first,
            first + twin(second),
            twin(first) + second,
            raw + b"\0",
            b"\0" + raw,
            raw[:-1],
            raw[1:],
        ]
        others += [bytes(len(raw)), b"\xff" * len(raw), first, b""]
        if algorithm == "RS256":
            modulus = key.public.public_numbers().n
            moved = int.from_bytes(raw, "big") + modulus
            others.append(moved.to_bytes(len(raw) + 1, "big"))
            if moved < 1 << 8 * len(raw):
                others.append(moved.to_bytes(len(raw), "big"))
        assert not [other for other in others if is_accepted(verifier, f"{beginning}.{b64(other)}")]


def twin(scalar):
    """The other value of a half of a signature by ECDSA; for other halves any other will do."""
    return ((ORDER - int.from_bytes(scalar, "big")) % (1 << 8 * len(scalar))).to_bytes(len(scalar), "big")


def signed(key, message):
    """The signature that a key makes, of whatever algorithm, in the one form that we write."""
    match key.algorithm:
        case "EdDSA":
            return b64(key.private.sign(message.encode()))
        case "ES256":
            first, second = decode_dss_signature(key.private.sign(message.encode(), ec.ECDSA(SHA256())))
            return b64(first.to_bytes(32, "big") + min(second, ORDER - second).to_bytes(32, "big"))
        case _:
            return b64(key.private.sign(message.encode(), PKCS1v15(), SHA256()))


def test_what_was_verified_is_forgotten_when_its_key_ends():
    """Also what was verified a moment ago; and no other token suffers."""
    known = dict(KEYS)
    rings = ring(*KEYS.values())

    class Ending:
        def find(self, key_id):
            return rings.find(key_id) if key_id in {key.id for key in known.values()} else None

        def knows(self, key_id):
            return self.find(key_id) is not None

    verifier = TokenVerifier(Ending(), issuer=ISSUER)
    tokens = {name: key.sign(CLAIMS, type_=TOKEN_TYPE) for name, key in KEYS.items()}
    claims = {name: verifier.verify(token) for name, token in tokens.items()}
    assert {name: key.id for name, key in KEYS.items()} == {name: one.signed_by for name, one in claims.items()}
    del known["ES256"]
    assert [True, False, True] == [is_accepted(verifier, token) for token in tokens.values()]
    assert [True, False, True] == [verifier.counts(one) for one in claims.values()]
    assert not is_accepted(verifier, tokens["ES256"])

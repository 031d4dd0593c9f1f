"""The verifier accepts no token but the very one that we signed, in its one spelling."""

import hashlib
import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.proxy.names import Names
from gateway.proxy.triage import Credential, find_credential
from gateway.tokens.signing import SigningKey, TokenRefused, TokenVerifier
from policy.model import ActorId
from policy.scopes import parse_scopes
from tests.forgery import ISSUER, KEY, NOON, PRIVATE, Forger, ring
from tests.gateway_world import HOST
from tests.token_attacks import header_attacks, payload_attacks, spellings

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture
def verifier():
    return TokenVerifier(ring(KEY), issuer=ISSUER)


@pytest.fixture
def forger():
    return Forger(private=PRIVATE, key_id=KEY.id)


def test_the_forger_could_make_a_good_one(verifier, forger):
    """The attacks start from a token that is accepted, so what is refused is the attack."""
    claims = verifier.verify(forger.token())
    assert ("maria", "acme", "grant_1", 1) == (claims.subject, claims.account, claims.grant_id, claims.grant_epoch)
    assert ActorId(issuer="https://idp.vendor.example", subject="dana") == claims.actor
    assert parse_scopes("tickets:read") == claims.scopes
    assert (NOON, 900) == (claims.issued_at, (claims.expires_at - claims.issued_at).total_seconds())


class CountingKeys:
    """A ring that counts how often a key is looked for, which is once for each signature that is checked."""

    def __init__(self, keys):
        self._keys = keys
        self.looked_for = 0

    def find(self, key_id):
        self.looked_for += 1
        return self._keys.find(key_id)

    def knows(self, key_id):
        return self._keys.knows(key_id)


def test_a_signature_is_checked_once(forger):
    """The next request with the same token has its claims without the work; another token, and a refused one, have not."""
    keys = CountingKeys(ring(KEY))
    verifier, token = TokenVerifier(keys, issuer=ISSUER), forger.token()
    assert verifier.verify(token) is verifier.verify(token)
    assert 1 == keys.looked_for
    other = forger.token(sign=lambda message: bytes(64))
    assert not is_accepted(verifier, other)
    assert not is_accepted(verifier, other)
    assert 3 == keys.looked_for


def test_no_other_header_is_obeyed(verifier, forger):
    """One algorithm, one type, a key of ours by its id, and nothing else in the header."""
    cases = list(header_attacks(forger))
    assert 60 <= len(cases)
    assert [] == [name for name, token in cases if is_accepted(verifier, token)]
    assert [] == [name for name, token in cases if not verifier.is_ours(token)]


def test_our_own_signature_does_not_make_a_wrong_payload_right(verifier, forger):
    """What does not have exactly the shape that we write is not ours, whoever signed it."""
    cases = list(payload_attacks(forger))
    assert 150 <= len(cases)
    assert [] == [name for name, token in cases if is_accepted(verifier, token)]
    assert [] == [name for name, token in cases if not verifier.is_ours(token)]


def test_a_token_has_one_spelling(verifier, forger):
    """Another text for the same bytes is another token, and refused."""
    token = forger.token()
    assert [] == [name for name, other in spellings(token) if is_accepted(verifier, other)]


def test_a_signature_has_one_value(verifier, forger):
    """The twin of an Ed25519 signature, its second half moved by the order of the group, is refused."""

    def twin(message):
        signature = PRIVATE.sign(message)
        moved = int.from_bytes(signature[32:], "little") + GROUP_ORDER
        return signature[:32] + moved.to_bytes(32, "little")

    assert not is_accepted(verifier, forger.token(sign=twin))


def test_every_bit_of_a_token_counts(verifier, forger):
    """There is no bit whose flip leaves a token that is accepted, or one that the app would get to see."""
    good = forger.token().encode()
    for index, bit in itertools.product(range(len(good)), range(8)):
        flipped = bytearray(good)
        flipped[index] ^= 1 << bit
        header = ((b"Host", HOST.encode()), (b"Authorization", b"Bearer " + bytes(flipped)))
        found = find_credential(header, Names().among(header), verifier)
        assert found is not None, (index, bit)
        if isinstance(found, Credential):
            assert not is_accepted(verifier, found.token), (index, bit)


def test_every_letter_case_counts(verifier, forger):
    """A token with one letter in the other case is another token."""
    good = forger.token()
    for index, letter in enumerate(good):
        if letter.isalpha():
            assert not is_accepted(verifier, good[:index] + letter.swapcase() + good[index + 1 :]), index


def test_no_part_of_a_token_is_a_token(verifier, forger):
    """Every beginning and every end is refused; what still says that it is ours is told by it."""
    good = forger.token()
    head, body, _ = good.split(".")
    for cut in range(len(good)):
        assert not is_accepted(verifier, good[:cut])
        assert not is_accepted(verifier, good[cut + 1 :])
    assert all(verifier.is_ours(good[:cut]) for cut in range(40, len(good)))
    assert all(verifier.is_ours(good[cut:]) for cut in range(len(head) + 2))
    assert verifier.is_ours(body)


def test_a_token_of_somebody_else_is_not_ours(verifier, forger):
    """The app's own bearer tokens pass, also those that speak of us elsewhere than in `iss`."""
    theirs = Forger(private=Ed25519PrivateKey.generate(), key_id="app-1", issuer="https://helpdesk.example")
    for claims in (
        theirs.claims(),
        theirs.claims(aud=ISSUER),
        theirs.claims(act={"iss": ISSUER, "sub": "x"}),
        theirs.claims(iss=ISSUER + "x"),
        theirs.claims(iss=[ISSUER]),
        b'[["iss","https://assume.vendor.example"]]',
    ):
        assert not verifier.is_ours(theirs.token(claims))
    for text in ("", ".", "..", "abc.def.ghi", "Zm9v", "ey.ey.ey", "e" * 4000, hashlib.sha256(b"x").hexdigest()):
        assert not verifier.is_ours(text)


def test_refusals_tell_nothing_of_the_token(verifier, forger):
    """An error message may be logged; a token may not."""
    for _, token in [*header_attacks(forger), *payload_attacks(forger)]:
        with pytest.raises(TokenRefused) as caught:
            verifier.verify(token)
        parts = [part for part in token.split(".") if len(part) > 8]
        assert not [part for part in parts if part in str(caught.value)]
        assert token not in repr(Credential(token=token))


def test_a_key_that_is_not_listed_verifies_nothing(forger):
    """A verifier without the key refuses; with two keys each verifies only what names it."""
    second = SigningKey("locum-second", Ed25519PrivateKey.generate())
    assert not is_accepted(TokenVerifier(ring(second), issuer=ISSUER), forger.token())
    both = TokenVerifier(ring(KEY, second), issuer=ISSUER)
    assert is_accepted(both, forger.token())
    assert not is_accepted(both, forger.token(header=forger.header(kid="locum-second")))


def test_what_was_refused_once_is_refused_again(verifier, forger):
    """Remembering verified tokens never remembers a refused one as verified."""
    bad = forger.token(sign=Ed25519PrivateKey.generate().sign)
    assert [False, False] == [is_accepted(verifier, bad) for _ in range(2)]
    assert [True, True] == [is_accepted(verifier, forger.token()) for _ in range(2)]
    assert not is_accepted(verifier, bad)


def is_accepted(verifier, token):
    try:
        verifier.verify(token)
    except TokenRefused:
        return False
    return True

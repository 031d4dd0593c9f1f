"""Ed25519 has two names: `EdDSA`, which others share, and its own (RFC 9864); each key counts for what it says."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey

from gateway.tokens.compact import read_compact
from gateway.tokens.metadata import FOREIGN_ALGORITHMS
from gateway.tokens.signing import TokenRefused, open_foreign, read_jwks
from tests.forgery import PRIVATE, Forger
from tests.scripted_idp import b64, jwk

OTHER = {
    "kty": "OKP",
    "crv": "Ed448",
    "x": b64(Ed448PrivateKey.generate().public_key().public_bytes_raw()),
    "kid": "k1",
}


def opened(header_says, key):
    forger = Forger(private=PRIVATE, key_id="k1")
    token = read_compact(forger.token({"sub": "dana"}, {"alg": header_says, "kid": "k1", "typ": "JWT"}))
    return open_foreign(token, read_jwks({"keys": [key]}))


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_a_token_counts_under_either_name(name):
    """With a key that says the same, and with one that says nothing."""
    assert {"sub": "dana"} == opened(name, jwk(alg=name)) == opened(name, jwk())
    assert name in FOREIGN_ALGORITHMS


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Ed25519", jwk(alg="EdDSA")),
        ("EdDSA", jwk(alg="Ed25519")),
        ("Ed25519", OTHER),
        ("EdDSA", OTHER),
        ("Ed448", jwk()),
        ("ed25519", jwk()),
        ("Ed25519", jwk(alg="ES256")),
    ],
)
def test_a_name_that_the_key_does_not_have_is_refused(name, key):
    """Nor does the other curve of the older name count, or another spelling."""
    with pytest.raises(TokenRefused):
        opened(name, key)


def test_a_signature_of_another_key_is_none():
    """The newer name is verified as strictly."""
    with pytest.raises(TokenRefused):
        opened("Ed25519", jwk(x=b64(bytes(32))))

"""The key ring: which key signs and which count, whatever the operator gives and whatever happens in the store."""

import asyncio
import os
import stat
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.late import LateStore
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import StoreError
from gateway.tokens.keys import KeyRing, KeyTerms, open_keys, read_terms
from gateway.tokens.signing import SigningKey
from gateway.tokens.stored import StoredKeys, carry_out, make_all
from policy import keys as life
from policy.keys import PUBLISHED_FIRST
from tests.forgery import NOON
from tests.gateway_world import document
from tests.memory_store import MemoryStore
from tests.rsa_keys import rsa_key

CANARY = "c4n4ry-that-must-never-show"
ED, P256 = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
RSA = rsa_key()
GIVEN = {"EdDSA": ED, "ES256": P256, "RS256": RSA}


def pem(key, password=None):
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def terms(directory, *given, tokens=None, identity=None):
    """Read the terms of a configuration with these keys, or this text in place of them."""
    wanted = document(directory, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2")
    texts = [key if isinstance(key, str) else pem(key) for key in given]
    wanted["tokens"] = ({"signing_key": "".join(texts)} if given else {}) | ({"algorithm": tokens} if tokens else {})
    wanted["identity"] = {"algorithm": identity} if identity else {}
    return read_terms(build(wanted, {}, base=directory))


UNFIT = {
    "RSA of 1024 bits": pem(rsa_key(1024)),
    "P-384": pem(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": pem(ec.generate_private_key(ec.SECP256K1())),
    "Ed448": pem(ed448.Ed448PrivateKey.generate()),
    "encrypted": pem(ED, b"password"),
    "public": ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    "OpenSSH": ED.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
    "no key": CANARY,
    "half a key": pem(ED)[:60],
    "one of two": pem(ED) + pem(ec.generate_private_key(ec.SECP384R1())),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_given_key_must_be_of_a_kind_that_we_sign_with(tmp_path, case):
    """Anything else is refused by the path of the key in the configuration, and is not shown."""
    with pytest.raises(ConfigError) as caught:
        terms(tmp_path, UNFIT[case])
    assert str(caught.value).startswith("tokens.signing_key: not an")
    assert not [line for line in UNFIT[case].splitlines() if len(line) > 8 and line in str(caught.value)]


def test_the_given_keys_must_be_for_what_is_configured(tmp_path):
    """A key of one algorithm never signs with another, and no other is made in its place."""
    with pytest.raises(
        ConfigError, match=r"^tokens\.signing_key: holds no key for EdDSA.*set tokens\.algorithm to RS256"
    ):
        terms(tmp_path, RSA)
    with pytest.raises(ConfigError, match=r"holds no key for ES256: add one, or set identity\.algorithm to EdDSA"):
        terms(tmp_path, ED, identity="ES256")
    for algorithm, key in GIVEN.items():
        assert algorithm == terms(tmp_path, key, tokens=algorithm, identity=algorithm).given[0].algorithm


async def test_the_first_given_key_of_an_algorithm_signs_and_all_count(tmp_path):
    """Whatever stands between them; each in the published keys with its own algorithm and no private half."""
    second = ed25519.Ed25519PrivateKey.generate()
    ring = await open_keys(MemoryStore(), terms(tmp_path, RSA, ED, second, P256, identity="RS256"), now=NOON)
    assert SigningKey.from_pem(None, pem(ED).encode()).id == ring.signing.id
    assert SigningKey.from_pem(None, pem(RSA).encode()).id == ring.assertions.id
    published = ring.jwks()["keys"]
    assert ["RS256", "EdDSA", "EdDSA", "ES256"] == [entry["alg"] for entry in published]
    assert {"kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"} == set().union(*published)
    assert all(ring.find(entry["kid"]).algorithm == entry["alg"] for entry in published)


async def test_a_given_key_signs_and_the_stored_ones_still_count(tmp_path):
    """A key brought later does not end what was signed before; a restart makes no new key."""
    store = MemoryStore()
    made = await open_keys(store, KeyTerms(), now=NOON)
    again = await open_keys(store, KeyTerms(), now=NOON)
    assert (made.signing.id, made.journal.id) == (again.signing.id, again.journal.id)
    given = await open_keys(store, terms(tmp_path, ED), now=NOON)
    assert given.signing.id != made.signing.id
    assert given.signing.id == (await open_keys(store, terms(tmp_path, ED), now=NOON)).signing.id
    assert [given.signing.id, made.signing.id] == [entry["kid"] for entry in given.jwks()["keys"]]
    assert None is given.find(given.journal.id)
    assert 2 == len(await store.list_keys())


async def test_with_given_keys_only_the_journals_is_made(tmp_path):
    """No key lies in the store that nobody has asked for."""
    store = MemoryStore()
    await open_keys(store, terms(tmp_path, ED), now=NOON)
    assert ["journal"] == [key.algorithm for key in await store.list_keys()]


@pytest.mark.parametrize("needs", [("EdDSA", "EdDSA"), ("ES256", "RS256")])
async def test_of_many_processes_that_start_at_once_each_has_the_same_keys(tmp_path, needs):
    """One makes each key, and the others find it."""
    wanted = KeyTerms(tokens=needs[0], assertions=needs[1])
    stores = [await open_sqlite(tmp_path / "locum.sqlite3") for _ in range(4)]
    try:
        rings = await asyncio.gather(*(open_keys(store, wanted, now=NOON) for store in stores))
        assert 1 == len({(ring.signing.id, ring.assertions.id, ring.journal.id) for ring in rings})
        assert {*needs, "journal"} == {key.algorithm for key in await stores[0].list_keys()}
        assert len({*needs, "journal"}) == len(await stores[0].list_keys())
    finally:
        await asyncio.gather(*(store.close() for store in stores))


async def test_the_keys_lie_where_nobody_else_may_read_and_show_nowhere(tmp_path, caplog):
    """Every file of the data directory that holds one is for its owner alone; no text form of a key has any of it."""
    caplog.set_level(0)
    store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
    ring = await open_keys(store, KeyTerms(tokens="ES256", assertions="RS256"), now=NOON)
    secrets = [key.private_pem for key in await store.list_keys()]
    holding = [path for path in (tmp_path / "data").iterdir() if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert holding
    assert {0o600} == {stat.S_IMODE(os.stat(path).st_mode) for path in holding}  # noqa: PTH116 - as it is
    shown = caplog.text + repr(
        [ring, ring.signing, ring.assertions, ring.journal, await store.list_keys(), ring.stored]
    )
    await store.close()
    assert not [line for pem in secrets for line in pem.decode().splitlines() if line in shown]


async def stored(*algorithms):
    store, moment = MemoryStore(), [NOON]
    keys = StoredKeys(store, lambda: moment[0])
    keys.needs = frozenset(algorithms)
    await keys.renew()
    return store, keys, moment


async def do(store, plan, moment):
    await carry_out(store, plan, made := await make_all(plan, now=moment[0]))
    return [key.id for key in made]


async def test_a_rotation_takes_over_by_the_clock_alone(tmp_path):
    """Nobody needs to be told when; the old key counts until the last of its tokens has ended, then is not published."""
    store, keys, moment = await stored("EdDSA")
    old = keys.signer("EdDSA")
    [new] = await do(store, life.rotation(keys.times, keys.needs, NOON), moment)
    await keys.renew()
    changes = (await store.read_changes(0)).position
    ring = KeyRing(KeyTerms(), keys)
    assert {new, old.id} == {key["kid"] for key in ring.jwks()["keys"]}
    for seconds, signer, published in ((299, old.id, 2), (300, new, 2), (300 + 964, new, 2), (300 + 965, new, 1)):
        moment[0] = NOON + timedelta(seconds=seconds)
        assert (signer, signer) == (ring.signing.id, ring.assertions.id)
        assert published == len(ring.jwks()["keys"])
    assert None is ring.find(old.id)
    assert changes == (await store.read_changes(0)).position


async def test_a_key_that_has_ended_never_comes_back():
    """Not by an older copy of the store either, in which it still signs."""
    behind = LateStore()
    behind.opened = store = MemoryStore()
    keys = StoredKeys(behind, lambda: NOON)
    keys.needs = frozenset({"EdDSA"})
    await keys.renew()
    before = await store.list_keys()
    leaked = keys.signer("EdDSA").id
    [new] = await do(store, life.ending(keys.times, leaked, keys.needs, NOON), [NOON])
    await keys.renew()
    assert (new, None, False) == (keys.signer("EdDSA").id, keys.find(leaked), keys.knows(leaked))
    behind.opened = older = MemoryStore()
    for entry in before:
        await older.add_key(entry)
    await keys.renew()
    assert (None, False) == (keys.find(leaked), keys.knows(leaked))
    assert leaked not in [key.id for key in keys.published()]
    assert leaked != keys.signer("EdDSA").id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"private_pem": b"nonsense"}, "cannot be used"),
        ({"private_pem": pem(ED).encode(), "algorithm": "ES256"}, "is one for EdDSA"),
        ({"private_pem": pem(RSA).encode(), "algorithm": "EdDSA"}, "is one for RS256"),
    ],
)
async def test_a_stored_key_that_is_not_what_it_says_is_no_key(change, says):
    """All stays as it was, and whoever asked hears that the store is not well, and of which key, and nothing of it."""
    store, keys, _ = await stored("EdDSA")
    signer = keys.signer("EdDSA").id
    [entry] = [entry for entry in await store.list_keys() if entry.algorithm == "EdDSA"]
    wrong = replace(entry, id="locum-wrong", signs_from=NOON + PUBLISHED_FIRST, **change)
    await store.add_key(wrong, after=entry.id if wrong.algorithm == "EdDSA" else None)
    with pytest.raises(StoreError, match=f"`locum-wrong` {says}") as caught:
        await keys.renew()
    assert "PRIVATE" not in str(caught.value)
    assert signer == keys.signer("EdDSA").id


async def test_without_a_store_there_is_no_key():
    """Nothing is signed by a key that nobody will know, and nothing verified."""
    ring = KeyRing(KeyTerms(), StoredKeys(MemoryStore(fail_with=StoreError("away")), lambda: NOON))
    for ask in (lambda: ring.signing, lambda: ring.assertions, lambda: ring.journal):
        with pytest.raises(StoreError):
            ask()
    assert ({"keys": []}, {}, None) == (ring.jwks(), ring.made_at(), ring.find("locum-x"))
    with pytest.raises(StoreError):
        await ring.stored.renew()


async def test_it_is_known_when_the_signing_keys_were_made(tmp_path):
    """By what they sign; not of a given one."""
    ring = await open_keys(MemoryStore(), KeyTerms(assertions="ES256"), now=NOON)
    assert {"tokens": NOON, "assertions": NOON, "journal": NOON} == ring.made_at()
    given = await open_keys(MemoryStore(), terms(tmp_path, ED), now=NOON)
    assert {"tokens": None, "assertions": None, "journal": NOON} == given.made_at()

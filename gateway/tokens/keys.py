"""The keys of this installation: made at the first start, kept in the store, or given by the operator."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config.model import ConfigError, Secret
from gateway.stores.store import Store, StoreConflict, StoredKey
from gateway.tokens.signing import ALGORITHM, KeyRefused, SigningKey

_TOKENS = ALGORITHM
_JOURNAL = "journal"
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The key that signs tokens and assertions, all that verify them, and the journal's own."""

    signing: SigningKey
    verifying: Sequence[SigningKey]
    journal: SigningKey

    def jwks(self) -> dict[str, Any]:
        """Return the public keys of tokens and assertions as a JWK set (RFC 7517 section 5)."""
        return {"keys": [key.jwk() for key in self.verifying]}


async def open_keys(store: Store, given: Secret | None, *, now: datetime) -> KeyRing:
    """Return the key ring, its missing keys made and stored first; raises ConfigError for a given key that is weak.

    `given` may hold several keys, one behind the other: the first signs, and what the others signed still counts.
    """
    stored = await store.list_keys()
    tokens = [_read(key) for key in stored if key.algorithm == _TOKENS and key.retired_at is None]
    journal = [_read(key) for key in stored if key.algorithm == _JOURNAL and key.retired_at is None]
    if given is not None:
        tokens = [*_read_given(given), *tokens]
    if not tokens:
        tokens = [await _make(store, _TOKENS, now=now)]
    if not journal:
        journal = [await _make(store, _JOURNAL, now=now)]
    return KeyRing(signing=tokens[0], verifying=tokens, journal=journal[0])


def passing_keys() -> KeyRing:
    """Return keys that nobody knows and that verify nothing, for as long as there is no store to read them from."""
    return KeyRing(signing=_new(), verifying=(), journal=_new())


def _new() -> SigningKey:
    return SigningKey(f"locum-{secrets.token_hex(8)}", Ed25519PrivateKey.generate())


def _read_given(given: Secret) -> list[SigningKey]:
    text = given.reveal()
    try:
        return [SigningKey.from_pem(None, pem.encode("utf-8")) for pem in _PEM.findall(text) or [text]]
    except KeyRefused as exc:
        raise ConfigError(f"tokens.signing_key: {exc}") from exc


async def _make(store: Store, algorithm: str, *, now: datetime) -> SigningKey:
    key = _new()
    entry = StoredKey(id=key.id, algorithm=algorithm, private_pem=key.pem(), created_at=now)
    try:
        await store.add_key(entry)
    except StoreConflict as exc:
        raise ConfigError("the store already has a key of that id: start again") from exc
    return key


def _read(entry: StoredKey) -> SigningKey:
    try:
        return SigningKey.from_pem(entry.id, entry.private_pem)
    except KeyRefused as exc:
        raise ConfigError(f"the stored key `{entry.id}` cannot be used: {exc}") from exc

"""The keys of this installation: those in the store, or those that the operator gives; which signs, and which count."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.config.model import Config, ConfigError
from gateway.config.section import Secret
from gateway.stores.store import Store, StoreError
from gateway.tokens.signing import KeyRefused, SigningKey
from gateway.tokens.stored import JOURNAL, READ_SECONDS, JournalKey, StoredKeys
from policy.keys import Algorithm

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What the configuration says of the keys."""

    given: tuple[SigningKey, ...] = ()
    """The operator's own. If there are any, no stored key signs; what those have signed still counts."""
    tokens: Algorithm = "EdDSA"
    assertions: Algorithm = "EdDSA"

    @property
    def needs(self) -> frozenset[Algorithm]:
        """The algorithms for which a stored key has to sign."""
        return frozenset() if self.given else frozenset({self.tokens, self.assertions})

    def first_given(self, algorithm: Algorithm) -> SigningKey | None:
        """Return the operator's own key that signs for whoever wants an algorithm."""
        return next((key for key in self.given if key.algorithm == algorithm), None)


def read_terms(config: Config) -> KeyTerms:
    """Return what a configuration says; raises ConfigError for a given key that cannot be used.

    Several may be given, one behind the other: the first of each algorithm signs, and what the others signed counts.
    """
    given = () if config.tokens.signing_key is None else read_given(config.tokens.signing_key)
    terms = KeyTerms(given=given, tokens=config.tokens.algorithm, assertions=config.identity.algorithm)
    for where, algorithm in (("tokens", terms.tokens), ("identity", terms.assertions)):
        if given and terms.first_given(algorithm) is None:
            raise ConfigError(
                f"tokens.signing_key: holds no key for {algorithm}: add one, or set {where}.algorithm to"
                f" {given[0].algorithm}"
            )
    return terms


def read_given(given: Secret) -> tuple[SigningKey, ...]:
    """Return the operator's own keys, in their order; raises ConfigError."""
    text = given.reveal()
    try:
        return tuple(SigningKey.from_pem(None, pem.encode("utf-8")) for pem in _PEM.findall(text) or [text])
    except KeyRefused as exc:
        raise ConfigError(f"tokens.signing_key: {exc}") from exc


class KeyRing:
    """The keys under one configuration; what changes in the store changes here by itself."""

    def __init__(self, terms: KeyTerms, stored: StoredKeys) -> None:
        """Take the stored keys as they are, and as they will be."""
        self.terms = terms
        self.stored = stored
        self._given = {key.id: key for key in terms.given}

    @property
    def signing(self) -> SigningKey:
        """The key that signs tokens now; raises StoreError if there is none."""
        return self._signer(self.terms.tokens)

    @property
    def assertions(self) -> SigningKey:
        """The key that signs assertions now; likewise."""
        return self._signer(self.terms.assertions)

    @property
    def journal(self) -> JournalKey:
        """The key that signs the journal's checkpoints; raises StoreError before the store was read."""
        return self.stored.journal

    def find(self, key_id: str) -> SigningKey | None:
        """See `gateway.tokens.signing.Keys`."""
        return self._given.get(key_id) or self.stored.find(key_id)

    def knows(self, key_id: str) -> bool:
        """See `gateway.tokens.signing.Keys`."""
        return key_id in self._given or self.stored.knows(key_id)

    def published(self) -> Collection[SigningKey]:
        """Return the keys of tokens and assertions: all that count."""
        return {key.id: key for key in (*self._given.values(), *self.stored.published())}.values()

    def jwks(self) -> dict[str, Any]:
        """Return their public halves as a JWK set (RFC 7517 section 5)."""
        return {"keys": [key.jwk() for key in self.published()]}

    def made_at(self) -> dict[str, datetime | None]:
        """Return when the key that signs now was made, by what it signs; None where it is not known."""
        try:
            signing = {"tokens": self.signing, "assertions": self.assertions}
            journal = self.journal
        except StoreError:
            return {}
        ages = {use: self.stored.created_at(key.id) for use, key in signing.items()}
        return {**ages, JOURNAL: journal.created_at}

    def _signer(self, algorithm: Algorithm) -> SigningKey:
        return self.terms.first_given(algorithm) or self.stored.signer(algorithm)


async def open_keys(
    store: Store, terms: KeyTerms, *, now: datetime, read_seconds: float | None = READ_SECONDS
) -> KeyRing:
    """Return the keys as they are `now`, those that are missing made and stored first; raises StoreError.

    Wait for the store as `StoredKeys` does.
    """
    stored = StoredKeys(store, lambda: now, read_seconds=read_seconds)
    stored.needs = terms.needs
    await stored.renew()
    return KeyRing(terms, stored)

"""The keys in the store: read by each process, made where they are missing, changed as a plan says."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import Clock
from gateway.stores.store import Store, StoreConflict, StoredKey, StoreError
from gateway.tokens.signing import KeyRefused, SigningKey
from policy import keys as life
from policy.keys import Algorithm, Key, KeyState, Plan

JOURNAL = "journal"
"""What stands in place of the algorithm of the key that signs the journal's checkpoints, which is always Ed25519."""
_MOST_TRIES = 8
READ_SECONDS = 2.0


class JournalKey:
    """The key that signs the journal's checkpoints."""

    def __init__(self, key_id: str, private: Ed25519PrivateKey, *, created_at: datetime) -> None:
        self.id = key_id
        self.private = private
        self.public = private.public_key()
        self.created_at = created_at

    def public_pem(self) -> bytes:
        """Return the public key as PEM."""
        return self.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class StoredKeys:
    """The keys as they were last read; `renew` reads them again for everybody who has this.

    While there is no store yet, no key is known and nothing can be signed.
    """

    def __init__(self, store: Store, clock: Clock, *, read_seconds: float | None = READ_SECONDS) -> None:
        """Know no key yet; wait so long for the store to tell them, None: as long as the caller does."""
        self.needs: frozenset[Algorithm] = frozenset()
        """The algorithms of which there has to be a key; see `KeyTerms.needs`."""
        self.times: tuple[Key, ...] = ()
        self._store = store
        self._clock = clock
        self._read_seconds = read_seconds
        self._keys: dict[str, SigningKey] = {}
        self._created: dict[str, datetime] = {}
        self._journal: JournalKey | None = None
        self._ended: set[str] = set()
        """Never believed again, also if an older copy of the store says that they have not ended."""
        self._renewing = asyncio.Lock()

    @property
    def journal(self) -> JournalKey:
        """The journal's key; raises StoreError before any key was read."""
        if self._journal is None:
            raise StoreError("the keys have not been read from the store yet")
        return self._journal

    @property
    def are_read(self) -> bool:
        """Whether they were read at all."""
        return self._journal is not None

    async def renew(self) -> None:
        """Read the keys, those that are missing made first; raises StoreError, and then all is as it was."""
        async with self._renewing:
            self._take(await self._read_all())

    def find(self, key_id: str) -> SigningKey | None:
        """See `gateway.tokens.signing.Keys`."""
        key = self._keys.get(key_id)
        return None if key is None or self._state(key_id) is KeyState.GONE else key

    def knows(self, key_id: str) -> bool:
        """See `gateway.tokens.signing.Keys`."""
        return key_id in self._keys

    def published(self) -> list[SigningKey]:
        """Return all that count now."""
        return [key for key in self._keys.values() if self._state(key.id) is not KeyState.GONE]

    def signer(self, algorithm: Algorithm) -> SigningKey:
        """Return the key that signs now for whoever wants an algorithm; raises StoreError if there is none at all."""
        found = life.signer(self.times, algorithm, self._clock())
        if found is None:
            raise StoreError("there is no key to sign with yet")
        return self._keys[found.id]

    def created_at(self, key_id: str) -> datetime | None:
        """Return when a key was made; None if it is not one of these."""
        return self._created.get(key_id)

    def _state(self, key_id: str) -> KeyState:
        return life.state(next(key for key in self.times if key.id == key_id), self.times, self._clock())

    async def _read_all(self) -> Sequence[StoredKey]:
        for _ in range(_MOST_TRIES):
            stored = [self._believe(entry) for entry in await self._list()]
            now = self._clock()
            try:
                if not any(entry.algorithm == JOURNAL for entry in stored):
                    await self._store.add_key(await make(JOURNAL, signs_from=now, now=now))
                elif not (plan := life.missing(times_of(stored), self.needs, now)).make:
                    return stored
                else:
                    await carry_out(self._store, plan, await make_all(plan, now=now))
            except StoreConflict:
                # Somebody else has made it, on this machine or on another: it is in the store by now.
                continue
        raise StoreError("the keys in the store change faster than they can be read")

    async def _list(self) -> Sequence[StoredKey]:
        try:
            async with asyncio.timeout(self._read_seconds):
                return await self._store.list_keys()
        except TimeoutError as exc:
            # Whoever follows the store's changes waits for this.
            raise StoreError("the store does not say which keys there are") from exc

    def _believe(self, entry: StoredKey) -> StoredKey:
        gone = entry.id in self._ended and entry.ended_at is None
        return replace(entry, ended_at=entry.created_at, private_pem=b"") if gone else entry

    def _take(self, stored: Sequence[StoredKey]) -> None:
        entries = [entry for entry in stored if entry.ended_at is None]
        keys = {entry.id: self._keys.get(entry.id) or _read(entry) for entry in entries if entry.algorithm != JOURNAL}
        journal = next(_read_journal(entry) for entry in stored if entry.algorithm == JOURNAL)
        # INVARIANT: no await from here on, so that nobody finds keys of one reading with the times of another.
        self._keys, self._journal, self.times = keys, journal, times_of(stored)
        self._created = {entry.id: entry.created_at for entry in entries}
        self._ended |= {entry.id for entry in stored if entry.ended_at is not None}


def times_of(stored: Iterable[StoredKey]) -> tuple[Key, ...]:
    """Return the keys of tokens and assertions as their life is judged."""
    return tuple(
        Key(
            id=entry.id,
            algorithm=entry.algorithm,
            signs_from=entry.signs_from,
            retired_at=entry.retired_at,
            ended_at=entry.ended_at,
        )
        for entry in stored
        if entry.algorithm != JOURNAL
    )


async def make_all(plan: Plan, *, now: datetime) -> list[StoredKey]:
    """Return the keys that a plan wants, stored nowhere yet."""
    return [await make(wanted.algorithm, signs_from=wanted.signs_from, now=now) for wanted in plan.make]


async def carry_out(store: Store, plan: Plan, made: Sequence[StoredKey]) -> None:
    """Do what a plan says, in its order, with the keys that `make_all` has made for it.

    Raises StoreConflict if the keys have changed since it was made, and StoreError; what was done before stays, and
    leaves keys that sign.
    """
    for wanted, entry in zip(plan.make, made, strict=True):
        await store.add_key(entry, after=wanted.after)
    for step in plan.start:
        await store.start_key(step.key, at=step.at)
    for step in plan.retire:
        await store.retire_key(step.key, at=step.at)
    for step in plan.end:
        await store.end_key(step.key, at=step.at)


async def make(algorithm: str, *, signs_from: datetime, now: datetime) -> StoredKey:
    """Return a new key, stored nowhere yet."""
    key_id = f"locum-{secrets.token_hex(8)}"
    kind: Algorithm = "EdDSA" if algorithm == JOURNAL else _known(algorithm)
    # In a thread, because a key of RSA takes a tenth of a second.
    key = await asyncio.to_thread(SigningKey.generate, key_id, kind)
    return StoredKey(id=key_id, algorithm=algorithm, private_pem=key.pem(), created_at=now, signs_from=signs_from)


def _known(algorithm: str) -> Algorithm:
    match algorithm:
        case "EdDSA" | "ES256" | "RS256":
            return algorithm
        case _:
            raise ValueError(f"`{algorithm}` is not one of our algorithms")


def _read(entry: StoredKey) -> SigningKey:
    try:
        key = SigningKey.from_pem(entry.id, entry.private_pem)
    except KeyRefused as exc:
        raise StoreError(f"the stored key `{entry.id}` cannot be used: {exc}") from exc
    if key.algorithm != entry.algorithm:
        raise StoreError(f"the stored key `{entry.id}` is one for {key.algorithm}, and is to be for {entry.algorithm}")
    return key


def _read_journal(entry: StoredKey) -> JournalKey:
    key = _read(replace(entry, algorithm="EdDSA"))
    if not isinstance(key.private, Ed25519PrivateKey):
        raise StoreError(f"the stored key `{entry.id}` cannot be used: the journal's is one of Ed25519")
    return JournalKey(key.id, key.private, created_at=entry.created_at)

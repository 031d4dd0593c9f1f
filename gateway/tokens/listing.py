"""How each key stands, for whoever looks: what it signs, from when to when, and until when that counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.stores.store import StoredKey
from gateway.tokens.keys import KeyTerms
from gateway.tokens.signing import SigningKey
from gateway.tokens.stored import JOURNAL, times_of
from policy import keys as life
from policy.keys import Algorithm, Key, KeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One key as it stands now."""

    id: str
    algorithm: str
    source: str
    """`stored`, or `given` by the configuration."""
    state: str
    """That of `policy.keys.KeyState`, or `verifies`: it counts, and is not the one that signs by the configuration."""
    signs: tuple[str, ...]
    """What it signs now, of `tokens`, `assertions` and `journal`."""
    created_at: datetime | None = None
    """None for a given key, like its other times: those are in the hands of whoever gives it."""
    signs_from: datetime | None = None
    signs_until: datetime | None = None
    """None while nothing is to take its place."""
    counts_until: datetime | None = None


def list_all(terms: KeyTerms, stored: Sequence[StoredKey], *, now: datetime) -> list[Listed]:
    """Return the given keys in their order, then the stored ones, newest first."""
    times = times_of(stored)
    signers = _signers(terms, times, now)
    return [
        *(_given(key, signers) for key in terms.given),
        *(_journal(entry) if entry.algorithm == JOURNAL else _stored(entry, times, signers, now) for entry in stored),
    ]


def _signers(terms: KeyTerms, times: Sequence[Key], now: datetime) -> list[tuple[str, str]]:
    """Return what is signed now, each with the id of its key."""
    wanted: Iterable[tuple[str, Algorithm]] = (("tokens", terms.tokens), ("assertions", terms.assertions))
    signers = []
    for use, algorithm in wanted:
        found = terms.first_given(algorithm) or life.signer(times, algorithm, now)
        signers += [(use, found.id)] if found is not None else []
    return signers


def _given(key: SigningKey, signers: Sequence[tuple[str, str]]) -> Listed:
    signs = tuple(use for use, key_id in signers if key_id == key.id)
    return Listed(
        id=key.id, algorithm=key.algorithm, source="given", state="signs" if signs else "verifies", signs=signs
    )


def _journal(entry: StoredKey) -> Listed:
    return Listed(
        id=entry.id,
        algorithm="EdDSA",
        source="stored",
        state="signs",
        signs=(JOURNAL,),
        created_at=entry.created_at,
        signs_from=entry.signs_from,
    )


def _stored(entry: StoredKey, times: Sequence[Key], signers: Sequence[tuple[str, str]], now: datetime) -> Listed:
    key = next(each for each in times if each.id == entry.id)
    signs = tuple(use for use, key_id in signers if key_id == key.id)
    state = life.state(key, times, now)
    return Listed(
        id=entry.id,
        algorithm=entry.algorithm,
        source="stored",
        state="signs" if signs else "verifies" if state is KeyState.SIGNS else state.value,
        signs=signs,
        created_at=entry.created_at,
        signs_from=entry.signs_from,
        signs_until=life.signs_until(key, times),
        counts_until=life.counts_until(key, times),
    )

"""The life of a signing key: published, then signs, then retired, then gone; and what may be done to one.

A key is published for longer than anybody keeps the published keys before it signs, so that whoever verifies knows it
by then; and it counts for as long as the last that it has signed. Nothing brings a key back: what has signed and was
followed by another signs no more, also when that other one has ended.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Literal, NamedTuple

from policy.claims import LONGEST_TOKEN
from policy.times import LEEWAY

Algorithm = Literal["EdDSA", "ES256", "RS256"]
"""What we sign with: Ed25519, ECDSA on P-256, or RSA with PKCS#1 v1.5, for whoever cannot verify the first."""
PUBLISHED_KEPT = timedelta(seconds=60)
"""So long whoever fetches the published keys may keep them."""
PUBLISHED_FIRST = 5 * PUBLISHED_KEPT
"""So long a key is published before it signs: some libraries keep what they fetched for five minutes whatever is said,
and what is left of it is for clocks and for word of the change."""
CLOCKS_APART = timedelta(minutes=1)
"""How far the clocks of several machines may be apart, and word of a change be behind, without a token refused."""
OVERLAP = LONGEST_TOKEN + LEEWAY + CLOCKS_APART
"""So long a key counts after it has signed for the last time: as long as a token lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as its life is judged; each of its times is written once, and never taken back."""

    id: str
    algorithm: str
    signs_from: datetime
    """From when it signs, unless something has come in between."""
    retired_at: datetime | None = None
    """From when it signs no more, though no other key of its algorithm takes its place."""
    ended_at: datetime | None = None
    """Since when nothing counts that it has signed; it is gone, whatever clock is asked."""


@unique
class KeyState(StrEnum):
    """Where a key is in its life."""

    PUBLISHED = "published"
    """Others know it, and it counts, and it signs nothing yet."""
    SIGNS = "signs"
    RETIRED = "retired"
    """It signs nothing more, and what it has signed counts."""
    GONE = "gone"


@unique
class KeyRefusal(StrEnum):
    """Why something cannot be done to a key."""

    UNKNOWN = "unknown"
    GONE = "gone"
    RETIRED = "retired"
    """It signs nothing any more."""
    ROTATING = "rotating"
    """Another key is to take its place already."""
    NEEDED = "needed"
    """It signs in the place of a key of another algorithm, until that one may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A key to be made."""

    algorithm: str
    signs_from: datetime
    after: str | None
    """The newest key of its algorithm that was known; if there is a newer one by now, this one is not wanted."""


class Step(NamedTuple):
    """Something that is done to a key."""

    key: str
    at: datetime
    """What is written of it, which is not always now: by other clocks the key may have signed already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, in this order; each step leaves keys that sign."""

    make: tuple[Wanted, ...] = ()
    start: tuple[Step, ...] = ()
    """Have them sign sooner than they would."""
    retire: tuple[Step, ...] = ()
    end: tuple[Step, ...] = ()


def signs_until(key: Key, keys: Iterable[Key]) -> datetime | None:
    """Return from when a key signs no more, by what is known now of all `keys`; None if nothing is to follow it."""
    ends = [end for end in (key.retired_at, key.ended_at) if end is not None]
    ends += [
        other.signs_from
        for other in keys
        if other.algorithm == key.algorithm and _place(other) > _place(key) and _ever_signs(other)
    ]
    return min(ends, default=None)


def counts_until(key: Key, keys: Iterable[Key]) -> datetime | None:
    """Return from when nothing counts that a key has signed; likewise."""
    if key.ended_at is not None:
        return key.ended_at
    until = signs_until(key, keys)
    return None if until is None else until + OVERLAP


def state(key: Key, keys: Sequence[Key], now: datetime) -> KeyState:
    """Return where a key is in its life."""
    counts, signs = counts_until(key, keys), signs_until(key, keys)
    if key.ended_at is not None or (counts is not None and counts <= now):
        return KeyState.GONE
    if signs is not None and signs <= now:
        return KeyState.RETIRED
    return KeyState.PUBLISHED if now < key.signs_from else KeyState.SIGNS


def signer(keys: Sequence[Key], algorithm: str, now: datetime) -> Key | None:
    """Return the key that signs for whoever wants `algorithm`, None if there is none at all.

    Until a key of that algorithm has been published for long enough, one of another goes on signing.
    """
    if signing := _in_state(keys, KeyState.SIGNS, now):
        fitting = [key for key in signing if key.algorithm == algorithm]
        return max(fitting or signing, key=_place)
    # The clock that has started the next one is ahead of this one.
    waiting = _in_state(keys, KeyState.PUBLISHED, now)
    return min(waiting, key=lambda key: (key.signs_from, key.algorithm != algorithm, key.id), default=None)


def missing(keys: Sequence[Key], needs: Iterable[str], now: datetime) -> Plan:
    """Return what has to be made so that there is a key of each algorithm; the first of all keys sign at once."""
    there = {key.algorithm for wanted in (KeyState.SIGNS, KeyState.PUBLISHED) for key in _in_state(keys, wanted, now)}
    signs_from = now + PUBLISHED_FIRST if there else now
    make = [_wanted(keys, algorithm, signs_from) for algorithm in sorted(frozenset(needs) - there)]
    return Plan(make=tuple(make))


def rotation(
    keys: Sequence[Key], needs: Iterable[str], now: datetime, *, lead: timedelta = PUBLISHED_FIRST
) -> Plan | KeyRefusal:
    """Return how new keys take the place of those that sign, published for `lead` before they do."""
    needs = sorted(needs)
    if any(_in_state(keys, KeyState.PUBLISHED, now, algorithm) for algorithm in needs):
        return KeyRefusal.ROTATING
    make = [_wanted(keys, algorithm, now + lead) for algorithm in needs]
    return Plan(make=tuple(make), end=_left_over(keys, now))


def retirement(keys: Sequence[Key], key_id: str, needs: Iterable[str], now: datetime) -> Plan | KeyRefusal:
    """Return how a key is to sign no more, while what it has signed counts; one that signs nothing yet is gone."""
    key = _find(keys, key_id)
    if key is None:
        return KeyRefusal.UNKNOWN
    match state(key, keys, now):
        case KeyState.GONE:
            return KeyRefusal.GONE
        case KeyState.RETIRED:
            return KeyRefusal.RETIRED
        case KeyState.PUBLISHED if key.signs_from <= now + CLOCKS_APART:
            return KeyRefusal.ROTATING  # by somebody's clock it signs already
        case KeyState.PUBLISHED:
            return Plan(end=(Step(key.id, now), *_left_over(keys, now)))
        case KeyState.SIGNS:
            return _succession(keys, key, frozenset(needs), now)


def _succession(keys: Sequence[Key], key: Key, needs: frozenset[str], now: datetime) -> Plan | KeyRefusal:
    if key.algorithm in needs:
        return rotation(keys, {key.algorithm}, now)
    if any(signer(keys, algorithm, now) == key for algorithm in needs):
        return KeyRefusal.NEEDED
    return Plan(retire=(Step(key.id, now),), end=_left_over(keys, now))


def ending(keys: Sequence[Key], key_id: str, needs: Iterable[str], now: datetime) -> Plan | KeyRefusal:
    """Return how nothing that a key has signed counts from now on; if it signs, another does at once in its place."""
    key = _find(keys, key_id)
    if key is None:
        return KeyRefusal.UNKNOWN
    if state(key, keys, now) is KeyState.GONE and key.ended_at is not None:
        return KeyRefusal.GONE
    end = _end(key, now)
    after = [replace(each, ended_at=end.at) if each is key else each for each in keys]
    then = max(now, end.at)
    make, start = [], []
    for algorithm in sorted(needs):
        if _in_state(after, KeyState.SIGNS, then, algorithm):
            continue
        if algorithm != key.algorithm and _in_state(after, KeyState.SIGNS, then):
            continue
        if waiting := _in_state(after, KeyState.PUBLISHED, then, algorithm):
            first = min(waiting, key=_place)
            rest = [each for each in after if each is not first]
            start.append(Step(first.id, _free(rest, algorithm, now)))
        else:
            make.append(_wanted(after, algorithm, now))
    return Plan(make=tuple(make), start=tuple(start), end=(end,))


def beginning_anew(keys: Sequence[Key], needs: Iterable[str], now: datetime) -> Plan:
    """Return how nothing counts that any key has signed so far, because nobody knows which of them were ended."""
    end = {key.id: _end(key, now) for key in keys if key.ended_at is None}
    after = [replace(key, ended_at=end[key.id].at) if key.id in end else key for key in keys]
    make = [_wanted(after, algorithm, now) for algorithm in sorted(needs)]
    return Plan(make=tuple(make), end=tuple(end.values()))


def _left_over(keys: Sequence[Key], now: datetime) -> tuple[Step, ...]:
    """Return the keys that are gone by the clock, of which nothing need be kept."""
    return tuple(Step(key.id, now) for key in _in_state(keys, KeyState.GONE, now) if key.ended_at is None)


def _end(key: Key, now: datetime) -> Step:
    """Return the end of a key; of one that signs by anybody's clock it is behind its beginning."""
    began = key.signs_from <= now + CLOCKS_APART
    return Step(key.id, max(now, key.signs_from + timedelta.resolution) if began else now)


def _wanted(keys: Sequence[Key], algorithm: str, at: datetime) -> Wanted:
    return Wanted(algorithm=algorithm, signs_from=_free(keys, algorithm, at), after=_newest(keys, algorithm))


def _free(keys: Iterable[Key], algorithm: str, at: datetime) -> datetime:
    """Return `at`, or the first moment at which a key that signs from then on follows all that have signed."""
    begun = [key.signs_from + timedelta.resolution for key in keys if key.algorithm == algorithm and _ever_signs(key)]
    return max([at, *begun])


def _in_state(keys: Sequence[Key], wanted: KeyState, now: datetime, algorithm: str | None = None) -> list[Key]:
    return [key for key in keys if algorithm in (None, key.algorithm) and state(key, keys, now) is wanted]


def _ever_signs(key: Key) -> bool:
    ends = [end for end in (key.retired_at, key.ended_at) if end is not None]
    return key.signs_from < min(ends, default=key.signs_from + timedelta.resolution)


def _newest(keys: Iterable[Key], algorithm: str) -> str | None:
    newest = max((key for key in keys if key.algorithm == algorithm), key=_place, default=None)
    return None if newest is None else newest.id


def _place(key: Key) -> tuple[datetime, str]:
    return key.signs_from, key.id


def _find(keys: Iterable[Key], key_id: str) -> Key | None:
    return next((key for key in keys if key.id == key_id), None)

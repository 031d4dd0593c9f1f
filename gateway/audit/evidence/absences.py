"""The judge of what is not there: openings need an erasure that names them, content needs its retention record.

Both may stand in another origin than what they speak of, so nothing is decided before all origins have been read.
Nothing is allowed by a record that was signed only by a later writer than its own: that one could not know who had put
it there. Whoever takes something away has had the record for it signed before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from gateway.audit.evidence.finding import Finding, Stretch
from gateway.audit.sealed import UNREADABLE, OpeningError, commit, split_openings
from gateway.audit.segment import Gone
from policy.merkle import Frontier

_REMEMBERED = 1024


class Authority(msgspec.Struct):
    """Of a record, what it lets be absent."""

    commitments: tuple[str, ...] = ()
    segment: str | None = None
    count: int | None = None
    root: str | None = None


@dataclass(slots=True)
class _Removal:
    """The lines of one segment that point to one record."""

    where: Stretch
    leaves: Frontier = field(default_factory=Frontier)


class Absences:
    """What is absent from a whole journal, and what the journal says of that."""

    def __init__(self) -> None:
        """Know of nothing yet."""
        self._missing: dict[tuple[str, str], Stretch] = {}
        self._erased: dict[str, list[tuple[str, int]]] = {}
        self._removed: dict[tuple[str, str], _Removal] = {}
        self._retained: dict[str, tuple[tuple[str, int], Authority]] = {}
        self._found_unsigned: dict[str, list[range]] = {}
        # The records of one assumption have the same openings.
        self._judge = lru_cache(maxsize=_REMEMBERED)(_judge)

    def check_openings(self, sealed: bytes, openings: bytes, *, segment: str, line: int, offset: int) -> str:
        """Return what is wrong with what a record seals, or nothing; what is missing is judged at the end."""
        what, missing = self._judge(sealed, openings)
        for commitment in missing:
            place = self._missing.setdefault((segment, commitment), Stretch(line, line, offset))
            place.take(line)
        return what

    def take_gone(self, gone: Gone, leaf: bytes, *, segment: str, line: int, offset: int) -> None:
        """Take note of a line whose content is gone."""
        removal = self._removed.get((segment, gone.by))
        if removal is None:
            removal = self._removed[segment, gone.by] = _Removal(Stretch(line, line, offset))
        removal.where.take(line)
        removal.leaves.append(leaf)

    def heed(self, record: bytes, *, kind: str, origin: str, seq: int) -> None:
        """Take note of a record of the kind `erasure` or `retention`, whose hash is right."""
        try:
            authority = msgspec.json.decode(record, type=Authority)
        except UNREADABLE:
            return
        if kind == "retention":
            self._retained[f"{origin}:{seq}"] = ((origin, seq), authority)
        elif kind == "erasure":
            for commitment in authority.commitments:
                self._erased.setdefault(commitment, []).append((origin, seq))

    def refuse(self, origin: str, unsigned: range) -> None:
        """Let nothing be absent for the sake of these records, which a later writer of the origin found unsigned."""
        self._found_unsigned.setdefault(origin, []).append(unsigned)

    def findings(self, told: "Absences", covered: Mapping[str, int] | None) -> list[Finding]:
        """Return what is absent without leave, once all is read; `told` knows what the journal says of that.

        With `covered`, how many records of each origin are under a signed checkpoint, only those count: anybody who can
        write the files could put a record behind them.
        """
        found = []
        for (segment, commitment), place in self._missing.items():
            if not any(told._counts(where, covered) for where in told._erased.get(commitment, [])):
                lines = "a line" if place.count == 1 else f"{place.count} lines"
                what = f"an opening of {lines} is gone, and no erasure under a checkpoint speaks of it: {commitment}"
                found.append(place.found(segment, what))
        for (segment, by), removal in self._removed.items():
            if what := told._judge_removal(segment, by, removal, covered):
                found.append(removal.where.found(segment, what))
        return found

    def _judge_removal(self, segment: str, by: str, removal: _Removal, covered: Mapping[str, int] | None) -> str:
        if by not in self._retained:
            return f"the content is gone, and `{by}` is no record that lets it go"
        where, authority = self._retained[by]
        if authority.segment != segment:
            return f"the content is gone, and `{by}` speaks of another file"
        if (authority.count, authority.root) != (removal.leaves.size, removal.leaves.root().hex()):
            return f"the content is gone of other lines than `{by}` lets go"
        if self._was_found_unsigned(where):
            return f"the content is gone, and `{by}` was signed only by a later start"
        return "" if self._counts(where, covered) else f"the content is gone, and `{by}` is under no checkpoint"

    def _counts(self, where: tuple[str, int], covered: Mapping[str, int] | None) -> bool:
        origin, seq = where
        return (covered is None or seq < covered.get(origin, 0)) and not self._was_found_unsigned(where)

    def _was_found_unsigned(self, where: tuple[str, int]) -> bool:
        origin, seq = where
        return any(seq in unsigned for unsigned in self._found_unsigned.get(origin, []))


def _judge(sealed: bytes, openings: bytes) -> tuple[str, tuple[str, ...]]:
    """Return what is wrong with openings, or nothing, and the commitments whose openings are missing."""
    try:
        commitments = msgspec.json.decode(sealed, type=dict[str, str])
        parts = split_openings(openings)
    except (*UNREADABLE, OpeningError) as error:
        return str(error), ()
    for group, opening in parts.items():
        if group not in commitments:
            return "an opening stands here that the record does not seal", ()
        if commit(opening) != commitments[group]:
            return f"the opening of `{group}` is not the one that the record seals", ()
    return "", tuple(commitment for group, commitment in commitments.items() if group not in parts)

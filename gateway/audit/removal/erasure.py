"""Taking somebody's personal data out of the journal: the openings go, the records and their hashes stay.

First a record (kind `erasure`) is made for at most 64 commitments each, by whom and why; it does not say whose they
are. Then every file that holds one of their openings is rewritten. A process that is killed in between leaves the rest
to be asked for again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.cutting import MAX_ITEMS
from gateway.audit.record import Record
from gateway.audit.removal.retention import Recorder
from gateway.audit.removal.rewriting import Disk, closed, is_newest, removing, rewrite, rewriting
from gateway.audit.sealed import GROUPS, UNREADABLE, OpeningError, commit, join_openings, split_openings
from gateway.audit.segment import Entry, Line, join_line, list_segments, parse_line, read_entry, read_lines
from policy.model import AccountId

_TURNS = 3
"""What was being written while it began is found the next time round."""
_AT_A_TIME = 256
_ACTORS: Final = (frozenset[str](), frozenset({"actor"}))
_GIVERS: Final = (frozenset[str](), frozenset({"giver"}))

Groups = frozenset[str]
Whose = Callable[[Entry], Groups]
"""Tells which groups of an entry are to go; none for most."""


def of_actor(issuer: str, subject: str) -> Whose:
    """Return what takes a staff member's own data, wherever they acted, also where they ended what was another's."""

    def whose(entry: Entry) -> Groups:
        actor = entry.get("actor")
        is_theirs = isinstance(actor, dict) and (actor.get("issuer"), actor.get("subject")) == (issuer, subject)
        # Elsewhere a word like it is an operator's or a customer's, who may be called the same.
        says_who = entry.get("by") == subject and (is_theirs or entry.get("kind") in ("assumption", "staff"))
        return _ACTORS[is_theirs] | _GIVERS[says_who]

    return whose


def of_agent(account: str, subject: str) -> Whose:
    """Return what takes an agent's name, wherever somebody stood in for them."""

    def whose(entry: Entry) -> Groups:
        is_theirs = (entry.get("account"), entry.get("subject")) == (account, subject)
        return frozenset({"agent"}) if is_theirs else frozenset()

    return whose


def of_giver(who: str) -> Whose:
    """Return what takes the name of an operator or a customer's administrator, and from where they did it."""

    def whose(entry: Entry) -> Groups:
        # The address and the browser beside it are theirs where nobody else has acted.
        is_alone = entry.get("by") == who and "actor" not in entry
        is_named = who in (entry.get("by"), entry.get("granted_by"), *str(entry.get("recipient", "")).split())
        return _ACTORS[is_alone] | _GIVERS[is_named]

    return whose


def of_words(origin: str, seq: int) -> Whose:
    """Return what takes the words that were given for one record."""
    words = frozenset({"words"})
    return lambda entry: words if (entry.get("origin"), entry.get("seq")) == (origin, seq) else frozenset()


def of_assumption(assumption: str) -> Whose:
    """Return what takes all personal data of one assumption."""
    return lambda entry: frozenset(GROUPS) if entry.get("assumption") == assumption else frozenset()


@dataclass(slots=True)
class Erased:
    """What became of an erasure."""

    lines: int = 0
    commitments: int = 0
    held: set[str] = field(default_factory=set)
    """Accounts under legal hold, in which something was found that stays."""
    open: set[str] = field(default_factory=set)
    """Files that were still being written to at the end, and hold something."""
    torn: set[str] = field(default_factory=set)
    """Files whose torn last line may hold something, until their origin is written again."""
    plain: int = 0
    """Records that hold it themselves, because they are older than commitments are: only retention takes them away."""
    named: list[str] = field(default_factory=list)
    """Records, as `<origin>:<seq>`, whose words hold the text that was to be looked for; they are no part of it."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left of it in the fields that it was asked of."""
        return not (self.held or self.open or self.torn or self.plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Takes openings away."""

    directory: Path
    recorder: Recorder
    held: Callable[[], Awaitable[frozenset[str]]]
    """Asks which accounts are under legal hold."""
    close: Callable[[], Awaitable[None]]
    """Has the running writers go on in new segments, as far as they answer."""
    disk: Disk = field(default_factory=Disk)

    async def erase(
        self, whose: Whose, *, account: AccountId | None, by: str, why: str, looks_for: str | None = None
    ) -> Erased:
        """Erase it and return what came of that; raises JournalError, StoreError, OSError.

        `account` is named on the record if it is all of one account. `looks_for` is a name for `Erased.named`.
        """
        done = Erased()
        record = Record(kind="erasure", reason="erased", account=account, by=by, stated_reason=why)
        recorded: set[str] = set()
        with rewriting(self.directory, disk=self.disk):
            await self.close()
            for turn in range(_TURNS):
                found = _find(self.directory, whose, await self.held())
                if not found.commitments:
                    break
                await self._record(record, sorted(found.commitments - recorded))
                recorded |= found.commitments
                if turn:
                    await self.close()
                done.lines += await self._take(found)
            left = _find(self.directory, whose, await self.held(), looks_for)
        done.commitments, done.held, done.plain = len(recorded), left.held, left.plain
        done.named = left.named
        done.open = {path.name for path in left.paths}
        if recorded:
            done.torn = {path.name for path in left.torn if _is_idle(path, self.disk)}
        return done

    async def _record(self, record: Record, commitments: list[str]) -> None:
        if not commitments:
            return
        groups = [commitments[start : start + MAX_ITEMS] for start in range(0, len(commitments), MAX_ITEMS)]
        records = [msgspec.structs.replace(record, commitments=tuple(group), count=len(group)) for group in groups]
        for start in range(0, len(records), _AT_A_TIME):
            some = records[start : start + _AT_A_TIME]
            await asyncio.gather(*(self.recorder.append(each, durable=True) for each in some))
        # Or whoever verifies could not tell it from one that somebody has put behind the newest checkpoint.
        await self.recorder.checkpoint()

    async def _take(self, found: "_Found") -> int:
        """Rewrite what is closed; returns how many lines have changed."""
        changed = 0

        def change(line: bytes, held: frozenset[str]) -> bytes:
            nonlocal changed
            after = _without(line, found.commitments, held)
            changed += after is not line
            return after

        # What was never acknowledged goes wherever it was left behind: it may hold the same.
        for path in dict.fromkeys([*found.paths, *found.torn]):
            with removing(self.directory, disk=self.disk), closed(path, disk=self.disk) as is_closed:
                if is_closed:
                    # Anew: since it was asked, somebody may have been told that an account is under hold.
                    rewrite(path, partial(change, held=await self.held()), disk=self.disk)
        return changed


@dataclass(slots=True)
class _Found:
    commitments: set[str] = field(default_factory=set)
    paths: list[Path] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    torn: list[Path] = field(default_factory=list)
    plain: int = 0
    named: list[str] = field(default_factory=list)


def _find(directory: Path, whose: Whose, held: frozenset[str], looks_for: str | None = None) -> _Found:
    """Return what is there to be erased, but for `held` accounts."""
    found = _Found()
    for path in [path for paths in list_segments(directory).values() for path in paths]:
        concerned = False
        for _, line in read_lines(path):
            if not line.endswith(b"\n"):
                found.torn.append(path)
                break
            entry = read_entry(line)
            groups = whose(entry) if entry is not None else None
            if entry is not None and looks_for and _is_in_words(entry, looks_for):
                found.named.append(f"{entry.get('origin')}:{entry.get('seq')}")
            if entry is None or not groups:
                continue
            openings = {group: opening for group, opening in _openings(line).items() if group in groups}
            # Of a line that somebody has altered it may be anything.
            account = entry.get("account")
            if isinstance(account, str) and account in held:
                found.held.update([account] if openings else [])
                continue
            found.plain += _holds_plainly(line, groups)
            found.commitments.update(map(commit, openings.values()))
            concerned = concerned or bool(openings)
        if concerned:
            found.paths.append(path)
    return found


def _is_idle(path: Path, disk: Disk) -> bool:
    """Tell whether a segment is its origin's newest, and nobody writes that."""
    with closed(path, disk=disk) as is_closed:
        return is_closed and is_newest(path)


def _holds_plainly(line: bytes, groups: Groups) -> bool:
    """Tell whether a record names any of them itself."""
    parts = parse_line(line)
    record = {} if parts is None else msgspec.json.decode(parts.record, type=dict[str, object])
    return any(name in record for group in groups for name in GROUPS[group])


def _openings(line: bytes) -> dict[str, bytes]:
    parts = parse_line(line)
    try:
        return {} if parts is None else split_openings(parts.openings)
    except OpeningError:
        return {}


def _without(line: bytes, commitments: set[str], held: frozenset[str]) -> bytes:
    """Return the line without these openings; the very same if it has none of them, or is a `held` account's."""
    parts = parse_line(line)
    if parts is None or not (openings := _openings(line)):
        return line
    kept = {group: opening for group, opening in openings.items() if commit(opening) not in commitments}
    if len(kept) == len(openings) or _account_of(parts.record) in held:
        return line
    return join_line(Line(parts.leaf, parts.record, join_openings(kept.items())))


class _Owned(msgspec.Struct):
    account: str | None = None


def _account_of(record: bytes) -> str | None:
    try:
        return msgspec.json.decode(record, type=_Owned).account
    except UNREADABLE:
        return None


def _is_in_words(entry: Entry, name: str) -> bool:
    return any(name in str(entry.get(word, "")) for word in GROUPS["words"])

"""How long the content of the journal is kept, by account; the hashes stay, and so does everything that they prove.

Content goes by age, a day's worth at a time, and by size, all that a file holds of an account at a time, the oldest
first. Before a file is rewritten, a record (kind `retention`) for each account says how many of its lines go, and the
Merkle root over their leaf hashes. A process that is killed in between has let nothing go, and the next begins anew.

Strangers choose how often they are refused, and at which accounts. So their refusals are counted apart: they push out
one another, never anybody's evidence, and one record is enough for those of any number of accounts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.audit.hand import Run, inside
from gateway.audit.record import Record
from gateway.audit.removal.rewriting import Disk, closed, removing, rewrite, rewriting
from gateway.audit.sealed import UNREADABLE
from gateway.audit.segment import Gone, Line, encode_gone, join_line, list_segments, parse_line, parse_name, read_lines
from policy.merkle import Frontier, leaf_hash
from policy.model import AccountId

Reason = Literal["age", "size"]

_AT_A_TIME = 256

KEPT_KINDS = frozenset({"erasure", "journal", "retention"})
"""What tells whether the rest is whole is never taken away."""


class Recorder(Protocol):
    """A journal, as those see it who take something out of one."""

    async def append(self, record: Record, *, durable: bool = False) -> int:
        """See `gateway.audit.log.AuditLog.append`."""

    async def checkpoint(self) -> None:
        """Sign what there is by now, durably; raises JournalError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How much is kept of an account; 0 is no bound."""

    days: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How much is kept of each account, and of what is no account's."""

    usual: Keeping = Keeping()
    accounts: Mapping[str, Keeping] = field(default_factory=dict)

    def of(self, account: str | None) -> Keeping:
        """Return what holds for an account."""
        return self.usual if account is None else self.accounts.get(account, self.usual)

    def owner(self, content: "Content") -> "Owner":
        """Return with what a record is counted."""
        account, is_strangers = content.account, content.is_strangers
        return Owner(account if not is_strangers or account in self.accounts else None, is_strangers)

    @property
    def is_for_ever(self) -> bool:
        """Whether nothing ever goes."""
        return not any(keeping.days or keeping.bytes for keeping in (self.usual, *self.accounts.values()))


class Owner(NamedTuple):
    """With what a record is counted."""

    account: AccountId | None
    """None: it is no account's, or a stranger's refusal at any of those that have no terms of their own."""
    is_strangers: bool = False


_STRANGERS = Owner(None, is_strangers=True)


@dataclass(slots=True)
class Part:
    """What a segment holds of one owner, or what goes of that."""

    owner: Owner
    lines: int = 0
    bytes: int = 0
    oldest: str = ""
    newest: str = ""

    @property
    def account(self) -> AccountId | None:
        """Return whose it is, if it is one account's."""
        return self.owner.account

    def take(self, at: str, size: int) -> None:
        """Count a line."""
        self.lines += 1
        self.bytes += size
        self.oldest = min(self.oldest or at, at)
        self.newest = max(self.newest, at)


@dataclass(slots=True, kw_only=True)
class Removal:
    """What goes of one owner from one segment."""

    path: Path
    reason: Reason
    part: Part
    leaves: Frontier = field(default_factory=Frontier)

    def record(self) -> Record:
        """Return the record that lets it go."""
        return Record(
            kind="retention",
            reason=self.reason,
            account=self.part.account,
            segment=self.path.name,
            count=self.leaves.size,
            root=self.leaves.root().hex(),
        )


class Content(msgspec.Struct):
    """Of a record, what decides whether it goes."""

    kind: str
    seq: int
    at: str
    account: AccountId | None = None
    decision: str | None = None
    token_id: str | None = None
    client_id: str | None = None

    @property
    def is_strangers(self) -> bool:
        """Whether it is a refusal of somebody of whom nothing is known: no token that was good, and no client."""
        is_known = self.token_id is not None or self.client_id is not None
        return self.decision == "deny" and not is_known and self.kind in ("decision", "token")


_decoder = msgspec.json.Decoder(Content)
_Chosen = Callable[[Content], Reason | None]


@dataclass(slots=True)
class Survey:
    """What all segments hold, remembered for those that have not changed."""

    _known: dict[Path, tuple[tuple[int, int], dict[Owner, Part]]] = field(default_factory=dict)

    def read(self, directory: Path, terms: Terms, rest: Callable[[], None]) -> list[tuple[Path, dict[Owner, Part]]]:
        """Return the parts of each segment, by `terms` that stay the same; raises OSError. Rest between lines."""
        known, self._known = self._known, {}
        for path in (path for paths in list_segments(directory).values() for path in paths):
            found = path.stat()
            identity = (found.st_ino, found.st_size)
            before = known.get(path)
            same = before is not None and before[0] == identity
            self._known[path] = before if before is not None and same else (identity, _survey(path, terms, rest))
        return [(path, parts) for path, (_, parts) in self._known.items()]


def plan(segments: Iterable[tuple[Path, Mapping[Owner, Part]]], terms: Terms, *, now: datetime) -> "Plan":
    """Return what is to go; `now` in UTC."""
    segments = list(segments)
    sizes: dict[Owner, int] = {}
    for _, parts in segments:
        for owner, part in parts.items():
            sizes[owner] = sizes.get(owner, 0) + part.bytes
    too_much = {owner for owner, size in sizes.items() if 0 < terms.of(owner.account).bytes < size}
    newest = _newest(path for path, _ in segments)
    over: set[tuple[Path, Owner]] = set()
    # The oldest first, whoever wrote them.
    for _, path, owner, size in sorted(
        (
            (parts[owner].newest, path, owner, parts[owner].bytes)
            for path, parts in segments
            if path not in newest
            for owner in too_much & parts.keys()
        ),
        key=lambda found: found[:2],
    ):
        if sizes[owner] > terms.of(owner.account).bytes:
            over.add((path, owner))
            sizes[owner] -= size
    return Plan(terms=terms, now=now, over=frozenset(over), newest=newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which content is to go."""

    terms: Terms
    now: datetime
    over: frozenset[tuple[Path, Owner]]
    """Segments and owners of which everything goes, because there is more than is kept."""
    newest: Mapping[Path, str]
    """The newest segment of each origin, with the origin."""

    def concerns(self, path: Path, parts: Mapping[Owner, Part]) -> bool:
        """Tell whether anything goes from a segment."""
        return any(
            (path, owner) in self.over or part.oldest < self._cut_off(owner.account) for owner, part in parts.items()
        )

    def choose(self, path: Path, held: frozenset[str]) -> _Chosen:
        """Return what says why a record of a segment goes, or None for one that stays; of `held` accounts all stays."""
        cut_offs: dict[Owner, str] = {}

        def choose(content: Content) -> Reason | None:
            if content.kind in KEPT_KINDS or content.account in held:
                return None
            owner = self.terms.owner(content)
            if (cut_off := cut_offs.get(owner)) is None:
                cut_off = cut_offs[owner] = self._cut_off(owner.account)
            if content.at < cut_off:
                return "age"
            return "size" if (path, owner) in self.over else None

        return choose

    def _cut_off(self, account: str | None) -> str:
        """Return the time before which content goes: whole days, so that files are not rewritten for every record."""
        days = self.terms.of(account).days
        if not days:
            return ""
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - timedelta(days=days)).isoformat()[:19]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Lets go what is not to be kept any longer."""

    directory: Path
    terms: Terms
    origin: str
    """Of the journal in which `recorder` writes, for the lines that point to its records."""
    recorder: Recorder
    held: Callable[[], Awaitable[frozenset[str]]]
    """Asks which accounts are under legal hold."""
    run: Run
    """Does what waits for the disk, one after the other; what was asked for is done though nobody waits for it."""
    survey: Survey = field(default_factory=Survey)
    rest: Callable[[], None] = lambda: None
    disk: Disk = field(default_factory=Disk)

    async def retain(self, *, now: datetime) -> list[Removal]:
        """Let go what is due, and return that; raises JournalError, StoreError, OSError.

        What is in files that are being written to stays; see `overdue`.
        """
        gone: list[Removal] = []
        async with inside(rewriting(self.directory, disk=self.disk), run=self.run):
            due, paths = await self._due(now)
            for path in paths:
                async with inside(closed(path, disk=self.disk), run=self.run) as is_closed:
                    if is_closed:
                        gone += await self._let_go(path, due)
        return gone

    async def preview(self, *, now: datetime) -> list[Removal]:
        """Return what `retain` would let go, and what would if its file were closed; changes nothing."""
        due, paths = await self._due(now)
        held = await self.held()
        found: list[Removal] = []
        for path in paths:
            found += await self._find(path, due.choose(path, held))
        return found

    async def overdue(self, *, now: datetime) -> frozenset[str]:
        """Return the origins whose newest segment holds content that is to go once another one is begun."""
        due, paths = await self._due(now)
        return frozenset(due.newest[path] for path in paths if path in due.newest)

    async def _due(self, now: datetime) -> tuple[Plan, list[Path]]:
        """Return what is to go, and the segments from which anything goes."""
        found: list[tuple[Plan, list[Path]]] = []

        def find() -> None:
            segments = self.survey.read(self.directory, self.terms, self.rest)
            due = plan(segments, self.terms, now=now)
            found.append((due, [path for path, parts in segments if due.concerns(path, parts)]))

        # All of it apart from the loop, for there may be a great many accounts.
        await self.run(find)
        return found[0]

    async def _find(self, path: Path, chosen: _Chosen) -> list[Removal]:
        found: list[Removal] = []
        await self.run(lambda: found.extend(_find_removals(path, self.terms, chosen, self.rest)))
        return found

    async def _let_go(self, path: Path, due: Plan) -> list[Removal]:
        held_before = await self.held()
        chosen = due.choose(path, held_before)
        removals = await self._find(path, chosen)
        if not removals:
            return []
        by = {}
        for start in range(0, len(removals), _AT_A_TIME):
            some = removals[start : start + _AT_A_TIME]
            records = (self.recorder.append(removal.record(), durable=True) for removal in some)
            for removal, seq in zip(some, await asyncio.gather(*records), strict=True):
                by[removal.part.owner, removal.reason] = f"{self.origin}:{seq}"
        # Or whoever verifies could not tell it from one that somebody has put behind the newest checkpoint.
        await self.recorder.checkpoint()

        def change(line: bytes) -> bytes:
            self.rest()
            content, parts = _read_content(line)
            reason = None if content is None else chosen(content)
            if content is None or parts is None or reason is None or (owner := self.terms.owner(content)) in stays:
                return line
            gone = Gone(seq=content.seq, by=by[owner, reason])
            return join_line(Line(parts.leaf, b"", gone=encode_gone(gone)))

        async with inside(removing(self.directory, disk=self.disk), run=self.run):
            # Anew: since it was asked, somebody may have been told that an account is under hold.
            held = await self.held()
            # Of what is counted together all goes or nothing, as its record says, and it may be of any account.
            new = held - held_before
            stays = {owner for owner, _ in by if owner.account in held or (owner == _STRANGERS and new)}
            await self.run(lambda: rewrite(path, change, disk=self.disk))
        return [removal for removal in removals if removal.part.owner not in stays]


def _newest(paths: Iterable[Path]) -> dict[Path, str]:
    """Return of each origin the newest of these segments, which are in the order of writing, with the origin."""
    last = {name.origin: path for path in paths if (name := parse_name(path.name)) is not None}
    return {path: origin for origin, path in last.items()}


def _survey(path: Path, terms: Terms, rest: Callable[[], None]) -> dict[Owner, Part]:
    parts: dict[Owner, Part] = {}
    for content, line in _read_all(path, rest):
        if content.kind not in KEPT_KINDS:
            owner = terms.owner(content)
            parts.setdefault(owner, Part(owner)).take(content.at, len(line))
    return parts


def _find_removals(path: Path, terms: Terms, chosen: _Chosen, rest: Callable[[], None]) -> list[Removal]:
    found: dict[tuple[Owner, Reason], Removal] = {}
    for content, line in _read_all(path, rest):
        if (reason := chosen(content)) is None:
            continue
        key = (terms.owner(content), reason)
        if (removal := found.get(key)) is None:
            removal = found[key] = Removal(path=path, reason=reason, part=Part(key[0]))
        removal.part.take(content.at, len(line))
        parts = parse_line(line)
        removal.leaves.append(b"" if parts is None else leaf_hash(parts.record))
    return list(found.values())


def _read_all(path: Path, rest: Callable[[], None]) -> Iterator[tuple[Content, bytes]]:
    for _, line in read_lines(path):
        rest()
        content, _ = _read_content(line)
        if content is not None:
            yield content, line


def _read_content(line: bytes) -> tuple[Content | None, Line | None]:
    """Return what a line holds; nothing of one that is torn or altered: what is evidence of that stays."""
    parts = parse_line(line)
    if parts is None or not parts.record or leaf_hash(parts.record).hex().encode() != parts.leaf:
        return None, parts
    try:
        return _decoder.decode(parts.record), parts
    except UNREADABLE:
        return None, parts

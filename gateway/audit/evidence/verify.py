"""The offline judge of a journal: needs its files and, to be sure, a public key and a checkpoint held elsewhere.

Found without either: any changed byte, and any record missing, doubled or moved. Found with them: also what was hashed
anew, cut off or rolled back, up to the newest checkpoint. Not found: what was changed after that one, and what was
never written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.absences import Absences
from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, open_note, split_notes
from gateway.audit.evidence.finding import Finding
from gateway.audit.evidence.sources import JournalFiles, Lines, OriginSource, Source
from gateway.audit.sealed import UNREADABLE
from gateway.audit.segment import Line, decode_gone, parse_line, parse_name
from gateway.audit.writing.resume import UNSIGNED
from policy.merkle import Frontier, leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of an origin was read, and how much of that a checkpoint vouches for."""

    origin: str
    records: int
    covered: int
    """Records under the newest checkpoint that fits; with a public key, one that it signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `verify` read and found."""

    extents: tuple[Extent, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(journal: Path | Source, *, public_key: Ed25519PublicKey | None = None, held: Sequence[str] = ()) -> Report:
    """Check every origin of a journal, in its directory or elsewhere, against itself and its checkpoints.

    `held` are notes that were kept elsewhere, one for each origin: an origin that none of them speaks of could be gone
    as a whole. With `public_key`, every checkpoint must be signed by it, and an origin without one is a finding. A torn
    last line is accepted where a later record speaks of it, and so is what an erasure or a retention has taken away;
    with `public_key` that record must be under a checkpoint. Reads each file once and holds none of them. The journal
    may be written to meanwhile, and rewritten: if anything is missing without leave, all is read again to see whether
    that has been given since. Raises OSError.
    """
    first = _read_all(journal, public_key=public_key, held=held)
    absent = first.absences.findings(first.absences, first.covered)
    if absent:
        # What lets something go is there, and signed, before that goes: so by now it would be.
        second = _read_all(journal, public_key=public_key, held=held)
        absent = first.absences.findings(second.absences, second.covered)
    return Report(extents=first.extents, findings=(*first.findings, *absent))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What was read of a whole journal."""

    extents: tuple[Extent, ...]
    findings: tuple[Finding, ...]
    absences: Absences
    covered: dict[str, int] | None
    """How many records of each origin are under a checkpoint that is signed; None if no key is known."""


def _read_all(journal: Path | Source, *, public_key: Ed25519PublicKey | None, held: Sequence[str]) -> _Pass:
    opened = [_open_held(note.encode(), key=public_key) for note in held]
    checkpoints = [note for note in opened if isinstance(note, Checkpoint)]
    extents, findings = [], [note for note in opened if isinstance(note, Finding)]
    absences = Absences()
    for source in _all_origins(journal, {checkpoint.origin for checkpoint in checkpoints}):
        check = _OriginCheck(source.origin, absences)
        check.expect_own(source, key=public_key)
        for checkpoint in checkpoints:
            if checkpoint.origin == source.origin:
                check.expect("the checkpoint held elsewhere", checkpoint)
        for name, lines in source.segments:
            check.read(name, lines)
        extents.append(check.finish())
        findings.extend(check.findings)
    covered = {extent.origin: extent.covered for extent in extents}
    return _Pass(
        extents=tuple(extents),
        findings=tuple(findings),
        absences=absences,
        covered=None if public_key is None else covered,
    )


def _all_origins(journal: Path | Source, held: set[str]) -> Iterator[OriginSource]:
    """Yield the origins that are there, and those that are not but of which a checkpoint is held."""
    for source in (JournalFiles(journal) if isinstance(journal, Path) else journal).origins():
        held.discard(source.origin)
        yield source
    for origin in sorted(held):
        yield OriginSource(origin=origin, newest=None, history=b"", segments=iter(()))


class _Head(msgspec.Struct):
    """Of a record, what the order of the journal rests on."""

    origin: str
    seq: int
    kind: str
    reason: str | None = None
    segment: str | None = None
    offset: int | None = None
    count: int | None = None
    sealed: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Head)


class _OriginCheck:
    """One pass over one origin."""

    def __init__(self, origin: str, absences: Absences) -> None:
        self.findings: list[Finding] = []
        self._origin = origin
        self._absences = absences
        self._tree = Frontier()
        self._next_seq = 0
        self._covered = 0
        self._heads: dict[int, list[tuple[str, bytes]]] = {}
        self._torn: dict[str, Finding] = {}
        self._mismatched = False

    def expect_own(self, source: OriginSource, *, key: Ed25519PublicKey | None) -> None:
        newest = source.newest
        if newest is None and key is not None:
            self._find("there is no checkpoint")
        notes, wrong = [] if newest is None else [newest], dict[str, None]()
        try:
            notes += split_notes(source.history)
        except CheckpointError as error:
            wrong[str(error)] = None
        # As a set of bytes: the newest is in the history as well, and a signature takes its time.
        for note in dict.fromkeys(notes):
            try:
                self.expect("a checkpoint in the journal", open_note(note, key=key))
            except CheckpointError as error:
                # Once, or a wrong key would be as many findings as there are checkpoints.
                wrong[str(error)] = None
        for what in wrong:
            self._find(what)

    def expect(self, source: str, checkpoint: Checkpoint) -> None:
        if checkpoint.origin != self._origin:
            self._find(f"{source} is another origin's, `{checkpoint.origin}`")
            return
        self._heads.setdefault(checkpoint.size, []).append((source, checkpoint.root))

    def read(self, segment: str, lines: Lines) -> None:
        for number, (offset, line) in enumerate(lines, start=1):
            self._check_line(segment, line, number=number, offset=offset)

    def finish(self) -> Extent:
        self.findings.extend(self._torn.values())
        if (beyond := max(self._heads, default=0)) > self._tree.size:
            source, _ = self._heads[beyond][0]
            self._find(f"cut off: {source} covers {beyond} records, here are {self._tree.size}")
        return Extent(origin=self._origin, records=self._tree.size, covered=self._covered)

    def _check_line(self, segment: str, line: bytes, *, number: int, offset: int) -> None:
        if not line.endswith(b"\n"):
            what = "the line is torn, and no later record speaks of it"
            self._torn[segment] = Finding(segment=segment, line=number, through=number, offset=offset, what=what)
            return
        if (parts := parse_line(line)) is None:
            # Nothing in it can be believed, its number least of all.
            self._tree.append(leaf_hash(line))
            self._next_seq += 1
            what = "this is not a line of a journal"
        elif parts.gone:
            what = self._check_gone(segment, parts, number=number, offset=offset)
        else:
            what = self._check_hash(segment, parts, number=number, offset=offset)
        if what:
            self._find(what, segment=segment, line=number, offset=offset)
        if self._tree.size in self._heads:
            self._check_heads(segment, number=number, offset=offset)

    def _check_gone(self, segment: str, parts: Line, *, number: int, offset: int) -> str:
        """Return what is wrong with a line whose content is gone, or nothing."""
        leaf = bytes.fromhex(parts.leaf.decode())
        self._tree.append(leaf)
        if (gone := decode_gone(parts.gone)) is None:
            self._next_seq += 1
            return "this is not a line of a journal"
        self._absences.take_gone(gone, leaf, segment=segment, line=number, offset=offset)
        return self._check_seq(segment, gone.seq, number=number)

    def _check_hash(self, segment: str, parts: Line, *, number: int, offset: int) -> str:
        digest = leaf_hash(parts.record)
        self._tree.append(digest)
        if digest.hex().encode() != parts.leaf:
            self._next_seq += 1
            return "the record is not the one that was hashed"
        try:
            head = _decoder.decode(parts.record)
        except UNREADABLE:
            self._next_seq += 1
            return "this is not a record"
        if what := self._check_record(segment, head, number=number):
            return what
        if head.kind in ("erasure", "retention"):
            self._absences.heed(parts.record, kind=head.kind, origin=head.origin, seq=head.seq)
        if not (sealed := bytes(head.sealed)):
            return "an opening stands here that the record does not seal" if parts.openings else ""
        return self._absences.check_openings(sealed, parts.openings, segment=segment, line=number, offset=offset)

    def _check_record(self, segment: str, head: _Head, *, number: int) -> str:
        """Return what is wrong with a record whose hash is right, or nothing."""
        if head.origin != self._origin:
            self._next_seq = head.seq + 1
            return f"the record is another origin's, `{head.origin}`"
        what = self._check_seq(segment, head.seq, number=number)
        return what or (self._heed(head) if head.kind == "journal" else "")

    def _check_seq(self, segment: str, seq: int, *, number: int) -> str:
        expected, self._next_seq = self._next_seq, seq + 1
        if seq != expected:
            between = f"records {expected} to {seq - 1} are missing before this one"
            return between if seq > expected else f"record {seq} stands where {expected} belongs"
        name = parse_name(segment)
        if number == 1 and name is not None and name.first != seq:
            return f"the file is named for record {name.first} and begins with {seq}"
        return ""

    def _heed(self, head: _Head) -> str:
        """Take note of what the journal says of itself."""
        if head.reason == "history_altered":
            return "on starting, the writer found that the records before this one had been altered"
        if head.reason == UNSIGNED and head.count is not None:
            # What a checkpoint of before covers was signed in its time, even if the later writer did not have that.
            self._absences.refuse(head.origin, range(max(head.seq - head.count, self._covered), head.seq))
        if head.segment is not None and head.offset is not None:
            # A segment can have one; where it begins changes when content is taken out of the lines before it.
            self._torn.pop(head.segment, None)
        return ""

    def _check_heads(self, segment: str, *, number: int, offset: int) -> None:
        for source, root in self._heads[self._tree.size]:
            if root == self._tree.root():
                self._covered = self._tree.size
            elif not self._mismatched:
                # One is enough: every later checkpoint differs for the same cause.
                self._mismatched = True
                what = f"records {self._covered} to {self._tree.size - 1} are not those of {source}"
                self._find(what, segment=segment, line=number, offset=offset)

    def _find(self, what: str, *, segment: str = "", line: int = 0, offset: int = 0) -> None:
        last = self.findings[-1] if self.findings else None
        if last is not None and (last.segment, last.what, last.through + 1) == (segment, what, line):
            self.findings[-1] = replace(last, through=line)
            return
        finding = Finding(segment=segment or self._origin, line=line, through=line, offset=offset, what=what)
        self.findings.append(finding)


def _open_held(note: bytes, *, key: Ed25519PublicKey | None) -> Checkpoint | Finding:
    try:
        return open_note(note, key=key)
    except CheckpointError as error:
        return Finding(segment="the checkpoint held elsewhere", line=0, through=0, offset=0, what=str(error))

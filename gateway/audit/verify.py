"""The offline judge of a journal: needs its files and, to be sure, a public key and a checkpoint held elsewhere.

Found without either: any changed byte, and any record missing, doubled or moved. Found with them: also what was hashed
anew, cut off or rolled back, up to the newest checkpoint. Not found: what was changed after that one, and what was
never written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.checkpoint import Checkpoint, CheckpointError, open_note, read_history, read_newest
from gateway.audit.segment import list_segments, parse_name, read_lines, split_line
from policy.merkle import Frontier, leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that an honest journal does not show."""

    segment: str
    """The file's name; for what concerns a whole origin, the origin."""
    line: int
    """The first line concerned, from 1; 0 for the file as a whole."""
    through: int
    """The last line concerned."""
    offset: int
    """Where the first line begins, in bytes."""
    what: str


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


def verify(directory: Path, *, public_key: Ed25519PublicKey | None = None, held: Sequence[str] = ()) -> Report:
    """Check every origin of the journal in `directory` against itself and its checkpoints.

    `held` are notes that were kept elsewhere, one for each origin: an origin that none of them speaks of could be gone
    as a whole. With `public_key`, every checkpoint must be signed by it, and an origin without one is a finding. A torn
    last line is accepted where a later record speaks of it. Reads each file once and holds none of them; the journal
    may be written to meanwhile. Raises OSError.
    """
    opened = [_open_held(note.encode(), key=public_key) for note in held]
    checkpoints = [note for note in opened if isinstance(note, Checkpoint)]
    segments = list_segments(directory)
    origins = {*segments, *(path.stem for path in directory.glob("*.checkpoint"))}
    origins.update(checkpoint.origin for checkpoint in checkpoints)
    extents, findings = [], [note for note in opened if isinstance(note, Finding)]
    for origin in sorted(origins):
        check = _OriginCheck(origin)
        # Before the lines, so that those written meanwhile are more than the checkpoints speak of, never fewer.
        check.expect_own(directory, key=public_key)
        for checkpoint in checkpoints:
            if checkpoint.origin == origin:
                check.expect("the checkpoint held elsewhere", checkpoint)
        for path in segments.get(origin, []):
            check.read(path)
        extents.append(check.finish())
        findings.extend(check.findings)
    return Report(extents=tuple(extents), findings=tuple(findings))


class _Head(msgspec.Struct):
    """Of a record, what the order of the journal rests on."""

    origin: str
    seq: int
    kind: str
    reason: str | None = None
    segment: str | None = None
    offset: int | None = None


_decoder = msgspec.json.Decoder(_Head)


class _OriginCheck:
    """One pass over one origin."""

    def __init__(self, origin: str) -> None:
        self.findings: list[Finding] = []
        self._origin = origin
        self._tree = Frontier()
        self._next_seq = 0
        self._covered = 0
        self._heads: dict[int, list[tuple[str, bytes]]] = {}
        self._torn: dict[tuple[str, int], Finding] = {}
        self._mismatched = False

    def expect_own(self, directory: Path, *, key: Ed25519PublicKey | None) -> None:
        newest = read_newest(directory, origin=self._origin)
        if newest is None and key is not None:
            self._find("there is no checkpoint")
        try:
            # As a set of bytes: the newest is in the history as well, and a signature takes its time.
            notes = dict.fromkeys([*read_history(directory, origin=self._origin), *filter(None, [newest])])
            for note in notes:
                self.expect("a checkpoint in the journal", open_note(note, key=key))
        except CheckpointError as error:
            self._find(str(error))

    def expect(self, source: str, checkpoint: Checkpoint) -> None:
        if checkpoint.origin != self._origin:
            self._find(f"{source} is another origin's, `{checkpoint.origin}`")
            return
        self._heads.setdefault(checkpoint.size, []).append((source, checkpoint.root))

    def read(self, path: Path) -> None:
        number = 0
        for number, (offset, line) in enumerate(read_lines(path), start=1):
            self._check_line(path.name, line, number=number, offset=offset)

    def finish(self) -> Extent:
        self.findings.extend(self._torn.values())
        if (beyond := max(self._heads, default=0)) > self._tree.size:
            source, _ = self._heads[beyond][0]
            self._find(f"cut off: {source} covers {beyond} records, here are {self._tree.size}")
        return Extent(origin=self._origin, records=self._tree.size, covered=self._covered)

    def _check_line(self, segment: str, line: bytes, *, number: int, offset: int) -> None:
        if not line.endswith(b"\n"):
            what = "the line is torn, and no later record speaks of it"
            self._torn[segment, offset] = Finding(
                segment=segment, line=number, through=number, offset=offset, what=what
            )
            return
        leaf, record = split_line(line) or (b"", line)
        digest = leaf_hash(record)
        self._tree.append(digest)
        if digest.hex().encode() == leaf:
            what = self._check_record(segment, record, number=number)
        else:
            # Nothing in it can be believed, its number least of all.
            self._next_seq += 1
            what = "the record is not the one that was hashed" if leaf else "this is not a line of a journal"
        if what:
            self._find(what, segment=segment, line=number, offset=offset)
        if self._tree.size in self._heads:
            self._check_heads(segment, number=number, offset=offset)

    def _check_record(self, segment: str, record: bytes, *, number: int) -> str:
        """Return what is wrong with a record whose hash is right, or nothing."""
        expected = self._next_seq
        try:
            head = _decoder.decode(record)
        except msgspec.DecodeError:
            self._next_seq += 1
            return "this is not a record"
        self._next_seq = head.seq + 1
        if head.origin != self._origin:
            return f"the record is another origin's, `{head.origin}`"
        if head.seq != expected:
            between = f"records {expected} to {head.seq - 1} are missing before this one"
            return between if head.seq > expected else f"record {head.seq} stands where {expected} belongs"
        name = parse_name(segment)
        if number == 1 and name is not None and name.first != head.seq:
            return f"the file is named for record {name.first} and begins with {head.seq}"
        return self._heed(head) if head.kind == "journal" else ""

    def _heed(self, head: _Head) -> str:
        """Take note of what the journal says of itself."""
        if head.reason == "history_altered":
            return "on starting, the writer found that the records before this one had been altered"
        if head.segment is not None and head.offset is not None:
            self._torn.pop((head.segment, head.offset), None)
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

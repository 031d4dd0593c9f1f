"""Proofs over a journal that is kept: what lies under which checkpoint, and that one checkpoint goes on from another.

They are made in one pass over the lines of an origin, of which nothing is held but what was asked for.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, open_note
from gateway.audit.evidence.sources import OriginSource, Source
from gateway.audit.segment import parse_line
from policy.merkle import Prover, is_consistent, leaf_hash

_HASH_BYTES = 32


class ProofError(Exception):
    """What was asked for cannot be proved, or what should prove it does not; the message says why."""


class NothingToProve(ProofError):
    """There is no such record."""


class NotSignedYet(ProofError):
    """There are such records, and none of them is under a checkpoint yet: ask again behind the next one."""


class Consistency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the first `old` records of an origin are still the first of its `new` ones (RFC 6962 section 2.1.2)."""

    consistency: Literal["locum-consistency/1"] = "locum-consistency/1"
    new: int
    old: int
    origin: str
    proof: tuple[str, ...]
    """The hashes in base64, in the order of the RFC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A line under a checkpoint."""

    index: int
    """Its number among the origin's records."""
    line: bytes
    proof: list[bytes]


def find_source(journal: Source, origin: str) -> OriginSource:
    """Return where an origin's records come from; raises ProofError if there is none, OSError."""
    for source in journal.origins():
        if source.origin == origin:
            return source
    raise ProofError(f"there is no origin `{origin}` in this journal")


def open_newest(source: OriginSource, *, key: Ed25519PublicKey | None) -> Checkpoint:
    """Return an origin's newest checkpoint; raises ProofError if there is none that `key` has signed."""
    if source.newest is None:
        raise ProofError(f"`{source.origin}` has no checkpoint yet")
    try:
        checkpoint = open_note(source.newest, key=key)
    except CheckpointError as error:
        raise ProofError(f"the checkpoint of `{source.origin}`: {error}") from error
    if checkpoint.origin != source.origin:
        raise ProofError(f"the checkpoint of `{source.origin}` is another origin's, `{checkpoint.origin}`")
    return checkpoint


def prove_lines(
    source: OriginSource, checkpoint: Checkpoint, *, wanted: Callable[[bytes], bool]
) -> tuple[list[Proven], int]:
    """Prove every line that is `wanted` to be under `checkpoint`; return these, and how many came after it.

    Raises ProofError if the lines are not those of the checkpoint, OSError.
    """
    prover, found, later = Prover(), [], 0
    for line in _whole_lines(source):
        is_wanted = wanted(line)
        if prover.size == checkpoint.size:
            later += is_wanted
            continue
        if is_wanted:
            found.append((prover.size, line))
        prover.append(_leaf_of(line), mark=is_wanted)
    if prover.size != checkpoint.size or prover.root() != checkpoint.root:
        raise ProofError(f"the records of `{source.origin}` are not those of its checkpoint: verify the journal")
    return [Proven(index=index, line=line, proof=prover.inclusion(index)) for index, line in found], later


def prove_consistency(source: OriginSource, old: int, new: int) -> Consistency:
    """Prove that the tree over the first `new` records begins with the one over `old`; raises ProofError, OSError."""
    if not 0 < old <= new:
        raise ProofError(f"OLD must be above 0 and NEW not below it: {old}, {new}")
    prover = Prover()
    for line in _whole_lines(source):
        prover.append(_leaf_of(line))
        if prover.size == old:
            prover.mark_old()
        if prover.size == new:
            break
    if prover.size != new:
        raise ProofError(f"`{source.origin}` has {prover.size} records, fewer than {new}")
    return Consistency(origin=source.origin, old=old, new=new, proof=encode_proof(prover.consistency()))


def compare(ours: Checkpoint, theirs: Checkpoint, proofs: Sequence[Consistency]) -> str:
    """Return what speaks against two checkpoints of one origin being of one journal, or nothing.

    Where their sizes differ, one of `proofs` must lead from the one to the other.
    """
    old, new = sorted((ours, theirs), key=lambda one: one.size)
    if old.size == new.size:
        same = old.root == new.root
        return "" if same else f"`{old.origin}` had another history when it had {old.size} records"
    given = [one for one in proofs if (one.origin, one.old, one.new) == (old.origin, old.size, new.size)]
    if not given:
        command = f"locum audit consistency {old.origin} {old.size} {new.size}"
        return f"nothing shows that {old.size} records of `{old.origin}` became {new.size}: ask for `{command}`"
    proof = decode_proof(given[0].proof)
    if is_consistent(old.size, old.root, new.size, new.root, proof=proof):
        return ""
    return f"the {new.size} records of `{old.origin}` do not begin with the {old.size} that there were"


def encode_proof(proof: Sequence[bytes]) -> tuple[str, ...]:
    """Return the hashes of a proof as text."""
    return tuple(b64encode(node).decode("ascii") for node in proof)


def decode_proof(proof: Sequence[str]) -> list[bytes]:
    """Return the hashes of a proof; raises ProofError unless each is 32 bytes in canonical base64."""
    try:
        nodes = [b64decode(node, validate=True) for node in proof]
    except (binascii.Error, ValueError) as error:
        raise ProofError("a hash of a proof is no base64") from error
    if tuple(proof) != encode_proof(nodes) or any(len(node) != _HASH_BYTES for node in nodes):
        raise ProofError("a hash of a proof is not 32 bytes in canonical base64")
    return nodes


def _whole_lines(source: OriginSource) -> Iterator[bytes]:
    for _, lines in source.segments:
        for _, line in lines:
            # A torn line was never acknowledged and is not in the tree.
            if line.endswith(b"\n"):
                yield line


def _leaf_of(line: bytes) -> bytes:
    """Return the hash that a line states; whether they all are right, the root tells."""
    parts = parse_line(line)
    try:
        return leaf_hash(line) if parts is None else binascii.unhexlify(parts.leaf)
    except binascii.Error:
        return leaf_hash(line)

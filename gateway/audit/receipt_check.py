"""The check of a receipt: it needs the public key and, against a history that was changed later, a held checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.checkpoint import Checkpoint, CheckpointError, open_note
from gateway.audit.proofs import Consistency, ProofError, compare, decode_proof
from gateway.audit.receipt_summary import summarize
from gateway.audit.receipts import Item, Part, Receipt, is_of, key_id
from gateway.audit.sealed import ERASED, commit, join_openings, reveal
from policy.merkle import is_included, leaf_hash

_ALIKE = ("account", "subject")
_COMPLETION, _DECISION = "completion", "decision"


def check_receipt(
    receipt: bytes,
    *,
    key: Ed25519PublicKey,
    held: Sequence[Checkpoint] = (),
    proofs: Sequence[Consistency] = (),
) -> tuple[Receipt | None, list[str]]:
    """Return the receipt, None if it cannot be read, and all that speaks against it; nothing if it holds.

    `held` are checkpoints that were kept elsewhere: the receipt's, where they are of the same origin, must be of the
    same history, by being of the same size or by one of `proofs`.
    """
    try:
        read = msgspec.json.decode(receipt, type=Receipt)
    except (msgspec.DecodeError, RecursionError) as error:
        return None, [f"this is not a receipt: {error}"]
    if read.encode() != receipt:
        return None, ["this is not a receipt in its canonical form"]
    check = _Check(read, key)
    for part in read.parts:
        check.read(part, held, proofs)
    check.finish()
    return read, check.findings


class _Check:
    """One pass over one receipt."""

    def __init__(self, receipt: Receipt, key: Ed25519PublicKey) -> None:
        self.findings: list[str] = []
        self._receipt = receipt
        self._key = key
        self._entries: list[dict[str, Any]] = []
        if receipt.key_id != key_id(key):
            self._find("it names another key than the one given")
        origins = [part.origin for part in receipt.parts]
        if origins != sorted(set(origins)):
            self._find("its parts are not one for each origin, by name")

    def read(self, part: Part, held: Sequence[Checkpoint], proofs: Sequence[Consistency]) -> None:
        try:
            checkpoint = open_note(part.checkpoint.encode(), key=self._key)
        except CheckpointError as error:
            self._find(f"{part.origin}: {error}")
            return
        if checkpoint.origin != part.origin:
            self._find(f"{part.origin}: its checkpoint is another origin's, `{checkpoint.origin}`")
            return
        for other in held:
            if other.origin == part.origin and (what := _compare(checkpoint, other, proofs)):
                self._find(what)
        entries: list[dict[str, Any]] = []
        for item in part.records:
            try:
                entry = _read_item(item, checkpoint, assumption=self._receipt.assumption)
            except ProofError as error:
                self._find(f"{part.origin}: {error}")
                continue
            if entries and entry["seq"] <= entries[-1]["seq"]:
                self._find(f"{part.origin}: record {entry['seq']} does not stand in its place")
            entries.append(entry)
        self._check_pairs(part.origin, entries)
        self._entries += entries

    def finish(self) -> None:
        if not self._entries:
            self._find("it holds no record")
            return
        for name in _ALIKE:
            if len({entry[name] for entry in self._entries if name in entry}) > 1:
                self._find(f"its records do not agree about `{name}`")
        if len({str(_identity(entry["actor"])) for entry in self._entries if "actor" in entry}) > 1:
            self._find("its records do not agree about who acted")
        if not self.findings and summarize(self._entries) != self._receipt.summary:
            self._find("its summary is not what its records say")

    def _check_pairs(self, origin: str, entries: list[dict[str, Any]]) -> None:
        """A completion names its decision: so nobody can leave that out alone."""
        decided = {(entry["seq"], entry.get("request_id")) for entry in entries if entry.get("kind") == _DECISION}
        for entry in entries:
            if entry.get("kind") == _COMPLETION and (entry.get("completes"), entry.get("request_id")) not in decided:
                self._find(f"{origin}: record {entry['seq']} completes {entry.get('completes')}, which is not here")

    def _find(self, what: str) -> None:
        self.findings.append(what)


def _read_item(item: Item, checkpoint: Checkpoint, *, assumption: str) -> dict[str, Any]:
    """Return what a record says once all of it has been proved; raises ProofError."""
    try:
        record = msgspec.json.decode(item.record, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProofError(f"a record cannot be read: {error}") from error
    number = record.get("seq")
    if not isinstance(number, int) or isinstance(number, bool) or record.get("origin") != checkpoint.origin:
        raise ProofError("a record is another origin's, or has no number")
    proof, leaf = decode_proof(item.proof), leaf_hash(item.record.encode())
    if not is_included(leaf, index=number, size=checkpoint.size, proof=proof, root=checkpoint.root):
        raise ProofError(f"record {number} is not under the checkpoint")
    sealed = record.get("sealed")
    for group, opening in item.open.items():
        if not isinstance(sealed, dict) or sealed.get(group) != commit(opening.encode()):
            raise ProofError(f"record {number}: `{group}` is not what was sealed")
    # Whoever reads the summary takes it for the checker's word.
    record.pop(ERASED, None)
    entry = reveal(record, join_openings((group, text.encode()) for group, text in sorted(item.open.items())))
    if not is_of(entry, assumption):
        raise ProofError(f"record {number} is not of this assumption")
    return entry


def _compare(ours: Checkpoint, theirs: Checkpoint, proofs: Sequence[Consistency]) -> str:
    try:
        return compare(ours, theirs, proofs)
    except ProofError as error:
        return str(error)


def _identity(actor: Any) -> tuple[Any, Any]:
    return (actor.get("issuer"), actor.get("subject")) if isinstance(actor, Mapping) else (None, actor)

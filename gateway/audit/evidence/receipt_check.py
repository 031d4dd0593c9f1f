"""The check of a receipt: it needs the public key and, against a history that was changed later, a held checkpoint."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, open_note
from gateway.audit.evidence.proofs import Consistency, ProofError, compare, decode_proof
from gateway.audit.evidence.receipt_summary import summarize
from gateway.audit.evidence.receipts import Item, Part, Receipt, key_id
from gateway.audit.sealed import ERASED, commit, join_openings, reveal
from gateway.audit.search.timeline import is_of
from policy.merkle import is_included, leaf_hash

_ALIKE = ("account", "subject")
_TEXTS = (
    "account", "at", "decision", "ended", "expires_at", "grant_id", "granted_by", "kind", "method", "reason",
    "request_id", "rule", "stated_reason", "subject", "ticket",
)  # fmt: skip
_NUMBERS = ("bytes_received", "bytes_sent", "completes")
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
    same history, by being of the same size or by one of `proofs`; and if there are any, one must be.
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
    if held and not compared(read, held):
        check.findings.append("none of the checkpoints that were kept elsewhere is of an origin that is in it")
    return read, check.findings


def compared(receipt: Receipt, held: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return those of the checkpoints kept elsewhere with which a receipt can be compared."""
    origins = {part.origin for part in receipt.parts}
    return [one for one in held if one.origin in origins]


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
        if not self.findings and not _is_same(summarize(self._entries), self._receipt.summary):
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
        _read_opening(number, group, opening)
    # Whoever reads the summary takes it for the checker's word.
    record.pop(ERASED, None)
    entry = reveal(record, join_openings((group, text.encode()) for group, text in sorted(item.open.items())))
    if not is_of(entry, assumption):
        raise ProofError(f"record {number} is not of this assumption")
    _check_kinds(entry)
    return entry


def _read_opening(number: int, group: str, opening: str) -> None:
    try:
        msgspec.json.decode(opening, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProofError(f"record {number}: what was sealed as `{group}` cannot be read") from error


def _check_kinds(entry: Mapping[str, Any]) -> None:
    """Two checkers, or a person and a program, could take anything else for two different things."""
    wrong = [name for name in _TEXTS if not isinstance(entry.get(name, ""), str)]
    wrong += [name for name in _NUMBERS if type(entry.get(name, 0)) is not int]
    actor = entry.get("actor", {})
    if not isinstance(actor, dict) or not all(isinstance(actor.get(name, ""), str) for name in ("issuer", "subject")):
        wrong.append("actor")
    if wrong:
        raise ProofError(f"record {entry['seq']}: `{wrong[0]}` is of another kind")


def _is_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Tell whether these are the same summary to the letter: 1 is neither 1.0 nor true."""
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


def _compare(ours: Checkpoint, theirs: Checkpoint, proofs: Sequence[Consistency]) -> str:
    try:
        return compare(ours, theirs, proofs)
    except ProofError as error:
        return str(error)


def _identity(actor: Any) -> tuple[Any, Any]:
    return (actor.get("issuer"), actor.get("subject")) if isinstance(actor, Mapping) else (None, actor)

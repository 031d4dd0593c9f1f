"""A receipt: every record of one assumption in its account, each proved to be under a signed checkpoint.

It is JSON in one canonical form, made from a journal, and of nothing that its records do not say, so that the same
journal gives the same bytes. Whoever has the public key checks it without us: `gateway.audit.evidence.receipt_check`,
or `locum-verify receipt`, which shares no code with this. It proves that what it shows was recorded so, and when at the
latest; it cannot prove that nothing was left out.
"""

import hashlib
import json
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.evidence.proofs import (
    NothingToProve,
    NotSignedYet,
    ProofError,
    Proven,
    encode_proof,
    open_newest,
    prove_lines,
)
from gateway.audit.evidence.receipt_summary import summarize
from gateway.audit.evidence.sources import Source
from gateway.audit.sealed import OpeningError, split_openings
from gateway.audit.search.account_part import is_elsewhere
from gateway.audit.search.timeline import is_of
from gateway.audit.segment import parse_line, read_entry
from policy.merkle import leaf_hash


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record, as the exact text that was hashed."""

    open: dict[str, str]
    """By group, the exact text under its commitment; groups that were erased are missing."""
    proof: tuple[str, ...]
    """From its leaf to the checkpoint's root (RFC 6962 section 2.1.1), in base64."""
    record: str


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one origin has of the assumption."""

    checkpoint: str
    """The signed note under which the records are."""
    origin: str
    records: tuple[Item, ...]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole; fields stand in the order of their names, as in the file."""

    assumption: str
    key_id: str
    """SHA-256 of the public key (its SubjectPublicKeyInfo in DER), in hexadecimal."""
    parts: tuple[Part, ...]
    """By origin."""
    receipt: Literal["locum-receipt/1"] = "locum-receipt/1"
    summary: dict[str, Any]
    """What the records say, for people; whoever checks makes it anew."""

    def encode(self) -> bytes:
        """Return the one form that it has: ASCII, sorted, with an end of line."""
        return (json.dumps(msgspec.to_builtins(self), indent=1, sort_keys=True) + "\n").encode("ascii")


def build_receipt(
    journal: Source, assumption: str, *, key: Ed25519PublicKey, account: str | None = None
) -> tuple[Receipt, int]:
    """Return the receipt, and how many records came after the newest checkpoints and are not in it yet.

    Not in it are refusals of its token at another account's host: a receipt is for one account, and those name another.
    With `account` only an assumption in that account is found. Raises NothingToProve, NotSignedYet, any other
    ProofError if the journal does not bear it out, and OSError.
    """
    parts, entries, later, accounts = [], [], 0, set()
    needle = assumption.encode()

    def is_wanted(line: bytes) -> bool:
        if needle not in line or (entry := read_entry(line)) is None or not is_of(entry, assumption):
            return False
        # It names another account, and what is hashed with that name cannot be shown without it.
        if is_elsewhere(entry):
            return False
        accounts.add(entry.get("account"))
        return True

    for source in journal.origins():
        if source.newest is None:
            later += sum(is_wanted(line) for _, lines in source.segments for _, line in lines)
            continue
        checkpoint = open_newest(source, key=key)
        found, newer = prove_lines(source, checkpoint, wanted=is_wanted)
        later += newer
        entries += [entry for proven in found if (entry := read_entry(proven.line)) is not None]
        if found:
            note = source.newest.decode()
            parts.append(Part(origin=source.origin, checkpoint=note, records=tuple(map(_item, found))))
    if not accounts or (account is not None and accounts != {account}):
        raise NothingToProve(f"no record of the assumption `{assumption}` is there")
    if not entries:
        raise NotSignedYet(f"no record of the assumption `{assumption}` is signed yet: try again in a moment")
    receipt = Receipt(assumption=assumption, key_id=key_id(key), parts=tuple(parts), summary=summarize(entries))
    return receipt, later


def key_id(key: Ed25519PublicKey) -> str:
    """Return by what a receipt names the key: `openssl pkey -pubin -outform DER | sha256sum`."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _item(proven: Proven) -> Item:
    parts = parse_line(proven.line)
    if parts is None or leaf_hash(parts.record).hex().encode() != parts.leaf:
        raise ProofError(f"record {proven.index} is not the one that was hashed: verify the journal")
    try:
        openings = split_openings(parts.openings)
    except OpeningError as error:
        raise ProofError(f"record {proven.index}: {error}: verify the journal") from error
    return Item(
        record=parts.record.decode(),
        open={group: text.decode() for group, text in openings.items()},
        proof=encode_proof(proven.proof),
    )

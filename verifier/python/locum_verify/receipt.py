"""Check a receipt of Locum's access log without Locum: `locum-verify receipt FILE --public-key KEY`.

For the customer. It needs Python and `cryptography`, no network and nobody's word but the public key's; this file also
runs alone, as `python receipt.py receipt FILE --public-key KEY`. What is checked is written down in Locum's
`docs/verify.md`, so that it can be done by hand, or be written again by somebody else.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

FORMAT = "locum-receipt/1"
GROUPS = {
    "actor": ("actor", "client_ip", "user_agent"),
    "agent": ("subject",),
    "giver": ("by", "granted_by"),
    "words": ("stated_reason", "ticket"),
}
"""The personal fields, which are sealed by group."""
_WHO = ("account", "actor", "subject", "grant_id", "granted_by", "ticket", "stated_reason", "expires_at")
_REQUEST = ("method", "rule", "decision", "reason")
_TEXTS = (
    "account", "at", "decision", "ended", "expires_at", "grant_id", "granted_by", "kind", "method", "reason",
    "request_id", "rule", "stated_reason", "subject", "ticket",
)  # fmt: skip
_NUMBERS = ("bytes_received", "bytes_sent", "completes")


class Broken(Exception):
    """The receipt does not hold; the message says why."""


class Checkpoint:
    """A tree head that the key has signed: the root over the first `size` records of an origin."""

    def __init__(self, note: str, key: Ed25519PublicKey) -> None:
        """Open a signed note; raises Broken."""
        text, _, signatures = note.rpartition("\n\n")
        lines = text.split("\n")
        if len(lines) < 3 or not lines[1].isdecimal() or lines[1] != str(int(lines[1])):
            raise Broken("a checkpoint needs an origin, a size and a root")
        self.origin, self.size, self.root = lines[0], int(lines[1]), _decode(lines[2])
        _check_signature(f"{text}\n".encode(), signatures, self.origin, key)


def check(
    receipt: bytes, key: Ed25519PublicKey, held: list[Checkpoint] | None = None, proofs: list[dict] | None = None
) -> dict[str, Any]:
    """Return the summary of a receipt that holds; raises Broken.

    `held` are checkpoints kept elsewhere, of which one at the least must be of an origin that is in it; `proofs` are
    what `locum audit consistency` printed, as decoded.
    """
    read = _parse(receipt)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if read["key_id"] != hashlib.sha256(der).hexdigest():
        raise Broken("it names another key than the one given")
    origins = [part["origin"] for part in read["parts"]]
    if origins != sorted(set(origins)):
        raise Broken("its parts are not one for each origin, by name")
    if held and not any(one.origin in origins for one in held):
        raise Broken("none of the checkpoints that were kept elsewhere is of an origin that is in it")
    entries: list[dict[str, Any]] = []
    for part in read["parts"]:
        checkpoint = Checkpoint(part["checkpoint"], key)
        if checkpoint.origin != part["origin"]:
            raise Broken(f"{part['origin']}: its checkpoint is another origin's")
        for other in held or []:
            if other.origin == checkpoint.origin:
                _compare(checkpoint, other, proofs or [])
        entries += _read_part(part, checkpoint, read["assumption"])
    if not entries:
        raise Broken("it holds no record")
    _check_alike(entries)
    # To the letter: 1 is neither 1.0 nor true.
    if json.dumps(summarize(entries), sort_keys=True) != json.dumps(read["summary"], sort_keys=True):
        raise Broken("its summary is not what its records say")
    summary: dict[str, Any] = read["summary"]
    return summary


def summarize(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the records of an assumption say."""
    ordered = sorted(entries, key=lambda entry: (str(entry.get("at")), entry["origin"], entry["seq"]))
    done = [entry for entry in ordered if entry.get("kind") == "completion"]
    requests = Counter(
        tuple(str(entry.get(name, "")) for name in _REQUEST) for entry in ordered if entry.get("kind") == "decision"
    )
    ends = [e.get("at") for e in ordered if e.get("kind") == "assumption" and e.get("reason") == "ended"]
    summary = {
        "first_at": ordered[0].get("at"),
        "last_at": ordered[-1].get("at"),
        "ended_at": ends,
        "erased": sorted({group for entry in ordered for group in entry.get("erased", ())}),
        "records": len(ordered),
        "requests": [
            {**dict(zip(_REQUEST, what, strict=True)), "count": count} for what, count in sorted(requests.items())
        ],
        "ended": dict(Counter(str(entry.get("ended")) for entry in done)),
        "bytes_received": sum(entry.get("bytes_received", 0) for entry in done),
        "bytes_sent": sum(entry.get("bytes_sent", 0) for entry in done),
    }
    for name in _WHO:
        said = [entry[name] for entry in ordered if entry.get(name) is not None]
        if said:
            summary[name] = said[0]
    return summary


def is_included(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    """Tell whether a leaf is in a tree (RFC 9162 section 2.1.3.2)."""
    at, last, node = index, size - 1, leaf
    if not 0 <= index < size:
        return False
    for sibling in proof:
        if last == 0:
            return False
        if at % 2 or at == last:
            node = _node(sibling, node)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            node = _node(node, sibling)
        at, last = at // 2, last // 2
    return last == 0 and node == root


def is_consistent(old_size: int, old_root: bytes, size: int, root: bytes, proof: list[bytes]) -> bool:
    """Tell whether a tree begins with an older, smaller one (RFC 9162 section 2.1.4.2)."""
    if not 0 < old_size < size or not proof:
        return False
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else proof
    at, last = old_size - 1, size - 1
    while at % 2:
        at, last = at // 2, last // 2
    old_node = node = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            old_node, node = _node(sibling, old_node), _node(sibling, node)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            node = _node(node, sibling)
        at, last = at // 2, last // 2
    return last == 0 and old_node == old_root and node == root


def _parse(receipt: bytes) -> dict[str, Any]:
    try:
        read = json.loads(receipt)
        canonical = (json.dumps(read, indent=1, sort_keys=True) + "\n").encode()
        json.dumps(read, ensure_ascii=False).encode()  # no lone surrogates
    except (ValueError, RecursionError) as error:
        raise Broken(f"this is not a receipt: {error}") from error
    # Two readers could take anything else for two different things.
    if canonical != receipt or not isinstance(read, dict) or read.get("receipt") != FORMAT:
        raise Broken("this is not a receipt in its canonical form")
    _check_shape(read)
    return read


def _check_shape(read: dict[str, Any]) -> None:
    parts, items = {"checkpoint": str, "origin": str, "records": list}, {"open": dict, "proof": list, "record": str}
    whole = {"assumption": str, "key_id": str, "parts": list, "receipt": str, "summary": dict}
    _check_members(read, whole)
    for part in read["parts"]:
        _check_members(part, parts)
        for item in part["records"]:
            _check_members(item, items)
            if not all(isinstance(text, str) for text in [*item["open"].values(), *item["proof"]]):
                raise Broken("this is not a receipt: a text is missing")


def _check_members(table: Any, members: dict[str, type]) -> None:
    if not isinstance(table, dict) or table.keys() != members.keys():
        raise Broken(f"this is not a receipt: expected {', '.join(members)}")
    for name, kind in members.items():
        if not isinstance(table[name], kind):
            raise Broken(f"this is not a receipt: `{name}` is of another kind")


def _read_part(part: dict[str, Any], checkpoint: Checkpoint, assumption: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for item in part["records"]:
        try:
            entry = json.loads(item["record"])
        except (ValueError, RecursionError) as error:
            raise Broken(f"a record cannot be read: {error}") from error
        if not isinstance(entry, dict) or entry.get("origin") != checkpoint.origin or type(entry.get("seq")) is not int:
            raise Broken("a record is another origin's, or has no number")
        number = entry["seq"]
        leaf = hashlib.sha256(b"\x00" + item["record"].encode()).digest()
        proof = [_decode(node) for node in item["proof"]]
        if not is_included(leaf, number, checkpoint.size, proof, checkpoint.root):
            raise Broken(f"{checkpoint.origin}: record {number} is not under the checkpoint")
        if entries and number <= entries[-1]["seq"]:
            raise Broken(f"{checkpoint.origin}: record {number} does not stand in its place")
        _open(entry, item["open"])
        if entry.get("assumption") != assumption or entry.get("kind") == "audit":
            raise Broken(f"{checkpoint.origin}: record {number} is not of this assumption")
        _check_kinds(entry)
        entries.append(entry)
    _check_pairs(checkpoint.origin, entries)
    return entries


def _open(entry: dict[str, Any], openings: dict[str, str]) -> None:
    """Put what was sealed in its place, once its commitment is checked."""
    sealed = entry.pop("sealed", {})
    entry.pop("erased", None)
    if not isinstance(sealed, dict):
        raise Broken(f"record {entry['seq']} seals nothing that can be read")
    for group, text in openings.items():
        digest = hashlib.sha256(text.encode()).digest()
        if sealed.get(group) != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
            raise Broken(f"record {entry['seq']}: `{group}` is not what was sealed")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Broken(f"record {entry['seq']}: what was sealed as `{group}` cannot be read")
        entry.update({name: found[name] for name in GROUPS.get(group, ()) if name in found})
    missing = [group for group in sealed if group not in openings]
    if missing:
        entry["erased"] = missing


def _check_kinds(entry: dict[str, Any]) -> None:
    """Refuse what two readers could take for two different things."""
    wrong = [name for name in _TEXTS if not isinstance(entry.get(name, ""), str)]
    wrong += [name for name in _NUMBERS if type(entry.get(name, 0)) is not int]
    actor = entry.get("actor", {})
    if not isinstance(actor, dict) or not all(isinstance(actor.get(name, ""), str) for name in ("issuer", "subject")):
        wrong.append("actor")
    if wrong:
        raise Broken(f"record {entry['seq']}: `{wrong[0]}` is of another kind")


def _check_pairs(origin: str, entries: list[dict[str, Any]]) -> None:
    """A completion names its decision: so nobody can leave that out alone."""
    decided = {(entry["seq"], entry.get("request_id")) for entry in entries if entry.get("kind") == "decision"}
    for entry in entries:
        if entry.get("kind") == "completion" and (entry.get("completes"), entry.get("request_id")) not in decided:
            raise Broken(f"{origin}: record {entry['seq']} completes {entry.get('completes')}, which is not here")


def _check_alike(entries: list[dict[str, Any]]) -> None:
    for name in ("account", "subject"):
        if len({str(entry[name]) for entry in entries if name in entry}) > 1:
            raise Broken(f"its records do not agree about `{name}`")
    actors = [entry["actor"] for entry in entries if "actor" in entry]
    if len({(actor.get("issuer"), actor.get("subject")) for actor in actors}) > 1:
        raise Broken("its records do not agree about who acted")


def _compare(ours: Checkpoint, theirs: Checkpoint, proofs: list[dict]) -> None:
    old, new = sorted((ours, theirs), key=lambda one: one.size)
    if old.size == new.size:
        if old.root != new.root:
            raise Broken(f"`{old.origin}` had another history when it had {old.size} records")
        return
    between = {"origin": old.origin, "old": old.size, "new": new.size}
    for one in proofs:
        if isinstance(one, dict) and between.items() <= one.items():
            proof = one.get("proof")
            if not isinstance(proof, (list, tuple)) or not all(isinstance(node, str) for node in proof):
                raise Broken("this is not what `locum audit consistency` prints")
            if is_consistent(old.size, old.root, new.size, new.root, [_decode(node) for node in proof]):
                return
            raise Broken(f"the {new.size} records of `{new.origin}` do not begin with the {old.size} that there were")
    raise Broken(f"ask the vendor for `locum audit consistency {old.origin} {old.size} {new.size}`, and give it")


def _check_signature(text: bytes, signatures: str, name: str, key: Ed25519PublicKey) -> None:
    """Find the key's own signature under a note (C2SP signed-note)."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    expected = hashlib.sha256(name.encode() + b"\n\x01" + raw).digest()[:4]
    for line in signatures.split("\n"):
        mark, _, rest = line.partition(" ")
        signer, _, value = rest.partition(" ")
        if mark != "\u2014" or signer != name or not (blob := _decode(value)).startswith(expected):
            continue
        try:
            key.verify(blob[4:], text)
        except InvalidSignature as error:
            raise Broken("the signature is not good for this checkpoint") from error
        return
    raise Broken(f"no signature by this key for the origin `{name}`")


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _decode(text: str) -> bytes:
    """Decode base64 in its only canonical form."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Broken("base64 is damaged") from error
    if base64.b64encode(value).decode() != text:
        raise Broken("base64 is not canonical")
    return value


def _read_key(path: Path) -> Ed25519PublicKey:
    key = load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("the public key is not of Ed25519")
    return key


def _read_held(path: Path, key: Ed25519PublicKey) -> list[Checkpoint]:
    blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    if len(blocks) % 2:
        raise Broken(f"`{path}` holds no checkpoints")
    return [Checkpoint(f"{text}\n\n{lines}\n", key) for text, lines in zip(blocks[::2], blocks[1::2], strict=True)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if the receipt holds, 1 if it does not, 2 if something could not be read."""
    parser = argparse.ArgumentParser(prog="locum-verify", description="Check evidence of Locum without Locum.")
    command = parser.add_subparsers(dest="command", required=True).add_parser("receipt", help="check a receipt")
    command.add_argument("receipt", type=Path, metavar="FILE")
    command.add_argument("--public-key", type=Path, required=True, metavar="PEM", help="your own copy of it")
    command.add_argument("--checkpoint", type=Path, action="append", default=[], metavar="FILE", help="one you kept")
    command.add_argument("--consistency", type=Path, action="append", default=[], metavar="FILE", help="the vendor's")
    given = parser.parse_args(arguments)
    try:
        key = _read_key(given.public_key)
        held = [one for path in given.checkpoint for one in _read_held(path, key)]
        proofs = [json.loads(path.read_bytes()) for path in given.consistency]
        summary = check(given.receipt.read_bytes(), key, held, proofs)
    except Broken as error:
        sys.stderr.write(f"the receipt does not hold: {ascii(str(error))[1:-1]}\n")
        return 1
    except (OSError, ValueError, TypeError, RecursionError) as error:
        sys.stderr.write(f"it cannot be read: {ascii(str(error))[1:-1]}\n")
        return 2
    origins = {part["origin"] for part in json.loads(given.receipt.read_bytes())["parts"]}
    for one in held:
        what = "compared with" if one.origin in origins else "NOT compared, for it is of no origin in it:"
        sys.stderr.write(f"{what} the checkpoint of {ascii(one.origin)[1:-1]} at {one.size} records\n")
    sys.stdout.write(json.dumps(summary, indent=1, sort_keys=True) + "\nok\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

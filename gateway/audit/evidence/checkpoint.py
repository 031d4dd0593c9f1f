"""Signed checkpoints: what the journal of one origin was at one moment, in a form that others can keep and check.

The text is C2SP's tlog-checkpoint (origin, size, root) in a C2SP signed note with an Ed25519 signature. The key's name
in the note is the origin, so that a checkpoint of one origin cannot be shown as another's.
"""

import base64
import binascii
import errno
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.audit.segment import ORIGIN, Fsync, sync_directory
from gateway.files import write_new
from policy.merkle import EMPTY_ROOT

_NEWEST = ".checkpoint"
_SIGNATURE = "\u2014 "
_KEY_TYPE_ED25519 = b"\x01"
_MOST_NOTE_BYTES = 4096
"""Of the end of the history that is looked at: ours have about 200."""
_WHOLE_NOTE = re.compile(rb"[^\n]+\n[0-9]+\n[^\n]+\n\n\xe2\x80\x94 [^\n]+\n\n")
_SIZE = re.compile(r"[0-9]{1,18}")


class CheckpointError(Exception):
    """The note's fault: it is not a checkpoint, or not signed as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head: the root over the first `size` records of an origin."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """Return the text to sign."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


class NoteSigner:
    """Makes signed notes under the name of one origin."""

    def __init__(self, key: Ed25519PrivateKey, *, name: str) -> None:
        """Sign with `key`; `name` is the origin whose checkpoints these are."""
        self._key = key
        self._name = name
        self.public = key.public_key()
        """What its signatures are checked with."""
        self._key_hash = _key_hash(self.public, name=name)

    def __call__(self, text: bytes) -> bytes:
        """Return the note: the text, an empty line and the signature line."""
        signature = base64.b64encode(self._key_hash + self._key.sign(text)).decode()
        return text + f"\n{_SIGNATURE}{self._name} {signature}\n".encode()


def open_note(note: bytes, *, key: Ed25519PublicKey | None) -> Checkpoint:
    """Return the checkpoint in a note; raises CheckpointError.

    With `key`, one of the signatures must be that key's under the origin's name; others, such as witnesses', are
    passed over. Without it the text is taken unchecked.
    """
    try:
        text, _, signatures = note.decode().rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise CheckpointError("this is not a checkpoint: it is not UTF-8") from error
    checkpoint = _parse(text + "\n")
    if key is not None:
        _check_signature(checkpoint, text=f"{text}\n".encode(), signatures=signatures, key=key)
    return checkpoint


def write_note(note: bytes, *, directory: Path, origin: str, fsync: Fsync) -> None:
    """Add a note to the origin's history and make it the newest one, durably; raises OSError."""
    _add_to_history(directory / f"{origin}.checkpoints", note + b"\n", fsync=fsync)
    write_new(directory / f"{origin}.checkpoint", note, mode=0o600, fsync=fsync)
    sync_directory(directory, fsync=fsync)


def repair_history(directory: Path, *, origin: str, fsync: Fsync) -> None:
    """Take away the end of the history if it is torn, for the one writer of the origin; raises OSError.

    A crash of the machine leaves it so, and what is added behind that would look like tampering for ever.
    """
    try:
        handle = os.open(directory / f"{origin}.checkpoints", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(handle).st_size
        start = max(0, size - _MOST_NOTE_BYTES)
        notes = list(_WHOLE_NOTE.finditer(os.pread(handle, size - start, start)))
        end = start + notes[-1].end() if notes else 0
        # Where not one note is whole there is more amiss than an end, and that is for whoever verifies.
        if end < size and (notes or not start):
            os.ftruncate(handle, end)
            fsync(handle)
    finally:
        os.close(handle)


def read_newest(directory: Path, *, origin: str) -> bytes | None:
    """Return the origin's newest note, or None if it has none; raises OSError."""
    try:
        return (directory / f"{origin}.checkpoint").read_bytes()
    except FileNotFoundError:
        return None


def read_history(directory: Path, *, origin: str) -> bytes:
    """Return all of the origin's notes, oldest first, for `split_notes`; raises OSError."""
    try:
        return (directory / f"{origin}.checkpoints").read_bytes()
    except FileNotFoundError:
        return b""


def find_origins(directory: Path) -> list[str]:
    """Return the origins that have a checkpoint, sorted; raises OSError."""
    stems = (path.name.removesuffix(_NEWEST) for path in directory.iterdir() if path.name.endswith(_NEWEST))
    return sorted(stem for stem in stems if ORIGIN.fullmatch(stem))


def split_notes(content: bytes) -> list[bytes]:
    """Return the notes of a text in which each ends in an empty line; raises CheckpointError."""
    blocks = content.split(b"\n\n")
    if blocks.pop() or len(blocks) % 2:
        raise CheckpointError("the history of checkpoints is damaged")
    return [text + b"\n\n" + signature + b"\n" for text, signature in zip(blocks[::2], blocks[1::2], strict=True)]


def _parse(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) < 4 or _SIZE.fullmatch(lines[1]) is None:
        raise CheckpointError("this is not a checkpoint: it needs an origin, a size and a root")
    checkpoint = Checkpoint(origin=lines[0], size=int(lines[1]), root=_decode(lines[2]))
    if len(checkpoint.root) != len(EMPTY_ROOT):
        raise CheckpointError("this is not a checkpoint: its root is not one of 32 bytes")
    if not text.encode().startswith(checkpoint.text()):
        raise CheckpointError("this is not a checkpoint: it is not in canonical form")
    return checkpoint


def _check_signature(checkpoint: Checkpoint, *, text: bytes, signatures: str, key: Ed25519PublicKey) -> None:
    expected = _key_hash(key, name=checkpoint.origin)
    for line in signatures.split("\n"):
        name, _, value = line.removeprefix(_SIGNATURE).partition(" ")
        if not line.startswith(_SIGNATURE) or name != checkpoint.origin:
            continue
        blob = _decode(value)
        if blob[:4] != expected:
            continue
        try:
            key.verify(blob[4:], text)
        except InvalidSignature as error:
            raise CheckpointError("the signature is not good for this checkpoint") from error
        return
    raise CheckpointError(f"no signature by this key for the origin `{checkpoint.origin}`")


def _key_hash(key: Ed25519PublicKey, *, name: str) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _KEY_TYPE_ED25519 + key.public_bytes_raw()).digest()[:4]


def _decode(text: str) -> bytes:
    """Decode base64 in its only canonical form, so that no bit of it can change unseen."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError("this is not a checkpoint: its base64 is damaged") from error
    if base64.b64encode(value).decode() != text:
        raise CheckpointError("this is not a checkpoint: its base64 is not canonical")
    return value


def _add_to_history(path: Path, entry: bytes, *, fsync: Fsync) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(handle).st_size
        if os.write(handle, entry) != len(entry):
            # A history with half a note in it would look like tampering for ever.
            os.ftruncate(handle, before)
            raise OSError(errno.ENOSPC, "the history was written in part")
        fsync(handle)
    finally:
        os.close(handle)

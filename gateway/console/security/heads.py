"""The newest checkpoint of every origin, and what witnesses have taken of it; read from files by a thread."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.audit.evidence.checkpoint import CheckpointError, find_origins, open_note, read_newest
from gateway.audit.hand import Hand
from gateway.console.security.from_disk import FromDisk

_MOST_ORIGINS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far one origin's journal is sealed."""

    origin: str
    size: int
    """Records under the checkpoint; 0 if it cannot be read."""
    root: str
    """In hexadecimal."""
    at: datetime | None
    """When the file was written."""
    wrong: str
    """Why it does not count; empty if the journal's key has signed it."""
    taken: Mapping[str, int]
    """By witness, how many records the newest checkpoint has that it took."""


class Heads:
    """Reads them for whoever asks; however many ask at once, the disk is asked once."""

    def __init__(
        self, directory: Path, key: Path, witnesses: Sequence[str], *, hand: Hand, patience_seconds: float
    ) -> None:
        """`directory` is the journal's, `key` the file of its public key; nobody waits longer than that."""
        self._directory = directory
        self._key = key
        self._witnesses = tuple(witnesses)
        self._disk = FromDisk(self._read, hand=hand, patience_seconds=patience_seconds)

    async def read(self) -> list[Head] | None:
        """Return those that there are, by origin; None if the disk does not say in time, or cannot be read."""
        return await self._disk.read()

    def _read(self) -> list[Head]:
        if not self._directory.is_dir():
            return []
        key = self._read_key()
        return [self._read_one(origin, key) for origin in find_origins(self._directory)[:_MOST_ORIGINS]]

    def _read_key(self) -> Ed25519PublicKey | None:
        with suppress(OSError, ValueError):
            key = load_pem_public_key(self._key.read_bytes())
            return key if isinstance(key, Ed25519PublicKey) else None
        return None

    def _read_one(self, origin: str, key: Ed25519PublicKey | None) -> Head:
        wrong = "" if key is not None else "the journal’s public key is not there to check it with"
        at, size, root = None, 0, ""
        try:
            note = read_newest(self._directory, origin=origin) or b""
            at = datetime.fromtimestamp((self._directory / f"{origin}.checkpoint").stat().st_mtime, UTC)
            checkpoint = open_note(note, key=key)
            size, root = checkpoint.size, checkpoint.root.hex()
            if checkpoint.origin != origin:
                wrong = f"it is one of `{checkpoint.origin}`"
        except OSError:
            wrong = "its file cannot be read"
        except CheckpointError as exc:
            wrong = str(exc)
        return Head(origin=origin, size=size, root=root, at=at, wrong=wrong, taken=self._taken(origin))

    def _taken(self, origin: str) -> dict[str, int]:
        taken = {}
        for name in self._witnesses:
            with suppress(OSError, CheckpointError):
                note = (self._directory / "witnesses" / name / origin).read_bytes()
                taken[name] = open_note(note, key=None).size
        return taken

"""What can be told of a witness, and the two kinds there are: a service that is asked, and a file elsewhere."""

import asyncio
import errno
import itertools
import os
import ssl
from pathlib import Path
from typing import Protocol

import aiohttp

from gateway.asking import open_asker
from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, open_note
from gateway.audit.hand import Hand
from gateway.audit.witnesses.cosignature import WitnessKey, find_cosignature
from gateway.bodies import read_at_most
from gateway.config.section import Secret

_SECONDS = 10.0
_MOST_BYTES = 64 * 1024


class WitnessFailed(Exception):
    """Theirs, or the way to them: it was not taken, and is shown again later."""


class WitnessConflict(WitnessFailed):
    """They know of another history than the one that they are shown: somebody has to look at it."""


class Target(Protocol):
    """Where checkpoints are shown to one witness."""

    async def show(self, note: bytes, checkpoint: Checkpoint) -> bytes:
        """Return the note once the witness has kept it, with its cosignature if it made one; raises WitnessFailed."""

    async def close(self) -> None:
        """Let go of it."""


class HttpTarget:
    """Implements Target: the note is posted, and taken with 200.

    The answer may be a cosignature, or the newest checkpoint that they have; 409 says that they have another history.
    """

    def __init__(self, url: str, *, token: Secret | None, tls: ssl.SSLContext | None, key: WitnessKey | None) -> None:
        """With `key`, only what it has cosigned counts as taken."""
        self._url = url
        self._headers = {"Content-Type": "text/plain; charset=utf-8"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token.reveal()}"
        self._key = key
        self._asker = open_asker(most=1, tls=tls)

    async def show(self, note: bytes, checkpoint: Checkpoint) -> bytes:
        """See `Target.show`."""
        try:
            async with asyncio.timeout(_SECONDS):
                status, body = await self._post(note)
        except TimeoutError as error:
            raise WitnessFailed(f"no answer within {_SECONDS:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WitnessFailed(f"it cannot be reached: {type(error).__name__}") from error
        if status == 409:
            raise WitnessConflict("it has another history, or a newer one")
        if status != 200:
            raise WitnessFailed(f"it answered {status}")
        check_answer(body, checkpoint)
        if self._key is None:
            return note
        line = find_cosignature(body, note=note, key=self._key)
        if line is None:
            raise WitnessFailed("its answer holds no cosignature by its key")
        return note + f"{line}\n".encode()

    async def close(self) -> None:
        """See `Target.close`."""
        await self._asker.close()

    async def _post(self, note: bytes) -> tuple[int, str]:
        async with self._asker.post(self._url, data=note, headers=self._headers, allow_redirects=False) as answer:
            body = await read_at_most(answer.content, _MOST_BYTES) if answer.status == 200 else b""
            return answer.status, (body or b"").decode(errors="replace")


class FileTarget:
    """Implements Target: the note is put at the end of a file, on a disk that others keep, and is durable there."""

    def __init__(self, path: Path, hand: Hand) -> None:
        """`hand` waits for that disk."""
        self._path = path
        self._hand = hand
        self._looked_at: set[str] = set()

    async def show(self, note: bytes, checkpoint: Checkpoint) -> bytes:
        """See `Target.show`."""
        try:
            await self._hand.run(lambda: self._append(note, checkpoint))
        except OSError as error:
            raise WitnessFailed(f"`{self._path}` cannot be written: {error.strerror}") from error
        return note

    async def close(self) -> None:
        """See `Target.close`."""

    def _append(self, note: bytes, checkpoint: Checkpoint) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if checkpoint.origin not in self._looked_at:
                for body in _read_end(handle):
                    check_answer(body.decode(errors="replace"), checkpoint, may_be_older=True)
                self._looked_at.add(checkpoint.origin)
            # The empty line before it ends whatever a full disk has torn.
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 2, max(0, size - 2)) != b"\n\n"
            entry = (b"\n\n" if torn else b"") + note + b"\n"
            if os.write(handle, entry) != len(entry):
                raise OSError(errno.ENOSPC, "it was written in part")
            os.fsync(handle)
        finally:
            os.close(handle)


def check_answer(body: str, checkpoint: Checkpoint, *, may_be_older: bool = False) -> None:
    """Raise WitnessConflict if an answer is a checkpoint of the same origin and not of the same history.

    Whoever has kept what it was shown answers with that; only an older one that `may_be_older` says nothing.
    """
    try:
        theirs = open_note(body.encode(), key=None)
    except CheckpointError:
        return
    if theirs.origin != checkpoint.origin or (may_be_older and theirs.size < checkpoint.size):
        return
    if theirs.size > checkpoint.size:
        raise WitnessConflict(f"it knows {theirs.size} records of `{theirs.origin}`, and here are {checkpoint.size}")
    if theirs.size < checkpoint.size:
        raise WitnessConflict(f"it has gone back to {theirs.size} records of `{theirs.origin}`")
    if theirs.root != checkpoint.root:
        raise WitnessConflict(f"it knows another history of the {theirs.size} records of `{theirs.origin}`")


def _read_end(handle: int) -> list[bytes]:
    """Return what could be notes among the last bytes of the file."""
    size = os.fstat(handle).st_size
    blocks = os.pread(handle, _MOST_BYTES, max(0, size - _MOST_BYTES)).split(b"\n\n")
    return [text + b"\n\n" + lines + b"\n" for text, lines in itertools.pairwise(blocks)]

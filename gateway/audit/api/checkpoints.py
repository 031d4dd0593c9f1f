"""The newest checkpoints and the public key, for everybody: `GET /.locum/log/checkpoint`, `GET /.locum/log/key`.

They are read from the files of the data directory, so they are those of all workers and of the command line, and
are there while the store is not. A thread reads them at most once a second, however many ask.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.audit.evidence.checkpoint import find_origins, read_newest
from gateway.audit.hand import Hand
from gateway.clock import Ticks
from gateway.config.model import Config

PATH = "/.locum/log"
_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    notes: Mapping[str, bytes]
    """The newest of each origin."""
    key: bytes


def open_log_door(stack: AsyncExitStack, config: Config, *, ticks: Ticks, patience_seconds: float) -> "LogDoor":
    """Return the door, which has a thread of its own until `stack` ends."""
    hand = Hand("log-door")
    stack.callback(hand.stop)
    is_open = config.audit.publish_checkpoints
    return LogDoor(
        config.journal_directory,
        config.journal_key,
        hand=hand,
        ticks=ticks,
        patience_seconds=patience_seconds,
        is_open=is_open,
    )


class LogDoor:
    """Answers anybody; nothing of it is secret, and nothing is about an account."""

    def __init__(
        self, directory: Path, key: Path, *, hand: Hand, ticks: Ticks, patience_seconds: float, is_open: bool = True
    ) -> None:
        """Read the journal's `directory` and the file of its public `key` by `hand`; if not `is_open`, show nothing.

        Nobody waits longer than `patience_seconds` for a disk that hangs.
        """
        self._directory = directory
        self._key = key
        self._hand = hand
        self._ticks = ticks
        self._patience = patience_seconds
        self._is_open = is_open
        self._shown: _Shown | None = None
        self._until = 0.0
        self._reading: asyncio.Future[_Shown] | None = None
        self._give_up_at = 0.0

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [
            web.get(f"{PATH}/checkpoint", self.show_all),
            web.get(f"{PATH}/checkpoint/{{origin}}", self.show_one),
            web.get(f"{PATH}/key", self.show_key),
        ]

    async def show_all(self, request: web.Request) -> web.Response:
        """Return the newest checkpoint of every origin, with an empty line between two."""
        shown = await self._look()
        return _answer(request, None if shown is None else b"\n".join(shown.notes.values()))

    async def show_one(self, request: web.Request) -> web.Response:
        """Return the newest checkpoint of one origin."""
        shown = await self._look()
        return _answer(request, None if shown is None else shown.notes.get(request.match_info["origin"], b""))

    async def show_key(self, request: web.Request) -> web.Response:
        """Return the key in PEM; whoever wants to be sure of it got it on another way."""
        shown = await self._look()
        return _answer(request, None if shown is None else shown.key, content_type="application/x-pem-file")

    async def _look(self) -> _Shown | None:
        """Return what is there, at most a second old; what was there, if the disk hangs or fails."""
        if self._ticks() >= self._until:
            now = asyncio.get_running_loop().time()
            if self._reading is None:
                self._reading, self._give_up_at = self._hand.run(self._read), now + self._patience
                self._reading.add_done_callback(self._have_read)
            if now < self._give_up_at:
                reading = self._reading
                done, _ = await asyncio.wait([reading], timeout=self._give_up_at - now)
                if not done and reading is self._reading:
                    self._give_up_at = now  # timers are a little early now and then
        return self._shown

    def _have_read(self, reading: asyncio.Future[_Shown]) -> None:
        self._reading = None
        self._until = self._ticks() + _SECONDS
        if not reading.cancelled() and reading.exception() is None:
            self._shown = reading.result()

    def _read(self) -> _Shown:
        if not self._is_open:
            return _Shown(notes={}, key=b"")
        origins = find_origins(self._directory) if self._directory.is_dir() else []
        notes = {origin: read_newest(self._directory, origin=origin) or b"" for origin in origins}
        return _Shown(notes=notes, key=self._key.read_bytes() if self._key.is_file() else b"")


def _answer(request: web.Request, body: bytes | None, *, content_type: str = "text/plain") -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*"}
    if body is None:
        return web.Response(status=503, text="try again in a moment\n", headers={**headers, "Retry-After": "1"})
    if not body:
        return web.Response(status=404, text="there is none of this origin, or none yet\n", headers=headers)
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers |= {"Cache-Control": f"public, max-age={_SECONDS}", "ETag": f'"{tag}"'}
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

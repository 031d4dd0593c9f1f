"""A witness that plays what it is told to, and a journal's directory whose checkpoints are shown to it."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.evidence.checkpoint import Checkpoint, NoteSigner
from gateway.audit.witnesses.showing import Shown, Witnesses
from gateway.audit.witnesses.target import FileTarget, HttpTarget
from tests.journals import KEY, Ticks
from tests.patience import PATIENCE_SECONDS

COSIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NAME = "witness.example/w1"
_BLOB = b"\x04" + COSIGNER.public_key().public_bytes_raw()
_ID = hashlib.sha256(NAME.encode() + b"\n" + _BLOB).digest()[:4]
VKEY = f"{NAME}+{_ID.hex()}+{b64encode(_BLOB).decode()}"


def note_of(size: int, *, origin: str = "gateway", mark: int = 0) -> bytes:
    """A checkpoint; another `mark` is another history."""
    root = hashlib.sha256(f"{size} {mark}".encode()).digest()
    return NoteSigner(KEY, name=origin)(Checkpoint(origin=origin, size=size, root=root).text())


def cosign(note: bytes, *, moment: int = 1_790_000_000, key: Ed25519PrivateKey = COSIGNER, name: str = NAME) -> str:
    """A cosignature line as the specification of tlog-cosignature says it."""
    body = note[: note.rindex(b"\n\n") + 1]
    signature = key.sign(b"cosignature/v1\ntime %d\n" % moment + body)
    return f"\u2014 {name} {b64encode(_ID + moment.to_bytes(8, 'big') + signature).decode()}\n"


class HttpWitness:
    """Notes what it is shown, and answers by `answer`, which may be exchanged; without one it takes all."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        self.tokens: list[str | None] = []
        self.answer = lambda note: web.Response(text="")
        self.url = ""
        self._news = asyncio.Event()

    async def hear(self, request: web.Request) -> web.Response:
        note = await request.read()
        self.tokens.append(request.headers.get("Authorization"))
        answer = self.answer(note)
        self.shown.append(note)
        self._news.set()
        return await answer if asyncio.iscoroutine(answer) else answer

    async def until(self, count: int) -> None:
        """Wait until it has been shown so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.shown) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def http_witness() -> AsyncIterator[HttpWitness]:
    witness = HttpWitness()
    application = web.Application()
    application.router.add_post("/add", witness.hear)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    witness.url = f"http://127.0.0.1:{runner.addresses[0][1]}/add"
    try:
        yield witness
    finally:
        await runner.cleanup()


def to(url: str, *, name: str = "w", key=None, token=None) -> Shown:
    """One witness that is asked at `url`."""

    def target(_hand) -> HttpTarget:
        return HttpTarget(url, token=token, tls=None, key=key)

    return Shown(name=name, open=target, every_seconds=0.001)


def file_at(path: Path, *, name: str = "f") -> Shown:
    """One witness that is a file."""
    return Shown(name=name, open=partial(FileTarget, path), every_seconds=0.001)


@asynccontextmanager
async def showing(directory: Path, *shown: Shown) -> AsyncIterator[Witnesses]:
    """Show what is in the directory until the block ends."""
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    witnesses = Witnesses(directory, shown, ticks=Ticks(), pause_seconds=0.001)
    task = asyncio.ensure_future(witnesses.run())
    try:
        yield witnesses
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def put(directory: Path, note: bytes, *, origin: str = "gateway") -> None:
    """Make a note the newest one, as the journal does."""
    directory.mkdir(exist_ok=True)
    draft = directory / f"{origin}.new"
    draft.write_bytes(note)
    draft.replace(directory / f"{origin}.checkpoint")


async def until(true) -> None:
    """Wait until something holds; each turn lets the threads go on."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110 - threads do it
            await asyncio.sleep(0.002)

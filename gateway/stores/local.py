"""The local channel: whoever commits to the embedded database tells every process of this machine that listens.

A listener is a datagram socket in a directory beside the database; telling is one datagram to each of them. It carries
nothing: a datagram late, doubled, lost or forged says no more than "read the changes". What a lost one costs is one
look at the database's version, which a listener takes ten times a second while it hears nothing.

Where the directory's path is too long for a socket's address there has to be a /proc; without one nobody can listen.
"""

import asyncio
import os
import secrets
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from gateway.stores.store import Push, StoreError

_LOOK_SECONDS = 0.1
# The smallest bound of today's systems, and what we add to a directory's path at most.
_ADDRESS_BYTES = 103
_NAME_BYTES = 32
# Drained in one go, so that a flood of datagrams does not hold the loop.
_DRAINED = 64


def channel_of(database: Path) -> Path:
    """Return the directory of a database's listeners, the same one by whatever links the database is reached."""
    whole = Path(os.path.realpath(database))
    return whole.parent / f"{whole.name}.push"


@asynccontextmanager
async def listen(directory: Path, look: Callable[[], Awaitable[int]]) -> AsyncIterator["LocalPush"]:
    """Be told of commits by `tell`, and ask `look` for another number than before when nobody tells.

    Raises StoreError if the directory cannot be used, or whatever `look` raises.
    """
    with _bound(directory) as (channel, path):
        push = LocalPush(channel, path, look)
        loop = asyncio.get_running_loop()
        loop.add_reader(channel, push.hear)
        try:
            # After the socket is there, so that no commit falls between the two.
            await push.look()
            yield push
        finally:
            loop.remove_reader(channel)


class LocalPush(Push):
    """Made by `listen`."""

    def __init__(self, channel: socket.socket, path: Path, look: Callable[[], Awaitable[int]]) -> None:
        """Take a bound socket that does not block, and where it is bound."""
        self._channel = channel
        self._path = path
        self._look = look
        self._seen: int | None = None
        self._told = asyncio.Event()
        self._lost: StoreError | None = None

    async def wait(self) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            while not self._told.is_set():
                await self._hear_or_look()
        except StoreError as exc:
            self._lost = exc
            raise
        self._told.clear()

    def hear(self) -> None:
        """Take in what has come, without waiting."""
        with suppress(OSError):
            for _ in range(_DRAINED):
                self._channel.recv(1)
                self._told.set()

    async def look(self) -> bool:
        """Return whether the number is another one than last time; raises StoreError if the channel is lost."""
        if not _is_socket(self._path):
            raise StoreError(f"`{self._path}` is gone, so nobody can tell of changes: listen again")
        before, self._seen = self._seen, await self._look()
        return before != self._seen

    async def _hear_or_look(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._told.wait()
            return
        if await self.look():
            self._told.set()


def tell(directory: Path) -> None:
    """Tell every listener in `directory`; never blocks and never fails, because they look for themselves anyway."""
    with suppress(OSError):
        listeners = [path for path in directory.iterdir() if not path.name.startswith(".")]
        if listeners:
            with _reached(directory) as way, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                for path in listeners:
                    _tell_one(sender, f"{way}/{path.name}", path)


def _tell_one(sender: socket.socket, address: str, path: Path) -> None:
    try:
        sender.sendto(b".", address)
    except ConnectionRefusedError:
        # Its owner was killed. Names are never used twice, so it cannot be anybody else's by now.
        if _is_socket(path):
            _unlink(path)
    except OSError:
        # A full one will look anyway, and one that went meanwhile has nobody to hear it.
        pass


@contextmanager
def _bound(directory: Path) -> Iterator[tuple[socket.socket, Path]]:
    path = directory / f"{os.getpid()}-{secrets.token_hex(8)}"
    try:
        channel = _bind(path)
    except OSError as exc:
        raise StoreError(f"nobody can be told of changes in `{directory}`: {exc}: check its permissions") from exc
    try:
        yield channel, path
    finally:
        channel.close()
        _unlink(path)


def _bind(path: Path) -> socket.socket:
    directory = path.parent
    directory.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(directory.stat().st_mode) & stat.S_IRWXO:
        raise StoreError(f"`{directory}` is open to everybody: chmod 700 it")
    # Whoever tells skips this name: between its making and its being heard at, it looks like a dead one's.
    early = path.with_name(f".{path.name}")
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        channel.setblocking(False)
        with _reached(directory) as way:
            channel.bind(f"{way}/{early.name}")
        early.rename(path)
    except BaseException:
        channel.close()
        _unlink(early)
        raise
    return channel


@contextmanager
def _reached(directory: Path) -> Iterator[str]:
    """Give another path of `directory`, to which a name may be added where a socket's address has room for it."""
    if len(os.fsencode(directory)) + _NAME_BYTES <= _ADDRESS_BYTES:
        yield str(directory)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()

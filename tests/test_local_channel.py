import asyncio
import os
import random
import resource
import signal
import socket
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.stores.local import channel_of, listen, tell
from gateway.stores.sqlite import SqliteStore, open_sqlite
from gateway.stores.store import StoreError
from policy.model import AccountId
from tests.patience import PATIENCE_SECONDS
from tests.sqlite_listener import see_nothing
from tests.store_examples import ACME, NOW, OTHER, STAFF

ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "locum.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(path)
    yield store
    await store.close()


@asynccontextmanager
async def program(name: str, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.{name}", path, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def open_files() -> int:
    """Return how many descriptors there are but SQLite's own, which come when it needs them."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum("locum.db" not in link.name for link in links)


def throw(directory: Path, datagram: bytes) -> None:
    """Send anything to every listener, by a path that is short however long the directory's is."""
    reached = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for listener in directory.iterdir():
                sender.sendto(datagram, f"/proc/self/fd/{reached}/{listener.name}")
    finally:
        os.close(reached)


# Told, with nobody looking: `see_nothing` never sees a change, so each return is the work of a datagram.


async def test_a_commit_of_another_process_is_told(path: Path):
    """Whoever listens hears a writer that is another process."""
    await (await open_sqlite(path)).close()
    async with listen(channel_of(path), see_nothing) as push, program("sqlite_writer", path) as writer:
        await push.wait()
        assert b"1\n" == await writer.stdout.readline()


async def test_a_commit_is_told_to_every_process_and_a_killed_one_is_cleared_away(store: SqliteStore, path: Path):
    """The own process is told as well; a killed listener's socket is removed by the next commit, which is done."""
    async with listen(channel_of(path), see_nothing) as push, program("sqlite_listener", path) as listener:
        assert await listener.stdout.readline() == b"listening\n"
        await store.add_account(ACME)
        assert await listener.stdout.readline() == b"told\n"
        await push.wait()
        [theirs] = channel_of(path).glob(f"{listener.pid}-*")
        listener.send_signal(signal.SIGKILL)
        await listener.wait()
        assert theirs.is_socket()
        await store.add_account(OTHER)
        assert not theirs.exists()
        await push.wait()


async def test_what_is_told_of_can_be_read(store: SqliteStore, path: Path):
    """A commit is told after it was made: whoever reads at once finds it."""
    async with asyncio.timeout(PATIENCE_SECONDS), listen(channel_of(path), see_nothing) as push:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            for number in range(1, 51):
                write = asyncio.ensure_future(store.add_account(replace(ACME, id=AccountId(str(number)))))
                await push.wait()
                assert (number,) == other.execute("SELECT max(position) FROM changes").fetchone()
                await write


async def test_a_write_whose_caller_was_cancelled_is_told(store: SqliteStore, path: Path):
    """Telling belongs to the commit, not to whoever asked for it."""
    async with asyncio.timeout(PATIENCE_SECONDS), listen(channel_of(path), see_nothing) as push:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            write = asyncio.ensure_future(store.add_account(ACME))
            await asyncio.wait([write], timeout=0.05)
            write.cancel()
            await asyncio.wait([write])
            other.execute("ROLLBACK")
        await push.wait()
    assert (await store.find_account(ACME.id)).account == ACME


async def test_a_database_reached_by_two_names_has_one_channel(store: SqliteStore, path: Path, tmp_path: Path):
    """Links to the file, or to its directory, lead to the same listeners."""
    file, directory = tmp_path / "link.db", tmp_path / "linked"
    file.symlink_to(path)
    directory.symlink_to(path.parent)
    assert channel_of(path) == channel_of(file) == channel_of(directory / path.name)


@pytest.mark.parametrize("length", [1, 60, 90, 200])
async def test_no_path_is_too_long(tmp_path: Path, length: int):
    """Beyond the 108 bytes of a socket's address a listener is told all the same."""
    path = tmp_path / ("d" * length) / "locum.db"
    store = await open_sqlite(path)
    before = open_files()
    async with asyncio.timeout(PATIENCE_SECONDS), listen(channel_of(path), see_nothing) as push:
        await store.add_account(ACME)
        await push.wait()
    assert before == open_files()
    await store.close()


async def test_a_listener_that_takes_nothing_holds_up_no_commit(store: SqliteStore, path: Path):
    """A full socket loses datagrams and nothing else: those that fitted in still tell."""
    async with asyncio.timeout(PATIENCE_SECONDS), listen(channel_of(path), see_nothing) as push:
        for _ in range(2000):
            tell(channel_of(path))
        await store.add_account(ACME)
        await push.wait()


async def test_garbage_does_nothing_but_wake(store: SqliteStore, path: Path):
    """Whatever is thrown at a listener, it returns, the facts stay, and the next commit is heard."""
    dice = random.Random(7)  # noqa: S311 - a test's dice
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        for size in (0, 1, 2, 100, 4096, 60_000):
            throw(channel_of(path), dice.randbytes(size))
            await push.wait()
        assert (await store.read_changes(0)).position == 0
        await store.add_account(ACME)
        await push.wait()
        assert (await store.read_changes(0)).position == 1


async def test_strange_things_in_the_directory_are_left_alone(store: SqliteStore, path: Path):
    """Telling goes by what is no listener, and by a listener that is not quite there yet; it removes neither."""
    async with asyncio.timeout(PATIENCE_SECONDS), listen(channel_of(path), see_nothing) as push:
        directory = channel_of(path)
        (directory / "file").write_bytes(b"notes")
        (directory / "directory").mkdir()
        (directory / "nowhere").symlink_to("/nonexistent")
        (directory / "round").symlink_to(directory / "round")
        os.mkfifo(directory / "fifo")
        for name, kind in (("stream", socket.SOCK_STREAM), (".early", socket.SOCK_DGRAM)):
            with socket.socket(socket.AF_UNIX, kind) as bound:
                bound.bind(str(directory / name))
        strange = {"file", "directory", "nowhere", "round", "fifo", ".early"}
        await store.add_account(ACME)
        await push.wait()
        assert strange < {path.name for path in directory.iterdir()}


# Not told.


async def test_what_nobody_tells_of_is_seen_all_the_same(store: SqliteStore, path: Path):
    """Another program's commit is heard, and counted and named by the database itself, so by an older version too."""
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("INSERT INTO accounts (id, type, suspended, epoch) VALUES ('acme', 'paid', 0, 0)")
        await push.wait()
        assert [ACME.id] == [change.account for change in (await store.read_changes(0)).changes]


async def test_a_quiet_store_wakes_nobody(store: SqliteStore):
    """Looking alone is no return."""
    async with store.listen() as push:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(push.wait(), 0.35)


# Lost.


@pytest.mark.parametrize("loss", ["removed", "moved"])
async def test_a_channel_without_its_directory_is_lost_for_ever(store: SqliteStore, path: Path, loss: str):
    """Where no writer would find us, `wait` raises StoreError, again and again; a new channel works."""
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        directory = channel_of(path)
        if loss == "removed":
            for listener in directory.iterdir():
                listener.unlink()
            directory.rmdir()
        else:
            directory.rename(directory.with_name("elsewhere"))
        with pytest.raises(StoreError, match="listen again"):
            await push.wait()
        if loss == "moved":
            directory.with_name("elsewhere").rename(directory)
        with pytest.raises(StoreError, match="listen again"):
            await push.wait()
        async with store.listen() as again:
            await store.add_account(ACME)
            await again.wait()
            with pytest.raises(StoreError):
                await push.wait()


async def test_nothing_is_left_of_a_channel(store: SqliteStore, path: Path):
    """Neither a socket nor a descriptor, whether the block ends, raises, is cancelled or is never entered."""

    async def hold(entered: asyncio.Event) -> None:
        async with store.listen() as push:
            entered.set()
            for _ in range(1000):
                await push.wait()

    before = open_files()
    async with store.listen() as push:
        assert open_files() == before + 1
        assert [0o700] == [stat.S_IMODE(channel_of(path).stat().st_mode)]
    with pytest.raises(ZeroDivisionError):
        async with store.listen() as push:
            await store.save_staff(STAFF, at=NOW)
            await push.wait()
            raise ZeroDivisionError
    for wait_for_entry in (True, False):
        holding = asyncio.ensure_future(hold(entered := asyncio.Event()))
        await (entered.wait() if wait_for_entry else asyncio.sleep(0))
        holding.cancel()
        await asyncio.wait([holding])
    assert before == open_files()
    assert list(channel_of(path).iterdir()) == []


async def test_a_directory_that_cannot_be_used_is_a_store_error(store: SqliteStore, path: Path):
    """One open to everybody, or a file in its place; the error says what to do, and writes go on."""
    before = open_files()
    channel_of(path).touch(0o600)
    with pytest.raises(StoreError, match="check"):
        async with store.listen():
            pass
    channel_of(path).unlink()
    channel_of(path).mkdir()
    channel_of(path).chmod(0o707)
    with pytest.raises(StoreError, match="chmod 700"):
        async with store.listen():
            pass
    await store.add_account(ACME)
    assert before == open_files()


async def test_a_process_without_room_for_a_file_gets_a_store_error(store: SqliteStore, path: Path):
    """Neither listening nor telling raises anything else when there are no descriptors left; commits go on."""
    await store.add_account(ACME)
    assert (await store.find_account(ACME.id)).account == ACME
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(StoreError, match="Too many open files"):
                async with store.listen():
                    pass
            await store.add_account(OTHER)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await push.wait()
    assert list(channel_of(path).iterdir()) == []


async def test_many_listeners_and_writers_at_once(path: Path):
    """Listeners that come and go while others write miss nothing that was committed after they came."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        stores = [await open_sqlite(path) for _ in range(3)]

        async def follow(store: SqliteStore) -> None:
            position = 0
            while position < 60:
                async with store.listen() as push:
                    for _ in range(3):
                        position = (await store.read_changes(position)).position
                        if position < 60:
                            await push.wait()

        async def write(store: SqliteStore, first: int) -> None:
            for number in range(first, 60, 3):
                await store.add_account(replace(ACME, id=AccountId(str(number))))

        async with asyncio.TaskGroup() as tasks:
            for first, store in enumerate(stores):
                tasks.create_task(follow(store))
                tasks.create_task(write(store, first))
        for store in stores:
            await store.close()

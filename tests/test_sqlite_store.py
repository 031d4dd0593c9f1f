# ruff: noqa: ASYNC240 - a test may block its own loop for a small file
import asyncio
import os
import resource
import signal
import sqlite3
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.stores.sqlite import SqliteStore, open_sqlite
from gateway.stores.store import StoreConflict, StoreError
from policy.model import AccountId, GrantId
from tests.patience import PATIENCE_SECONDS, within
from tests.store_contract import StoreContract
from tests.store_examples import ACME, ACTOR, ASSUMPTION, KEY, NOW, OTHER, STAFF, a_change, a_grant, begin

ROOT = Path(__file__).parent.parent
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "locum.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(path)
    yield store
    await store.close()


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program at the same file."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


class TestSqliteStore(StoreContract):
    """SQLite keeps the contract."""


# The file.


async def test_what_was_acknowledged_is_there_after_opening_again(path: Path):
    """Closing and opening loses nothing and migrates nothing twice."""
    store = await open_sqlite(path)
    await store.add_account(ACME)
    change = a_change(ACME, grant=a_grant(ACME))
    await store.save_change(change, by="admin-7", at=NOW)
    await store.close()
    store = await open_sqlite(path)
    assert change.grant == (await store.find_account(ACME.id)).grant
    await store.close()


async def test_only_the_owner_can_read_what_we_make(path: Path):
    """Directory 0700 and every file 0600, its logs too, whatever the umask."""
    before = os.umask(0)
    try:
        store = await open_sqlite(path)
        await store.add_key(KEY)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(before)
    assert modes == {"locum.db": 0o600, "locum.db-wal": 0o600, "locum.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
async def test_a_database_open_to_everybody_is_refused(path: Path, mode: int):
    """A file that any user may read or write is not opened, and the error says what to do."""
    await make_database(path)
    path.chmod(mode)
    with pytest.raises(StoreError, match="chmod 600"):
        await open_sqlite(path)
    path.chmod(0o660)
    await make_database(path)


async def test_what_is_no_database_is_refused_and_left_alone(path: Path):
    """A file of other content raises StoreError and keeps its bytes."""
    path.parent.mkdir()
    path.write_bytes(content := b"precious notes\n" * 1000)
    path.chmod(0o600)
    with pytest.raises(StoreError):
        await open_sqlite(path)
    assert content == path.read_bytes()


async def test_another_programs_database_is_refused_and_left_alone(path: Path):
    """A database that we did not make raises StoreError and keeps its bytes: no table, no log mode of ours."""
    path.parent.mkdir()
    with raw(path) as theirs:
        theirs.execute("CREATE TABLE tickets (id INTEGER)")
    path.chmod(0o600)
    content = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        await open_sqlite(path)
    assert content == path.read_bytes()


@pytest.mark.parametrize("place", ["/dev/null/locum.db", "/proc/locum/locum.db", "/"])
async def test_a_place_where_no_file_can_be_is_a_store_error(place: str):
    """No operating system error comes through as itself."""
    with pytest.raises(StoreError):
        await open_sqlite(Path(place))


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A database that its owner may only read, with us as that owner; not in `tmp_path`, which others cannot enter."""
    with tempfile.TemporaryDirectory() as name:
        directory, path = Path(name), Path(name) / "locum.db"
        asyncio.run(make_database(path))
        path.chmod(0o400)
        directory.chmod(0o500)
        we_are_root = os.geteuid() == 0
        if we_are_root:  # permissions do not bind root, so be somebody else for a while
            os.chown(path, NOBODY, -1)
            os.chown(directory, NOBODY, -1)
            os.seteuid(NOBODY)
        yield path
        if we_are_root:
            os.seteuid(0)
        directory.chmod(0o700)


async def make_database(path: Path) -> None:
    await (await open_sqlite(path)).close()


def test_a_file_that_may_not_be_written_is_a_store_error(unwritable: Path):
    """A read-only database is refused at the start, not at the first change."""
    with pytest.raises(StoreError, match="readonly"):
        asyncio.run(make_database(unwritable))


async def test_a_broken_page_is_a_store_error_not_an_answer(path: Path):
    """Bytes that rotted on the disk are never read as facts."""
    store = await open_sqlite(path)
    for number in range(200):
        await store.add_account(replace(ACME, id=AccountId(f"account-{number:04}")))
    await store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError):
        store = await open_sqlite(path)
        try:
            await store.list_accounts()
        finally:
            await store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE grants SET duration = 'forever'",
        "UPDATE grants SET permissions = 'read everything'",
        "UPDATE grants SET expires_at = 9223372036854775807",
        "UPDATE accounts SET type = 'partner'",
    ],
)
async def test_a_row_that_means_nothing_to_us_is_a_store_error(store: SqliteStore, path: Path, damage: str):
    """An unknown word or an impossible time is not skipped and not guessed."""
    await store.add_account(ACME)
    await store.save_change(a_change(ACME, grant=a_grant(ACME)), by="admin-7", at=NOW)
    with raw(path) as other:
        other.execute(damage)
    with pytest.raises(StoreError):
        await store.find_account(ACME.id)


async def test_text_that_is_no_text_is_a_store_error_and_nothing_is_stored(store: SqliteStore):
    """A lone surrogate, which JSON can carry, has no form in UTF-8."""
    with pytest.raises(StoreError):
        await begin(store, replace(ASSUMPTION, reason="\ud800"))
    assert None is await store.find_assumption(ASSUMPTION.id)


# The settings that the promises stand on.


async def test_a_commit_is_synced_and_keys_between_tables_hold(store: SqliteStore):
    """The writer syncs its log at every commit (2: FULL) and checks foreign keys; the reader cannot write."""

    def settings(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._writer.run(settings) == ["wal", 2, 1]
    with pytest.raises(StoreError, match="readonly"):
        await store._reader.run(lambda connection: connection.execute("DELETE FROM accounts"))


async def test_an_account_cannot_point_to_another_accounts_grant(store: SqliteStore):
    """A change whose grant names another account is refused by the database itself, whole."""
    await store.add_account(ACME)
    await store.add_account(OTHER)
    with pytest.raises(StoreError):
        await store.save_change(a_change(ACME, grant=a_grant(OTHER)), by="x", at=NOW)
    assert [record.account.epoch for record in await store.list_accounts()] == [0, 0]
    assert None is await store.find_grant(GrantId("g1"))


# Several at one file.


async def test_another_writer_is_seen(store: SqliteStore, path: Path):
    """What a second process commits is read at once."""
    with raw(path) as other:
        other.execute("INSERT INTO accounts (id, type, suspended, epoch) VALUES ('acme', 'paid', 0, 0)")
    assert (await store.find_account(ACME.id)).account == ACME


async def test_two_stores_at_one_file_cannot_both_win(path: Path):
    """The epoch is compared where it is written, not in a process's memory."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        ours, theirs = await open_sqlite(path), await open_sqlite(path)
        await ours.add_account(ACME)
        changes = [a_change(ACME, grant=a_grant(ACME, id=f"g{n}")) for n in range(10)]
        saves = ([ours, theirs][n % 2].save_change(change, by="x", at=NOW) for n, change in enumerate(changes))
        outcomes = await asyncio.gather(*saves, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert sum(isinstance(outcome, StoreConflict) for outcome in outcomes) == 9
        await ours.close()
        await theirs.close()


async def test_reads_do_not_wait_for_a_write(store: SqliteStore, path: Path):
    """While a writer waits for another's lock, reads are answered; when the lock goes, the write is done."""
    await store.add_account(ACME)
    async with within(4):  # less than the writer's own patience
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            write = asyncio.ensure_future(store.add_account(OTHER))
            assert (await store.find_account(ACME.id)).account == ACME
            assert None is await store.find_account(OTHER.id)
            assert not write.done()
            other.execute("ROLLBACK")
            await write
    assert (await store.find_account(OTHER.id)).account == OTHER


async def test_a_lock_that_stays_is_a_store_error(path: Path):
    """A writer gives up after `busy_seconds`, stores nothing, and works again when the lock is gone."""
    store = await open_sqlite(path, busy_seconds=0.05)
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.add_account(ACME)
    await store.add_account(ACME)
    await store.close()


async def test_a_cancelled_write_is_whole_or_absent_and_harms_nobody(store: SqliteStore, path: Path):
    """Of two cancelled writes the begun one may land, the queued one never does; the next write is done."""
    await store.add_account(ACME)
    change = a_change(ACME, grant=a_grant(ACME))
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = asyncio.ensure_future(store.save_change(change, by="x", at=NOW))
        queued = asyncio.ensure_future(store.add_account(OTHER))
        await store.find_account(ACME.id)
        for task in (begun, queued):
            task.cancel()
        await asyncio.wait([begun, queued])
        other.execute("ROLLBACK")
    await store.save_staff(STAFF, at=NOW)
    record = await store.find_account(ACME.id)
    events = await store.list_changes(ACME.id)
    assert (record.account.epoch, record.grant) in [(0, None), (1, change.grant)]
    assert record.account.epoch == len(events)
    assert None is await store.find_account(OTHER.id)
    assert await store.find_staff(ACTOR) == STAFF


async def test_closing_waits_for_what_was_begun(path: Path):
    """Writes handed in before `close` are done; a `close` whose caller is cancelled closes all the same."""
    store = await open_sqlite(path)
    writes = [asyncio.ensure_future(store.add_account(replace(ACME, id=AccountId(str(n))))) for n in range(20)]
    await asyncio.wait(writes, timeout=0)
    closing_task = asyncio.ensure_future(store.close())
    await asyncio.wait([closing_task], timeout=0)
    closing_task.cancel()
    await asyncio.gather(*writes)
    await store.close()
    with raw(path) as other:
        assert other.execute("SELECT count(*) FROM accounts").fetchone()[0] == 20


async def test_closing_leaves_one_whole_file_even_behind_a_slow_read(path: Path):
    """The log is folded in at the end, so that a copy of the one file is a copy of everything."""
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n, accounts"
    store = await open_sqlite(path)
    await store.add_account(ACME)
    read = asyncio.ensure_future(store._reader.run(lambda connection: connection.execute(slow).fetchone()))
    await asyncio.wait([read], timeout=0)
    await store.close()
    assert (300000,) == await read
    assert [path] == list(path.parent.iterdir())


# Crashes.


@pytest.mark.parametrize("lines", [1, 7, 40, 120])
async def test_kill_9_loses_no_acknowledged_change_and_leaves_no_half(path: Path, lines: int):
    """After a killed writer there is every epoch that it printed, at most one more, and each change is whole."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sqlite_writer", path, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            read = b"".join([await process.stdout.readline() for _ in range(lines)])
            process.send_signal(signal.SIGKILL)
            read += await process.stdout.read()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    store = await open_sqlite(path)
    record = await store.find_account(ACME.id)
    events = await store.list_changes(ACME.id)
    await store.close()
    acknowledged = read.count(b"\n")
    assert lines <= acknowledged
    assert record.account.epoch in (acknowledged, acknowledged + 1)
    assert list(range(record.account.epoch, 0, -1)) == [event.epoch for event in events]
    assert record.grant == events[0].grant
    assert record.account.epoch == record.grant.epoch


async def test_a_full_disk_is_a_store_error_and_loses_nothing(store: SqliteStore, path: Path):
    """When no byte more can be written, writes fail whole, reads go on, and room brings the writes back."""
    await store.add_account(ACME)
    account, refused = ACME, None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = path.with_name(path.name + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 40_000, hard))
    try:
        for number in range(200):
            change = a_change(account, grant=a_grant(account, id=f"g{number}"))
            try:
                await store.save_change(change, by="x", at=NOW)
            except StoreError as error:
                refused = error
                break
            account = change.account
        assert refused is not None
        assert account == (await store.find_account(ACME.id)).account
        assert account.epoch == len(await store.list_changes(ACME.id))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.save_change(a_change(account, grant=a_grant(account, id="after")), by="x", at=NOW)
    assert GrantId("after") == (await store.find_account(ACME.id)).grant.id

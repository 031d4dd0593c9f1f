"""The database's file: made for its owner only, guarded, brought to this version's shape, connected to."""

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.stores.migrate import load_migrations, migrate
from gateway.stores.store import StoreError

_TURN_SECONDS = 0.02
# Less than a gateway waits at its start, so that it hears why.
_LONGEST_TURN_SECONDS = 4.0


def connect_writer(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Return a connection that writes durably, with the file made and migrated, in autocommit mode.

    A new file can be read by its owner only, a new directory likewise. Raises StoreError, `sqlite3.Error`, OSError.
    """
    if sqlite3.sqlite_version_info < (3, 37):
        raise StoreError(f"this Python has SQLite `{sqlite3.sqlite_version}`: install one with 3.37 or newer")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.parent, min(busy_seconds, _LONGEST_TURN_SECONDS)):
        _guard(path)
        connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_reader(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Return a connection to a file that exists, unable to change it."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # FULL: the log is synced at every commit, so that what was acknowledged survives a loss of power.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, load_migrations())
    # Last, because it changes the file, which before `migrate` might not have been ours to change.
    [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"the file system of `{path}` cannot share a log between processes: use a local disk")


@contextmanager
def _locked(directory: Path, seconds: float) -> Iterator[None]:
    # SQLite gives up at once when two processes set the log mode of a new file together, as workers do at first start.
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    give_up = time.monotonic() + seconds
    try:
        while not _lock(descriptor):
            # Not waited for in the kernel: whoever has it may have been stopped.
            if time.monotonic() >= give_up:
                raise StoreError(
                    f"another process has been opening the store in `{directory}` for {seconds:g} s:"
                    " see whether a `locum` command was stopped there, and end it"
                )
            time.sleep(_TURN_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _guard(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Only looked at, never opened: closing it would drop the locks this process may hold on it.
        mode = stat.S_IMODE(path.stat().st_mode)
        # The group is left to the operator; container platforms set its bits on every start.
        if mode & stat.S_IRWXO:
            raise StoreError(f"`{path}` holds signing keys and is open to everybody: chmod 600 it") from None

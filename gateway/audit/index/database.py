"""The file of the index: made for its owner only, of this version's shape, or made anew."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

NAME = "journal-index.sqlite3"
LOCK = "journal-index.lock"
_SHAPE = 4
"""Raised with whatever changes what stands in the index; one of another shape is made anew."""
_BUSY_SECONDS = 5.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# A record's id is the time at which it happened in microseconds since 1970, times 4096, and something to tell those of
# one microsecond apart: ids are in the order of time, and the same again after the index was made anew.
_TABLES = """
-- Since which start of the machine it has been written to: see `_check`.
CREATE TABLE made (boot TEXT NOT NULL) STRICT;
INSERT INTO made VALUES ('');
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    inode INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    -- So many of them could not be read, and were stepped over.
    unread INTEGER NOT NULL DEFAULT 0,
    -- The last line's: see gateway/audit/position.py.
    mark TEXT NOT NULL
) STRICT;
-- What records are counted by; each combination once.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    account TEXT, actor TEXT, decision TEXT, kind TEXT, method TEXT, reason TEXT, rule TEXT
) STRICT;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    grouping INTEGER NOT NULL
) STRICT;
CREATE INDEX records_of_segment ON records (segment);
-- How many there are of each hour, counted from 1970; -1 stands for those of which the time is not known.
CREATE TABLE tallies (
    hour INTEGER NOT NULL,
    grouping INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, grouping, segment)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE marks USING fts5(text, tokenize = "ascii tokenchars '._'", detail = none, columnsize = 0);
"""


class IndexUnusable(Exception):
    """There is no index, or it cannot be read: read the files, and let it be made anew."""


class TooCostly(Exception):
    """The question takes longer than it may: ask for less."""

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("this takes too long: ask for a shorter time, or one account")


def beside(journal: Path) -> Path:
    """Return where the index of a journal is: beside its directory."""
    return journal.parent / NAME


def connect_builder(path: Path) -> sqlite3.Connection:
    """Return a connection that may write, in autocommit mode; what is there but cannot be used is replaced.

    Raises OSError, sqlite3.Error.
    """
    try:
        return _connect_builder(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and path.exists() and path.stat().st_size == 0:
            raise
        remove(path)
        return _connect_builder(path)


def connect_finder(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads; raises IndexUnusable."""
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        try:
            [shape] = connection.execute("PRAGMA user_version").fetchone()
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise IndexUnusable("there is no index that can be read") from error
    if shape != _SHAPE:
        connection.close()
        raise IndexUnusable("the index is another version's")
    return connection


def remove(path: Path) -> None:
    """Throw the index away; raises OSError."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


@contextmanager
def thrown_away_if_damaged(path: Path, inode: int) -> Iterator[None]:
    """Delete the index if SQLite says in the block that this file of it is damaged: whoever keeps it makes another."""
    try:
        yield
    except sqlite3.Error as error:
        # The lowest byte is the code; what stands above it tells where that was noticed.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            # Another user may look at it as well, and need not be able to.
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    log.error("the index is damaged, and has to be made anew: %s", error)  # noqa: TRY400 - the disk's
                    remove(path)
        raise


@contextmanager
def translated() -> Iterator[None]:
    """Raise IndexUnusable where SQLite says that the file is damaged, TooCostly where it was interrupted."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise TooCostly from error
        raise IndexUnusable(f"the index cannot be read: {error}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end, or leave everything as it was if the block raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _connect_builder(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    # Nothing is lost with it, so nothing waits for the disk.
    connection.execute("PRAGMA synchronous = OFF")
    # What was deleted leaves the file as a whole: see `Builder`.
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA journal_mode = WAL")
    with transaction(connection):
        [shape] = connection.execute("PRAGMA user_version").fetchone()
        if shape == _SHAPE:
            _check(connection)
            return
        [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables:
            raise sqlite3.DatabaseError("another version's")
        with closing(connection.cursor()) as cursor:
            for statement in _TABLES.split(";\n"):
                cursor.execute(statement)
        connection.execute(f"PRAGMA user_version = {_SHAPE}")
        connection.execute("UPDATE made SET boot = ?", (_read_boot(),))


def _check(connection: sqlite3.Connection) -> None:
    """Look through all of it once the machine has been started anew, for then what nothing waited for may be lost.

    Raises sqlite3.DatabaseError if it is damaged. The end of a process loses nothing.
    """
    boot = _read_boot()
    if boot and connection.execute("SELECT boot FROM made").fetchone() == (boot,):
        return
    if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
        raise sqlite3.DatabaseError("damaged")
    connection.execute("INSERT INTO marks (marks) VALUES ('integrity-check')")
    connection.execute("UPDATE made SET boot = ?", (boot,))


def _read_boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""

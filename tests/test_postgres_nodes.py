"""Several machines at one database, and several servers behind one URL."""

import asyncio
import contextlib
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.app import open_gateway
from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.stores.migrate import Migration
from gateway.stores.postgres.address import parse_url
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import StoreChange, StoreError
from tests.certificates import Authority
from tests.gateway_world import document, open_world
from tests.patience import PATIENCE_SECONDS
from tests.postgres_config import CONFIG
from tests.postgres_server import Server, Wire, asyncpg, open_store, shape
from tests.store_examples import ACME, NOW, OTHER, a_change, a_grant

SCRIPT = """
import asyncio, sys
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.store import open_postgres
from gateway.stores.postgres.terms import StoreTerms
async def main():
    sys.stdin.readline()
    store = await open_postgres(parse_url(sys.argv[1]), StoreTerms())
    async with store.alone():
        keys = await store.list_keys()
    print(len(keys))
    await store.close()
asyncio.run(main())
"""


async def test_two_processes_that_start_at_once_bring_the_database_to_its_shape_once(postgres):
    """Both come up; each migration was applied once."""
    database = await postgres.new_database()
    command = [sys.executable, "-c", SCRIPT, postgres.url(database)]
    nodes = [
        await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    outcomes = await asyncio.wait_for(asyncio.gather(*(node.communicate(b"\n") for node in nodes)), PATIENCE_SECONDS)
    assert [b"0\n", b"0\n"] == [out for out, _ in outcomes]
    applied = await postgres.execute("SELECT number FROM locum.migrations ORDER BY number", database=database)
    assert [row["number"] for row in applied] == [migration.number for migration in shape.migrations()]


async def test_eight_who_migrate_at_once_take_each_step_once(postgres):
    """Among them they take exactly the steps there are, however they interleave."""
    database = await postgres.new_database()
    connections = await asyncio.gather(*(asyncpg.connect(postgres.url(database)) for _ in range(8)))
    try:
        wanted = shape.migrations()
        taken = await asyncio.gather(*(shape.migrate(connection, wanted) for connection in connections))
        assert sum(taken) == len(wanted)
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


async def test_a_migration_that_fails_leaves_nothing(postgres):
    """The steps before it stay, and of its own statements none."""
    database = await postgres.new_database()
    bad = Migration(number=99, name="0099_bad", sql="CREATE TABLE locum.half (id integer); SELECT 1 / 0")
    connection = await asyncpg.connect(postgres.url(database))
    try:
        with pytest.raises(StoreError, match="division"):
            await shape.migrate(connection, [*shape.migrations(), bad])
        assert None is await connection.fetchval("SELECT to_regclass('locum.half')")
        assert await shape.count_applied(connection, shape.migrations()) == len(shape.migrations())
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("INSERT INTO locum.migrations VALUES (999, '0999_future', 'x')", "newer version"),
        ("UPDATE locum.migrations SET checksum = 'x' WHERE number = 1", "differs from what was applied"),
    ],
)
async def test_a_database_of_another_version_is_refused(postgres, sql, words):
    """One that a newer version has migrated, or one that was altered: nothing is changed, and the error says why."""
    database = await postgres.new_database()
    await (await open_store(postgres, database)).close()
    await postgres.execute(sql, database=database)
    for migrate in (True, False):
        with pytest.raises(StoreError, match=words):
            await open_store(postgres, database, migrate=migrate)


async def test_who_may_not_migrate_says_what_to_run(postgres):
    """With `store.migrate = false` an empty database stays empty."""
    database = await postgres.new_database()
    with pytest.raises(StoreError, match="locum db migrate"):
        await open_store(postgres, database, migrate=False)
    assert [[None]] == [
        list(row) for row in await postgres.execute("SELECT to_regnamespace('locum')", database=database)
    ]


async def test_two_stores_on_one_database_hear_each_other(postgres, database):
    """What one writes the other is told of, and reads; so it is with what somebody writes by hand."""
    one, two = await open_store(postgres, database), await open_store(postgres, database)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), one.listen() as first, two.listen() as second:
            await one.add_account(ACME)
            await second.wait()
            assert [StoreChange(position=1, account=ACME.id)] == list((await two.read_changes(0)).changes)
            await first.wait()
            await two.save_change(a_change(ACME, grant=a_grant(ACME)), by="x", at=NOW)
            await first.wait()
            assert 1 == (await one.find_account(ACME.id)).account.epoch
            await postgres.execute("UPDATE locum.accounts SET suspended = true", database=database)
            await first.wait()
            assert [StoreChange(position=3, account=ACME.id)] == list((await one.read_changes(2)).changes)
    finally:
        await one.close()
        await two.close()


async def test_a_forged_notice_does_nothing_but_wake(postgres, database):
    """Whoever may connect can notify whatever they like: the position is what it was."""
    store = await open_store(postgres, database)
    async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
        await postgres.execute("SELECT pg_notify('locum_changes', '99999')", database=database)
        await push.wait()
        assert 0 == (await store.read_changes(0)).position
    await store.close()


async def test_only_the_newest_changes_are_kept_by_name(postgres, database):
    """Some thousands of positions; who asks about an older one is told that anything may have changed."""
    store = await open_store(postgres, database)
    await store.add_account(ACME)
    await store.add_account(OTHER)
    await store.raise_position(4096)
    kept = await postgres.execute("SELECT position FROM locum.changes ORDER BY position", database=database)
    assert [2, 4097] == [row["position"] for row in kept]
    assert None is (await store.read_changes(0)).changes
    await store.close()


@pytest.fixture
async def wire(postgres):
    async with Wire(postgres) as wire:
        yield wire


def several(postgres, database, *ports, query="sslmode=disable"):
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://locum@{hosts}/{database}?{query}"


async def test_a_host_that_is_silent_or_gone_does_not_keep_the_others_waiting(postgres, database, wire):
    """The first refuses, the second never answers: the third is used, within the deadline of a question."""
    wire.stall()
    url = several(postgres, database, 1, wire.port, postgres.port)
    store = await open_store(postgres, database, url=url, read_seconds=2)
    await postgres.end_backends(database)
    with contextlib.suppress(StoreError):
        await store.find_account(ACME.id)
    assert None is await store.find_account(ACME.id)
    async with store.listen():
        pass
    await store.close()


async def test_who_may_not_be_written_to_serves_no_facts(postgres, database):
    """A server that takes no writes is refused like one that is away."""
    await postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreError, match="read-write"):
            await open_store(postgres, database)
    finally:
        await postgres.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")


async def test_a_replica_that_is_promoted_takes_over(tmp_path):
    """The replica is never asked while it is one. When the first server is lost and it is promoted, it serves by itself."""
    first = Server()
    servers = [first]
    try:
        database = await first.lend()
        servers.append(second := Server(copy_of=first))
        url = several(first, database, second.port, first.port)
        store = await open_store(first, database, url=url, read_seconds=1)
        await store.add_account(ACME)
        assert not await second.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'locum'")
        await second.until(len, "SELECT 1 FROM pg_database WHERE datname = $1", database)
        caught_up = "SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"
        await first.until(len, caught_up)
        first.kill()
        for _ in range(3):
            with pytest.raises(StoreError):
                await store.find_account(ACME.id)
        await second.execute("SELECT pg_promote()")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(StoreError):
                    assert ACME == (await store.find_account(ACME.id)).account
                    break
                await asyncio.sleep(0.02)
        async with store.listen() as push:
            await store.add_account(OTHER)
            await asyncio.wait_for(push.wait(), PATIENCE_SECONDS)
        assert 2 == (await store.read_changes(0)).position
        await store.close()
    finally:
        for server in reversed(servers):
            server.stop()


@asynccontextmanager
async def behind_tls(postgres, certificate, key):
    """Put TLS before the server as its own would be: asked for first, then begun (protocol 3, SSLRequest)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    tasks = set()

    async def copy(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
            writer.write(b"S")
            await writer.start_tls(context)
            there, way = await asyncio.open_connection("127.0.0.1", postgres.port)
            await asyncio.gather(copy(reader, way), copy(there, writer))
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_certificate_is_checked_as_the_url_says(postgres, database, tmp_path):
    """`verify-full` takes the authority's own certificate for the very host, and nothing else; a bare server neither."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "a stranger")
    good, other = authority.issue("127.0.0.1"), authority.issue("db.example")
    query = f"sslmode=verify-full&sslrootcert={authority.file}"
    async with behind_tls(postgres, good.certificate, good.key) as port:
        store = await open_store(postgres, database, url=several(postgres, database, port, query=query))
        await store.add_account(ACME)
        await store.close()
        distrusting = f"sslmode=verify-full&sslrootcert={stranger.file}"
        with pytest.raises(StoreError):
            await open_store(postgres, database, url=several(postgres, database, port, query=distrusting))
    async with behind_tls(postgres, other.certificate, other.key) as port:
        with pytest.raises(StoreError):
            await open_store(postgres, database, url=several(postgres, database, port, query=query))
    with pytest.raises(StoreError):
        await open_store(postgres, database, url=several(postgres, database, postgres.port, query=query))


async def test_a_change_on_one_machine_counts_on_the_other(postgres, database, tmp_path):
    """Two gateways with a directory each: one key ring, and what is switched off at one is refused at the other."""

    def shared(wanted):
        wanted["store"] = {"url": postgres.url(database)}

    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir(mode=0o700)
    async with open_world(directories[0], change=shared) as one:
        there = document(directories[1], upstream=one.upstream.url, issuer=one.issuer.issuer)
        shared(there)
        config = build(there, {}, base=directories[1])
        async with open_gateway(
            config, clock=one.clock.utc, ticks=one.clock.ticks, patience_seconds=PATIENCE_SECONDS
        ) as gateway:
            two = replace(one, gateway=gateway)
            assert 200 == (await one.choose())[0]
            token = await one.token()
            assert [200, 200] == [(await node.get(token))[0] for node in (one, two)]
            assert 200 == (await one.choose("off"))[0]
            async with asyncio.timeout(PATIENCE_SECONDS):
                # No fact grows old here, because the clock stands still: the other node has to be told.
                while 200 == (await two.get(token))[0]:  # noqa: ASYNC110 - as a client would find out
                    await asyncio.sleep(0.005)
            assert 403 == (await two.get(token))[0]
        assert 2 == len(await one.gateway.store.list_keys())


HIDDEN = "hunter2-is-the-password"
URLS = {
    "mysql://db.example/locum": "must begin with postgresql://",
    "postgresql:///locum": "must name a host",
    "postgresql://locum@/locum": "must name a host",
    "postgresql://a,,b/locum?sslmode=require": "must name a host",
    "postgresql://db.example/locum": "sslmode=verify-full",
    "postgresql://db.example/locum?sslmode=prefer": "sslmode=verify-full",
    "postgresql://127.0.0.1,db.example/locum": "sslmode=verify-full",
    "postgresql:///locum?host=db.example": "sslmode=verify-full",
    f"postgresql://locum:{HIDDEN}@db.example:x/locum?sslmode=require": "a port must be",
    f"postgresql://locum:{HIDDEN}@db.example:70000/locum?sslmode=require": "a port must be",
    f"postgresql://locum:{HIDDEN}@2@127.0.0.1/locum": "%40",
    f"postgresql://locum:{HIDDEN}#1@127.0.0.1/locum": "%23",
    f"postgresql://locum:{HIDDEN}@[::1/locum": "is not a URL",
    f"postgresql://locum:{HIDDEN}@127.0.0.1/locum?sslmode": "is not a URL",
    "postgresql://127.0.0.1/locum?target_session_attrs=any": "a replica lags",
    "postgresql://127.0.0.1/locum?target_session_attrs=standby": "a replica lags",
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_wrong_or_bare_is_refused_without_its_password(tmp_path, url):
    """The error names the key and says what to do; it never repeats what may hold a secret."""
    with pytest.raises(ConfigError) as refused:
        build(
            document(tmp_path, upstream="http://127.0.0.1:1", issuer="https://id.example") | {"store": {"url": url}},
            {},
            base=tmp_path,
        )
    assert str(refused.value).startswith("store.url: ")
    assert URLS[url] in str(refused.value)
    assert HIDDEN not in str(refused.value)


def test_a_url_is_read_as_it_is_meant():
    """Hosts with ports of their own, of the query, or none; an IPv6 address; the directory of a socket."""
    read = {
        "postgresql://localhost/locum": [("localhost", 5432)],
        "postgres://u:p@db1.example:5433,db2.example/x?sslmode=verify-ca": [
            ("db1.example", 5433),
            ("db2.example", 5432),
        ],
        "postgresql://[::1]:7,127.0.0.1/x": [("::1", 7), ("127.0.0.1", 5432)],
        "postgresql:///x?host=/run/postgresql&port=6543": [("/run/postgresql", 6543)],
        "postgresql://%2Frun%2Fpostgresql/x": [("/run/postgresql", 5432)],
        "postgresql:///x?host=127.0.0.1,localhost&port=1,2": [("127.0.0.1", 1), ("localhost", 2)],
    }
    assert read == {url: list(parse_url(url).hosts) for url in read}
    assert HIDDEN not in repr(parse_url(f"postgresql://u:{HIDDEN}@localhost/x"))


async def test_a_wrong_password_is_a_store_error_that_does_not_hold_it(postgres, database):
    """Neither the error nor what it came from says what was tried."""
    url = f"postgresql://stranger:{HIDDEN}@127.0.0.1:{postgres.port}/{database}?sslmode=disable"
    with pytest.raises(StoreError) as refused:
        await open_store(postgres, database, url=url)
    fault = refused.value
    while fault is not None:
        assert HIDDEN not in f"{fault} {fault!r}"
        fault = fault.__cause__ or fault.__context__


def test_without_the_extra_the_error_says_what_to_install(tmp_path):
    """A configuration error, before anything is opened; with the embedded store nothing is missing."""
    script = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from gateway.cli.root import cli\n"
        "cli(['--config', sys.argv[1], 'db', 'check'])"
    )
    for url, code, words in (("postgresql://127.0.0.1:1/x", 78, "pip install 'locum[postgres]'"), ("", 0, "ok")):
        config = tmp_path / f"config{code}.toml"
        config.write_text(CONFIG.format(data=tmp_path, url=url))
        if not url:
            asyncio.run(_make(tmp_path / "locum.sqlite3"))
        found = subprocess.run([sys.executable, "-c", script, config], capture_output=True, text=True, check=False)
        assert (code, True) == (found.returncode, words in found.stdout + found.stderr), found


async def _make(path):
    await (await open_sqlite(path)).close()

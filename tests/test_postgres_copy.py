"""`locum db`: the shape of a store, its condition, and the way from the embedded store to a shared one."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cli.root import cli
from gateway.stores import snapshot
from gateway.stores.condition import examine
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Client, KillSwitch, StoredKey, StoreError
from gateway.stores.tables import TABLES
from policy.asking import RequestState
from policy.grants import Change, GrantChange
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Duration,
    Grant,
    GrantId,
    Permission,
    Scope,
    Staff,
)
from tests.browser_contract import HELD
from tests.key_contract import add_keys
from tests.postgres_config import CONFIG
from tests.postgres_server import moving, open_store
from tests.request_contract import ASKED, ROOM, another
from tests.session_contract import DIGEST, SESSION
from tests.store_examples import (
    ACME,
    ACTOR,
    ASSUMPTION,
    AWKWARD,
    CLIENT,
    KEY,
    NOW,
    OTHER,
    STAFF,
    a_change,
    a_grant,
    begin,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "locum.sqlite3"


@pytest.fixture
async def filled(path):
    """An embedded store with something in every table."""
    store = await open_sqlite(path)
    await fill(store)
    await store.close()
    return path


async def fill(store):
    await store.add_account(ACME)
    await store.add_account(replace(OTHER, type=AccountType.TRIAL))
    first = a_change(ACME, grant=a_grant(ACME, given_by=AWKWARD))
    off = a_change(first.account, Change.TURNED_OFF, grant=replace(first.grant, revoked_at=NOW))
    again = a_change(off.account, grant=a_grant(ACME, id="g2", expires_at=None, duration=Duration.ALWAYS))
    for change in (first, off, again):
        await store.save_change(change, by="admin-7", at=NOW)
    await begin(store, ASSUMPTION)
    await begin(store, replace(ASSUMPTION, id=AssumptionId(AWKWARD), ended_at=NOW))
    await store.save_staff(STAFF, at=NOW)
    await store.sign_out(ACTOR._replace(subject="u9"), since=NOW, at=NOW)
    await store.begin_session(SESSION, STAFF, at=NOW)
    await store.add_one_time(DIGEST, AWKWARD, expires_at=NOW, now=NOW)
    await store.add_browser(HELD, at=NOW)
    await store.expect_browser(ASSUMPTION.id, until=NOW, now=NOW)
    for request in (ASKED, another(2, name=AWKWARD, reason=AWKWARD)):
        await store.add_grant_request(request, room=ROOM)
    await store.answer_grant_request(ASKED.id, RequestState.DECLINED, by=AWKWARD, at=NOW)
    await store.add_client(CLIENT)
    retired, ended = replace(KEY, id="k0", retired_at=NOW), replace(KEY, id="k2", ended_at=NOW, private_pem=b"")
    await add_keys(store, KEY, retired, ended)
    await store.set_kill_switch(KillSwitch(on=True, by=AWKWARD, reason=AWKWARD, at=NOW))
    await store.raise_position(7000)


async def everything(store, *, accounts, actors, clients, grants, assumptions):
    """All that the Protocol tells of a store."""
    return {
        "accounts": list(await store.list_accounts()),
        "history": [list(await store.list_changes(account)) for account in accounts],
        "grants": [await store.find_grant(grant) for grant in grants],
        "assumptions": [await store.find_assumption(assumption) for assumption in assumptions],
        "open": list(await store.list_assumptions(at=NOW)),
        "staff": [await store.find_staff(actor) for actor in actors],
        "clients": [await store.find_client(client) for client in clients],
        "keys": list(await store.list_keys()),
        "holds": list(await store.list_holds()),
        "requests": list(await store.list_asked(ACTOR, since=NOW)),
        "session": await store.find_session(DIGEST),
        "browser": (await store.find_browser(HELD.digest), await store.find_jar(HELD.digest)),
        "unclaimed": list(await store.list_unclaimed(at=NOW)),
        "kill-switch": await store.find_kill_switch(),
        "changes": [await store.read_changes(after) for after in (0, 3, 6999, 7000)],
    }


async def copy(path, url):
    with snapshot.take(path, alone=True) as source:
        return await moving.copy_into(parse_url(url), StoreTerms(), source, lambda *_told: None)


async def all_rows(reading):
    return {table.name: [row async for row in reading.rows(table.select)] for table in TABLES}


def test_every_column_of_both_stores_is_in_the_list(postgres, path):
    """A column that a later migration adds cannot be forgotten by the copy."""

    async def of_postgres():
        name = await postgres.lend()
        sql = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'locum'"
        return {tuple(row) for row in await postgres.execute(sql, database=name)}

    asyncio.run(_close(path))
    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
        embedded = {row for row in connection.execute(sql) if row[0] not in ("migrations", "sqlite_sequence")}
    listed = {(table.name, column) for table in TABLES for column in table.columns}
    # The journals are shipped, not copied: each node's files are the truth.
    others = ("migrations", "position", "journal_segments", "journal_lines", "journal_nodes", "journal_notes")
    shared = {row for row in asyncio.run(of_postgres()) if row[0] not in others}
    assert listed == embedded
    assert listed == shared


async def _close(path):
    await (await open_sqlite(path)).close()


async def test_nothing_is_lost_on_the_way(filled, postgres, database):
    """Every row of every table, the positions, and what the Protocol tells are the same; the next change counts on."""
    assert 7001 == await copy(filled, postgres.url(database))
    names = {
        "accounts": [ACME.id, OTHER.id],
        "actors": [ACTOR, ACTOR._replace(subject="u9")],
        "clients": [CLIENT.id],
        "grants": ["g1", "g2"],
        "assumptions": [ASSUMPTION.id, AWKWARD],
    }
    with snapshot.take(filled, alone=False) as before:
        async with moving.read_database(parse_url(postgres.url(database)), StoreTerms()) as after:
            assert await all_rows(before) == await all_rows(after)
            assert await examine(before) == await examine(after)
    embedded, shared = await open_sqlite(filled), await open_store(postgres, database)
    try:
        assert await everything(embedded, **names) == await everything(shared, **names)
        await shared.disable_staff(ACTOR, disabled=True)
        assert 7002 == (await shared.read_changes(7001)).position
    finally:
        await shared.close()
        await embedded.close()


async def test_a_database_with_anything_in_it_is_refused_and_left_alone(filled, postgres, database):
    """Even a single key, such as a gateway makes at its start."""
    shared = await open_store(postgres, database)
    await shared.add_key(KEY)
    await shared.close()
    with pytest.raises(StoreError, match="rows already, in `signing_keys`"):
        await copy(filled, postgres.url(database))
    shared = await open_store(postgres, database)
    assert [] == await shared.list_accounts()
    # The counting of changes, which is off for a copy, is on.
    before = (await shared.read_changes(0)).position
    await shared.add_account(ACME)
    assert before + 1 == (await shared.read_changes(0)).position
    await shared.close()


async def test_who_has_the_embedded_store_open_is_named(filled, postgres, database):
    """While a gateway or a command has it open nothing is copied, and the error says what to stop."""
    script = "import sys, asyncio, pathlib; from gateway.stores.sqlite import open_sqlite\nasync def main():\n"
    script += "    store = await open_sqlite(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()\n"
    script += "    await store.close()\nasyncio.run(main())"
    command = [sys.executable, "-c", script, str(filled)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # noqa: ASYNC220 - it is asked
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match="stop `locum run`"):
            await copy(filled, postgres.url(database))
        other.stdin.close()
        assert 0 == other.wait(20)
    await copy(filled, postgres.url(database))


async def test_what_came_through_changed_is_not_kept(filled, postgres, database):
    """A database that alters a value, such as one whose columns pad what they hold, gets nothing."""
    await postgres.execute("ALTER TABLE locum.assumptions ALTER ticket TYPE char(50)", database=database)
    with pytest.raises(StoreError, match="row 1 of `assumptions` did not come through"):
        await copy(filled, postgres.url(database))
    assert [] == await postgres.execute("SELECT 1 FROM locum.accounts", database=database)
    await postgres.execute("ALTER TABLE locum.assumptions ALTER ticket TYPE text", database=database)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.datetimes(timezones=st.just(UTC))
IDS = st.lists(TEXTS, max_size=4, unique=True)


@st.composite
def contents(draw):
    """What a store may hold: (accounts with their changes, assumptions, staff, clients, keys, kill-switch)."""
    accounts = []
    for id_ in draw(IDS):
        account = Account(id=AccountId(id_), type=draw(st.sampled_from(AccountType)), epoch=draw(st.integers(0, 2**40)))
        changes = []
        for number in range(draw(st.integers(0, 3))):
            after = replace(changes[-1].account if changes else account, suspended=draw(st.booleans()))
            after = replace(after, epoch=after.epoch + 1)
            grant = Grant(
                id=GrantId(f"{id_}/{number}"),
                account=after.id,
                epoch=after.epoch,
                duration=draw(st.sampled_from(Duration)),
                permissions=draw(st.frozensets(st.sampled_from(Permission))),
                not_before=draw(TIMES),
                expires_at=draw(st.none() | TIMES),
                given_by=draw(TEXTS),
                revoked_at=draw(st.none() | TIMES),
            )
            change = draw(st.sampled_from(Change))
            changes.append(GrantChange(change=change, account=after, grant=draw(st.none() | st.just(grant))))
        accounts.append((account, changes))
    assumptions = [
        Assumption(
            id=AssumptionId(id_),
            account=AccountId(draw(TEXTS)),
            subject=AgentId(draw(TEXTS)),
            actor=ActorId(issuer=draw(TEXTS), subject=draw(TEXTS)),
            grant_id=GrantId(draw(TEXTS)),
            ticket=draw(TEXTS),
            reason=draw(TEXTS),
            scopes=frozenset({Scope(resource="tickets", write=draw(st.booleans()))}),
            started_at=draw(TIMES),
            expires_at=draw(TIMES),
            ended_at=draw(st.none() | TIMES),
        )
        for id_ in draw(IDS)
    ]
    staff = [
        Staff(
            id=ActorId(issuer=draw(TEXTS), subject=subject),
            name=draw(TEXTS),
            permissions=draw(st.frozensets(st.sampled_from(Permission))),
            groups=draw(st.frozensets(TEXTS)),
            disabled=draw(st.booleans()),
            signed_out_at=draw(st.none() | TIMES),
            told_at=draw(st.none() | TIMES),
        )
        for subject in draw(IDS)
    ]
    clients = [
        Client(
            id=ClientId(id_),
            secret_digest=draw(st.binary(max_size=8)),
            roles=frozenset({"token"}),
            jwks=draw(st.none() | TEXTS),
            dpop=draw(st.booleans()),
        )
        for id_ in draw(IDS)
    ]
    keys = [
        StoredKey(
            id=id_,
            algorithm=draw(TEXTS),
            private_pem=draw(st.binary(max_size=8)),
            created_at=draw(TIMES),
            signs_from=draw(TIMES),
            retired_at=draw(st.none() | TIMES),
            ended_at=draw(st.none() | TIMES),
        )
        for id_ in draw(IDS)
    ]
    switch = KillSwitch(on=draw(st.booleans()), by=draw(TEXTS), reason=draw(TEXTS), at=draw(st.none() | TIMES))
    return accounts, assumptions, staff, clients, keys, switch


async def write(store, content):
    accounts, assumptions, staff, clients, keys, switch = content
    for account, changes in accounts:
        await store.add_account(account)
        for change in changes:
            await store.save_change(change, by=account.id, at=NOW)
    for assumption in assumptions:
        await begin(store, assumption)
    for member in staff:
        await store.save_staff(member, at=NOW - timedelta(days=1))
    for client in clients:
        await store.add_client(client)
    await add_keys(store, *keys)
    await store.set_kill_switch(switch)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(content=contents())
def test_whatever_a_store_holds_the_copy_holds(postgres, tmp_path_factory, content):
    """Random content, written through the Protocol and copied, is read through it as it was; and it is whole."""
    accounts, assumptions, staff, clients, _, _ = content
    path = tmp_path_factory.mktemp("copied") / "locum.sqlite3"

    async def work():
        database = await postgres.lend()
        embedded = await open_sqlite(path)
        await write(embedded, content)
        await embedded.close()
        await copy(path, postgres.url(database))
        embedded, shared = await open_sqlite(path), await open_store(postgres, database)
        names = {
            "accounts": [account.id for account, _ in accounts],
            "grants": [change.grant.id for _, changes in accounts for change in changes if change.grant],
            "assumptions": [assumption.id for assumption in assumptions],
            "actors": [member.id for member in staff],
            "clients": [client.id for client in clients],
        }
        assert await everything(embedded, **names) == await everything(shared, **names)
        await shared.close()
        await embedded.close()
        async with moving.read_database(parse_url(postgres.url(database)), StoreTerms()) as reading:
            assert () == (await examine(reading)).faults
        postgres.take_back(database)

    asyncio.run(work())


FAULTS = {
    "a grant that is not there": "DELETE FROM grants WHERE id = 'g2'",
    "another epoch": "UPDATE accounts SET epoch = 9 WHERE id = 'acme'",
    "another grant than": "UPDATE accounts SET grant_id = 'g1' WHERE id = 'acme'",
    "another grant than its history": "UPDATE grants SET revoked_at = 5 WHERE id = 'g2'",
    "is of an account that is not there": "DELETE FROM accounts WHERE id = 'acme'",
    "a row of grants has no meaning": "UPDATE grants SET duration = 'eternity'",
    "a row of staff has no meaning": "UPDATE staff SET groups = '{'",
    "is not followed by the next one": "INSERT INTO changes (position, account) VALUES (7003, 'x')",
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_does_not_fit_together_is_found(filled, fault):
    """Each kind of damage is named."""
    with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(FAULTS[fault])
    with snapshot.take(filled, alone=False) as reading:
        condition = await examine(reading)
    assert any(fault.removesuffix(" its history") in found for found in condition.faults), condition.faults


def run(tmp_path, *arguments, url=""):
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(data=tmp_path / "data", url=url))
    return CliRunner().invoke(cli, ["--config", str(config), "db", *arguments])


def test_the_commands_say_what_they_did(tmp_path, path, postgres):
    """Migrate, check, copy and check again, as an operator would; a failed check exits with 1."""

    async def prepare():
        (tmp_path / "data").mkdir(mode=0o700)
        store = await open_sqlite(path)
        await fill(store)
        await store.close()
        return await postgres.new_database()

    database = asyncio.run(prepare())
    url = postgres.url(database)
    before = run(tmp_path, "check")
    assert (0, "ok") == (before.exit_code, before.output.splitlines()[-1])
    assert "grant_events: 3" in before.output
    early = run(tmp_path, "check", url=url)
    assert early.exit_code == 1
    assert "locum db migrate" in early.output
    assert "1 steps taken" in run(tmp_path, "migrate", url=url).output
    assert "0 steps taken" in run(tmp_path, "migrate", url=url).output
    assert "of this version's shape" in run(tmp_path, "migrate").output
    assert run(tmp_path, "copy").exit_code == 2
    copied = run(tmp_path, "copy", "--to", url)
    assert (0, "position 7001") == (copied.exit_code, copied.output.strip()[-13:]), copied.output
    assert before.output == run(tmp_path, "check", url=url).output
    again = run(tmp_path, "copy", url=url)
    assert again.exit_code == 1
    assert "rows already" in again.output
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE accounts SET epoch = 9")
    assert run(tmp_path, "check").exit_code == 1

"""`locum audit verify --database`: the database's copy is judged where it lies, with nothing but a public key."""

import asyncio
from datetime import timedelta

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.evidence.verify import verify
from gateway.cli.root import cli
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from tests.journals import KEY, NOON, SecondHand, write_journal
from tests.postgres_config import CONFIG
from tests.postgres_server import connect

# Behind what skips where asyncpg is missing.
from gateway.stores.postgres.journal_back import DatabaseJournal  # isort: skip
from gateway.stores.postgres.journal_lines import Shipper  # isort: skip

TERMS = StoreTerms()
OTHER = Ed25519PrivateKey.generate().public_key()


@pytest.fixture
def database(postgres):
    """An empty database of this version's shape, by its name."""
    name = asyncio.run(postgres.lend())
    yield name
    postgres.take_back(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The journals of two nodes, which have an origin of the same name, and two keys; never written to by a test."""
    directory = tmp_path_factory.mktemp("files")

    async def work():
        for node in ("n1", "n2"):
            for origin, count in (("node", 5), (f"only-{node}", 2)):
                await write_journal(directory / node, count, origin=origin)
        await write_journal(directory / "n1", 3, clock=SecondHand(NOON + timedelta(hours=1)))

    asyncio.run(work())
    for name, key in (("key.pem", KEY.public_key()), ("other.pem", OTHER)):
        (directory / name).write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return directory


@pytest.fixture
def place(postgres, database, files, monkeypatch):
    """Where an auditor works who has a key and a URL, and no configuration; the database has both journals."""
    monkeypatch.chdir(files)

    async def work():
        async with connect.Connector(parse_url(postgres.url(database)), TERMS).apart(10) as connection:
            for node in ("n1", "n2"):
                await Shipper(files / node, node, connection, clock=lambda: NOON + timedelta(days=1)).catch_up()

    asyncio.run(work())
    return files


@pytest.fixture
def judge(postgres, database, place):
    """Run the command; return its exit code and the lines that it says."""

    url = postgres.url(database)

    def run(*more, key="key.pem"):
        told = CliRunner().invoke(cli, ["audit", "verify", "--database", url, "--public-key", key, *more])
        assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
        return told.exit_code, told.output.splitlines()

    return run


@pytest.fixture
def change(postgres, database, place):
    """Do to the database what whoever can write it can."""
    return lambda sql: asyncio.run(postgres.execute(sql, database=database))


def test_what_was_shipped_is_found_good_as_it_is_in_the_files(judge, place):
    """Each node in the words that its own files are judged with, and nothing is left behind here."""
    before = sorted(place.iterdir())
    code, lines = judge()
    assert (0, "ok") == (code, lines[-1]), lines
    files = []
    for node in ("n1", "n2"):
        own = CliRunner().invoke(cli, ["audit", "verify", "--journal", node, "--public-key", "key.pem"])
        files += [f"node {node}:", *own.output.splitlines()[:-1]]
    assert [*files, "ok"] == lines
    assert "node: 8 records, 8 under a checkpoint (signed)" in lines
    assert before == sorted(place.iterdir())
    assert (1, False) == ((wrong := judge(key="other.pem"))[0], "ok" in wrong[1])


def test_a_byte_that_is_flipped_in_the_database_is_found(judge, change, place):
    """Which it is, is said as of a file: the segment, the line, and at which byte that begins."""
    change(
        "UPDATE locum.journal_lines SET line = set_byte(line, 120, get_byte(line, 120) # 1) WHERE number = 2"
        " AND segment = (SELECT min(id) FROM locum.journal_segments WHERE node = 'n2' AND name LIKE 'node-%')"
    )
    code, lines = judge()
    at = sum(map(len, (place / "n2" / "node-000000000000.jsonl").read_bytes().splitlines(keepends=True)[:2]))
    first = f"node-000000000000.jsonl:3 (byte {at}): the record is not the one that was hashed"
    assert (1, "node n2:", first) == (code, *lines[lines.index("node n2:") :][:2]), lines
    assert lines[-1].endswith(" findings")
    assert 0 == judge("--node", "n1")[0]
    assert 1 == judge("--node", "n2")[0]


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ("DELETE FROM locum.journal_lines WHERE number = 2", "records 2 to 2 are missing before this one"),
        ("DELETE FROM locum.journal_lines WHERE number >= 2", "cut off: a checkpoint in the journal covers"),
        ("DELETE FROM locum.journal_notes", "there is no checkpoint"),
        ("UPDATE locum.journal_notes SET note = set_byte(note, 0, 65)", "node"),
        ("UPDATE locum.journal_lines SET line = substr(line, 9) WHERE number = 0", "this is not a line of a journal"),
        ("UPDATE locum.journal_lines SET line = line || 'x' WHERE number = 4", "the line is torn"),
        ("UPDATE locum.journal_segments SET name = replace(name, 'node-', 'nope-')", "another origin's"),
        ("UPDATE locum.journal_segments SET name = '../' || name", "which no journal has: it was changed"),
        ("UPDATE locum.journal_segments SET node = '..' WHERE node = 'n1'", "which no node is called: it was changed"),
        ("DELETE FROM locum.journal_segments", "the database holds no journal"),
    ],
)
def test_what_somebody_does_to_the_database_is_found(judge, change, done, said):
    """Lines, checkpoints and names; where there is nothing to judge, that is not said to be good."""
    change(done)
    code, lines = judge()
    assert (1, True, False) == (code, said in "\n".join(lines), "ok" in lines), lines


def test_files_are_read_in_the_order_of_writing(judge, change):
    """A file of a name that was taken comes behind it, wherever the letters put it."""
    change(
        "UPDATE locum.journal_segments SET name = 'node-000000000000.1.jsonl' WHERE name = 'node-000000000005.jsonl'"
    )
    code, lines = judge("--node", "n1")
    only = "node-000000000000.1.jsonl:1 (byte 0): the file is named for record 0 and begins with 5"
    assert (1, ["node n1:", only], "1 findings") == (code, lines[:2], lines[-1]), lines


def test_what_was_cut_off_with_its_checkpoints_is_found_by_one_that_was_kept(judge, change, place):
    """For the node whose origin it is; where several have one of that name, it has to be said whose it is."""
    change("DELETE FROM locum.journal_segments WHERE node = 'n2' AND name LIKE 'only-%'")
    change("DELETE FROM locum.journal_notes WHERE node = 'n2' AND origin LIKE 'only-%'")
    kept = ("--checkpoint", str(place / "n2" / "only-n2.checkpoint"))
    found = "cut off: the checkpoint held elsewhere covers 2 records, here are 0"
    assert 0 == judge()[0]
    for more in ((), ("--node", "n2")):
        code, lines = judge(*kept, *more)
        assert (1, True) == (code, any(line.endswith(found) for line in lines)), lines
    assert 0 == judge("--checkpoint", str(place / "n1" / "only-n1.checkpoint"))[0]
    both = ("--checkpoint", str(place / "n1" / "node.checkpoint"))
    assert (2, True) == ((told := judge(*both))[0], "say whose with `--node NODE`" in told[1][-1])
    assert [0, 1] == [judge(*both, "--node", node)[0] for node in ("n1", "n2")]


def test_an_auditors_role_needs_no_more_than_the_manual_says(postgres, database, place, change):
    """It may read three tables, and of the store itself nothing."""
    change(
        "DO $$ BEGIN CREATE ROLE auditor LOGIN; GRANT USAGE ON SCHEMA locum TO auditor;"
        "GRANT SELECT ON locum.journal_segments, locum.journal_lines, locum.journal_notes TO auditor; END $$"
    )
    url = postgres.url(database).replace("//locum@", "//auditor@")
    try:
        told = CliRunner().invoke(cli, ["audit", "verify", "--database", url, "--public-key", "key.pem"])
    finally:
        change("DO $$ BEGIN DROP OWNED BY auditor; DROP ROLE auditor; END $$")
    assert (0, "ok") == (told.exit_code, told.output.splitlines()[-1]), told.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--database", "mysql://x"], 2, "must begin with postgresql://"),
        (["--database", "postgresql://locum@127.0.0.1:1/locum?sslmode=disable"], 1, "cannot be used"),
        (["--database", "postgresql://a@127.0.0.1/b", "--journal", "n1"], 2, "either `--journal` or `--database`"),
        (["--journal", "n1", "--node", "n1"], 2, "goes with `--database`"),
        (["--database"], 78, "config.toml"),
    ],
)
def test_what_makes_no_sense_is_said(place, words, code, said):
    """By the exit codes of every other command."""
    told = CliRunner().invoke(cli, ["audit", "verify", "--public-key", "key.pem", *words])
    assert (code, True) == (told.exit_code, said in told.output), told.output


def test_a_node_that_is_not_there_is_not_found_to_be_good(judge):
    """Nor is an empty answer."""
    assert (1, True) == ((told := judge("--node", "n3"))[0], "no journal of a node `n3`" in told[1][-1])


def test_with_a_configuration_its_database_and_its_key_are_taken(postgres, database, place, tmp_path):
    """As the other commands do; a configuration without a shared store says so."""
    (tmp_path / "journal-key.pem").symlink_to(place / "key.pem")
    for url, code in ((postgres.url(database), 0), ("", 78)):
        (tmp_path / "config.toml").write_text(CONFIG.format(data=tmp_path, url=url))
        told = CliRunner().invoke(cli, ["--config", str(tmp_path / "config.toml"), "audit", "verify", "--database"])
        assert (code, not code) == (told.exit_code, "under a checkpoint (signed)" in told.output), told.output
    assert "there is no database that several machines share" in told.output


def test_a_record_that_lets_something_go_may_come_between_two_readings(postgres, database, place):
    """Each reading is of one moment, the next of a newer one."""
    with asyncio.Runner() as runner:
        url = parse_url(postgres.url(database))
        connection, _ = runner.run(connect.Connector(url, TERMS).connect(patient=True))
        journal = DatabaseJournal(runner, connection, "n1")
        first = journal.origins()
        source = next(first)
        segment = next(source.segments)
        runner.run(postgres.execute("DELETE FROM locum.journal_lines WHERE number > 0", database=database))
        assert 5 == len(list(segment[1]))
        [(_, lines), *_] = next(journal.origins()).segments
        assert 1 == len(list(lines))
        connection.terminate()
    assert verify(place / "n1", public_key=KEY.public_key()).ok

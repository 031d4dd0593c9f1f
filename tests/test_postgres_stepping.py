"""What cannot be read, or what the shared database does not take, keeps nothing else from being shipped and found."""

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from gateway.audit.evidence.verify import verify
from gateway.audit.index.lines import read_indexed
from gateway.audit.search import Query
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError
from tests.index_world import write_segment
from tests.journals import NOON
from tests.postgres_server import connect
from tests.test_stepping import DAMAGES, entry, folder, pipe

# Behind what skips where asyncpg is missing.
from gateway.stores.postgres.journal_index import DatabaseIndex  # isort: skip
from gateway.stores.postgres.journal_back import fetch_journal  # isort: skip
from gateway.stores.postgres.journal_lines import Shipper  # isort: skip

TERMS = StoreTerms()


@pytest.fixture
async def url(postgres):
    """An empty database of this version's shape."""
    database = await postgres.lend()
    yield postgres.url(database)
    postgres.take_back(database)


@asynccontextmanager
async def connected(url):
    async with connect.Connector(parse_url(url), TERMS).apart(10) as connection:
        yield connection


async def found(url):
    """The numbers of what is found, and of what whoever follows is shown."""
    index = DatabaseIndex(parse_url(url), TERMS, seconds=30, clock=lambda: NOON + timedelta(days=30))
    page, _ = await index.search(Query.parse(""), limit=99, before=None, after=None, account=None)
    return sorted(one.entry["seq"] for one in page.found)


async def test_damaged_lines_are_stepped_over_and_counted(url, tmp_path):
    """Every damage that is known by name, all in one file: what is whole is found, and the count stays with the node."""
    journal = tmp_path / "journal"
    path = write_segment(journal, [entry(seq) for seq in range(len(DAMAGES) + 1)])
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [damage(line) for damage, line in zip(DAMAGES.values(), lines, strict=False)]
    content = b"".join(one for pair in zip(damaged, lines, strict=False) for one in pair) + lines[-1]
    path.write_bytes(content)
    async with connected(url) as connection:
        shipper = Shipper(journal, "n1", connection)
        assert 2 * len(DAMAGES) + 1 == await shipper.catch_up()
        assert ((len(DAMAGES), 0), 0) == (shipper.unread, shipper.behind())
        again = Shipper(journal, "n1", connection)
        assert 0 == await again.catch_up()
        assert (len(DAMAGES), 0) == again.unread
        (tmp_path / "back").mkdir()
        await fetch_journal(connection, "n1", tmp_path / "back")
    assert list(range(len(DAMAGES) + 1)) == await found(url)
    assert content == (tmp_path / "back" / path.name).read_bytes()


async def test_what_nobody_has_thought_of_is_stepped_over(url, tmp_path):
    """The next fault of ours in reading a record costs that record's being found."""
    journal = tmp_path / "journal"
    write_segment(journal, [entry(seq) for seq in range(4)])

    def read(line):
        if b'"seq":1' in line:
            raise RuntimeError
        return read_indexed(line, node="n1")

    async with connected(url) as connection:
        shipper = Shipper(journal, "n1", connection, read=read)
        assert 4 == await shipper.catch_up()
        assert (1, 0) == shipper.unread
    assert [0, 2, 3] == await found(url)


@pytest.mark.parametrize("make", [folder, pipe], ids=lambda make: make.__name__)
async def test_a_file_that_cannot_be_read_is_stepped_over(url, tmp_path, make):
    """The others are shipped; once it can be read it is, too."""
    journal = tmp_path / "journal"
    write_segment(journal, [entry(0)])
    bad = journal / "node-000000000001.jsonl"
    make(bad, tmp_path)
    write_segment(journal, [entry(2)], first=2)
    async with connected(url) as connection:
        shipper = Shipper(journal, "n1", connection)
        assert [2, 0] == [await shipper.catch_up() for _ in range(2)]
        assert ((0, 1), 0) == (shipper.unread, shipper.behind())
        bad.rmdir() if make is folder else bad.unlink()
        write_segment(journal, [entry(1)], first=1)
        assert 1 == await shipper.catch_up()
        assert (0, 0) == shipper.unread
    assert [0, 1, 2] == await found(url)


@asynccontextmanager
async def refusing(connection, rows):
    """Have the database refuse some rows of lines, as if it had a limit that nobody knows."""
    await connection.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {rows} THEN RAISE EXCEPTION 'too strange' USING ERRCODE = '22023'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER refusing BEFORE INSERT ON locum.journal_lines FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    try:
        yield
    finally:
        await connection.execute("DROP FUNCTION public.refuse() CASCADE")


STRANGE = "position('strange'::bytea IN NEW.line) > 0"


@pytest.mark.parametrize(
    ("rows", "is_found", "comes_back"),
    [
        ("NEW.account = 'strange'", True, True),
        (f"NEW.marks IS NOT NULL AND {STRANGE}", False, True),
        (STRANGE, False, False),
    ],
    ids=["what it is counted by", "what it is found by", "its bytes"],
)
async def test_what_the_database_does_not_take_of_a_line_is_left_out(url, tmp_path, rows, is_found, comes_back):
    """As little as possible of it; of the others nothing, and verifying the database finds a line that is missing."""
    journal = tmp_path / "journal"
    write_segment(journal, [entry(seq) | {"account": "strange" if seq == 1 else "acme"} for seq in range(4)])
    async with connected(url) as connection:
        shipper = Shipper(journal, "n1", connection)
        async with refusing(connection, rows):
            assert 4 == await shipper.catch_up()
            assert (1, 0) == shipper.unread
            assert 0 == await shipper.catch_up()
        (tmp_path / "back").mkdir()
        await fetch_journal(connection, "n1", tmp_path / "back")
    assert ([0, 1, 2, 3] if is_found else [0, 2, 3]) == await found(url)
    assert comes_back == verify(tmp_path / "back").ok


async def test_a_database_that_takes_nothing_is_waited_for(url, tmp_path):
    """Or a fault of the database's would be taken for one of every line: nothing is noted as shipped."""
    journal = tmp_path / "journal"
    write_segment(journal, [entry(seq) for seq in range(3)])
    async with connected(url) as connection:
        async with refusing(connection, "TRUE"):
            with pytest.raises(StoreError, match="takes no line"):
                await Shipper(journal, "n1", connection).catch_up()
        assert 3 == await Shipper(journal, "n1", connection).catch_up()
    assert [0, 1, 2] == await found(url)


@pytest.mark.parametrize("text", ["", "decision:deny", "-decision:deny", "account:acme after:2026-11-23T12:00:10"])
async def test_few_are_found_in_the_same_order_as_many(url, tmp_path, text):
    """The database's guess at how many there are decides how it looks for them, and nothing else: page by page."""
    journal = tmp_path / "journal"
    ten = timedelta(seconds=10)
    entries = [
        entry(seq)
        | {"decision": "deny" if seq % 3 else "allow", "account": "acme", "at": (NOON + seq // 4 * ten).isoformat()}
        for seq in range(700)
    ]
    write_segment(journal, entries)
    async with connected(url) as connection:
        await Shipper(journal, "n1", connection).catch_up()
    for way in ({"before": None, "after": None}, {"before": None, "after": 0}, {"before": 2**63 - 1, "after": None}):
        pages = []
        for few in (0, 10**9):
            index = DatabaseIndex(parse_url(url), TERMS, seconds=30, clock=lambda: NOON + timedelta(days=30), few=few)
            page, _ = await index.search(Query.parse(text), limit=600, account=None, **way)
            pages.append([one.id for one in page.found])
        assert pages[0] == pages[1] != []

"""Which machines ship their journals to the shared store, as the security team is shown them."""

from datetime import datetime, timedelta

import pytest

from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError
from tests.journals import NOON, write_journal
from tests.postgres_server import connect

# Behind what skips where asyncpg is missing.
from gateway.stores.postgres.journal_lines import Shipper  # isort: skip
from gateway.stores.postgres.nodes import DatabaseNodes  # isort: skip


async def test_each_that_has_shipped_is_listed(postgres, database, tmp_path):
    """With its origins, how far it is, and when it was heard of last; one whose journal is not all there yet, too."""
    address = parse_url(postgres.url(database))
    nodes = DatabaseNodes(address, StoreTerms())
    assert [] == await nodes.read()
    for name, origins in (("a1", ("west-1", "west-2")), ("b2", ("east",))):
        for origin in origins:
            await write_journal(tmp_path / name, 2, origin=origin)
        async with connect.Connector(address, StoreTerms()).apart(10) as connection:
            await Shipper(tmp_path / name, name, connection, clock=lambda: NOON).catch_up()
    sql = "INSERT INTO locum.journal_nodes (node, heard_at) VALUES ($1, now() - interval '2 hours')"
    await postgres.execute(sql, "<b>c3", database=database)

    west, east, gone = sorted(await nodes.read(), key=lambda node: node.origins, reverse=True)

    assert ("a1", ("west-1", "west-2"), NOON) == (west.name, west.origins, west.through)
    assert ("b2", ("east",), NOON) == (east.name, east.origins, east.through)
    assert ("<b>c3", (), None) == (gone.name, gone.origins, gone.through)
    assert 7200 <= gone.silent_seconds
    assert west.silent_seconds <= gone.silent_seconds - 7000
    assert isinstance(gone.heard_at, datetime)
    assert timedelta(hours=1) < west.heard_at - gone.heard_at


async def test_a_store_that_says_nonsense_or_nothing_is_an_error_of_the_store(postgres, database):
    """So the page says that it does not know, whatever stands in the database."""
    nodes = DatabaseNodes(parse_url(postgres.url(database)), StoreTerms())
    sql = "INSERT INTO locum.journal_nodes (node, through) VALUES ('x', 9223372036854775807)"
    await postgres.execute(sql, database=database)
    with pytest.raises(StoreError):
        await nodes.read()
    await postgres.execute("ALTER TABLE locum.journal_nodes RENAME TO elsewhere", database=database)
    try:
        with pytest.raises(StoreError):
            await nodes.read()
    finally:
        await postgres.execute("ALTER TABLE locum.elsewhere RENAME TO journal_nodes", database=database)

"""PostgreSQL as the store: the contract, and the text that it cannot hold by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.postgres.text import read_values, write_values
from gateway.stores.store import StoreError
from tests.postgres_server import open_store
from tests.store_contract import StoreContract
from tests.store_examples import ACME, ACTOR, NOW, STAFF

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x00\x01\x02"))


@pytest.fixture
async def store(database, postgres):
    store = await open_store(postgres, database)
    yield store
    await store.close()


class TestPostgresStore(StoreContract):
    """PostgreSQL keeps the contract."""


@given(one=TEXTS, two=TEXTS)
def test_any_text_is_stored_without_nul_and_in_its_order(one, two):
    """What is stored holds no NUL, is read as it was, and sorts byte by byte as the texts do by their characters."""
    stored = write_values((one, two, None, 5, b"\x00"))
    assert (one, two, None, 5, b"\x00") == read_values(stored)
    assert not any("\x00" in text for text in stored[:2])
    assert (one < two) == (stored[0].encode() < stored[1].encode())
    assert (one == two) == (stored[0] == stored[1])


@pytest.mark.parametrize("stored", ["\x01", "a\x01b", "\x01\x03"])
def test_a_stored_text_that_means_nothing_is_not_guessed_at(stored):
    """No version has written it."""
    with pytest.raises(ValueError, match="no version has written"):
        read_values((stored,))


async def test_what_has_no_exact_form_is_a_store_error_and_harms_nobody(store):
    """Half of a surrogate pair, or a number beyond 64 bits; the next call works."""
    for _ in range(10):
        with pytest.raises(StoreError):
            await store.find_account("\ud800")
        with pytest.raises(StoreError):
            await store.read_changes(2**63)
    await store.add_account(ACME)


async def test_a_row_that_means_nothing_is_a_store_error(store, postgres, database):
    """Whoever edits by hand what only a version can write gets no guess back."""
    await store.save_staff(STAFF, at=NOW)
    await postgres.execute("UPDATE locum.staff SET permissions = 'everything'", database=database)
    with pytest.raises(StoreError):
        await store.find_staff(ACTOR)

import asyncio

import pytest

from gateway.stores.store import StoreError
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS
from tests.store_contract import CALLS, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


@pytest.mark.parametrize("call", CALLS)
async def test_a_failing_memory_store_fails_every_call_until_it_is_mended(call: str):
    """`fail_with` reaches every call, and leaves nothing behind."""
    store = MemoryStore(fail_with=StoreError("away"))
    with pytest.raises(StoreError, match="away"):
        await CALLS[call](store)
    store.fail_with = None
    assert list(await store.list_accounts()) == []
    assert list(await store.list_keys()) == []


@pytest.mark.parametrize("call", ["find_account", "add_account"])
async def test_a_held_memory_store_answers_when_it_is_let_go(call: str):
    """`hold` blocks a call until the event is set."""
    store = MemoryStore(hold=asyncio.Event())
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(CALLS[call](store))
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        store.hold.set()

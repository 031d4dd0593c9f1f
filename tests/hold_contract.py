"""What every store must keep to about legal holds; a part of `StoreContract`."""

import pytest

from gateway.stores.holding import Hold
from gateway.stores.store import StoreConflict
from policy.model import AccountId
from tests.store_examples import ACME, AWKWARD, EARLIEST, LATEST, NOW

HOLD = Hold(account=ACME.id, by="pat", reason="court order 7", at=NOW)


class HoldContract:
    """Supply a `store`."""

    async def test_a_hold_comes_back_as_it_was_put(self, store):
        """By account, whatever is in its texts, and until it is released."""
        others = [
            Hold(account=AccountId("a"), by=AWKWARD, reason=AWKWARD, at=EARLIEST),
            Hold(account=AccountId("zz"), by="", reason="", at=LATEST),
        ]
        for hold in (others[1], HOLD, others[0]):
            await store.add_hold(hold)
        assert [others[0], HOLD, others[1]] == list(await store.list_holds())

    async def test_a_hold_is_not_replaced(self, store):
        """Who put it there first, and why, stays."""
        await store.add_hold(HOLD)
        with pytest.raises(StoreConflict):
            await store.add_hold(Hold(account=ACME.id, by="eve", reason="another", at=NOW))
        assert [HOLD] == list(await store.list_holds())

    async def test_a_hold_is_released_once(self, store):
        """And then put again, by whoever likes."""
        await store.add_hold(HOLD)
        assert [True, False] == [await store.remove_hold(ACME.id), await store.remove_hold(ACME.id)]
        assert [] == list(await store.list_holds())
        await store.add_hold(HOLD)

"""The holds of `MemoryStore`; see `tests.memory_store`."""

from collections.abc import Sequence

from gateway.stores.holding import Hold
from gateway.stores.store import StoreConflict
from policy.model import AccountId


class MemoryHolds:
    """Keeps them for the store whose part this is."""

    _holds: dict[AccountId, Hold]

    async def _answer(self) -> None:
        raise NotImplementedError

    async def add_hold(self, hold: Hold) -> None:
        await self._answer()
        if hold.account in self._holds:
            raise StoreConflict(f"the hold of `{hold.account}` exists already")
        self._holds[hold.account] = hold

    async def list_holds(self) -> Sequence[Hold]:
        await self._answer()
        return [hold for _, hold in sorted(self._holds.items())]

    async def remove_hold(self, account: AccountId) -> bool:
        await self._answer()
        return self._holds.pop(account, None) is not None

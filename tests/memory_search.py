"""The memory store's search for accounts; see `tests.memory_store`."""

from collections.abc import Sequence

from gateway.stores.store import AccountRecord
from policy.model import AccountId


class MemorySearch:
    """Looks through the accounts of the store whose part this is."""

    _accounts: dict[AccountId, AccountRecord]

    async def _answer(self) -> None:
        raise NotImplementedError

    async def search_accounts(self, text: str, *, most: int, after: str = "") -> Sequence[AccountRecord]:
        await self._answer()
        found = [record for id_, record in sorted(self._accounts.items()) if id_ > after and text in id_]
        return found[:most]

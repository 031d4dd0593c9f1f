"""What stands in for a store and a journal that cannot be opened yet, so that customers are served meanwhile.

Until they are opened every call of theirs fails, and so staff are refused: nothing can be known of them or recorded.
"""

from collections.abc import Callable
from typing import Any

from gateway.audit.journal import Journal
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.stores.store import Store, StoreError


class LateStore:
    """Implements Store by handing every call on; before there is a store to hand it to, each raises StoreError."""

    def __init__(self) -> None:
        """Stand for nothing yet."""
        self.opened: Store | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name not in vars(Store):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            if self.opened is None:
                raise StoreError("the store has not been opened yet")
            return getattr(self.opened, name)(*args, **options)

        return call


class LateJournal(AuditLog):
    """Implements AuditLog likewise; before there is a journal, nothing can be recorded."""

    def __init__(self) -> None:
        """Stand for nothing yet."""
        self.opened: Journal | None = None

    @property
    def healthy(self) -> bool:
        return self.opened is not None and self.opened.healthy

    @property
    def size(self) -> int:
        """How many records there are."""
        return 0 if self.opened is None else self.opened.size

    async def append(self, record: Record, *, durable: bool = False) -> int:
        if self.opened is None:
            raise JournalError("the journal has not been opened yet, because its key is in the store")
        return await self.opened.append(record, durable=durable)

    async def close(self) -> None:
        if self.opened is not None:
            await self.opened.close()

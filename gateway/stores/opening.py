"""Opens the store that the configuration names."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import Protocol, runtime_checkable

from gateway.config.model import Config, ConfigError
from gateway.stores.nodes import Nodes
from gateway.stores.postgres.address import Address
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Store


@runtime_checkable
class Shared(Protocol):
    """A store that several machines open, maybe for the first time, at the same time."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Keep all others who call this waiting until the block ends; raises StoreError."""


async def open_store(config: Config) -> Store:
    """Return the open store; raises StoreError, and ConfigError if what it needs is not installed."""
    address = config.store.address
    if address is None:
        return await open_sqlite(config.store_path)
    return await open_shared(address, config.store.terms)


async def open_shared(address: Address, terms: StoreTerms) -> Store:
    """Return the open database that several machines share; likewise."""
    with needs_asyncpg():
        # Only now, because asyncpg is there only where somebody wants it.
        from gateway.stores.postgres.store import open_postgres  # noqa: PLC0415
    return await open_postgres(address, terms)


def open_nodes(config: Config) -> Nodes | None:
    """Return who tells which machines share the store, None if it is not shared; raises ConfigError likewise."""
    address = config.store.address
    if address is None:
        return None
    with needs_asyncpg():
        # Likewise.
        from gateway.stores.postgres.nodes import DatabaseNodes  # noqa: PLC0415
    return DatabaseNodes(address, config.store.terms)


@contextmanager
def needs_asyncpg() -> Iterator[None]:
    """Raise ConfigError if an import in the block shows that the packages for PostgreSQL are not installed."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name != "asyncpg":
            raise
        raise ConfigError("store.url: PostgreSQL needs more packages: pip install 'locum[postgres]'") from exc


def one_at_a_time(store: Store) -> AbstractAsyncContextManager[None]:
    """Let no other machine do at the same time what is done once for all of them, such as making the keys."""
    return store.alone() if isinstance(store, Shared) else nullcontext()

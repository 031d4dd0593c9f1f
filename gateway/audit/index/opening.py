"""Which index a configuration means: a file beside the journal, or the database that several machines share."""

from gateway.audit.index.asking import FileIndex, LogIndex
from gateway.audit.index.database import beside
from gateway.audit.index.process import Indexer
from gateway.config.model import Config, ConfigError
from gateway.stores.opening import needs_asyncpg


def open_index(config: Config) -> tuple[Indexer, LogIndex]:
    """Return who keeps it and who is asked; raises ConfigError."""
    journal, index = config.journal_directory, beside(config.journal_directory)
    address = config.store.address
    if address is None:
        return Indexer(journal, index), FileIndex(journal, index)
    return Indexer(journal, index, database=address.url), open_database_index(config)


def open_database_index(config: Config) -> LogIndex:
    """Return who asks the shared database; raises ConfigError if there is none, or what it needs is not installed."""
    address = config.store.address
    if address is None:
        raise ConfigError("store.url: there is no database that several machines share")
    with needs_asyncpg():
        # Only now, because asyncpg is there only where somebody wants it.
        from gateway.stores.postgres.journal_index import DatabaseIndex  # noqa: PLC0415
    return DatabaseIndex(address, config.store.terms)

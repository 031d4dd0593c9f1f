"""What a reload cannot change: it stays as it was, and that is said."""

import logging
from functools import reduce
from typing import Any

import msgspec

from gateway.config.model import Config

log = logging.getLogger(__name__)

FIXED = (
    "server.listen",
    "server.admin_listen",
    "server.data_directory",
    "server.node",
    "server.workers",
    "limits.tls_handshake_timeout_seconds",
    "grants.fact_ttl_seconds",
    "grants.absent_ttl_seconds",
    "store.url",
    "store.migrate",
    "store.timeout_seconds",
    "store.write_timeout_seconds",
    "store.min_connections",
    "store.max_connections",
    "audit.segment_mib",
    "audit.checkpoint_seconds",
    "audit.durability",
    "audit.patience_seconds",
    "audit.index",
    "audit.retention",
    "audit.witnesses",
)
"""Keys of what is opened once: ports, processes, the store, the journal, the fact cache."""


def settle(running: Config, wanted: Config) -> Config:
    """Return `wanted` with all that cannot change taken from `running`; what that is goes to the log."""
    for path in FIXED:
        if _at(running, path) != _at(wanted, path):
            log.warning("%s: cannot change while we run and stays as it was: restart for it", path)
            wanted = _with(wanted, path, _at(running, path))
    if (running.server.tls is None) != (wanted.server.tls is None):
        # Whether clients have to speak TLS belongs to the port, which certificate they see does not.
        log.warning("server.tls: cannot come or go while we run and stays as it was: restart for it")
        wanted = _with(wanted, "server.tls", running.server.tls)
    return wanted


def _at(config: Config, path: str) -> Any:
    return reduce(getattr, path.split("."), config)


def _with(config: Config, path: str, value: Any) -> Config:
    section, _, key = path.partition(".")
    changed = msgspec.structs.replace(getattr(config, section), **{key: value})
    return msgspec.structs.replace(config, **{section: changed})

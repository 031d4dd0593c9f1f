"""How many files and sockets the process may have open: as many as the system lets us have."""

import logging
import resource

from gateway.admin_guests import MOST
from gateway.config.model import Config

log = logging.getLogger(__name__)

_OTHERS = 64
"""The listeners, the journal, the store's files, and whatever else is not counted one by one."""


def raise_limit(config: Config) -> None:
    """Raise this process's limit to what it may be at the most; logs a warning if less than `wanted` is left.

    The usual limit of 1024 is less than one address may have connections, and out of descriptors nobody is served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as exc:
            log.warning("the limit of open files stays at %d: %s", soft, exc)
        else:
            soft = hard
    most = wanted(config)
    if soft != resource.RLIM_INFINITY and soft < most:
        log.warning(
            "this process may have %d files and sockets open, and [limits] and [upstream] let clients use up to %d: "
            "raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd), or lower limits.max_connections, "
            "limits.max_in_flight, upstream.max_connections and upstream.max_websockets",
            soft,
            most,
        )


def wanted(config: Config) -> int:
    """Return how many one process may use: all that clients may have open, and all that is done for them."""
    limits, upstream = config.limits, config.upstream
    apps = (1 + len(config.upstreams)) * (upstream.max_connections + upstream.max_websockets)
    asked = config.grants.http.max_connections if config.grants.http is not None else 0
    stored = config.store.max_connections if config.store.address is not None else 0
    return limits.max_connections + limits.max_in_flight + apps + asked + stored + MOST + _OTHERS

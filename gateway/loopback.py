"""The names of this machine's own loopback, to which a connection needs no TLS."""

from typing import Final

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

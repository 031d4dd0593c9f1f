"""Ports for servers that are told where to listen, some of them stopped and started again."""

import itertools
import os
import re
import socket
from pathlib import Path

_FIRST = 10_240
_EACH = 2_000
"""For each process of a run with pytest-xdist."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _candidates() -> itertools.cycle:
    """Return ports below those that the kernel gives to whoever names none, and that other processes of ours do not take.

    One of the kernel's own may be gone before a server has started, to a server or a connection of another test.
    """
    number = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or "0"
    first = _FIRST + int(number) % 8 * _EACH
    begin = os.getpid() % _EACH
    return itertools.cycle([first + (begin + step) % _EACH for step in range(_EACH)])


_next = _candidates()


def free_port() -> int:
    """Return a port of loopback where nobody listens, and which no other call in this run returns soon."""
    lowest = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 49_152
    for port in itertools.islice(_next, _EACH):
        if port >= lowest:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.create_server(("127.0.0.1", 0)) as one:
        found: int = one.getsockname()[1]
        return found

"""Ports that several processes of ours serve together, and nobody else."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gateway.binding import bind, names_of
from gateway.config.check import format_address, parse_address


@contextmanager
def reserved(address: str, where: str) -> Iterator[str]:
    """Keep a `host:port` for workers of ours and yield it with a real port number; raises ConfigError, OSError.

    It is bound but never listened at, so no connection comes here. With SO_REUSEPORT only processes of the same user
    can join (socket(7)); that there is no other gateway of ours already, is seen from a socket that would not share.
    """
    host, port = parse_address(address, where)
    with ExitStack() as stack:
        for family, name in names_of(host, port):
            ours = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bind(ours, (name[0], port, *name[2:]))
            port = ours.getsockname()[1]
            with socket.socket(family, socket.SOCK_STREAM) as unsharing:
                bind(unsharing, (name[0], port, *name[2:]))
        yield format_address(host, port)

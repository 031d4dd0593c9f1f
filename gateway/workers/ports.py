"""Ports that several processes of ours serve together, and nobody else."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gateway.config.check import format_address, parse_address


@contextmanager
def reserved(address: str, where: str) -> Iterator[str]:
    """Keep a `host:port` for workers of ours and yield it with a real port number; raises ConfigError, OSError.

    It is bound but never listened at, so no connection comes here. With SO_REUSEPORT only processes of the same user
    can join (socket(7)); that there is no other gateway of ours already, is seen from a socket that would not share.
    """
    host, port = parse_address(address, where)
    with ExitStack() as stack:
        for family, kind, protocol, _, name in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            ours = stack.enter_context(socket.socket(family, kind, protocol))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(ours, (name[0], port, *name[2:]))
            port = ours.getsockname()[1]
            with socket.socket(family, kind, protocol) as unsharing:
                _bind(unsharing, (name[0], port, *name[2:]))
        yield format_address(host, port)


def _bind(bound: socket.socket, name: tuple[object, ...]) -> None:
    # As asyncio does it: what an earlier gateway's connections left behind (TIME_WAIT) is no hindrance.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(name)
    except OSError as exc:
        raise OSError(exc.errno, f"{name[0]}:{name[1]}: {exc.strerror}") from exc

"""Sockets that are bound as asyncio binds them, for those who need them before, or beside, a server of asyncio's."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

Name = tuple[object, ...]
"""A socket's address as the system takes it."""


def names_of(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, Name]]:
    """Yield what a server at this host binds to, each once; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    yield from dict.fromkeys((family, name) for family, _, _, _, name in found)


def bind(bound: socket.socket, name: Name) -> None:
    """Bind, past what an earlier server's connections left behind (TIME_WAIT); an OSError names the address."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(name)
    except OSError as exc:
        raise OSError(exc.errno, f"{name[0]}:{name[1]}: {exc.strerror}") from exc


def listen(host: str, port: int, *, shared: bool, backlog: int) -> list[socket.socket]:
    """Return sockets that listen and do not block; raises OSError.

    One for each address of the host, all on one port. `shared` allows others of our user to serve it too.
    """
    with ExitStack() as stack:
        listening = []
        for family, name in names_of(host, port):
            bound = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bind(bound, (name[0], port, *name[2:]))
            port = bound.getsockname()[1]
            bound.listen(backlog)
            bound.setblocking(False)
            listening.append(bound)
        stack.pop_all()
        return listening

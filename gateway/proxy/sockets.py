"""What the kernel holds of a connection: how much has not arrived yet, and how to have it thrown away."""

import asyncio
import fcntl
import socket
import struct
import sys
import termios

_DISCARD = struct.pack("ii", 1, 0)  # linger on, for no time: drop what is unsent, and reset
_PENDING = getattr(termios, "TIOCOUTQ", None)
_UNSENT = 0x894B if sys.platform == "linux" else _PENDING  # SIOCOUTQNSD, which Python has no name for


def discard(transport: asyncio.BaseTransport) -> None:
    """Have the coming close drop what is unsent: a plain one would let the kernel go on delivering it."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)


def undelivered(transport: asyncio.Transport) -> int:
    """Return how many written bytes the other side has not acknowledged, as far as the system tells."""
    return transport.get_write_buffer_size() + _ask(transport, _PENDING)


def unsent(transport: asyncio.Transport) -> int:
    """Return how many written bytes have not left this machine, so that they can still be taken back.

    As far as the system tells; one that does not know counts those that are not acknowledged.
    """
    return transport.get_write_buffer_size() + _ask(transport, _UNSENT)


def _ask(transport: asyncio.Transport, what: int | None) -> int:
    raw = transport.get_extra_info("socket")
    if what is None or raw is None or raw.fileno() < 0:
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(raw.fileno(), what, b"\0\0\0\0"))
    except OSError:  # a kind of socket that does not say
        return 0
    return int(count)

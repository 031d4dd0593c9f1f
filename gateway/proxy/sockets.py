"""What the kernel holds of a connection: how much has not arrived yet, and how to have it thrown away."""

import asyncio
import fcntl
import socket
import struct
import termios

_DISCARD = struct.pack("ii", 1, 0)  # linger on, for no time: drop what is unsent, and reset
_PENDING = getattr(termios, "TIOCOUTQ", None)


def discard(transport: asyncio.BaseTransport) -> None:
    """Have the coming close drop what is unsent: a plain one would let the kernel go on delivering it."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)


def undelivered(transport: asyncio.Transport) -> int:
    """Return how many written bytes the other side has not acknowledged, as far as the system tells."""
    waiting = transport.get_write_buffer_size()
    raw = transport.get_extra_info("socket")
    if _PENDING is None or raw is None or raw.fileno() < 0:
        return waiting
    try:
        (pending,) = struct.unpack("i", fcntl.ioctl(raw.fileno(), _PENDING, b"\0\0\0\0"))
    except OSError:  # a kind of socket that does not say
        return waiting
    return waiting + int(pending)

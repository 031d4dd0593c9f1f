"""Connections that a thread may wait for, but never for long, whatever the other side does."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gateway.audit.sinks.outlet import Unreachable


def connect(host: str, port: int, *, tls: ssl.SSLContext | None, server_name: str, seconds: float) -> socket.socket:
    """Return a connection, over TLS where there is a context; raises Unreachable."""
    try:
        plain = socket.create_connection((host, port), timeout=seconds)
    except OSError as error:
        raise Unreachable(f"it cannot be reached: {error.strerror or type(error).__name__}") from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain if tls is None else secured(plain, tls=tls, server_name=server_name or host, seconds=seconds)


def secured(plain: socket.socket, *, tls: ssl.SSLContext, server_name: str, seconds: float) -> socket.socket:
    """Return a connection over TLS in the place of an open one, which is closed if that fails; raises Unreachable."""
    secure = None
    try:
        secure = tls.wrap_socket(plain, server_hostname=server_name, do_handshake_on_connect=False)
        with cut_after(seconds, secure):
            secure.do_handshake()
    except (OSError, ValueError) as error:
        (secure or plain).close()
        raise Unreachable(f"no TLS with it: {_reason(error)}") from error
    return secure


@contextmanager
def cut_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Break the connection, and raise TimeoutError, if the block takes longer, also if a byte comes now and then."""
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with suppress(OSError):
            # Under TLS, too: nothing is said to the other side, which would have to be waited for.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if is_late.is_set():
        # Some readers take the end of a connection for that of a message.
        raise TimeoutError("it takes too long")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "it breaks the handshake off"
    return getattr(error, "strerror", None) or type(error).__name__

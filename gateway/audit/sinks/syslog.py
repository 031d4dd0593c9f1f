"""Sends RFC 5424 messages over TCP with octet counting (RFC 6587 section 3.4.1), or over TLS (RFC 5425).

The protocol has no word for "taken". A batch counts as arrived once the other machine has acknowledged every byte of
it and the connection has stood for some seconds more: a receiver that dies before it has read all breaks the
connection, and then everything since is sent again. What it loses later, it loses.
"""

import fcntl
import re
import socket
import ssl
import struct
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import sleep
from typing import Final

from gateway.audit.formats.severity import severity
from gateway.audit.formats.text import plain, product_version
from gateway.audit.segment import Entry
from gateway.audit.sinks.outlet import Encoded, Sent, Unreachable
from gateway.audit.sinks.sockets import connect, cut_after
from gateway.clock import Ticks

SETTLING_SECONDS: Final = 2.0
_LOG_AUDIT: Final = 13
_LEVELS = {1: 6, 2: 5, 3: 4, 4: 3}
"""From our scale to informational, notice, warning, error (RFC 5424 section 6.2.1)."""
_LEAST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02
_FAREWELL_SECONDS = 1.0


class SyslogOutlet:
    """Implements Outlet over one connection."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        server_name: str,
        seconds: float,
        ticks: Ticks,
        settling_seconds: float = SETTLING_SECONDS,
    ) -> None:
        """Connect to nobody yet."""
        self._open: Callable[[], socket.socket] = lambda: connect(
            host, port, tls=tls, server_name=server_name, seconds=seconds
        )
        self._node = _word(socket.gethostname(), 255)
        self._seconds = seconds
        self._ticks = ticks
        self._settling = settling_seconds
        self._connection: socket.socket | None = None
        self._sent: deque[float] = deque()

    def send(self, batch: list[Encoded]) -> Sent:
        data = b"".join(framed(to_message(one.entry, one.line, node=self._node)) for one in batch)
        try:
            if self._connection is None:
                self._sent.clear()
                self._connection = self._open()
            self._look(self._connection)
            with cut_after(self._seconds, self._connection):
                self._connection.sendall(data)
                self._wait_until_acknowledged(self._connection)
            self._look(self._connection)
        except OSError as error:
            self.close()
            raise Unreachable(f"the connection broke: {error.strerror or type(error).__name__}") from error
        self._sent.append(self._ticks())
        return Sent(len(batch))

    def settled(self) -> int:
        if self._connection is None or not self._sent:
            return 0
        try:
            self._look(self._connection)
        except OSError as error:
            self.close()
            raise Unreachable("the connection was closed over records that may not have been read") from error
        count, now = 0, self._ticks()
        while self._sent and now - self._sent[0] >= self._settling:
            self._sent.popleft()
            count += 1
        return count

    def finish(self) -> int:
        connection, count = self._connection, len(self._sent)
        if connection is None or not count:
            return 0
        try:
            with cut_after(_FAREWELL_SECONDS, connection):
                if isinstance(connection, ssl.SSLSocket):
                    connection.unwrap()
                else:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        continue
        except (OSError, ValueError) as error:
            raise Unreachable("the receiver has not said goodbye") from error
        finally:
            self.close()
        return count

    def close(self) -> None:
        self._sent.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self, connection: socket.socket) -> None:
        """Read away what nobody asked for; raises OSError if the other side has closed."""
        connection.setblocking(False)
        try:
            while True:
                if not connection.recv(4096):
                    raise ConnectionResetError("closed by the other side")
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        finally:
            with suppress(OSError):
                connection.settimeout(self._seconds)

    def _wait_until_acknowledged(self, connection: socket.socket) -> None:
        give_up, pause = self._ticks() + self._seconds, _LEAST_PAUSE
        while _unacknowledged(connection):
            if self._ticks() > give_up:
                raise TimeoutError("not acknowledged")
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def framed(message: bytes) -> bytes:
    """Return the message behind its length."""
    return b"%d %s" % (len(message), message)


def to_message(entry: Entry, text: bytes, *, node: str) -> bytes:
    """Return the message of a record; its sender is the origin, its kind the message's."""
    origin, kind = _word(plain(entry.get("origin", "")), 128), _word(plain(entry.get("kind", "")), 32)
    priority = _LOG_AUDIT * 8 + _LEVELS[severity(entry)]
    number = entry.get("seq")
    # RFC 5424 section 7.3.1: from 1 on, and from the highest back to 1.
    sequence = f' sequenceId="{number % 2147483647 + 1}"' if isinstance(number, int) else ""
    head = (
        f"<{priority}>1 {_time(entry)} {node} locum {origin} {kind} "
        f'[origin software="locum" swVersion="{product_version()}"][meta{sequence}] '
    )
    return head.encode() + text


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z", re.ASCII)
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")


def _time(entry: Entry) -> str:
    at = entry.get("at")
    return at if isinstance(at, str) and _TIME.fullmatch(at) else "-"


def _word(text: str, most: int) -> str:
    """Return a field of the header (RFC 5424 section 6)."""
    return _NOT_PRINTABLE.sub("_", text)[:most] or "-"


def _unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the other machine has not acknowledged; 0 where the system does not say."""
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except OSError:
        return 0
    (count,) = struct.unpack("i", answer)
    return int(count)

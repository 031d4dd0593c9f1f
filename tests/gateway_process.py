"""The gateway as it is run, in a process of its own, before an app on a plain blocking socket; and how it fares."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.gateway_world import HOST
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.started import environment

MEBIBYTE = 1024 * 1024
PIECE = bytes(range(256)) * 256
"""64 KiB."""


class GatewayProcess:
    """A running `locum run`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = process
        self._directory = Path(f"/proc/{process.pid}")

    def connect(self) -> socket.socket:
        """A new connection to the public listener; nothing on it may take longer than a test."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def resident(self) -> int:
        """Bytes in memory now."""
        return self._status("VmRSS")

    def most_resident(self) -> int:
        """Bytes in memory at most, since `forget_most`."""
        return self._status("VmHWM")

    def forget_most(self) -> None:
        (self._directory / "clear_refs").write_text("5")

    def processor_seconds(self) -> float:
        fields = (self._directory / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+([0-9]+) kB$", (self._directory / "status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


class BulkApp:
    """An app of one connection at a time, each handled by a function from its socket; what that raises, `end` raises."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self.handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._error: BaseException | None = None
        self._thread.start()

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=30)
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                try:
                    self.handle(connection)
                except ConnectionError:
                    pass
                except BaseException as exc:  # noqa: BLE001 - told to the test, whose thread this is not
                    self._error = exc


@contextmanager
def running(directory: Path, app_port: int, *, upstream: str = "", more: str = "") -> Iterator[GatewayProcess]:
    """Run a gateway with its defaults, but for lines of its `upstream` table and `more` tables; ended with the block."""
    port, admin = free_port(), free_port()
    (directory / "config.toml").write_text(
        f"""[server]
issuer = "https://assume.vendor.example"
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin}"
shutdown_seconds = 0.2
[accounts]
host = "{HOST.replace("acme", "{account}")}"
[upstream]
url = "http://127.0.0.1:{app_port}"
profile = "demo-helpdesk"
{upstream}
[staff]
issuer = "http://127.0.0.1:9"
audience = "locum"
[[staff.rules]]
group = "support"
permissions = ["read"]
{more}"""
    )
    command = [sys.executable, "-m", "gateway", "--config", "config.toml", "run"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment(), stdout=log, stderr=log)
    try:
        _until_accepting(process, port, directory / "log")
        yield GatewayProcess(process, port)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_accepting(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the gateway does not accept"
            time.sleep(0.05)  # another process: nothing tells us when it listens
        else:
            return


def until_still(measure: Callable[[], int]) -> int:
    """Wait until a measure has stopped changing: the claim is that nothing happens, so time is what must pass."""
    before = -1
    while before != (now := measure()):
        before = now
        time.sleep(0.3)
    return now


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The next head, and what came along behind it."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        assert data, head
        head += data
    head, _, rest = head.partition(b"\r\n\r\n")
    return head, rest


def count_counted(connection: socket.socket, count: int, length: int) -> None:
    """Read a body of `length` bytes of which `count` are here."""
    buffer = bytearray(MEBIBYTE)
    while count < length:
        got = connection.recv_into(buffer)
        assert got, f"{count} of {length} bytes"
        count += got
    assert length == count


def count_chunked(connection: socket.socket, here: bytes, length: int) -> None:
    """Read a chunked body of `length` bytes whose content is PIECEs, whatever its chunks are."""
    buffer = bytearray(here)
    count = 0
    while True:
        while (end := buffer.find(b"\r\n")) < 0:
            buffer += _more(connection)
        size = int(bytes(buffer[:end]), 16)
        while len(buffer) < end + 2 + size + 2:
            buffer += _more(connection)
        assert b"\r\n" == buffer[end + 2 + size : end + 4 + size]
        del buffer[: end + 4 + size]
        count += size
        if not size:
            assert (length, b"") == (count, buffer)
            return


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(MEBIBYTE)
    assert data, "a chunked body breaks off"
    return data

"""A sink before a journal made by hand, and receivers that record what they are sent and fail as they are told."""

import contextlib
import gzip
import json
import logging
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.formats.forms import FORMS
from gateway.audit.segment import SegmentName, build_line
from gateway.audit.sinks.http import Address, HttpOutlet
from gateway.audit.sinks.outlet import Outlet
from gateway.audit.sinks.runner import Runner, Terms, Times
from gateway.audit.sinks.shapes import SHAPES
from gateway.audit.sinks.status import Status
from gateway.audit.sinks.syslog import SyslogOutlet
from gateway.clock import boot_seconds, utc_now
from gateway.config.section import Secret
from tests.patience import PATIENCE_SECONDS

QUICK = Times(poll=0.005, turn=0.02, first_pause=0.002, longest_pause=0.01, saving=0.0, draining=1.0)
CANARY = "canary-7f3a-credential"


def write_records(directory: Path, count: int, *, origin: str = "node", first: int = 0, **fields) -> Path:
    """Write a segment of records that count from `first`."""
    directory.mkdir(exist_ok=True)
    path = directory / str(SegmentName(origin=origin, first=first))
    path.write_bytes(b"".join(line_of(origin, seq, **fields) for seq in range(first, first + count)))
    return path


def line_of(origin: str, seq: int, **fields) -> bytes:
    at = f"2026-11-23T12:00:{seq % 60:02d}.{seq % 1000000:06d}Z"
    record = {
        "at": at,
        "decision": "allow",
        "kind": "decision",
        "method": "GET",
        "origin": origin,
        "path": "/",
        "seq": seq,
    }
    return build_line(json.dumps({**record, **fields}, sort_keys=True, separators=(",", ":")).encode())[1]


def gone_line(line: bytes, seq: int) -> bytes:
    """The line once retention has taken its content."""
    return line[: len(b'{"leaf":"') + 65] + b',"gone":{"by":"node:99","seq":%d}}\n' % seq


class Sinking:
    """A running sink, on a thread."""

    def __init__(self, directory: Path, outlet: Outlet, *, name: str, form: str, most: int, wants) -> None:
        self.status = Status(name=name, kind="http")
        self.cursor = directory / "sinks" / f"{name}.json"
        terms = Terms(
            name=name,
            journal=directory / "journal",
            cursor=self.cursor,
            lock=directory / "sinks" / f"{name}.lock",
            form=FORMS[form],
            wants=wants,
            most_records=most,
            times=QUICK,
        )
        self._runner = Runner(terms, outlet, self.status, clock=utc_now, ticks=boot_seconds)
        self._thread = threading.Thread(target=self._runner.run)
        self._thread.start()

    def stop(self) -> None:
        self._runner.stop()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


@contextmanager
def sinking(
    directory: Path,
    outlet: Outlet,
    *,
    name: str = "siem",
    form: str = "jsonl",
    most: int = 100,
    wants=lambda _entry: True,
) -> Iterator[Sinking]:
    """Run a sink over `directory/journal` until the block ends."""
    running = Sinking(directory, outlet, name=name, form=form, most=most, wants=wants)
    try:
        yield running
    finally:
        running.stop()


def http_outlet(
    receiver: "Receiver",
    *,
    shape: str = "ndjson",
    packed: bool = False,
    tls: ssl.SSLContext | None = None,
    seconds: float = 5.0,
) -> HttpOutlet:
    address = Address(
        url=f"{'https' if tls else 'http'}://localhost:{receiver.port}/in?x=1",
        headers={"X-Tenant": "t1"},
        credential=Secret(CANARY),
        credential_header="Authorization",
        tls=tls,
    )
    return HttpOutlet(address, SHAPES[shape], form="jsonl", packed=packed, seconds=seconds)


def syslog_outlet(
    receiver: "SyslogReceiver", *, tls: ssl.SSLContext | None = None, settling: float = 0.01
) -> SyslogOutlet:
    return SyslogOutlet(
        "localhost", receiver.port, tls=tls, server_name="", seconds=5.0, ticks=boot_seconds, settling_seconds=settling
    )


class _Server:
    """Accepts connections and has each handled, one after the other; `changed` tells of whatever came."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.changed = threading.Condition()
        self.connections = 0
        self.faults: list[BaseException] = []
        self._tls = tls
        self._open: socket.socket | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended = True
        for one in (self._listener, self._open):
            if one is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()
        assert [] == self.faults

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, of what came here or of the sink."""
        give_up = boot_seconds() + PATIENCE_SECONDS
        with self.changed:
            while not holds():
                assert boot_seconds() < give_up, "it does not come"
                self.changed.wait(0.02)

    def note(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _serve(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_SECONDS)
            self._open = connection
            try:
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    self._open = connection
                self.connections += 1
                self.handle(connection)
            except OSError:
                self.note()
            except BaseException as error:  # noqa: BLE001 - told to the test, whose thread this is not
                self.faults.append(error)
            finally:
                self._open = None
                connection.close()

    def handle(self, connection: socket.socket) -> None:
        raise NotImplementedError


def reset(connection: socket.socket) -> None:
    """Close with a reset, whatever is on its way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    raise ConnectionResetError


class Receiver(_Server):
    """An HTTP server; its script says what becomes of each request, and when that ends all is well.

    A step is a status, or `reset` (before anything is taken), `unanswered` (taken, and then a reset), `drip` (an answer
    that never ends), or a function of the records that returns a status and a body.
    """

    def __init__(self, script: Iterable[object] = (), *, tls: ssl.SSLContext | None = None) -> None:
        self.script = iter(script)
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        """Of the requests that were taken."""
        self.asked = 0
        self.otherwise: object = 200
        super().__init__(tls)

    def records(self) -> list[dict]:
        """All records of all taken bodies that are lines, in order."""
        return [json.loads(line) for body in list(self.bodies) for line in body.splitlines()]

    def got(self) -> list[tuple[str, int]]:
        return [(record["origin"], record["seq"]) for record in self.records() if record["kind"] != "sink"]

    def handle(self, connection: socket.socket) -> None:
        kept = b""
        while True:
            while b"\r\n\r\n" not in kept:
                data = connection.recv(65536)
                if not data:
                    return
                kept += data
            head, _, kept = kept.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            while len(kept) < length:
                data = connection.recv(65536)
                if not data:
                    return
                kept += data
            body, kept = kept[:length], kept[length:]
            self.heads.append(head.decode())
            self.asked += 1
            self._answer(connection, gzip.decompress(body) if b"gzip" in head else body)

    def _answer(self, connection: socket.socket, body: bytes) -> None:
        step = next(self.script, self.otherwise)
        answer = b""
        if callable(step):
            step, answer = step(body)
        if step == "reset":
            self.note()
            reset(connection)
        if step == "drip":
            self._drip(connection)
        if step == "unanswered" or (isinstance(step, int) and step < 300):
            self.bodies.append(body)
        self.note()
        if step == "unanswered":
            reset(connection)
        more = "Location: http://127.0.0.1:9/\r\n" if 300 <= step < 400 else ""
        connection.sendall(f"HTTP/1.1 {step} X\r\n{more}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)

    def _drip(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 X\r\n")
        while not self._ended:
            connection.sendall(b"X: y\r\n")
            threading.Event().wait(0.02)


class SyslogReceiver(_Server):
    """Reads octet-counted messages; after so many of one connection it breaks it, as its script says."""

    def __init__(self, script: Iterable[int] = (), *, tls: ssl.SSLContext | None = None) -> None:
        self.script = iter(script)
        self.messages: list[str] = []
        super().__init__(tls)

    def records(self) -> list[dict]:
        return [json.loads(message[message.index("] {") + 2 :]) for message in list(self.messages)]

    def got(self) -> list[tuple[str, int]]:
        return [(record["origin"], record["seq"]) for record in self.records() if record["kind"] != "sink"]

    def handle(self, connection: socket.socket) -> None:
        left = next(self.script, None)
        stream = connection.makefile("rb")
        with stream:
            while left != 0:
                digits = b""
                while (char := stream.read(1)) not in (b" ", b""):
                    digits += char
                if not char:
                    return
                message = stream.read(int(digits))
                if len(message) < int(digits):
                    return
                self.messages.append(message.decode())
                self.note()
                left = None if left is None else left - 1
        self.note()
        reset(connection)


def firsts(got: list[tuple[str, int]], origin: str) -> list[int]:
    """The numbers of one origin in the order in which each came first."""
    return list(dict.fromkeys(seq for from_where, seq in got if from_where == origin))


def in_order(got: list[tuple[str, int]], origin: str) -> bool:
    """Whether nothing was passed over: each new record came directly behind the newest that had come."""
    newest = -1
    for from_where, seq in got:
        if from_where == origin:
            if seq > newest + 1:
                return False
            newest = max(newest, seq)
    return True


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect everything that is logged."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    handler, root = Keep(level=logging.DEBUG), logging.getLogger("gateway")
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)

"""Large bodies through the gateway as it is run: its memory stays what it was, and a slow end stops the other one.

A run takes 256 MiB each way; `--bulk=2GiB` takes that. What was measured stands in docs/performance.md.
"""

import contextlib
import socket
import threading
import time

import pytest

from tests.gateway_process import (
    MEBIBYTE,
    PIECE,
    BulkApp,
    count_chunked,
    count_counted,
    read_head,
    running,
    until_still,
)
from tests.striker import HOST_LINE
from tests.tally import TALLY
from tests.upgrades import KEY, switching

GROWTH = 8 * MEBIBYTE
IN_FLIGHT = 24 * MEBIBYTE
"""What the kernel may hold for the two connections of loopback, and our own bounded rest."""
WARM = 16 * MEBIBYTE
MANY = 200_000

COUNTED, CHUNKED = "counted", "chunked"


@pytest.fixture(scope="module")
def app():
    app = BulkApp(lambda _connection: None)
    yield app
    app.end()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, app):
    with running(tmp_path_factory.mktemp("gateway"), app.port) as gateway:
        yield gateway


def framing(kind, length):
    return b"Content-Length: %d\r\n" % length if kind == COUNTED else b"Transfer-Encoding: chunked\r\n"


def send_body(connection, kind, length):
    piece = PIECE * 16 if kind == COUNTED else (b"%x\r\n" % len(PIECE) + PIECE + b"\r\n") * 16
    for _ in range(length // len(PIECE * 16)):
        connection.sendall(piece)
    if kind == CHUNKED:
        connection.sendall(b"0\r\n\r\n")


def read_body(connection, kind, here, length):
    if kind == COUNTED:
        count_counted(connection, len(here), length)
    else:
        count_chunked(connection, here, length)


def ask(method, *lines):
    TALLY.messages += 1
    return method + b" /bulk HTTP/1.1\r\n" + HOST_LINE + b"Connection: close\r\n" + b"".join(lines) + b"\r\n"


def upload(gateway, app, kind, length):
    def handle(connection):
        head, here = read_head(connection)
        assert framing(kind, length).strip() in head
        read_body(connection, kind, here, length)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app.handle = handle
    with gateway.connect() as client:
        client.sendall(ask(b"POST", framing(kind, length)))
        send_body(client, kind, length)
        head, here = read_head(client)
        assert head.startswith(b"HTTP/1.1 200 ")
        count_counted(client, len(here), 2)


def download(gateway, app, kind, length):
    def handle(connection):
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing(kind, length) + b"\r\n")
        send_body(connection, kind, length)

    app.handle = handle
    with gateway.connect() as client:
        client.sendall(ask(b"GET"))
        head, here = read_head(client)
        assert framing(kind, length).strip() in head
        read_body(client, kind, here, length)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [COUNTED, CHUNKED])
@pytest.mark.parametrize("way", [upload, download])
def test_a_large_body_passes_through_and_takes_no_memory(gateway, app, way, kind, request, record_property):
    """Resident memory, at its most while the body passes, is less than 8 MiB above what it was."""
    length = request.config.getoption("--bulk")
    way(gateway, app, kind, WARM)
    before = gateway.resident()
    gateway.forget_most()
    busy, begun = gateway.processor_seconds(), time.monotonic()
    way(gateway, app, kind, length)
    seconds, busy = time.monotonic() - begun, gateway.processor_seconds() - busy
    growth = gateway.most_resident() - before
    figures = f"{way.__name__}, {kind}: {length // MEBIBYTE} MiB in {seconds:.1f} s ({busy:.1f} s of a processor), "
    figures += f"resident {before / MEBIBYTE:.1f} MiB, at most {growth / MEBIBYTE:+.1f} MiB"
    record_property("figures", figures)
    print(figures)  # noqa: T201 - `pytest -s` shows it
    assert growth < GROWTH


@pytest.mark.parametrize("kind", [COUNTED, CHUNKED])
def test_a_client_that_does_not_read_stops_the_app(gateway, app, kind):
    """A download waits at the app, not in the gateway; it arrives whole when the client reads on."""
    length, sent = 128 * MEBIBYTE, 0

    def handle(connection):
        nonlocal sent
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing(kind, length) + b"\r\n")
        for _ in range(length // MEBIBYTE):
            send_body_part(connection, kind)
            sent += MEBIBYTE
        connection.sendall(b"0\r\n\r\n" if kind == CHUNKED else b"")

    app.handle = handle
    before = gateway.resident()
    gateway.forget_most()
    with gateway.connect() as client:
        client.sendall(ask(b"GET"))
        _, here = read_head(client)
        assert until_still(lambda: sent) < IN_FLIGHT
        read_body(client, kind, here, length)
    assert gateway.most_resident() - before < GROWTH


@pytest.mark.parametrize("kind", [COUNTED, CHUNKED])
def test_an_app_that_does_not_read_stops_the_client(gateway, app, kind):
    """An upload waits at the client, not in the gateway; it arrives whole when the app reads on."""
    length, sent, go = 128 * MEBIBYTE, 0, threading.Event()

    def handle(connection):
        _, here = read_head(connection)
        assert go.wait(30)
        read_body(connection, kind, here, length)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def send(client):
        nonlocal sent
        client.sendall(ask(b"POST", framing(kind, length)))
        for _ in range(length // MEBIBYTE):
            send_body_part(client, kind)
            sent += MEBIBYTE
        client.sendall(b"0\r\n\r\n" if kind == CHUNKED else b"")

    app.handle = handle
    before = gateway.resident()
    gateway.forget_most()
    with gateway.connect() as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        assert until_still(lambda: sent) < IN_FLIGHT
        go.set()
        head, _ = read_head(client)
        sender.join()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert gateway.most_resident() - before < GROWTH


def send_body_part(connection: socket.socket, kind: str) -> None:
    """Send a MiB of a body that has more of them."""
    connection.sendall(PIECE * 16 if kind == COUNTED else (b"%x\r\n" % len(PIECE) + PIECE + b"\r\n") * 16)


@pytest.mark.parametrize("way", ["up", "down"])
def test_chunks_of_one_byte_cost_little_memory_and_bounded_time(gateway, app, way):
    """Two hundred thousand of them, with bytes around them six times their own, either way."""
    raw = b"1\r\nx\r\n" * MANY + b"0\r\n\r\n"

    def handle(connection):
        _, here = read_head(connection)
        if way == "up":
            count_chunked(connection, here, MANY)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\n"
            + (b"Content-Length: 0\r\n\r\n" if way == "up" else framing(CHUNKED, 0) + b"\r\n" + raw)
        )

    app.handle = handle
    before, busy = gateway.resident(), gateway.processor_seconds()
    gateway.forget_most()
    with gateway.connect() as client:
        client.sendall(ask(b"POST", framing(CHUNKED, 0)) + raw if way == "up" else ask(b"GET"))
        head, here = read_head(client)
        if way == "down":
            count_chunked(client, here, MANY)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert gateway.processor_seconds() - busy < MANY * 20e-6
    assert gateway.most_resident() - before < GROWTH


SOCKETS = 8
DRIBBLE = 400
UPGRADE = (
    b"GET /live HTTP/1.1\r\n"
    + HOST_LINE
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
ONE_GIB = b"\x82\xff" + (1 << 30).to_bytes(8) + b"mask"
"""The head of a frame: binary, its length in eight bytes, then the mask (RFC 6455 section 5.2)."""


def test_a_frame_that_announces_a_gibibyte_and_dribbles_takes_no_memory(gateway, app):
    """Each byte goes on as it comes, either way; for each WebSocket less than 1 MiB is held, whatever was announced."""
    opened = []

    def handle(connection):
        read_head(connection)
        opened.append(connection.dup())  # the app's own ends with this function
        connection.sendall(switching())

    def open_one(stack):
        client = stack.enter_context(gateway.connect())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(UPGRADE)
        head, here = read_head(client)
        assert (True, b"") == (head.startswith(b"HTTP/1.1 101 "), here)
        pair = client, stack.enter_context(opened.pop())
        pair[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sender, receiver in (pair, pair[::-1]):
            sender.sendall(ONE_GIB)
            assert ONE_GIB == receiver.recv(len(ONE_GIB), socket.MSG_WAITALL)
        return pair

    app.handle = handle
    with contextlib.ExitStack() as stack:
        open_one(stack)  # whatever the first one makes once for all
        before = gateway.resident()
        gateway.forget_most()
        pairs = [open_one(stack) for _ in range(SOCKETS)]
        for number in range(DRIBBLE):
            byte = bytes([number % 256])
            for client, there in pairs:
                client.sendall(byte)
                there.sendall(byte)
            for client, there in pairs:
                assert (byte, byte) == (there.recv(2), client.recv(2))
        growth = gateway.most_resident() - before
    print(f"{growth / SOCKETS / MEBIBYTE:+.3f} MiB for each WebSocket")  # noqa: T201 - `pytest -s` shows it
    assert growth / SOCKETS < MEBIBYTE

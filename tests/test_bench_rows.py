"""The benchmark's rows: what each sends and expects is what it says, at every contender that is at hand."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import pytest

from bench import backend, messages, peers
from bench.backend import SOCKET, frame
from bench.check import check
from bench.cpu import choose_cores
from bench.load import Load, drive, write_requests
from bench.messages import ECHO, HANDSHAKE, MESSAGE, Refused, converse
from bench.peers import start_authoriser, start_peer
from bench.processes import Fault, free_port, serving
from bench.rows import ASKING, FORBIDDEN, PROXIES, ROWS
from bench.stage import Stage
from tests.patience import PATIENCE_SECONDS

_CORES = choose_cores()
_END = b"\r\n\r\n"


def _row(name):
    return next(row for row in ROWS if row.name == name)


@pytest.fixture
async def app(tmp_path):
    """The port of a running backend."""
    port = free_port()
    command = [sys.executable, backend.__file__, str(port)]
    async with serving(command, port=port, cores=_CORES.rest, directory=tmp_path):
        yield port


@pytest.fixture
def handshake(tmp_path):
    """The file with the request that opens a WebSocket."""
    return write_requests(tmp_path / "handshake", SOCKET, hosts_and_tokens=[("a.example", "")], more=HANDSHAKE)


def _first(file):
    return file.read_bytes().partition(b"\0")[0]


class _Recorder(asyncio.Protocol):
    """Keeps the heads of each connection in the order they came, and answers each."""

    def __init__(self, connections):
        self._heads = []
        self._read = b""
        connections.append(self._heads)

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        *heads, self._read = (self._read + data).split(_END)
        self._heads += heads
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * len(heads))


@pytest.mark.parametrize("program", ["wrk", "bench.client"])
async def test_a_connection_never_repeats_its_header_lines(program, tmp_path, monkeypatch):
    """In the varied rows every head differs from the one before it on its connection, whatever makes the load."""
    row = _row("ordinary-varied")
    if program == "bench.client":
        monkeypatch.setattr("bench.load.shutil.which", lambda *_words: None)
    requests = write_requests(tmp_path / "file", row.target, hosts_and_tokens=[("a.example", "")], values=row.values)
    connections = []
    server = await asyncio.get_running_loop().create_server(lambda: _Recorder(connections), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        load = Load(host="127.0.0.1", port=port, requests=requests, connections=row.connections, seconds=1)
        answered = await drive(load)

    # wrk makes a connection more, to see that the server is there.
    used = [heads for heads in connections if len(heads) > 1]
    assert row.connections == len(used)
    assert answered.requests >= 2 * row.connections
    assert 0 == answered.errors
    assert all(one != next_one for heads in used for one, next_one in pairwise(heads))


def test_varied_requests_cost_no_more_bytes(tmp_path):
    """All are as long as the one that is always the same, and no two are equal."""
    callers = [("a.example", "token")]
    [same] = _all(write_requests(tmp_path / "same", "/", hosts_and_tokens=callers))
    varied = _all(write_requests(tmp_path / "varied", "/", hosts_and_tokens=callers, values=997))

    assert {len(same)} == {len(each) for each in varied}
    assert 997 == len(set(varied))


def _all(file):
    return [raw for raw in file.read_bytes().split(b"\0") if raw]


@asynccontextmanager
async def _opened(port, handshake):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_first(handshake))
        messages.check_opened(await reader.readuntil(_END))
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_echo_takes_frames_as_they_come(app, handshake):
    """In pieces, several at a time, short and long: each comes back whole, and a close is answered by the end."""
    short, closing = bytes((0x81, 0x82)) + bytes(4) + b"hi", bytes((0x88, 0x80)) + bytes(4)
    async with asyncio.timeout(PATIENCE_SECONDS), _opened(app, handshake) as (reader, writer):
        for at in range(1, 9):
            writer.write(MESSAGE[:at])
            # An answer in between says that the piece has been read by itself.
            await converse("127.0.0.1", app, _first(handshake))
            writer.write(MESSAGE[at:])
            assert ECHO == await reader.readexactly(len(ECHO))
        writer.write(MESSAGE + short + closing)

        assert ECHO + frame(1, b"hi") + frame(8, b"") == await reader.read(-1)


async def test_messages_are_counted(app, handshake):
    """Each echo counts, nothing counts as an error, and all that was open is closed."""
    load = Load(host="127.0.0.1", port=app, requests=handshake, connections=3, seconds=1, messages=True)
    answered = await drive(load)

    assert answered.requests > 3
    assert (0, 0) == (answered.errors, answered.statuses)
    assert 0 < answered.p50_us <= answered.p99_us


async def _answering(lines):
    """A server that answers a handshake with these lines and each message with another one of the same length."""

    async def answer(reader, writer):
        await reader.readuntil(_END)
        writer.write(lines + _END)
        if await reader.read(65_536):
            writer.write(ECHO[:-1] + b"?")
        await reader.read()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", "instead of status 101"),
        (_SWITCHED + b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "key was not accepted"),
        (_SWITCHED + backend.accept_of(b"bG9jdW0ncyBvd24gbG9hZA=="), "not what was sent"),
    ],
)
async def test_who_echoes_wrongly_is_found_out(lines, why, handshake):
    """Another status, another key's answer, another payload: each is refused with its reason."""
    async with asyncio.timeout(PATIENCE_SECONDS), await _answering(lines) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Refused, match=why):
            await converse("127.0.0.1", port, _first(handshake))
        load = Load(host="127.0.0.1", port=port, requests=handshake, connections=2, seconds=1, messages=True)
        if why == "not what was sent":
            answered = await drive(load)
            assert (0, 2) == (answered.requests, answered.errors)
        else:
            with pytest.raises(Fault, match=why):
                await drive(load)


def _needs(*keys):
    for key in keys:
        if not peers.is_at_hand(key):
            pytest.skip(f"{key} is not installed")


async def test_the_authoriser_denies_one_path_and_keeps_the_connection(tmp_path):
    """As each of the three asks, with nothing in the answers that would make it close."""
    _needs("nginx")
    asked = {
        b"GET / HTTP/1.1\r\nX-Original-URI: %s": (b"204", b"403"),
        b"GET / HTTP/1.1\r\nX-Forwarded-Uri: %s": (b"204", b"403"),
        b"GET /envoy%s HTTP/1.1": (b"200", b"403"),
    }
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        port = await start_authoriser(stack, directory=tmp_path, cores=_CORES.rest)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for question, statuses in asked.items():
            for path, status in zip((b"/tickets/1", FORBIDDEN.encode()), statuses, strict=True):
                writer.write(question % path + b"\r\nHost: a.example\r\n\r\n")
                head = await reader.readuntil(_END)

                assert status == head.split(b" ")[1]
                assert status == b"204" or b"Content-Length: 0" in head
                assert b"Connection: keep-alive" in head
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", [*PROXIES, *ASKING])
async def test_a_peer_answers_rightly_in_all_its_rows(name, app, tmp_path):
    """It passes, denies and switches protocols as the row wants it, or else it would be left out."""
    key, _, asks = name.partition("+")
    _needs(key, *(["nginx"] if asks else []))
    rows = [row for row in ROWS if name in row.peers]
    told = []
    async with AsyncExitStack() as stack:
        authoriser = await start_authoriser(stack, directory=tmp_path, cores=_CORES.rest) if asks else None
        peer = await start_peer(stack, name, directory=tmp_path, backend=app, authoriser=authoriser, cores=_CORES.one)
        requests = {
            row.name: write_requests(
                tmp_path / row.name,
                row.target,
                hosts_and_tokens=[("acme.helpdesk.example", "token" if row.tokens else "")],
                more=HANDSHAKE if row.status == 101 else (),
            )
            for row in rows
        }
        stage = Stage(contenders={row.name: [peer] for row in rows}, requests=requests, skipped={})
        await check(stage, rows, told.append)

    assert [] == told
    assert {"denied"} <= set(requests) if asks else {"websocket", "ordinary-varied"} <= set(requests)


async def test_locum_alone_is_measured_from_end_to_end():
    """A second of each gives a figure, and every line and aim that can be had on this machine is printed."""
    rows = ["ordinary", "workers-2", "assumed-varied", "websocket", "decision"]
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "bench",
            "--json",
            "--alone",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--only",
            ",".join(rows),
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert 0 == process.returncode, err
    machine, *lines = [json.loads(line) for line in out.splitlines()]

    medians = {line["row"]: line for line in lines if line["kind"] == "median"}
    assert rows == list(medians)
    assert all(line["cpu_us"] > 0 and line["errors"] == 0 for line in medians.values())
    aims = [(line["row"], line["figure"]) for line in lines if line["kind"] == "aim"]
    few = _CORES.count < 4
    more = [] if few else [("workers-2", "rps")]
    assert [("workers-2", "cpu_us"), *more, ("decision", "cpu_us")] == aims
    assert few == ("needs 4 cores" in machine["skipped"].values())

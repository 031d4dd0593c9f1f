"""`locum assume` when something is in its way: servers that never end, broken answers, signals, and no way out."""

import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
from click.testing import CliRunner

from gateway.cli.root import cli
from gateway.remote.asking import GRACE_SECONDS, hear_out
from gateway.remote.server import Server, ServerFault
from gateway.remote.signals import ENDING, Signals
from tests import started
from tests.patience import PATIENCE_SECONDS

ASK = ("--account", "acme", "--agent", "maria", "--ticket", "SUP-1", "--reason", "cannot see it")
TOKEN = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900, "scope": "\u009b2J\u202ex"}
DEEP = b'{"error":"x","more":' + b"[" * 30_000 + b"]" * 30_000 + b"}"


def whole(body, status="200 OK"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Raw:
    """A server that answers each path with bytes; what is None there is sent byte by byte, for ever."""

    def __init__(self, listener):
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        codes = {"device_code": "d", "user_code": "BCDF-GHJK", "verification_uri": f"{self.url}/.locum/device"}
        self.answers = {"device": whole(codes | {"expires_in": 60, "interval": 1}), "revoke": whole({})}
        self.heard, self.dripping = [], threading.Event()
        self._threads, self._closed = [], threading.Event()
        self._listener = listener

    def serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _answer(self, connection):
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            head = b"".join(iter(lines.readline, b"\r\n")).decode()
            length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
            name = head.split()[1].rpartition("/")[2]
            self.heard.append((name, lines.read(length).decode()))
            answer = self.answers[name]
            connection.sendall(answer or b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
            while answer is None and not self._closed.wait(0.02):
                connection.sendall(b" ")
                self.dripping.set()


@contextmanager
def serving():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Raw(listener)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.close()
            thread.join()


def begin(server, *words, **more):
    """Start `locum assume` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "assume", "--server", server.url, *ASK, *words],
        env=started.environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE, **more},
    )


def test_a_question_has_an_end_whatever_the_server_sends():
    """However many bytes still come: the time counts from the first."""
    with serving() as server:
        server.answers["token"] = None
        with pytest.raises(ServerFault, match="too long"):
            Server(server.url, client="x", seconds=0.3).fetch("d")


def test_what_nobody_wants_any_more_ends_soon():
    """The time that is left to it begins when that is so."""
    done = threading.Event()
    with pytest.raises(TimeoutError):
        hear_out(lambda: done.wait(PATIENCE_SECONDS), seconds=PATIENCE_SECONDS, is_over=lambda: True, grace=0.1)
    done.set()
    assert hear_out(done.wait, seconds=PATIENCE_SECONDS, is_over=lambda: True)


def test_a_signal_ends_it_while_a_server_drips():
    """It takes the code back, says what may have begun, and is gone."""
    with serving() as server:
        server.answers["token"] = None
        with begin(server) as process:
            assert server.dripping.wait(PATIENCE_SECONDS)
            process.send_signal(signal.SIGTERM)
            out, said = process.communicate(timeout=GRACE_SECONDS + PATIENCE_SECONDS)
        assert (1, b"", True) == (process.returncode, out, b"may have begun" in said)
        assert ["device", "token", "revoke"] == [name for name, _ in server.heard]


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{",
        whole(DEEP),
        whole(DEEP, "400 Bad Request"),
    ],
    ids=["no status", "cut chunk", "cut refusal", "deep", "deep refusal"],
)
def test_a_broken_answer_is_the_server_s_fault(answer):
    """Never a traceback, and nothing of it steers a terminal."""
    with serving() as server:
        server.answers["revoke"] = answer
        with pytest.raises(ServerFault) as caught:
            Server(server.url, client="x").take_back("t")
        assert str(caught.value).isprintable()


def test_a_broken_answer_at_the_end_leaves_the_command_s_exit_code():
    """That the assumption could not be ended is said."""
    with serving() as server:
        server.answers |= {"token": whole(TOKEN), "revoke": b"garbage\r\n\r\n"}
        with begin(server, "--", "sh", "-c", "exit 7") as process:
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert (7, True) == (process.returncode, b"could not be ended" in said)


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_a_token_that_cannot_be_shown_is_taken_back(words):
    """Nobody has it, so nobody could end it."""
    with serving() as server, open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        server.answers["token"] = whole(TOKEN)
        with begin(server, *words, stdout=full) as process:
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert (1, True) == (process.returncode, b"taken back" in said)
        assert b"Traceback" not in said
        assert "token=a.b.c" in server.heard[-1][1]


def test_json_steers_no_terminal():
    """What is not ASCII is escaped."""
    with serving() as server:
        server.answers["token"] = whole(TOKEN)
        result = CliRunner().invoke(cli, ["assume", "--server", server.url, *ASK, "--json"])
        assert (0, TOKEN["scope"]) == (result.exit_code, json.loads(result.stdout)["scope"])
        assert result.stdout.isascii()


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_is_ignored_stays_ignored(number):
    """As `nohup` has it; whatever else would end the process is taken, and given back."""
    former = signal.signal(number, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(number)
            assert [] == signals.came
        signal.signal(number, signal.SIG_DFL)
        with Signals() as signals:
            signal.raise_signal(number)
            assert [number] == signals.came
        assert signal.SIG_DFL == signal.getsignal(number)
    finally:
        signal.signal(number, former)


def test_an_address_steers_no_terminal():
    """It may come out of a token that somebody else has made."""
    for url in ("https://x\x1b[2J", "https://x\u202ey", "https://a b"):
        with pytest.raises(ValueError, match="cannot be seen") as caught:
            Server(url, client="x")
        assert str(caught.value).isprintable()

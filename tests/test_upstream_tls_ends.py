"""How TLS to the app may end: what was cut is never taken for whole, whatever has come of it and however it was framed.

On uvloop, as the gateway runs: asyncio's own loop does not tell a cut from a farewell.
"""

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest

from gateway.proxy.wire import UpstreamFault
from tests.certificates import Authority
from tests.gateway_world import open_world
from tests.patience import PATIENCE_SECONDS, within
from tests.upstream_client import eventually, fetch, pool_to, request

HEAD = b"HTTP/1.1 200 OK\r\n"
COUNTED = HEAD + b"Content-Length: 9\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNCOUNTED = HEAD + b"\r\n"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
HALVES = {
    "no answer": b"",
    "half a head": COUNTED[:-6],
    "no body": COUNTED,
    "half a counted body": COUNTED + b"half",
    "half a chunk": CHUNKED + b"9\r\nhalf",
    "chunks without an end": CHUNKED + b"4\r\nhalf\r\n",
    "an uncounted body": UNCOUNTED + b"half",
    "an uncounted body without a byte": UNCOUNTED,
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


class App:
    """An app on blocking sockets, each connection with one request and an answer that ends as it is told to."""

    def __init__(self, context, answer, how):
        self.heard = []
        self._context = context
        self._answer = answer
        self._how = how
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def end(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_SECONDS)

    def _serve(self):
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.settimeout(PATIENCE_SECONDS)
            with contextlib.suppress(OSError):
                self._visit(accepted)
            accepted.close()

    def _visit(self, accepted):
        with self._context.wrap_socket(accepted, server_side=True) as secured:
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += secured.recv(65536)
            self.heard.append(received)
            secured.sendall(self._answer)
            if self._how == "farewell":
                secured.unwrap().close()
                return
            # What is below TLS ends, and TLS has not said so.
            below = socket.socket(fileno=secured.detach())
            below.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while below.recv(65536):
                    pass
            below.close()


@contextlib.contextmanager
def app_with(authority, answer, how, version=ssl.TLSVersion.TLSv1_3):
    context = authority.issue("localhost").as_server()
    context.minimum_version = context.maximum_version = version
    app = App(context, answer, how)
    try:
        yield app
    finally:
        app.end()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", HALVES)
async def test_what_ends_without_a_farewell_is_broken_off(authority, version, name):
    """A stranger in between can end a connection at any byte, and only the farewell of TLS says that it was the app."""
    with app_with(authority, HALVES[name], "cut", version) as app:
        async with pool_to(app.url, tls=authority.trusting()) as pool:
            with pytest.raises(UpstreamFault):
                await fetch(pool, request(b"POST"))
            await eventually(lambda: not pool.open_count)
        assert 1 == len(app.heard)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_uncounted_body_ends_with_the_farewell(authority, version):
    """That is the app's own word that it is all."""
    with app_with(authority, UNCOUNTED + b"all of it", "farewell", version) as app:
        async with pool_to(app.url, tls=authority.trusting()) as pool:
            assert (200, b"all of it") == await fetch(pool)


@pytest.mark.parametrize("how", ["farewell", "cut"])
@pytest.mark.parametrize("answer", [COUNTED + b"all of it", CHUNKED + b"9\r\nall of it\r\n0\r\n\r\n"])
async def test_what_is_whole_by_its_own_framing_is_whole(authority, answer, how):
    """However the connection ends behind it; and it is not used again."""
    with app_with(authority, answer, how) as app:
        async with pool_to(app.url, tls=authority.trusting()) as pool:
            for _ in range(3):
                assert (200, b"all of it") == await fetch(pool)
        assert 3 == len(app.heard)


@pytest.mark.parametrize(("name", "expected"), [("no answer", b""), ("an uncounted body", b"4\r\nhalf\r\n")])
async def test_a_client_sees_that_it_is_not_whole(tmp_path, authority, name, expected):
    """A 502, or chunks that do not end."""
    with app_with(authority, HALVES[name], "cut") as app:

        def change(document):
            document["upstream"] |= {"url": app.url, "tls": {"ca": str(authority.file)}}

        async with open_world(tmp_path, change=change) as world:
            status, _, body = await world.get(target="/", method="POST", body=b"")
    assert (200, expected) == (status, body) if expected else status == 502


JUNK = {
    "plain HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "zeros": bytes(1024),
    "nothing": b"",
}


@pytest.mark.parametrize("name", JUNK)
async def test_an_app_that_does_not_speak_tls_is_down(tmp_path, authority, name):
    """The client is told at once, and what came in the clear is no answer."""

    async def serve(reader, writer):
        await reader.read(1024)
        writer.write(JUNK[name])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)

    def change(document):
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        document["upstream"] |= {"url": url, "tls": {"ca": str(authority.file)}}

    async with open_world(tmp_path, change=change) as world, within(2):
        assert 502 == (await world.get(target="/"))[0]
    server.close()
    await server.wait_closed()

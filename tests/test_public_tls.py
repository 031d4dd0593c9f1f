"""The public listener over TLS: the same gateway, and nobody who comes with anything else does any harm."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct

import aiohttp
import pytest

from gateway.config.model import ServerTls
from gateway.proxy.limits import ListenerLimits
from gateway.proxy.listener import make_listener
from gateway.tls import listener_context, renew_listener
from tests.certificates import Authority
from tests.gateway_world import HOST, open_world, parse
from tests.listener_world import IN_FLIGHT, reply, until_closed
from tests.patience import PATIENCE_SECONDS, unless_it_stalls, within
from tests.rawwire import chunked_response, hold, response
from tests.test_websockets import AGREED, handshake

GET = f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
CLOSING_GET = GET[:-2] + b"Connection: close\r\n\r\n"
BULK = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("127.0.0.1")


@contextlib.asynccontextmanager
async def open_tls_world(
    tmp_path, authority, pair, *, minimum="1.2", limits=None, also=lambda _document: None, **options
):
    """A gateway that shows `pair`, and whose control plane is asked over TLS as well."""

    def change(document):
        document["server"]["tls"] = pair.table(minimum_version=minimum)
        document["limits"] = limits or {}
        also(document)

    connector = aiohttp.TCPConnector(ssl=authority.trusting())
    async with (
        open_world(tmp_path, change=change, **options) as world,
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        world.http = http
        yield world


@contextlib.asynccontextmanager
async def connect(port, context, **options):
    """A TLS connection, cut at the end whatever happened; nothing in it may take for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, **options)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def ask(reader, writer, raw=GET):
    """One request and the answer of the recording upstream."""
    writer.write(raw)
    return await reader.readuntil(b"\r\n\r\nok")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_pass_over_tls(tmp_path, authority, pair, version):
    """One after another on a connection, in either version; HTTP/1.1 is what is agreed on."""
    context = authority.trusting()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with open_tls_world(tmp_path, authority, pair) as world:
        assert world.gateway.public_url == f"https://127.0.0.1:{world.port}"
        async with connect(world.port, context) as (reader, writer):
            for _ in range(3):
                assert (await ask(reader, writer)).startswith(b"HTTP/1.1 200 OK\r\n")
            assert "http/1.1" == writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert 3 == len(world.upstream.requests)


async def test_the_control_plane_and_staff_come_over_tls_too(tmp_path, authority, pair):
    """A token is asked for and used like without TLS."""
    async with open_tls_world(tmp_path, authority, pair) as world:
        await world.choose("day")
        token = await world.token()
        raw = CLOSING_GET[:-2] + f"Authorization: Bearer {token}\r\n\r\n".encode()
        async with connect(world.port, authority.trusting()) as (reader, writer):
            writer.write(raw)
            status, headers, body = parse(await until_closed(reader))
        assert (200, b"ok") == (status, body)
        assert headers["x-locum-session"]
        assert [f"Bearer {token}".encode()] not in [one.values(b"authorization") for one in world.upstream.requests]


HARM = {
    "plain HTTP": GET,
    "half a request": b"GET / HT",
    "zeros": bytes(4096),
    "noise": bytes(range(256)) * 256,
    "a record of another kind": b"\x17\x03\x03\x00\x05hello",
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "a record too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "nothing": b"",
}


async def test_what_is_no_handshake_does_no_harm(tmp_path, authority, pair, caplog):
    """It gets no answer in HTTP, nothing reaches the app, the log stays quiet, and who is in goes on."""
    caplog.set_level(logging.WARNING)
    async with (
        open_tls_world(tmp_path, authority, pair) as world,
        connect(world.port, authority.trusting()) as (reader, writer),
    ):
        for name, raw in HARM.items():
            plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", world.port)
            plain_writer.write(raw)
            plain_writer.write_eof()
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert not (await until_closed(plain_reader)).startswith(b"HTTP"), name
            plain_writer.close()
            await ask(reader, writer)
        assert len(HARM) == len(world.upstream.requests)
    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("minimum", "version"),
    [("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)],
)
async def test_an_old_version_is_refused(tmp_path, authority, pair, caplog, minimum, version):
    """TLS 1.1 always; TLS 1.2 where 1.3 is the oldest; others do not notice."""
    caplog.set_level(logging.WARNING)
    async with open_tls_world(tmp_path, authority, pair, minimum=minimum) as world:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connect(world.port, authority.up_to(version)):
                pass
        async with connect(world.port, authority.trusting()) as (reader, writer):
            await ask(reader, writer)
    assert [] == caplog.messages


@unless_it_stalls
async def test_a_handshake_that_stalls_is_ended(tmp_path, authority, pair):
    """Whoever connects and says nothing, or begins and goes on no more, is cut off; others do not notice."""
    limits = {"tls_handshake_timeout_seconds": 0.2, "idle_timeout_seconds": 60.0}
    async with (
        open_tls_world(tmp_path, authority, pair, limits=limits) as world,
        connect(world.port, authority.trusting()) as (reader, writer),
    ):
        for raw in (b"", HARM["half a hello"]):
            stalled, stalling = await asyncio.open_connection("127.0.0.1", world.port)
            stalling.write(raw)
            await ask(reader, writer)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await until_closed(stalled)
            stalling.close()
        await ask(reader, writer)


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing(tmp_path, authority, pair, caplog):
    """By a reset, many at a time, also while the gateway stops."""
    caplog.set_level(logging.WARNING)
    async with open_tls_world(tmp_path, authority, pair) as world:
        for _ in range(20):
            raw = socket.create_connection(("127.0.0.1", world.port))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.sendall(HARM["half a hello"])
            raw.close()
        async with connect(world.port, authority.trusting()) as (reader, writer):
            await ask(reader, writer)
        last, lasting = await asyncio.open_connection("127.0.0.1", world.port)
        lasting.write(HARM["half a hello"])
    lasting.close()
    del last
    assert [] == caplog.messages


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_pass_both_ways(tmp_path, authority, pair, chunked):
    """Counted or in chunks, they come out as they went in."""
    content = bytes(range(256)) * (BULK // 256)
    answer = (
        chunked_response(*[content[at : at + 65536] for at in range(0, BULK, 65536)]) if chunked else response(content)
    )
    async with (
        open_tls_world(tmp_path, authority, pair, script=lambda _request: answer) as world,
        connect(world.port, authority.trusting()) as (reader, writer),
    ):
        head = f"POST /tickets HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
        if chunked:
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for at in range(0, BULK, 100_000):
                piece = content[at : at + 100_000]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(f"{head}Content-Length: {BULK}\r\n\r\n".encode() + content)
        raw = await until_closed(reader)
        assert content == world.upstream.requests[0].body
        _, headers, body = parse(raw)
        assert ("chunked" if chunked else str(BULK)) == headers["transfer-encoding" if chunked else "content-length"]
        if chunked:
            assert len(body) > BULK
            assert body.endswith(b"\r\n0\r\n\r\n")
        else:
            assert content == body


@unless_it_stalls
async def test_a_client_that_takes_nothing_holds_the_app_back_and_is_cut_off(tmp_path, authority, pair):
    """Encrypted or not, what it has not taken waits at the app, until `write_stall_timeout_seconds` are over."""
    sent = 0

    async def endless(connection):
        nonlocal sent
        while not connection.ended.is_set():
            await connection.send(b"x" * 65536)
            sent += 65536

    async def answer(connection):
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        await endless(connection)

    async with (
        open_tls_world(
            tmp_path, authority, pair, script=lambda _request: answer, limits={"write_stall_timeout_seconds": 0.3}
        ) as world,
        connect(world.port, authority.trusting(), limit=1024) as (_, writer),
    ):
        writer.write(GET)
        await world.upstream.until(lambda: world.upstream.connections and world.upstream.connections[0].ended.is_set())
        assert sent < 2 * IN_FLIGHT


async def test_a_refusal_arrives_although_more_was_sent(tmp_path, authority, pair):
    """The last answer is read before the connection is gone, as without TLS."""
    async with open_tls_world(tmp_path, authority, pair, limits={"header_bytes": 1024}) as world:
        async with connect(world.port, authority.trusting()) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300_000)
            assert (await until_closed(reader)).startswith(b"HTTP/1.1 431 ")
        assert [] == world.upstream.requests


@unless_it_stalls
async def test_a_client_that_does_not_say_farewell_is_left(tmp_path, authority, pair):
    """`linger_timeout_seconds` is also the time for the end of TLS, which waits for the other side."""

    def visit(port):
        with socket.create_connection(("127.0.0.1", port), timeout=1.5) as raw:
            secured = authority.trusting().wrap_socket(raw.dup(), server_hostname="127.0.0.1")
            with secured:
                secured.sendall(CLOSING_GET)
                while secured.recv(65536):
                    pass
                return raw.recv(1)

    async with open_tls_world(tmp_path, authority, pair, limits={"linger_timeout_seconds": 0.1}) as world:
        assert b"" == await asyncio.to_thread(visit, world.port)


async def test_taking_back_cuts_a_download_over_tls(tmp_path, authority, pair):
    """What staff have not read yet, they do not get: the connection is reset at once."""
    go_on = asyncio.Event()
    begin = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 3_000_000
    async with open_tls_world(tmp_path, authority, pair, script=lambda _request: hold(go_on, before=begin)) as world:
        await world.choose("day")
        token = await world.token()
        context = authority.trusting()
        async with connect(world.port, context, limit=1024) as (reader, writer):
            writer.write(CLOSING_GET[:-2] + f"Authorization: Bearer {token}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            received = 0
            async with within(1):
                assert 200 == (await world.choose("off"))[0]
                with pytest.raises(ConnectionResetError):
                    while data := await reader.read(65536):
                        received += len(data)
                    raise AssertionError("an orderly end")
            assert received < len(begin)
        go_on.set()


@pytest.mark.parametrize("who", ["client", "app"])
async def test_a_websocket_passes_over_tls(tmp_path, authority, pair, who):
    """Both ways, to the last byte before either side ends."""
    go_on = asyncio.Event()
    script = lambda _request: hold(go_on, before=AGREED + b"first", after=b"last")  # noqa: E731
    async with (
        open_tls_world(tmp_path, authority, pair, script=script) as world,
        connect(world.port, authority.trusting()) as (reader, writer),
    ):
        writer.write(handshake())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert b"first" == await reader.readexactly(5)
        [app] = world.upstream.connections
        if who == "client":
            writer.close()
            await app.ended.wait()
        go_on.set()
        if who == "app":
            assert b"last" == await reader.readexactly(4)
            app.close()
            assert b"" == await until_closed(reader)


# --- renewal ---


@contextlib.asynccontextmanager
async def listening(tls):
    """A listener with a context that the test can renew."""
    context = listener_context(tls)
    listener = make_listener(reply, ListenerLimits())
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], context
    finally:
        server.close()
        await listener.shutdown(0.1)
        await server.wait_closed()


async def _shown(port, context, **options):
    """The serial number of the certificate that a new connection is shown."""
    async with connect(port, context, **options) as (_, writer):
        return int(writer.get_extra_info("peercert")["serialNumber"], 16)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_renewed_certificate_is_shown_to_whoever_comes_next(authority, version, name):
    """With a server's name in the hello and without (an address is none), again and again; what is open goes on."""
    first, second, third = (authority.issue(name, file=f"{name}-{number}") for number in range(3))
    client = authority.trusting()
    client.minimum_version = client.maximum_version = version
    options = {"server_hostname": name}
    async with (
        listening(ServerTls(**first.table())) as (port, context),
        connect(port, client, **options) as (reader, writer),
    ):
        assert first.serial == await _shown(port, client, **options)
        for pair in (second, third):
            renew_listener(context, ServerTls(**pair.table()))
            assert pair.serial == await _shown(port, client, **options)
            await ask(reader, writer)
        assert int(writer.get_extra_info("peercert")["serialNumber"], 16) == first.serial


async def test_a_renewal_may_raise_the_version(authority):
    """For whoever comes next."""
    pair = authority.issue("127.0.0.1", file="version")
    old = authority.trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(ServerTls(**pair.table())) as (port, context), connect(port, old) as (reader, writer):
        renew_listener(context, ServerTls(**pair.table(minimum_version="1.3")))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await _shown(port, old)
        assert pair.serial == await _shown(port, authority.trusting())
        await ask(reader, writer)

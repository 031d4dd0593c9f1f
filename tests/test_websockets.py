"""WebSockets through the whole gateway: made only when both sides have agreed, carried as bytes, cut with the rest."""

import asyncio
import base64
import contextlib
import hashlib
import os
import socket

import pytest
from aiohttp import WSMsgType, web

from tests.gateway_world import HOST, open_world
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import each_byte, response
from tests.upstream_client import eventually

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(bytes(range(16)))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + GUID).digest())  # noqa: S324 - RFC 6455
EXTENSION = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
FRAME = b"\x82\x7f\x10\x00\x00\x00\x00\x00\x00\x00" + b"\x00\xff\r\n\r\nGET / HTTP/1.1\r\n\r\n"
"""Announces an exbibyte, and holds what would be a request if anybody parsed it."""


def handshake(token=None, *lines, target=b"/live", method=b"GET", **changes):
    parts = {
        "host": b"Host: " + HOST.encode(),
        "connection": b"Connection: keep-alive, Upgrade",
        "upgrade": b"Upgrade: websocket",
        "key": b"Sec-WebSocket-Key: " + KEY,
        "draft": b"Sec-WebSocket-Version: 13",
        "token": token and b"Authorization: Bearer " + token.encode(),
    } | changes
    kept = [line for line in parts.values() if line is not None]
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *kept, *lines]) + b"\r\n\r\n"


def switching(*lines, accept=ACCEPT):
    head = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    return b"\r\n".join([*head, b"Sec-WebSocket-Accept: " + accept, *lines]) + b"\r\n\r\n"


AGREED = switching()


class App:
    """An app that opens WebSockets by `opening` and sends back what comes; keeps every byte that it got."""

    def __init__(self, opening=AGREED):
        self.opening = opening
        self.heads = []
        self.received = b""
        """Behind the heads."""
        self.writers = []
        self.ended = asyncio.Event()

    async def serve(self, reader, writer):
        self.writers.append(writer)
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.opening if b"Upgrade: websocket" in self.heads[-1] else response())
            while data := await reader.read(65536):
                self.received += data
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.ended.set()


@contextlib.asynccontextmanager
async def open_app(tmp_path, app=None, *, profile="", receive_buffer_bytes=None):
    app = app or App()
    door = socket.create_server(("127.0.0.1", 0))
    if receive_buffer_bytes is not None:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    server = await asyncio.start_server(app.serve, sock=door)

    def change(document):
        document["upstream"]["url"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        path = tmp_path / "demo-helpdesk.toml"
        path.write_text(path.read_text() + profile)

    try:
        async with open_world(tmp_path, change=change) as world:
            yield world, app
    finally:
        server.close()
        for writer in app.writers:
            writer.transport.abort()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def connected(world, raw):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for piece in [raw] if isinstance(raw, bytes) else raw:
                writer.write(piece)
                await writer.drain()
            yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# --- for customers ---


@pytest.mark.parametrize("split", [lambda raw: [raw], each_byte])
async def test_bytes_go_both_ways_as_they_are(tmp_path, split):
    """The handshake arrives with its extensions, and then nothing is read, joined or held back."""
    async with open_app(tmp_path, App(switching(EXTENSION) + b"first")) as (world, app):
        async with connected(world, split(handshake(None, EXTENSION))) as (reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert [1, 1, 1] == [head.count(line) for line in (EXTENSION, b"Upgrade: websocket", ACCEPT)]
            assert b"first" == await reader.readexactly(5)
            for piece in (FRAME, b"x", os.urandom(300_000)):
                writer.write(piece)
                assert piece == await reader.readexactly(len(piece))
        await app.ended.wait()
        [head] = app.heads
        assert [1, 1, 1] == [head.count(line) for line in (EXTENSION, b"Connection: Upgrade", b"Upgrade: websocket")]


async def test_each_side_ends_the_other(tmp_path):
    """What the app sent before it closed still arrives."""
    async with open_app(tmp_path) as (world, app):
        async with connected(world, handshake()) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            app.writers[0].write(b"last words")
            app.writers[0].close()
            assert b"last words" == await reader.read()
        async with connected(world, handshake()) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            app.ended.clear()
            writer.write_eof()
            await app.ended.wait()


async def test_the_last_words_of_the_app_arrive_however_slowly_they_are_read(tmp_path):
    """The end of one side is no reset for the other: what was sent before it is delivered."""
    words = os.urandom(3_000_000)
    async with open_app(tmp_path) as (world, app), connected(world, handshake()) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        app.writers[0].write(words)
        app.writers[0].close()
        heard = b""
        while data := await reader.read(4096):
            heard += data
    assert words == heard


NO_SWITCH = {
    "wrong accept": switching(accept=base64.b64encode(b"x" * 20)),
    "another protocol": switching().replace(b"websocket", b"tcp"),
    "a body": switching(b"Content-Length: 5"),
    "chunks": switching(b"Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("opening", NO_SWITCH.values(), ids=NO_SWITCH)
async def test_an_answer_that_does_not_agree_makes_no_tunnel(tmp_path, opening):
    """The client hears 502, and nothing that it sends behind its handshake reaches the app."""
    early = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    async with open_app(tmp_path, App(opening)) as (world, app):
        async with connected(world, handshake() + early) as (reader, _):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert 1 == answer.count(b"HTTP/1.1 ")
        await app.ended.wait()
        assert (b"", 1) == (app.received, len(app.heads))


async def test_early_bytes_of_a_refused_handshake_are_no_request(tmp_path):
    """The app says 200 instead: the answer passes, and the connection ends before what was sent too early."""
    early = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    async with open_app(tmp_path, App(response(b"no"))) as (world, app):
        async with connected(world, handshake() + early) as (reader, _):
            answer = await reader.read()
        assert (True, True, 1) == (
            answer.startswith(b"HTTP/1.1 200 "),
            answer.endswith(b"no"),
            answer.count(b"HTTP/1.1 "),
        )
        await app.ended.wait()
        assert (b"", 1) == (app.received, len(app.heads))


NO_HANDSHAKE = {
    "no key": {"key": None},
    "a short key": {"key": b"Sec-WebSocket-Key: " + base64.b64encode(b"short")},
    "another version": {"draft": b"Sec-WebSocket-Version: 8"},
    "not nominated": {"connection": b"Connection: keep-alive"},
    "two protocols": {"upgrade": b"Upgrade: websocket, h2c"},
    "POST": {"method": b"POST", "length": b"Content-Length: 0"},
    "h2c": {"upgrade": b"Upgrade: h2c", "settings": b"HTTP2-Settings: AAMAAABkAAQAAP__"},
}


@pytest.mark.parametrize("changes", NO_HANDSHAKE.values(), ids=NO_HANDSHAKE)
async def test_what_is_no_handshake_is_asked_without_its_upgrade(tmp_path, changes):
    """The app hears a plain request, so that it cannot switch, and answers it."""
    async with open_app(tmp_path) as (world, app):
        answer = await world.raw(handshake(**changes))
        assert answer.startswith(b"HTTP/1.1 200 ")
        [head] = app.heads
        assert [] == [line for line in head.lower().split(b"\r\n") if line.startswith((b"upgrade", b"connection"))]


# --- for staff ---

LISTED = """
[[routes]]
id = "live"
methods = ["GET"]
path = "/live"
scope = "tickets:read"
websocket = true
"""


async def test_staff_get_a_websocket_only_where_the_profile_lists_one(tmp_path):
    """Without `websocket = true` on the rule the handshake is refused, and the app hears nothing."""
    async with open_app(tmp_path, profile=LISTED.replace("websocket = true", "")) as (world, app):
        await world.choose("day")
        answer = await world.raw(handshake(await world.token()))
        assert (True, True) == (answer.startswith(b"HTTP/1.1 403 "), b"upgrade_not_allowed" in answer)
        assert [] == app.heads


@pytest.mark.parametrize("changes", [{"key": None}, {"draft": None}, {"upgrade": b"Upgrade: h2c"}])
async def test_for_staff_what_is_no_handshake_is_refused(tmp_path, changes):
    """An upgrade that is not made has two readings."""
    async with open_app(tmp_path, profile=LISTED) as (world, app):
        await world.choose("day")
        answer = await world.raw(handshake(await world.token(), **changes))
        assert (True, True) == (answer.startswith(b"HTTP/1.1 403 "), b"upgrade_not_allowed" in answer)
        assert [] == app.heads


async def test_a_websocket_of_staff_carries_the_identity_and_ends_with_the_grant(tmp_path):
    """The app gets the assertion and not our token; a revoke cuts both sides, and no byte follows."""
    async with open_app(tmp_path, profile=LISTED) as (world, app):
        await world.choose("day")
        token = await world.token()
        async with connected(world, handshake(token)) as (reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            assert (True, 1) == (head.startswith(b"HTTP/1.1 101 "), head.count(b"X-Locum-Session: "))
            writer.write(FRAME)
            assert FRAME == await reader.readexactly(len(FRAME))
            [head] = app.heads
            assert (1, False) == (head.count(b"X-Locum-Assertion: "), token.encode() in head)
            await world.choose("off")
            # No goodbye: inside this frame it would be content.
            with contextlib.suppress(ConnectionError):
                assert b"" == await reader.read()
            await app.ended.wait()
        assert FRAME == app.received
        await eventually(lambda: not len(world.gateway.live))
        assert ["allow"] == [record["decision"] for record in world.records(kind="decision")]
        await eventually(lambda: world.records(kind="completion"))
        assert [("cut", "grant_revoked")] == [(end["ended"], end["reason"]) for end in world.records(kind="completion")]


async def test_a_cut_says_goodbye_between_two_frames_and_the_record_says_how_much_went_each_way(tmp_path):
    """Both sides get a Close with 1008, the app's masked, and nothing else; then their connections end."""
    whole = b"\x81\x05hello\x01\x02he"  # and the first part of a message, behind which a control frame may stand
    async with open_app(tmp_path, profile=LISTED) as (world, app):
        await world.choose("day")
        async with connected(world, handshake(await world.token())) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(whole)
            assert whole == await reader.readexactly(len(whole))
            await world.choose("off")
            goodbye = await reader.read()
            assert (b"\x88\x18\x03\xf0", b"not permitted any more") == (goodbye[:4], goodbye[4:])
            await app.ended.wait()
        assert (whole, b"\x88\x98") == (app.received[: len(whole)], app.received[len(whole) : len(whole) + 2])
        mask, hidden = app.received[len(whole) + 2 :][:4], app.received[len(whole) + 6 :]
        assert b"\x03\xf0not permitted any more" == bytes(b ^ mask[i % 4] for i, b in enumerate(hidden))
        await eventually(lambda: not len(world.gateway.live))
        await eventually(lambda: world.records(kind="completion"))
        cut = [(record["ended"], record["status"], record["reason"]) for record in world.records(kind="completion")]
        assert [("cut", 101, "grant_revoked")] == cut
        [record] = world.records(kind="completion")
        assert (len(whole), len(whole)) == (record["bytes_received"], record["bytes_sent"])


# --- other people's ends ---


async def test_a_library_talks_to_a_library_through_it(tmp_path):
    """aiohttp on both ends, with compression that only they know of, text, binary, ping and a close with its code."""

    async def talk(request):
        socket = web.WebSocketResponse(compress=True)
        await socket.prepare(request)
        async for message in socket:
            await (socket.send_str if message.type is WSMsgType.TEXT else socket.send_bytes)(message.data)
            if message.data == "enough":
                await socket.close(code=4001, message=b"as you say")
        return socket

    application = web.Application()
    application.router.add_get("/live", talk)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    def change(document):
        document["upstream"]["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}"

    try:
        async with open_world(tmp_path, change=change) as world:
            url = f"ws://127.0.0.1:{world.port}/live"
            async with world.http.ws_connect(url, headers={"Host": HOST}, compress=15) as socket:
                assert socket.compress
                await socket.ping()
                for said in ("text", b"\x00" * 100_000, "enough"):
                    await (socket.send_str if isinstance(said, str) else socket.send_bytes)(said)
                    assert said == (await socket.receive()).data
                closing = await socket.receive()
                assert (WSMsgType.CLOSE, 4001, "as you say") == (closing.type, closing.data, closing.extra)
    finally:
        await runner.cleanup()

"""Answers before the request is all there, and requests behind what is refused: no body is ever read as a request."""

import asyncio
import base64
import hashlib

import pytest
import pytest_asyncio

from tests.attack_world import open_attack, request
from tests.oracle import parse_responses
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import cut_at, response, then_close
from tests.striker import HOST_LINE, NONCE, SMUGGLED, Striker, message, splits_of

whole = pytest.mark.asyncio(loop_scope="module")

KEY = base64.b64encode(b"0123456789abcdef")
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - RFC 6455
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ANSWERS = {
    b"at-once": response(b"early"),
    b"refused": response(b"early", status=b"413 Content Too Large"),
    b"failed": response(b"early", status=b"417 Expectation Failed"),
    b"closed": then_close(response(b"early", headers=[(b"Connection", b"close")])),
    b"continued": CONTINUE + response(b"early"),
    b"hinted": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"early"),
}


def script(seen):
    return ANSWERS.get(seen.target.split(b"/")[1], response())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory):
    """An app that answers when it has seen a head, whatever of the body is still to come."""
    directory = tmp_path_factory.mktemp("gateway")
    async with open_attack(directory, script=script, answer_at_head=True) as attacker:
        yield attacker


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def striker(attacker):
    return Striker(attacker)


def early(kind, *lines, body):
    head = [b"POST /" + kind + b"/x HTTP/1.1", HOST_LINE.strip(), b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"


@whole
@pytest.mark.parametrize("kind", ANSWERS)
async def test_what_is_left_of_an_answered_body_is_no_request(attacker, kind):
    """The body is itself a request; it comes with the head, behind it, in halves, or never."""
    world = attacker.world
    before = len(world.upstream.requests)
    body = request(target="/smuggled") * 3
    head = early(kind, body=body)
    for pieces in ([head + body], [head, body], cut_at(head + body, len(head) + 9), [head + body[:20]]):
        answer = await world.raw([*pieces, b""], responses=1)
        got = [one for one in await parse_responses(answer) if one.status != 103]
        assert (1, True) == (len(got), got[0].body == b"early" or got[0].status == 502)
        assert b"ok" == (await parse_responses(await world.raw(request())))[0].body
    targets = [seen.target for seen in world.upstream.requests[before:]]
    assert {b"/" + kind + b"/x", b"/tickets/1"} == set(targets)


@whole
@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("at", [0, 9])
async def test_what_comes_after_an_early_answer_is_no_request(attacker, kind, at):
    """The client waits for its answer in the middle of its body, and then sends the rest, a request in each segment."""
    world = attacker.world
    before = len(world.upstream.requests)
    smuggled = request(target="/smuggled")
    body = smuggled * 3
    head = early(kind, body=body)
    await world.note_sent(head + body)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        writer.write(head + body[:at])
        answer = await reader.readuntil(b"early")
        for piece in (smuggled[at:], smuggled, smuggled):
            writer.write(piece)
            await asyncio.sleep(0.01)  # for the gateway to read it by itself; nothing tells of that
        answer += await reader.read()
    writer.close()
    await writer.wait_closed()
    assert 1 == len([one for one in await parse_responses(answer) if one.status != 103])
    assert response() == await world.raw(request())
    assert {b"/" + kind + b"/x", b"/tickets/1"} == {seen.target for seen in world.upstream.requests[before:]}


@whole
@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("expectation", [b"100-continue", b"100-Continue", b"y 100-continue", b"200-ok"])
async def test_whatever_is_expected_the_next_request_is_not_the_body(attacker, kind, expectation):
    """A client that waits to be asked, and one that sends its next request when it is answered without being asked."""
    world = attacker.world
    body = request(target="/smuggled")
    head = early(kind, b"Expect: " + expectation, body=body)
    await world.note_sent(head + body + request(target="/next"))
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        writer.write(head)
        first = await reader.readuntil(b"\r\n\r\n")
        if first == CONTINUE:
            writer.write(body)
        # If it was not asked for its body, this is read as the body or not at all.
        writer.write(request(None, b"Connection: close", target="/next"))
        answer = first + await reader.read()
        while not reader.at_eof():
            answer += await reader.read()
    writer.close()
    await writer.wait_closed()

    heard = [seen for seen in world.upstream.requests if seen.target == b"/smuggled"]
    assert [] == heard
    assert all([] == seen.values(b"expect") for seen in world.upstream.requests)
    assert b"ok" == (await parse_responses(await world.raw(request())))[0].body


# --- an upgrade with bytes behind it ---

UPGRADES = {
    "200": response(),
    "403": response(status=b"403 Forbidden"),
    "426": response(status=b"426 Upgrade Required", headers=[(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]),
    "101 without accept": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "101 with another accept": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    "101 to another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n",
}
HANDSHAKE = message(
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
    method=b"GET",
)


@pytest.mark.parametrize("name", UPGRADES)
async def test_what_comes_behind_a_handshake_is_no_request_unless_it_is_made(tmp_path, name):
    """Early data goes nowhere when the app does not switch, and its connection is not used again."""
    async with open_attack(
        tmp_path, script=lambda seen: UPGRADES[name] if b"case" in seen.target else response()
    ) as attacker:
        striker = Striker(attacker)
        results = await asyncio.gather(
            *(striker.strike(HANDSHAKE + SMUGGLED, split) for split in splits_of(HANDSHAKE)),
        )
        assert [b"ok"] == [one.body for one in await parse_responses(await attacker.world.raw(request()))]
        for result in results:
            assert ("", [b"case"]) == (result.fault, [seen.target.split(b"/")[1] for seen in result.heard])
            assert 1 == result.answer.count(b"HTTP/1.1 ")
            assert (502 if name.startswith("101") else int(name[:3])) == result.status
        used = [seen.connection_id for seen in attacker.world.upstream.requests]
        assert len(used) == len(set(used))


VERSION, KEY_LINE = b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY
UPGRADE, WEBSOCKET = b"Connection: Upgrade", b"Upgrade: websocket"
NO_HANDSHAKES = {
    "another method": message(UPGRADE, WEBSOCKET, VERSION, KEY_LINE),
    "HTTP/1.0": message(UPGRADE, WEBSOCKET, VERSION, KEY_LINE, method=b"GET", version=b"HTTP/1.0"),
    "no Connection": message(WEBSOCKET, VERSION, KEY_LINE, method=b"GET"),
    "two protocols": message(UPGRADE, b"Upgrade: websocket, h2c", VERSION, KEY_LINE, method=b"GET"),
    "two Upgrade lines": message(UPGRADE, WEBSOCKET, b"upgrade: websocket", VERSION, KEY_LINE, method=b"GET"),
    "two keys": message(UPGRADE, WEBSOCKET, VERSION, KEY_LINE, KEY_LINE, method=b"GET"),
    "no key": message(UPGRADE, WEBSOCKET, VERSION, method=b"GET"),
    "a short key": message(UPGRADE, WEBSOCKET, VERSION, b"Sec-WebSocket-Key: AAAA", method=b"GET"),
    "another version": message(UPGRADE, WEBSOCKET, b"Sec-WebSocket-Version: 8", KEY_LINE, method=b"GET"),
    "an alias": message(UPGRADE, b"Up-grade: websocket", b"Upgrade_: websocket", VERSION, KEY_LINE, method=b"GET"),
}


@whole
@pytest.mark.parametrize("name", NO_HANDSHAKES)
async def test_what_is_no_handshake_asks_the_app_for_no_switch(attacker, striker, name):
    """It is a request like any other, without a word of an upgrade; and nothing behind it is read too soon."""
    raw = NO_HANDSHAKES[name]
    for result in await asyncio.gather(*(striker.strike(raw, split) for split in splits_of(raw))):
        assert ("", 200) == (result.fault, result.status)
        assert all([] == seen.values(b"upgrade") + seen.values(b"connection") for seen in result.heard)


H2C = [
    (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    (b"Connection: Upgrade", b"Connection: HTTP2-Settings", b"Upgrade: H2C", b"HTTP2-Settings: AAMAAABk"),
    (b"Connection: upgrade,http2-settings", b"Upgrade: websocket, h2c", b"HTTP2-Settings: AAMAAABk"),
    (b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Connection: http2-settings"),
]


@whole
@pytest.mark.parametrize("lines", H2C)
async def test_no_other_protocol_is_ever_asked_for(attacker, striker, lines):
    """`Upgrade: h2c` and its settings stay here; what stands behind it is a request like any other, or not read."""
    raw = message(*lines, method=b"GET")
    for result in await asyncio.gather(*(striker.strike(raw, split) for split in splits_of(raw))):
        assert "" == result.fault
        for seen in result.heard[:1]:
            assert message(method=b"GET").replace(NONCE, result.nonce) == seen.head
    outcome = await attacker.refused(request(attacker.token, *lines))
    assert (400, []) == (outcome.status, outcome.heard) or (403, []) == (outcome.status, outcome.heard)

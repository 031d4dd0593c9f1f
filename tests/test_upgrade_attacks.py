"""An upstream that lies about a switch of protocols: nobody else ever gets its bytes."""

import asyncio
import base64
import hashlib
import os

import pytest

from gateway.proxy.wire import UpstreamFault
from tests.rawwire import RecordingUpstream, UpstreamConnection, response
from tests.upgrades import ACCEPT, KEY, handshake, switching
from tests.upstream_client import body_of, fetch, pool_to, read_all, request

BOTH_LOOPS = True

FORGED = response(b"forged")
FAKES = {
    "wrong accept": switching(accept=b"Sec-WebSocket-Accept: " + base64.b64encode(b"x" * 20)),
    "the key as accept": switching(accept=b"Sec-WebSocket-Accept: " + KEY),
    "accept in another case": switching(accept=b"Sec-WebSocket-Accept: " + ACCEPT.swapcase()),
    "no accept": switching(accept=None),
    "two accepts": switching(b"Sec-WebSocket-Accept: " + ACCEPT),
    "no upgrade": switching(upgrade=None),
    "h2c": switching(upgrade=b"Upgrade: h2c"),
    "two protocols": switching(upgrade=b"Upgrade: h2c, websocket"),
    "two upgrades": switching(b"Upgrade: h2c"),
    "no connection": switching(connection=None),
    "connection close": switching(connection=b"Connection: close"),
    "HTTP/1.0": switching(version=b"1.0"),
    "a body announced": switching(b"Content-Length: 6"),
    "a chunked body announced": switching(b"Transfer-Encoding: chunked"),
    "bare LF": switching().replace(b"\r\n", b"\n"),
    "102": switching().replace(b"101", b"102") + FORGED,
}


@pytest.mark.parametrize("raw", FAKES.values(), ids=FAKES)
async def test_a_fake_101_opens_nothing(raw):
    """What answers no handshake of ours is a fault or another answer, and its connection carries nothing more."""
    async with RecordingUpstream([raw, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        try:
            answer = await pool.send(handshake(), None, upgrade=True)
        except UpstreamFault:
            pass
        else:
            assert (200, None) == (answer.head.status, answer.stream)
            await answer.close()

        await upstream.until(upstream.connections[0].ended.is_set)
        assert (200, b"mine") == await fetch(pool)
        assert [0, 1] == [seen.connection_id for seen in upstream.requests]


@pytest.mark.parametrize(
    "head",
    [
        handshake(Sec_WebSocket_Version=b"1337"),
        handshake(Sec_WebSocket_Version=None),
        handshake(Sec_WebSocket_Key=None),
        handshake(Sec_WebSocket_Key=b""),
        handshake(Sec_WebSocket_Key=base64.b64encode(b"too short")),
        handshake(Sec_WebSocket_Key=KEY[:-2] + b"!!"),
        handshake(sec_websocket_key=KEY),
        handshake(Upgrade=b"h2c"),
        handshake(Upgrade=b"websocket, h2c"),
        handshake(upgrade=b"h2c"),
        handshake(Upgrade=None),
        handshake(Connection=b"keep-alive"),
        handshake(Connection=None),
    ],
)
async def test_a_101_to_what_was_no_handshake_opens_nothing(head):
    """Whatever accept it has: a stranger who chooses the answer does not choose what was asked."""
    key = dict(head.headers).get(b"Sec-WebSocket-Key", b"")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    raw = switching(accept=b"Sec-WebSocket-Accept: " + accept)
    async with RecordingUpstream([raw, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        with pytest.raises(UpstreamFault, match="switched protocols"):
            await pool.send(head, None, upgrade=True)

        assert (200, b"mine") == await fetch(pool)


async def test_a_101_unasked_opens_nothing():
    """A perfect handshake and a perfect answer, but the caller did not mean it; or it had a body; or was no GET."""
    post = request(b"POST", **{name.decode().replace("-", "_"): value for name, value in handshake().headers[1:]})
    async with RecordingUpstream(switching()) as upstream, pool_to(upstream.url) as pool:
        for head, body, upgrade in [
            (handshake(), None, False),
            (handshake(Content_Length=b"1"), body_of(b"x"), True),
            (post, None, True),
        ]:
            with pytest.raises(UpstreamFault):
                await pool.send(head, body, upgrade=upgrade)


@pytest.mark.parametrize(
    "status", [b"200 OK", b"400 Bad", b"401 No", b"403 Forbidden", b"426 Upgrade Required", b"503 Later"]
)
@pytest.mark.parametrize("version", [b"13", b"1337"])
async def test_a_refused_upgrade_is_an_ordinary_answer_whose_connection_is_closed(status, version):
    """WebSocket smuggling: whoever believed in the upgrade sends on, so nothing may be sent there any more."""
    lines = [(b"Sec-WebSocket-Version", b"13"), (b"Connection", b"keep-alive")]
    script = [response(b"no", status=status, headers=lines), response(b"mine")]
    async with RecordingUpstream(script) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(Sec_WebSocket_Version=version), None, upgrade=True)

        assert (int(status[:3]), None) == (answer.head.status, answer.stream)
        assert b"no" == await read_all(answer)
        await upstream.until(upstream.connections[0].ended.is_set)
        assert upstream.requests[0].head == upstream.connections[0].received
        assert (200, b"mine") == await fetch(pool)


async def test_what_follows_a_refused_upgrade_answers_nobody():
    """Poison: a second answer behind the refusal, at once or later."""
    gate = asyncio.Event()

    async def refuse_and_poison(connection: UpstreamConnection) -> None:
        await connection.send(response(b"no", status=b"426 Upgrade Required"))
        await gate.wait()
        await connection.send(FORGED)

    async with RecordingUpstream([refuse_and_poison, response(b"mine")]) as upstream, pool_to(upstream.url) as pool:
        answer = await pool.send(handshake(), None, upgrade=True)
        assert b"no" == await read_all(answer)
        gate.set()

        assert (200, b"mine") == await fetch(pool)
        assert 2 == len(upstream.connections)


async def test_hundreds_of_upgrades_between_requests_poison_none():
    """Every answer carries its request's nonce, whatever became of the handshakes around it."""
    fates = [
        *FAKES.values(),
        switching(),
        switching() + FORGED,
        response(b"no", status=b"426 Upgrade Required") + FORGED,
    ]

    def script(seen):
        if seen.values(b"upgrade"):
            return fates[int(seen.target[1:]) % len(fates)]
        return response(seen.target[1:])

    async def upgrade(number: int) -> None:
        head = handshake()
        head = type(head)(method=b"GET", target=b"/%d" % number, headers=head.headers)
        try:
            answer = await pool.send(head, None, upgrade=True)
        except UpstreamFault:
            return
        await answer.close()

    async def ordinary(number: int) -> None:
        nonce = b"nonce-%d-" % number + os.urandom(8).hex().encode()
        assert (200, nonce) == await fetch(pool, request(target=b"/" + nonce))

    async with (
        RecordingUpstream(script) as upstream,
        pool_to(upstream.url, max_connections=8, queue_timeout_seconds=60) as pool,
    ):
        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(upgrade(number))
                group.create_task(ordinary(number))

        assert 300 == sum(not seen.values(b"upgrade") for seen in upstream.requests)

"""The record is complete: whatever reached the app with an assertion was permitted on it, and the other way round."""

import asyncio
import contextlib
import random
from collections import Counter

from gateway.audit.evidence.verify import verify
from tests.gateway_world import HOST
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import chunked_response, response, then_reset
from tests.test_completions import hang_up_after, listed, open_app, request
from tests.test_fail_closed import full_disk
from tests.test_websockets import AGREED, handshake
from tests.upstream_client import eventually

MANY = 240
_PATIENCE_SECONDS = 0.1
FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
UNSENT = {"refused", "upstream_failed", "client_gone", "cut"}
"""How an exchange may have ended of which the app has heard nothing."""


class App:
    """An app that does to each request what its number says, and waits where it is told to."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.answers = [
            response(b"whole"),
            response(status=b"404 Not Found"),
            chunked_response(b"a" * 9000, b"b" * 9000),
            then_reset(b""),
            then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
            b"no http at all",
            self._half_way,
        ]

    async def _half_way(self, connection):
        await connection.send(FIRST)
        await self.gate.wait()
        connection.close()

    async def _socket(self, connection):
        await connection.send(AGREED + b"\x81\x02hi")
        await self.gate.wait()
        connection.close()

    def __call__(self, seen):
        if seen.target.startswith(b"/live"):
            return self._socket
        return self.answers[int(seen.target.split(b"/")[2]) % len(self.answers)]


class Staff:
    """Asks for numbered tickets in every way there is."""

    def __init__(self, world, token, chance):
        self.world, self.token, self.chance = world, token, chance
        self.numbers = iter(range(1, 10 * MANY))
        self.sent = []
        """The targets of all that was sent with a good token, whether or not it may pass."""

    def _target(self, kind="/tickets/{}"):
        self.sent.append(kind.format(next(self.numbers)))
        return self.sent[-1]

    async def plain(self):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):  # the app may take its time: then they go away
                await self.world.raw(request(self.token, target=self._target()))

    async def forbidden(self):
        await self.world.raw(request(self.token, target=self._target("/admin/{}")))

    async def pipelined(self):
        three = b"".join(request(self.token, target=self._target()) for _ in range(3))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.world.raw(three, responses=3)

    async def impatient(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.world.port)
        writer.write(request(self.token, target=self._target()))
        await asyncio.sleep(self.chance.random() * 0.01)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def socket(self):
        raw = handshake(self.token)
        self.sent.append("/live")
        # The customer's "off" may come first.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await hang_up_after(self.world, raw, b"\x81\x02hi")

    async def upload(self):
        raw = request(
            self.token, "Content-Length: 9", method="POST", target=self._target("/tickets/{}/reply"), body=b"half"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self.world.port)
        writer.write(raw)
        await asyncio.sleep(self.chance.random() * 0.01)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def bad(self):
        await self.world.raw(request(self.token + "x", target="/tickets/0"))

    async def customer(self):
        await self.world.raw(b"GET /tickets/0 HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())

    @property
    def ways(self):
        return [
            self.plain, self.plain, self.plain, self.forbidden, self.pipelined, self.impatient, self.impatient,
            self.socket, self.upload, self.bad, self.customer,
        ]  # fmt: skip


async def test_the_app_hears_what_is_on_the_record_and_the_record_says_what_it_has_not_heard(tmp_path):
    """Hundreds of requests of every kind at a time; the disk is full for a while, the grant goes and comes back.

    Each request that the app got with an assertion has a permit of that target on the record, and each permit a
    completion; one of which the app has heard nothing says there why.
    """
    app, chance = App(), random.Random(20261123)  # noqa: S311 - chosen, not secret
    scope = "tickets:read tickets:write"
    async with open_app(tmp_path, app, scope=scope, permissions=("read", "write"), change=listed) as (world, token):
        world.upstream._answer_at_head = True
        staff = Staff(world, token, chance)
        for number in range(MANY // 12):
            if number == 6:
                with full_disk():
                    await asyncio.gather(*(chance.choice(staff.ways[:4])() for _ in range(6)))
                world.clock.forward(seconds=1)
            if number == 10:
                await world.choose("off")
                await asyncio.gather(*(staff.plain() for _ in range(6)))
                await world.choose("day", ("read", "write"))
                staff.token = await world.token(scope)
            many = asyncio.gather(*(chance.choice(staff.ways)() for _ in range(12)))
            if number == 14:
                # In the middle of all that.
                await asyncio.sleep(0.01)
                await world.choose("off")
                await many
                await world.choose("day", ("read", "write"))
                staff.token = await world.token(scope)
            await many
        app.gate.set()
        assert world.gateway.journal.failures, "whoever watches that number has heard of the disk"
        async with asyncio.timeout(PATIENCE_SECONDS):
            await eventually(lambda: not len(world.gateway.live))
        allowed = [record for record in world.records(kind="decision") if record["decision"] == "allow"]
        await eventually(lambda: len(allowed) == len(world.ends()))
        heard = [one for one in world.upstream.requests if one.values(b"x-locum-assertion")]
    ends = {end["completes"]: end for end in world.ends()}
    assert {record["seq"] for record in allowed} == set(ends)
    assert all(ends[record["seq"]]["request_id"] == record["request_id"] for record in allowed)
    permitted = Counter(record["path"] for record in allowed)
    got = Counter(one.target.decode() for one in heard)
    # An app that hangs up on a connection used before is asked once more: the same request, under the same permit.
    assert set(got) <= set(permitted)
    assert set(permitted) <= set(staff.sent)
    unheard = [ends[record["seq"]]["ended"] for record in allowed if not got[record["path"]]]
    assert set(unheard) <= UNSENT
    assert {"complete", "client_gone", "upstream_failed"} <= {end["ended"] for end in ends.values()}
    assert len(heard) > MANY / 3
    assert not [one for one in world.upstream.requests if one.target.startswith(b"/admin")]
    assert verify(tmp_path / "journal").ok

"""Everything that can be open ends at everything that ends it: on both sides, with not a byte after, on the record."""

import asyncio
import contextlib

import pytest

from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import KillSwitch
from policy.grants import convert
from policy.model import AccountType, ActorId
from tests.gateway_world import HOST, open_world
from tests.patience import within
from tests.test_fail_closed import full_disk
from tests.test_websockets import AGREED, handshake
from tests.upstream_client import eventually

AT_ONCE_SECONDS = 1.0
RULES = """
[[routes]]
id = "e-socket"
methods = ["GET"]
path = "/socket"
scope = "tickets:read"
websocket = true

[[routes]]
id = "e-read"
methods = ["GET"]
path = "/open/{kind}"
scope = "tickets:read"

[[routes]]
id = "e-write"
methods = ["PUT"]
path = "/open/upload"
scope = "tickets:write"
"""
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
FRAME = b"\x81\x05hello"
GOODBYE = b"\x88\x18\x03\xf0not permitted any more"
KINDS = ("socket", "events", "poll", "download", "upload")


class App:
    """Begins every answer, ends none, and goes on sending until its connection ends."""

    def __init__(self):
        self.heard = {}
        """What came behind the head, by kind."""
        self.ended = {kind: asyncio.Event() for kind in KINDS}

    async def serve(self, reader, writer):
        kind = ""
        sending = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            kind = head.split(b" ")[1].rpartition(b"/")[2].decode()
            self.heard[kind] = b""
            sending = asyncio.ensure_future(self._send(kind, writer))
            while data := await reader.read(65536):
                self.heard[kind] += data
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()
            if kind in self.ended:
                self.ended[kind].set()

    async def _send(self, kind, writer):
        if kind in ("poll", "upload"):
            return  # it has not made up its mind
        begin = {"socket": AGREED, "events": CHUNKED % b"text/event-stream", "download": COUNTED}[kind]
        piece = {"socket": FRAME, "events": b"9\r\ndata: x\n\n\r\n", "download": b"x" * 100}[kind]
        writer.write(begin + piece)
        while True:
            await asyncio.sleep(0.01)
            writer.write(piece)
            await writer.drain()


class Open:
    """One exchange of staff that is half way."""

    def __init__(self, kind, reader, writer):
        self.kind = kind
        self.reader = reader
        self.writer = writer
        self.got = b""
        self.over = asyncio.ensure_future(self._read())

    async def _read(self):
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                self.got += data


async def begin(world, app, token, kind):
    """Open one, and wait until it is really under way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    if kind == "socket":
        raw = handshake(token, target=b"/socket")
    else:
        method, more = ("PUT", "Content-Length: 1000\r\n") if kind == "upload" else ("GET", "")
        head = f"{method} /open/{kind} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        raw = head.encode() + (b"half" if more else b"")
    writer.write(raw)
    one = Open(kind, reader, writer)
    if kind in ("poll", "upload"):
        await eventually(lambda: app.heard.get(kind) == (b"half" if kind == "upload" else b""))
    else:
        await eventually(lambda: b"\r\n\r\n" in one.got and not one.got.endswith(b"\r\n\r\n"))
    return one


@contextlib.asynccontextmanager
async def everything_open(tmp_path, *, account=AccountType.PAID, store=None):
    """Yield the world, before the store of its own or the one named, the app, and one exchange of each kind."""
    app = App()
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0)

    def change(document):
        document["upstream"]["url"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        document["grants"] = {"trial_permissions": ["read", "write"]}
        if store is not None:
            document["store"] = store
        path = tmp_path / "demo-helpdesk.toml"
        path.write_text(path.read_text() + RULES)

    async with open_world(tmp_path, change=change, account=None) as world:
        await world.add_account(kind=account)
        if account is AccountType.PAID:
            await world.choose("week", ["read", "write"])
        token = await world.token("tickets:read tickets:write")
        opened = [await begin(world, app, token, kind) for kind in KINDS]
        try:
            yield world, app, opened
        finally:
            for one in opened:
                one.writer.transport.abort()
                await one.over
            server.close()


async def off(world, _store):
    await world.choose("off")


async def expired(world, _store):
    world.clock.forward(days=8)


async def converted(world, store):
    record = await store.find_account("acme")
    await store.save_change(
        convert(record.account, record.grant, now=world.clock.now), by="billing", at=world.clock.now
    )


async def halted(_world, store):
    await store.set_kill_switch(KillSwitch(on=True, by="security", reason="drill"))


async def locked(world, store):
    await store.disable_staff(ActorId(issuer=world.issuer.issuer, subject="dana"), disabled=True)


async def ended(world, store):
    [record] = world.records(kind="token", decision="allow")
    await store.end_assumption(record["assumption"], at=world.clock.now)


ENDS = {
    "grant_revoked": off,
    "token_expired": expired,
    "kill_switch": halted,
    "staff_disabled": locked,
    "assumption_ended": ended,
}


async def all_cut(world, app, opened, reason):
    """Every exchange ends on both sides in time, nothing comes after it, and each is on the record with its bytes."""
    async with within(2 * AT_ONCE_SECONDS if reason == "token_expired" else AT_ONCE_SECONDS):
        await asyncio.gather(*(one.over for one in opened), *(app.ended[one.kind].wait() for one in opened))
    await eventually(lambda: not len(world.gateway.live))
    by_kind = {one.kind: one.got.partition(b"\r\n\r\n")[2] for one in opened}
    # No answer is made up for what had none, and none looks whole that is not.
    assert b"" == by_kind.get("poll", b"") == by_kind.get("upload", b"")
    assert b"\r\n0\r\n" not in by_kind.get("events", b"")
    # The socket is told, unless the cut came between two pieces of a frame or behind bytes on their way.
    assert by_kind["socket"].replace(FRAME, b"") in (b"", GOODBYE)
    assert (b"half", b"") == (app.heard["upload"], app.heard["download"])
    await eventually(lambda: len(world.records(kind="completion", ended="cut")) == len(opened))
    paths = {record["request_id"]: record["path"] for record in world.records(kind="decision", decision="allow")}
    cuts = world.records(kind="completion", ended="cut")
    cut = {paths[record["request_id"]].rpartition("/")[2]: record for record in cuts}
    assert {one.kind for one in opened} == set(cut)
    assert {reason} == {record["reason"] for record in cut.values()}
    assert (4, 0, 0) == (cut["upload"]["bytes_received"], cut["upload"]["bytes_sent"], cut["poll"]["bytes_sent"])
    assert all(cut[kind]["bytes_sent"] > 0 for kind in ("socket", "events", "download"))


@pytest.mark.parametrize("reason", ENDS)
async def test_whatever_is_open_ends_with_it(tmp_path, reason):
    """A WebSocket, an event stream, a long poll, a download and an upload; told by the store of another process."""
    async with everything_open(tmp_path) as (world, app, opened):
        store = await open_sqlite(world.directory / "locum.sqlite3")
        try:
            await ENDS[reason](world, store)
            await all_cut(world, app, opened, reason)
        finally:
            await store.close()


async def test_whatever_is_open_ends_with_it_at_a_shared_database(tmp_path, postgres, database):
    """The same, told by another connection to PostgreSQL."""
    # Only now, because it imports asyncpg.
    from tests.postgres_server import open_store  # noqa: PLC0415

    async with everything_open(tmp_path, store={"url": postgres.url(database)}) as (world, app, opened):
        store = await open_store(postgres, database)
        try:
            await halted(world, store)
            await all_cut(world, app, opened, "kill_switch")
        finally:
            await store.close()


async def test_a_conversion_ends_whatever_a_trial_had_open(tmp_path):
    """The same, for the grant that a trial has without anybody's having given it."""
    async with everything_open(tmp_path, account=AccountType.TRIAL) as (world, app, opened):
        await converted(world, world.gateway.store)
        await all_cut(world, app, opened, "grant_revoked")


async def test_a_reduction_ends_what_it_takes_and_nothing_else(tmp_path):
    """Without `write` the upload is over; the four that read go on, and get more than they had."""
    async with everything_open(tmp_path) as (world, app, opened):
        upload = opened.pop()
        await world.choose("week", ["read"])
        async with within(AT_ONCE_SECONDS):
            await asyncio.gather(upload.over, app.ended["upload"].wait())
        had = {one.kind: len(one.got) for one in opened}
        await eventually(lambda: all(len(one.got) > had[one.kind] for one in opened if one.kind != "poll"))
        assert 4 == len(world.gateway.live)
        assert not any(app.ended[one.kind].is_set() for one in opened)


async def test_a_cut_while_the_disk_is_full_is_recorded_when_there_is_room(tmp_path):
    """Ending is not put off for its record, and its record is not dropped."""
    async with everything_open(tmp_path) as (world, app, opened):
        with full_disk():
            world.clock.forward(days=8)
            async with within(2 * AT_ONCE_SECONDS):
                await asyncio.gather(*(one.over for one in opened), *(app.ended[one.kind].wait() for one in opened))
            assert [] == world.records(kind="completion")
        world.clock.forward(seconds=2)
        await eventually(lambda: 5 == len(world.records(kind="completion", ended="cut", reason="token_expired")))

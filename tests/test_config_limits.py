"""Every limit of the configuration: its default is the one in force, its bounds hold, and once set, it bites."""

import asyncio
import contextlib
import dataclasses
import math
import socket
import tomllib

import pytest

from gateway.config.check import _MOST
from gateway.config.load import build
from gateway.config.model import Limits, Upstream
from gateway.proxy.limits import ListenerLimits, PoolLimits
from tests.gateway_world import HOST, open_world
from tests.listener_world import until_closed
from tests.patience import PATIENCE_SECONDS, unless_it_stalls, within
from tests.rawwire import RecordingUpstream, exchange, hold, response
from tests.test_config import BASE, ROOT, document, refusal
from tests.test_websockets import App, handshake
from tests.upstream_client import eventually

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
CLOSING_GET = GET[:-2] + b"Connection: close\r\n\r\n"
SOON = 0.1
"""Seconds: a limit that is meant to be reached."""
BEFORE_DEFAULTS = 1.5
"""Seconds: the default of no time limit that is tried has passed by then, so it was the configured one."""
POOL_NAMES = {
    "response_timeout_seconds": "response_timeout_seconds",
    "max_idle_connections": "max_idle",
    "max_websockets": "max_websockets",
    "websocket_idle_timeout_seconds": "websocket_idle_timeout_seconds",
}


# --- what is in force ---


def _shown(section):
    """The keys of a section as the example shows them commented out."""
    text = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    part = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0].partition("\n# [")[0]
    lines = [line.removeprefix("# ") for line in part.splitlines()]
    keys = [line for line in lines if line.partition(" = ")[0].isidentifier() and " = " in line]
    return tomllib.loads("\n".join(keys))


def test_the_example_shows_the_limits_that_are_in_force():
    """Each key with its default, which is the one of where it is enforced."""
    config = build(document(), {}, base=BASE)
    limits = {name: getattr(config.limits, name) for name in Limits.__struct_fields__}
    # These two follow others, and the example shows to what.
    shares = {name: getattr(config.listener, name) for name in limits if limits[name] is None}
    assert {"in_flight_per_peer", "websockets_per_peer"} == set(shares)
    assert limits | shares == _shown("limits")
    upstream = {key: value for key, value in _shown("upstream").items() if key not in ("url", "profile")}
    assert upstream == {key: getattr(config.upstream, key) for key in upstream}
    limited = {key.partition(".")[2] for key in _MOST if key.startswith("upstream.")} | {
        "websocket_idle_timeout_seconds"
    }
    assert limited <= set(upstream)
    assert (ListenerLimits(), PoolLimits()) == (config.listener, config.upstream.pool)


def test_every_limit_of_the_listener_and_of_the_pools_can_be_set():
    """Each gets there from its own key, and none is left out."""
    names = [field.name for field in dataclasses.fields(ListenerLimits)]
    assert set(names) == set(Limits.__struct_fields__) - {"tls_handshake_timeout_seconds"}
    wanted = {name: 11 + index for index, name in enumerate(names)}
    assert ListenerLimits(**wanted) == build(document("limits", wanted), {}, base=BASE).listener

    names = [field.name for field in dataclasses.fields(PoolLimits)]
    keys = {new: old for old, new in POOL_NAMES.items()}
    wanted = {name: 11 + index for index, name in enumerate(names)}
    more = [(f"upstream.{keys.get(name, name)}", value) for name, value in wanted.items()]
    assert PoolLimits(**wanted) == build(document(more=more), {}, base=BASE).upstream.pool


@pytest.mark.parametrize(("most", "half"), [(1, 1), (2, 1), (3, 2), (4, 2), (1000, 500)])
def test_one_address_has_half_unless_it_is_said(most, half):
    """Of connections to the app and of WebSockets, however many there are; and never none."""
    more = [("upstream.max_connections", most), ("upstream.max_websockets", most + 1000)]
    listener = build(document(more=more), {}, base=BASE).listener
    assert (half, (most + 1001) // 2) == (listener.in_flight_per_peer, listener.websockets_per_peer)


def test_no_silence_of_a_websocket_is_too_long_unless_it_is_said():
    """0 stands for no limit, which TOML has a word for that nobody knows."""
    for value in (0, 0.0):
        config = build(document("upstream.websocket_idle_timeout_seconds", value), {}, base=BASE)
        assert math.inf == config.upstream.pool.websocket_idle_timeout_seconds
    for value in (-1, 1e9, math.inf, math.nan):
        words = refusal(document("upstream.websocket_idle_timeout_seconds", float(value)))
        assert words.startswith("upstream.websocket_idle_timeout_seconds: must be at most 86400, or 0")


def test_every_number_has_bounds():
    """No limit of these sections can be set to nothing, to less, or to what is as good as none."""
    numbers = {
        f"{name}.{field}"
        for name, section in (("limits", Limits), ("upstream", Upstream))
        for field in section.__struct_fields__
        if section.__annotations__.get(field) in (int, float, int | None)
    }
    assert {where for where in _MOST if where.startswith(("limits.", "upstream."))} == numbers - {
        "upstream.websocket_idle_timeout_seconds"
    }
    assert 20 < len(numbers)


@pytest.mark.parametrize("where", _MOST)
def test_a_number_beyond_its_bounds_is_refused(where):
    """The message names the key and the bounds; the highest value itself is taken."""
    most = _MOST[where]
    for value in (0, -1, most + 1):
        assert f"{where}: must be above 0 and at most {most}" == refusal(document(where, value))
    build(document(where, most), {}, base=BASE)


# --- each set once, in a whole gateway ---


@contextlib.asynccontextmanager
async def open_limited(tmp_path, *, script=None, upstream=None, change=lambda _document: None, **limits):
    """A gateway with some limits of [limits] and [upstream] set."""

    def both(wanted):
        wanted["limits"] = limits
        wanted["upstream"] |= upstream or {}
        change(wanted)

    async with open_world(tmp_path, script=script, change=both) as world, asyncio.timeout(PATIENCE_SECONDS):
        yield world


@contextlib.asynccontextmanager
async def connect(world, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port, **options)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def status(raw):
    return int(raw.split(b" ")[1]) if raw else 0


POST = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhalf".encode()
# What is sent, and what the answer begins with before the gateway closes; 0 for no word at all.
CLIENT_CASES = {
    "header_bytes": (256, GET[:-2] + b"X: " + b"x" * 300 + b"\r\n\r\n", 431),
    "header_lines": (3, GET[:-2] + b"X: 1\r\n" * 3 + b"\r\n", 431),
    "header_timeout_seconds": (SOON, GET[:-2], 408),
    "idle_timeout_seconds": (SOON, b"", 0),
    "body_idle_timeout_seconds": (SOON, POST, 408),
}


@pytest.mark.parametrize("name", CLIENT_CASES)
@unless_it_stalls
async def test_a_client_that_goes_beyond_a_limit_is_told_and_cut_off(tmp_path, name):
    """Size and time, of a head, a body, and nothing at all; who stays within it is served."""
    value, raw, expected = CLIENT_CASES[name]
    async with open_limited(tmp_path, **{name: value}) as world:
        assert 200 == status(await exchange("127.0.0.1", world.port, CLOSING_GET))
        async with connect(world) as (reader, writer), within(BEFORE_DEFAULTS):
            writer.write(raw)
            assert expected == status(await until_closed(reader))


@unless_it_stalls
async def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(tmp_path):
    """min_bytes_per_second: no pause is too long, and yet the body takes too long."""
    limits = {"body_idle_timeout_seconds": 0.2, "min_bytes_per_second": 10_000}
    async with open_limited(tmp_path, **limits) as world, connect(world) as (reader, writer):
        writer.write(POST.replace(b" 9", b" 99999"))
        answer = asyncio.ensure_future(until_closed(reader))
        async with within(BEFORE_DEFAULTS):
            while not answer.done():
                writer.write(b"x")
                await asyncio.wait([answer], timeout=0.02)
        assert 408 == status(answer.result())


@unless_it_stalls
async def test_a_client_that_takes_nothing_is_cut_off(tmp_path):
    """write_stall_timeout_seconds: the app is let go as well."""
    async with (
        open_limited(
            tmp_path, script=lambda _request: response(b"x" * 30_000_000), write_stall_timeout_seconds=SOON
        ) as world,
        connect(world, limit=1024) as (_, writer),
    ):
        writer.write(GET)
        await world.upstream.until(lambda: world.upstream.connections and world.upstream.connections[0].ended.is_set())


@unless_it_stalls
async def test_a_client_that_does_not_leave_is_left(tmp_path):
    """linger_timeout_seconds: behind the last response both directions are closed, whatever the client does."""
    async with open_limited(tmp_path, linger_timeout_seconds=SOON) as world:
        with socket.create_connection(("127.0.0.1", world.port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, CLOSING_GET)
            while await loop.sock_recv(client, 65536):
                pass
            with pytest.raises(ConnectionError):
                async with within(BEFORE_DEFAULTS):
                    while True:  # what is sent to a closed socket comes back as a reset
                        await loop.sock_sendall(client, b"x")
                        await asyncio.sleep(0.01)


async def test_one_address_has_only_so_many_connections(tmp_path):
    """connections_per_peer: one more is told so."""
    async with open_limited(tmp_path, connections_per_peer=1) as world, connect(world) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"ok")
        assert 503 == status(await exchange("127.0.0.1", world.port, b""))


async def test_all_addresses_together_have_only_so_many_connections(tmp_path):
    """max_connections: one more is closed without a word, whoever it is; who leaves makes room, and the busy stay."""
    go_on = asyncio.Event()
    async with open_limited(tmp_path, script=lambda _: hold(go_on, after=response()), max_connections=1) as world:
        async with connect(world) as (reader, writer):
            writer.write(GET)
            await world.upstream.until(lambda: world.upstream.requests)
            at = await asyncio.open_connection("127.0.0.1", world.port, local_addr=("127.0.0.9", 0))
            assert b"" == await until_closed(at[0])
            at[1].close()
            go_on.set()
            await reader.readuntil(b"ok")
        while not (answer := await exchange("127.0.0.1", world.port, GET)):  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0)
        assert 200 == status(answer)


async def test_only_so_many_requests_are_answered_at_a_time(tmp_path):
    """max_in_flight: one more is told so."""
    go_on = asyncio.Event()
    async with open_limited(tmp_path, script=lambda _: hold(go_on, after=response()), max_in_flight=1) as world:
        first = asyncio.ensure_future(world.get(target="/"))
        await world.upstream.until(lambda: world.upstream.requests)
        assert 503 == status(await exchange("127.0.0.1", world.port, GET))
        go_on.set()
        assert 200 == (await first)[0]


# --- the upstream's ---


@unless_it_stalls
async def test_an_app_that_does_not_finish_the_connection_is_given_up(tmp_path):
    """connect_timeout_seconds: TLS counts as well."""
    async with RecordingUpstream() as silent:
        silent.violations = _Ignored()  # a TLS hello is no request

        def change(wanted):
            wanted["upstream"]["url"] = silent.url.replace("http:", "https:")

        limits = {"connect_timeout_seconds": SOON}
        async with open_limited(tmp_path, upstream=limits, change=change) as world, within(BEFORE_DEFAULTS):
            assert 504 == (await world.get(target="/"))[0]


class _Ignored(list):
    def append(self, _one):
        pass


@pytest.mark.parametrize(("size", "status"), [(999, 200), (1000, 200), (1001, 502)])
async def test_the_head_of_an_answer_has_only_so_many_bytes(tmp_path, size, status):
    """header_bytes: one more, and nothing of it goes to the client; the connection to the app is closed."""
    fixed = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: \r\n\r\n"
    raw = fixed.replace(b"X-Long: ", b"X-Long: " + b"x" * (size - len(fixed))) + b"ok"
    async with open_limited(tmp_path, script=lambda _: raw, upstream={"header_bytes": 1000}) as world:
        got, _, body = await world.get(target="/")
        assert (status, 200 == status) == (got, body == b"ok")
        if status != 200:
            await world.upstream.until(world.upstream.connections[0].ended.is_set)


@unless_it_stalls
async def test_an_app_that_does_not_answer_is_given_up(tmp_path):
    """response_timeout_seconds: the client is told."""
    never = hold(asyncio.Event())
    async with open_limited(tmp_path, script=lambda _: never, upstream={"response_timeout_seconds": SOON}) as world:
        assert 504 == (await world.get(target="/"))[0]


@unless_it_stalls
async def test_an_app_that_pauses_in_its_answer_is_given_up(tmp_path):
    """idle_timeout_seconds: the answer breaks off, and never looks whole."""
    half = hold(asyncio.Event(), before=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    async with open_limited(tmp_path, script=lambda _: half, upstream={"idle_timeout_seconds": SOON}) as world:
        assert (200, b"half") == (await world.get(target="/"))[::2]


@unless_it_stalls
async def test_an_app_that_takes_nothing_is_given_up(tmp_path):
    """request_stall_timeout_seconds: the upload ends with a 504."""
    async with open_limited(tmp_path, upstream={"request_stall_timeout_seconds": SOON}) as world:
        world.upstream.reading.clear()
        async with connect(world) as (reader, writer):
            writer.write(POST.replace(b": 9", b": 30000000") + b"x" * 29_999_996)
            assert 504 == status(await until_closed(reader))
        world.upstream.violations = _Ignored()  # it has half a request
        world.upstream.reading.set()


@unless_it_stalls
async def test_only_so_many_connections_are_made_and_waited_for_so_long(tmp_path):
    """max_connections and queue_timeout_seconds."""
    go_on = asyncio.Event()
    limits = {"max_connections": 1, "queue_timeout_seconds": SOON}
    async with open_limited(
        tmp_path, script=lambda _: hold(go_on, after=response()), upstream=limits, in_flight_per_peer=2
    ) as world:
        first = asyncio.ensure_future(world.get(target="/"))
        await world.upstream.until(lambda: world.upstream.requests)
        async with within(BEFORE_DEFAULTS):
            assert 504 == (await world.get(target="/"))[0]
        go_on.set()
        assert (200, 1) == ((await first)[0], len(world.upstream.connections))


async def test_only_so_many_connections_are_kept(tmp_path):
    """max_idle_connections: the others are closed when they are not needed any more."""
    go_on = asyncio.Event()
    script = lambda _: hold(go_on, after=response())  # noqa: E731 - as short as it gets
    async with open_limited(tmp_path, script=script, upstream={"max_idle_connections": 1}) as world:
        asked = [asyncio.ensure_future(world.get(target="/")) for _ in range(3)]
        await world.upstream.until(lambda: len(world.upstream.requests) == 3)
        go_on.set()
        await asyncio.gather(*asked)
        ended = lambda: sum(one.ended.is_set() for one in world.upstream.connections)  # noqa: E731
        await world.upstream.until(lambda: ended() == 2)
        assert 200 == (await world.get(target="/"))[0]
        assert (3, 2) == (len(world.upstream.connections), ended())


@unless_it_stalls
async def test_a_connection_is_not_kept_for_longer_than_that(tmp_path):
    """max_idle_age_seconds: we close it, before the app does."""
    async with open_limited(tmp_path, upstream={"max_idle_age_seconds": SOON}) as world:
        assert 200 == (await world.get(target="/"))[0]
        await world.upstream.until(world.upstream.connections[0].ended.is_set)


@pytest.mark.parametrize(("seconds", "connections"), [(1e-6, 2), (PATIENCE_SECONDS, 1)])
async def test_a_connection_that_is_too_old_is_not_used_again(tmp_path, seconds, connections):
    """max_age_seconds: counted from its beginning, looked at when an exchange is over, and never in the middle of one."""
    go_on, loop = asyncio.Event(), asyncio.get_running_loop()
    script = lambda _: hold(go_on, after=response())  # noqa: E731
    async with open_limited(tmp_path, script=script, upstream={"max_age_seconds": seconds}) as world:
        asked = asyncio.ensure_future(world.get(target="/"))
        await world.upstream.until(lambda: world.upstream.requests)
        begun = loop.time()
        # The loop's clock goes by milliseconds.
        await eventually(lambda: loop.time() > begun)
        go_on.set()
        assert [200, 200] == [(await asked)[0], (await world.get(target="/"))[0]]
        assert connections == len(world.upstream.connections)


@unless_it_stalls
async def test_an_app_that_is_down_is_not_tried_all_the_time(tmp_path):
    """unreachable_pause_seconds: until then it is taken for down, although it is up again."""
    path = tmp_path / "app.sock"

    def change(wanted):
        wanted["upstream"]["url"] = f"unix:{path}"

    loop = asyncio.get_running_loop()
    async with open_limited(tmp_path, upstream={"unreachable_pause_seconds": 1.0}, change=change) as world:
        assert 502 == (await world.get(target="/"))[0]
        begun = loop.time()
        async with RecordingUpstream(response(), unix_path=str(path)) as app:
            assert 502 == (await world.get(target="/"))[0]
            assert [] == app.connections
            while (await world.get(target="/"))[0] == 502:  # noqa: ASYNC110 - the claim is about time
                await asyncio.sleep(0.02)
            assert 1 == len(app.requests)
            assert 0.9 < loop.time() - begun


@contextlib.asynccontextmanager
async def open_chat(tmp_path, *, limits=None, **upstream):
    """A gateway before an app that opens WebSockets, with some limits of [limits] and [upstream] set."""
    app = App()
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with open_limited(tmp_path, upstream={"url": url, **upstream}, **(limits or {})) as world:
            yield world, app
    finally:
        server.close()
        for writer in app.writers:
            writer.transport.abort()
        await server.wait_closed()


async def test_only_so_many_websockets_are_open(tmp_path):
    """max_websockets: one more is refused, and an ordinary request is not."""
    async with (
        open_chat(tmp_path, limits={"websockets_per_peer": 2}, max_websockets=1) as (world, _),
        connect(world) as (reader, writer),
    ):
        writer.write(handshake())
        assert 101 == status(await reader.readuntil(b"\r\n\r\n"))
        assert [502, 200] == [
            status(await exchange("127.0.0.1", world.port, raw)) for raw in (handshake(), CLOSING_GET)
        ]


@unless_it_stalls
async def test_a_websocket_may_be_silent_for_so_long(tmp_path):
    """websocket_idle_timeout_seconds: both sides are let go."""
    limits = {"websocket_idle_timeout_seconds": SOON}
    async with open_chat(tmp_path, **limits) as (world, app), connect(world) as (reader, writer):
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        assert b"" == await until_closed(reader)
        await app.ended.wait()

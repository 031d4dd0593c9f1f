"""Several processes serve one port as one gateway would: together, through deaths, and to a bounded end."""

import asyncio
import os
import re
import signal
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.workers.supervisor import count_workers
from tests.gateway_world import document
from tests.patience import PATIENCE_SECONDS, within
from tests.process_world import open_process_world, until
from tests.rawwire import hold, response

BOTH = {"gateway-0", "gateway-1"}
FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
LAST = b"4\r\nlast\r\n0\r\n\r\n"
shared = pytest.mark.asyncio(loop_scope="module")
AT_ONCE = 1.0
"""Seconds within which a change reaches every worker: the promise is one."""


@pytest.fixture
async def gate():
    return asyncio.Event()


@pytest.fixture
async def world(tmp_path, gate):
    """An app that answers at once, but for a download, the rest of which it holds until the gate is open."""

    def script(request):
        slow = request.target.startswith(b"/attachments/")
        return hold(gate, before=FIRST, after=LAST) if slow else response()

    async with open_process_world(tmp_path, script=script) as world:
        yield world


@asynccontextmanager
async def lines_to_both(world, token):
    """Yield, by origin, one open connection to each of two workers."""
    async with AsyncExitStack() as stack:
        found = {}
        # The kernel chooses by the client's port, so the next connection is as good as a coin.
        for _ in range(64):
            line = await stack.enter_async_context(world.connection())
            status, headers, _ = await line.get(token)
            assert 200 == status
            found[world.origin_of(headers["x-locum-request"])] = line
            if BOTH == found.keys():
                break
        assert BOTH == found.keys()
        yield found


def gone(pid):
    """Tell whether a process has ended, reaped by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def refuses(port):
    """Tell whether nobody takes connections there any more."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


async def test_a_revoke_through_one_worker_holds_in_both(world):
    """Both serve; open streams of both are cut and new requests refused within a second; the journal is whole."""
    async with world.running(workers=2) as running:
        assert 2 == len(running.workers())
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        async with lines_to_both(world, token) as lines, lines_to_both(world, token) as streams:
            for stream in streams.values():
                stream.send(token, "/attachments/1")
                assert 200 == (await stream.head())[0]
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await stream.reader.readuntil(b"first\r\n")
            assert 200 == (await world.choose("off"))[0]
            async with within(AT_ONCE):
                assert [b"", b""] == [await stream.rest() for stream in streams.values()]
                for line in lines.values():
                    assert 403 == (await line.get(token))[0]
        running.send(signal.SIGTERM)
        assert 0 == await running.ends()
    assert BOTH == {record["origin"] for record in world.records()}
    assert BOTH == {record["origin"] for record in world.records(kind="decision", reason="grant_revoked")}
    code, said = await world.told("audit", "verify")
    assert (0, "ok") == (code, said.splitlines()[-1])
    assert BOTH == {line.partition(":")[0] for line in said.splitlines() if "records" in line}
    code, said = await world.told("audit", "search", "reason:grant_revoked")
    assert 0 == code
    assert 2 <= len(said.splitlines())
    code, said = await world.told("audit", "tail", "-n", "1000")
    assert (0, len(world.records())) == (code, len(said.splitlines()))


async def test_a_killed_worker_is_started_again_while_the_other_serves(world):
    """Its place is taken at once, by a process that goes on with its journal; who dies again and again has to wait."""
    async with world.running(workers=2) as running:
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        async with lines_to_both(world, token) as lines:
            said = await running.says("worker gateway-0 serves")
            os.kill(int(said.rpartition("process ")[2].rstrip(")")), signal.SIGKILL)
            assert b"" == await lines["gateway-0"].rest()
            assert 200 == (await lines["gateway-1"].get(token))[0]
            await running.says("gateway-0", "by SIGKILL", "started again in 0 s")
            said = await running.says("worker gateway-0 serves", times=2)
        async with lines_to_both(world, token):
            os.kill(int(said.rpartition("process ")[2].rstrip(")")), signal.SIGKILL)
            await running.says("gateway-0", "by SIGKILL", "started again in 0.1 s")
            await running.says("worker gateway-0 serves", times=3)
        assert 2 == len(running.workers())
        running.send(signal.SIGTERM)
        assert 0 == await running.ends()
    code, said = await world.told("audit", "verify")
    assert (0, "ok") == (code, said.splitlines()[-1]), said


async def test_no_worker_outlives_its_supervisor(world):
    """After kill -9 of the supervisor the workers cut what is open and end, and the port is free."""
    async with world.running(workers=2, shutdown=60) as running, world.connection() as line:
        workers = running.workers()
        line.send(target="/attachments/1")
        assert 200 == (await line.head())[0]
        running.send(signal.SIGKILL)
        assert not (await line.rest()).endswith(LAST)
        await until(lambda: all(map(gone, workers)))
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", world.port))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_drains(world, gate, workers):
    """Told to stop: no new connection, idle ones close at once, a download gets to its end, the exit code is 0."""
    async with (
        world.running(workers=workers, shutdown=30) as running,
        world.connection() as idle,
        world.connection() as busy,
    ):
        assert 200 == (await idle.get())[0]
        busy.send(target="/attachments/1")
        assert 200 == (await busy.head())[0]
        running.send(signal.SIGTERM)
        assert b"" == await idle.rest()
        await until(lambda: refuses(world.port))
        gate.set()
        assert (await busy.rest()).endswith(LAST)
        assert 0 == await running.ends()


@pytest.mark.parametrize(("workers", "again", "seconds"), [(1, False, 0.3), (1, True, 60), (2, True, 60)])
async def test_a_stop_has_a_bound(world, workers, again, seconds):
    """What is not done after `shutdown_seconds`, or by a second signal, is cut, and the exit code is still 0."""
    async with world.running(workers=workers, shutdown=seconds) as running, world.connection() as busy:
        async with world.connection() as idle:
            busy.send(target="/attachments/1")
            assert 200 == (await busy.head())[0]
            assert 200 == (await idle.get())[0]
            running.send(signal.SIGINT)
            if again:
                await idle.rest()  # so that the first signal has been heard
                running.send(signal.SIGTERM)
        assert not (await busy.rest()).endswith(LAST)
        assert 0 == await running.ends()
        assert [] == [line for line in running.lines if "killed" in line]


async def test_a_worker_that_hangs_is_killed_in_the_end(world):
    """A stopped process hears nothing: its supervisor waits for the bound and no longer, and ends in order."""
    async with world.running(workers=2, shutdown=0.2) as running:
        async with world.connection() as busy:
            busy.send(target="/attachments/1")
            assert 200 == (await busy.head())[0]
            hanging = running.workers()[0]
            os.kill(hanging, signal.SIGSTOP)
            running.send(signal.SIGTERM)
            assert 0 == await running.ends()
            assert not (await busy.rest()).endswith(LAST)
        await running.says(f"process {hanging} did not end in time")
        assert gone(hanging)


BLOCKED = """
import signal, sys, time
if "--worker" in sys.orig_argv:
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(60))
"""


DEADLINE_SECONDS = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory):
    """Two workers that may be silent for so long; whoever lets one be replaced leaves two that serve."""
    directory = tmp_path_factory.mktemp("watched")
    (directory / "sitecustomize.py").write_text(BLOCKED)
    paths = f"{directory}{os.pathsep}{Path(__file__).parent.parent}"
    settings = {"environment": {"PYTHONPATH": paths}, "server": f"worker_deadline_seconds = {DEADLINE_SECONDS}"}
    async with open_process_world(directory) as world, world.running(workers=2, **settings) as running:
        assert 200 == (await world.choose("day"))[0]
        yield world, running


@shared
async def test_a_machine_that_stands_still_kills_no_worker(watched):
    """Everything is stopped for longer than the deadline and goes on, the supervisor first: nobody was at fault."""
    _, running = watched
    everybody = [running.pid, *running.workers()]
    for pid in running.workers():
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.5)  # so that each owes a sign of life
    os.kill(running.pid, signal.SIGSTOP)
    await asyncio.sleep(DEADLINE_SECONDS + 0.5)  # the machine stands still
    os.kill(running.pid, signal.SIGCONT)
    await asyncio.sleep(0.3)  # it looks after its workers, and they cannot answer yet
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(DEADLINE_SECONDS + 0.2)  # that nobody is killed can only be seen by waiting
    running.send(signal.SIGHUP)
    await running.says("the new configuration is in force")
    assert everybody == [running.pid, *running.workers()]
    assert [] == [line for line in running.lines if "killed" in line]


@shared
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGUSR1])
async def test_a_worker_that_hangs_is_noticed_and_replaced(watched, how):
    """A process that is stopped, and one whose event loop alone stands still; meanwhile the other one serves."""
    world, running = watched
    token = await world.token()
    async with lines_to_both(world, token) as lines:
        said = await running.says("worker gateway-0 serves")
        begun = sum("worker gateway-0 serves" in line for line in running.lines)
        hanging = int(said.rpartition("process ")[2].rstrip(")"))
        os.kill(hanging, how)
        assert 200 == (await lines["gateway-1"].get(token))[0]
        await running.says(f"process {hanging} has given no sign of life for {DEADLINE_SECONDS:g} s: killed")
        assert b"" == await lines["gateway-0"].rest()
        assert 200 == (await lines["gateway-1"].get(token))[0]
        await running.says("worker gateway-0 serves", times=begun + 1)
    assert (True, 2) == (gone(hanging), len(running.workers()))


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_ipv6_address_is_said_as_a_url(world, workers):
    """In brackets, so that it can be used as it stands."""
    async with world.running(workers=workers, listen="[::1]:0") as running:
        assert re.fullmatch(r"http://\[::1\]:[0-9]+", running.addresses.public_url)
        async with world.http.get(f"{running.addresses.public_url}/tickets/1") as answer:
            assert 200 == answer.status


async def test_a_port_is_never_shared_with_a_stranger(world):
    """A port that somebody has is refused, with workers, which could share it with our own user's, and without."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        world.configure(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        for workers in ("1", "2"):
            code, said = await world.told("run", LOCUM__SERVER__WORKERS=workers)
            assert (1, True) == (code, "in use" in said), said


async def test_what_a_worker_cannot_begin_with_ends_the_whole_start(world):
    """The first start fails with the worker's own words and the exit code of a wrong configuration."""
    world.configure(workers=2, server='[server.tls]\ncertificate = "nowhere.pem"\nkey = "nowhere.key"')
    code, said = await world.told("run")
    assert (78, True) == (code, "server.tls.certificate: " in said), said
    assert "started again" not in said
    code, said = await world.told("run", "--worker")
    assert "" == said, "nobody but a supervisor has work for a worker"


@pytest.mark.parametrize("count", [0, -1, 257, 1.5, True, "many", "2"])
def test_a_number_of_workers_is_a_number_or_auto(tmp_path, count):
    """Anything else is refused with the key's path."""
    with pytest.raises(ConfigError, match=r"^server\.workers: "):
        configured(tmp_path, count)


def test_auto_is_one_worker_to_each_core_that_we_may_use(tmp_path):
    """Cores that somebody has kept from this process do not count."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert 1 == count_workers(configured(tmp_path, "auto"))
    finally:
        os.sched_setaffinity(0, allowed)
    assert len(allowed) == count_workers(configured(tmp_path, "auto"))
    assert [1, 7] == [count_workers(configured(tmp_path, count)) for count in (1, 7)]
    told = {"LOCUM__SERVER__WORKERS": "auto"}
    assert len(allowed) == count_workers(configured(tmp_path, 1, told))


def configured(directory, count, environment=None):
    whole = document(directory, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2")
    whole["server"]["workers"] = count
    return build(whole, environment or {}, base=directory)

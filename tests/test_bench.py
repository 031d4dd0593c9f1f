"""The benchmark's own logic: what it counts, how it compares, and whom it never sends load to."""

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench import backend, configs, processes
from bench.backend import SIZES, response
from bench.check import check
from bench.cpu import choose_cores, family, share_out, used_microseconds
from bench.figures import Aim, Sample, aims, as_objects, as_table, medians, ratios
from bench.load import Answered, Load, drive, write_requests
from bench.locum import render
from bench.peers import PROGRAMS, Contender, Missing, start_peer
from bench.processes import Fault, free_port, run, serving
from bench.rows import ASKING, FORBIDDEN, LOCUM, PROXIES, ROWS, Kind, Row, Versus, claimable
from bench.stage import Stage
from gateway.config.audit import Audit
from gateway.config.load import load
from tests.patience import PATIENCE_SECONDS

# Burns processor time in the main thread, in a second thread and in a child, then says so and waits to be ended.
_BUSY = """
import os, sys, threading, time
def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
def wait():
    burn(0.1)
    done.wait()
done = threading.Event()
ready, told = os.pipe()
if os.fork() == 0:
    burn(0.1)
    os.write(told, b"x")
    sys.stdin.read()
    os._exit(0)
other = threading.Thread(target=wait, daemon=True)
other.start()
burn(0.1)
os.read(ready, 1)
while time.process_time() < 0.2:
    pass
print("burnt", flush=True)
sys.stdin.read()
"""


async def _start(*words, **pipes):
    return await asyncio.create_subprocess_exec(sys.executable, *words, **pipes)


async def test_time_of_threads_and_children_is_counted():
    """Three tenths of a second burnt in two threads and a child are found, and the child is known as family."""
    process = await _start("-c", _BUSY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            said = await process.stdout.readline()
        used = used_microseconds(process.pid)
        members = family(process.pid)
    finally:
        process.stdin.close()
        await process.wait()

    assert b"burnt\n" == said
    # A tick of the clock may be missing from each of the three.
    assert 270_000 <= used
    assert 2 == len(members)


async def test_what_has_ended_cannot_be_measured():
    """A contender that died is an error and not a contender that costs nothing."""
    process = await _start("-c", "")
    await process.wait()

    with pytest.raises(ProcessLookupError):
        used_microseconds(process.pid)


def test_the_measured_core_is_one_we_may_use():
    """Cores are taken from those that the process is allowed, and none is left out."""
    cores = choose_cores()

    assert os.sched_getaffinity(0) == cores.two | cores.rest
    assert cores.count == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("allowed", "one", "two", "rest"),
    [
        ([3], {3}, {3}, {3}),
        ([0, 1], {1}, {1}, {0}),
        ([0, 1, 2], {2}, {2}, {0, 1}),
        ([0, 2, 4, 6], {6}, {4, 6}, {0, 2}),
    ],
)
def test_two_workers_get_two_cores_only_where_the_load_keeps_two(allowed, one, two, rest):
    """With less than four cores a second worker shares the contender's, so that nothing but the number differs."""
    cores = share_out(allowed)

    assert (one, two, rest) == (cores.one, cores.two, cores.rest)
    assert cores.apart == (len(allowed) > 1)


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "::", "2001:db8::1"])
def test_load_goes_to_loopback_only(host, tmp_path):
    """No load can be described that is for another machine."""
    with pytest.raises(Fault, match="not a loopback address"):
        Load(host=host, port=80, requests=tmp_path, connections=1, seconds=1)


def _sample(row, contender, number, cpu, *, rps=1000.0):
    return Sample(row=row, contender=contender, round=number, requests=10, cpu_us=cpu, rps=rps, p50_us=1.0, p99_us=2.0)


ROW = Row(
    name="one",
    title="a row",
    peers=("nginx",),
    versus=(
        Versus(contender="nginx", at_most=1.1),
        Versus(contender="nginx", figure="rps", at_least=0.5),
        Versus(contender="absent"),
    ),
)
SAMPLES = [
    _sample("one", LOCUM, 0, 10.0),
    _sample("one", "nginx", 0, 20.0, rps=1000.0),
    _sample("one", LOCUM, 1, 300.0),
    _sample("one", "nginx", 1, 100.0, rps=4000.0),
    _sample("one", LOCUM, 2, 22.0),
    _sample("one", "nginx", 2, 20.0, rps=2000.0),
]


def test_a_median_is_the_middle_round():
    """One wild round moves neither the median nor hides: it is the most."""
    ours, nginx = medians(SAMPLES)

    assert (LOCUM, 3, 30, 22.0, 10.0, 300.0) == (
        ours.contender,
        ours.rounds,
        ours.requests,
        ours.cpu_us,
        ours.cpu_us_least,
        ours.cpu_us_most,
    )
    assert 20.0 == nginx.cpu_us


def test_a_ratio_compares_within_a_round():
    """0.5, 3 and 1.1 make 1.1, where the ratio of the medians would have been the same rounds mixed."""
    cost, speed = ratios([ROW], SAMPLES)

    assert 1.1 == pytest.approx(cost.ratio)
    assert 0.5 == pytest.approx(speed.ratio)


@pytest.mark.parametrize(
    ("sense", "value", "met"),
    [("at_most", 1.1, True), ("at_most", 1.11, False), ("at_least", 1.1, True), ("at_least", 1.09, False)],
)
def test_an_aim_is_met_at_its_bound(sense, value, met):
    """The bound itself is good enough."""
    aim = Aim(row="one", name="locum ÷ nginx", figure="cpu_us", sense=sense, bound=1.1, value=value)

    assert met is aim.met


def test_an_aim_may_be_for_locums_own_figure():
    """A row may bound what Locum takes by itself, and that is said in the table like the others."""
    row = replace(ROW, versus=(), at_most_us=15.0)
    [aim] = aims([row], SAMPLES)

    assert ("locum", "cpu_us", "at_most", 15.0, 22.0, False) == (
        *(aim.name, aim.figure, aim.sense, aim.bound, aim.value),
        aim.met,
    )
    assert "    locum: 22.00  (aim ≤ 15: missed)" in as_table([row], SAMPLES)


def test_what_needs_more_cores_is_left_out_with_its_reason():
    """Too few cores take a comparison away, and neither the row nor its other comparisons."""
    rps = Versus(contender="nginx", figure="rps", at_least=1.8, cores=4)
    row = replace(ROW, versus=(Versus(contender="nginx"), rps))

    assert ([row], {}) == claimable([row], 4)
    [left], why = claimable([row], 3)
    assert (Versus(contender="nginx"),) == left.versus
    assert {"one: rps beside nginx": "needs 4 cores"} == why


def test_a_ratio_may_be_with_another_row():
    """A row is compared with Locum's own figure in another row of the same round."""
    other = replace(ROW, name="two", versus=(Versus(contender=LOCUM, row="one", at_most=2),))
    [found] = ratios([other], [_sample("one", LOCUM, 0, 10.0), _sample("two", LOCUM, 0, 30.0)])

    assert 3.0 == found.ratio
    assert "locum ÷ locum one" == found.name
    assert [False] == [aim.met for aim in found.aims]


def test_the_table_shows_every_contender_and_every_miss():
    """People see who was measured, the ratios, and which aims were missed."""
    table = as_table([ROW], SAMPLES)

    assert "one: a row" in table
    assert "  nginx  " in table
    assert "locum ÷ nginx: 1.10  (aim ≤ 1.1: " in table
    assert "locum ÷ nginx, rps: 0.50  (aim ≥ 0.5: met)" in table
    assert "absent" not in table


def test_the_json_has_samples_medians_ratios_and_aims():
    """Each line can be read by itself, and says what kind it is."""
    lines = [json.loads(json.dumps(line)) for line in as_objects([ROW], SAMPLES)]

    assert ["sample"] * 6 + ["median"] * 2 + ["ratio"] * 2 + ["aim"] * 2 == [line["kind"] for line in lines]
    assert {
        "kind": "aim",
        "row": "one",
        "name": "locum ÷ nginx, rps",
        "figure": "rps",
        "sense": "at_least",
        "bound": 0.5,
        "value": 0.5,
        "met": True,
    } == lines[-1]
    assert all("aims" not in line for line in lines)


def test_the_rows_are_sound():
    """Names are unique, each peer can be run, each comparison is with something that is measured."""
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    by_name = {row.name: row for row in ROWS}
    for row in ROWS:
        assert not row.loaded or row.status != 200 or row.target in SIZES
        assert (row.kind is Kind.WEBSOCKET) == (row.status == 101) == (row.target == backend.SOCKET)
        assert row.values == 0 or row.values > row.connections
        assert {name.partition("+")[0] for name in row.peers} <= set(PROGRAMS)
        for versus in row.versus:
            other = by_name[versus.row or row.name]
            assert versus.contender in (LOCUM, *other.peers), (row.name, versus)


def test_every_configuration_asks_whom_it_should():
    """Ports land where they belong, and only the asking ones know the authoriser."""
    for render_one in (configs.nginx, configs.caddy, configs.envoy):
        plain, asking = render_one(1111, 2222), render_one(1111, 2222, authoriser=3333)
        assert "3333" not in plain
        assert all(port in asking for port in ("1111", "2222", "3333"))
    assert "2222" in configs.haproxy(1111, 2222)
    assert all(word in configs.nginx_authoriser(1111, FORBIDDEN) for word in ("1111", FORBIDDEN))
    filters = json.loads(configs.envoy(1, 2, authoriser=3))["static_resources"]["listeners"][0]["filter_chains"][0]
    asked = [each["name"] for each in filters["filters"][0]["typed_config"]["http_filters"]]
    assert ["envoy.filters.http.ext_authz", "envoy.filters.http.router"] == asked


def test_locum_gets_the_defaults(tmp_path):
    """Its configuration is a valid one, and nothing in it is tuned; the index is left out, and that is said."""
    path = tmp_path / "config.toml"
    path.write_text(render(8080, 8081, backend=3000, staff_issuer="http://127.0.0.1:9"))
    config = load(path, {})

    assert "http://127.0.0.1:3000" == config.upstream.url
    assert 1 == config.server.workers
    for section in (config.grants, config.tokens, config.identity):
        assert type(section)() == section
    assert Audit(index=False) == config.audit
    assert "`audit.index`" in Path("docs/performance.md").read_text()


def test_locum_with_two_workers_differs_in_nothing_else(tmp_path):
    """The number of workers is the only line that two contenders differ in."""
    one, two = (
        render(8080, 8081, backend=3000, staff_issuer="http://127.0.0.1:9", workers=workers).splitlines()
        for workers in (1, 2)
    )

    assert {"workers = 2"} == set(two) - set(one)
    assert set() == set(one) - set(two)


async def test_a_program_that_is_not_there_is_missing_with_a_reason(tmp_path, monkeypatch):
    """The reason names the package, so that whoever wants the comparison can get it."""
    monkeypatch.setattr(shutil, "which", lambda *_words, **_options: None)
    async with AsyncExitStack() as stack:
        for name in (PROXIES[0], PROXIES[1]):
            with pytest.raises(Missing, match="apt-get install"):
                await start_peer(stack, name, directory=tmp_path, backend=1, authoriser=None, cores={0})


async def test_without_an_authoriser_nobody_asks(tmp_path):
    """A proxy that should ask is not run as one that does not."""
    async with AsyncExitStack() as stack:
        with pytest.raises(Missing, match="asks an authoriser"):
            await start_peer(stack, ASKING[0], directory=tmp_path, backend=1, authoriser=None, cores={0})


async def test_a_server_that_ends_at_once_is_a_fault_with_its_last_words(tmp_path):
    """The reason comes from what it printed."""
    command = [sys.executable, "-c", "print('first', flush=True); raise SystemExit('no such option')"]
    with pytest.raises(Fault, match="no such option"):
        async with serving(command, port=free_port(), cores=choose_cores().rest, directory=tmp_path):
            pass


async def test_a_server_is_ended_when_the_block_fails(tmp_path):
    """Whatever happens in the block, the process is gone after it."""
    port = free_port()
    pids = []
    with pytest.raises(ZeroDivisionError):
        async with _backend(tmp_path, port) as pid:
            pids.append(pid)
            raise ZeroDivisionError

    [pid] = pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_server_is_ready_when_it_says_so(tmp_path):
    """One that accepts before all of it serves is waited for until it has printed that it does."""
    port = free_port()
    # It says so only once a first connection has come and gone, which is how we look whether it accepts.
    code = f"""
import signal, socket
listening = socket.create_server(("127.0.0.1", {port}))
one, _ = listening.accept()
one.recv(1)
print("all serve", flush=True)
signal.pause()
"""
    command = [sys.executable, "-c", code]
    async with serving(command, port=port, cores=choose_cores().rest, directory=tmp_path, said=b"all serve"):
        [log] = tmp_path.glob("*.log")

        assert b"all serve" in log.read_bytes()


async def test_a_server_that_will_not_end_takes_its_children_along(tmp_path, monkeypatch):
    """With force all are ended that it started, also those with a session of their own."""
    monkeypatch.setattr(processes, "_STOP_SECONDS", 0.2)
    code = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, b"begun\\n")
signal.pause()
"""
    process = await _start("-c", code, stdout=asyncio.subprocess.PIPE)
    said = [await process.stdout.readline() for _ in range(2)]
    members = family(process.pid)
    await processes.end(process)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Its end of the pipe is closed when the last of them has gone.
            assert b"" == await process.stdout.read()
    except TimeoutError:
        for pid in members - {process.pid}:
            os.kill(pid, signal.SIGKILL)
        raise

    assert [b"begun\n"] * 2 == said
    assert 2 == len(members)
    assert -signal.SIGKILL == process.returncode


async def test_a_command_that_hangs_is_ended(tmp_path):
    """A load generator that does not come back is a fault, not a run without end."""
    with pytest.raises(Fault, match="took longer"):
        await run([sys.executable, "-c", "import signal; signal.pause()"], directory=tmp_path, seconds=0.5)


def _backend(directory, port):
    return serving(
        [sys.executable, backend.__file__, str(port)], port=port, cores=choose_cores().rest, directory=directory
    )


@pytest.fixture
def requests(tmp_path):
    callers = [("a.example", ""), ("b.example", "token")]
    return write_requests(tmp_path / "requests", "/tickets/1", hosts_and_tokens=callers)


@pytest.mark.parametrize("program", ["wrk", "bench.client"])
async def test_the_load_is_counted(program, tmp_path, requests, monkeypatch):
    """Both generators count answers, and neither mistakes them for errors."""
    if program == "wrk" and shutil.which("wrk") is None:
        program = "bench.client"
    if program == "bench.client":
        monkeypatch.setattr(shutil, "which", lambda *_words, **_options: None)
    port = free_port()
    async with _backend(tmp_path, port):
        load = Load(host="127.0.0.1", port=port, requests=requests, connections=2, seconds=1)
        answered = await drive(load)

    assert isinstance(answered, Answered)
    assert answered.requests > 0
    assert (0, 0) == (answered.errors, answered.statuses)
    assert 0 <= answered.p50_us <= answered.p99_us


@pytest.mark.parametrize(
    ("change", "left"),
    [({}, ["peer"]), ({"status": 403}, []), ({"target": "/attachments/1"}, [])],
)
async def test_who_answers_wrongly_is_not_compared(change, left, tmp_path, requests):
    """Another status or another size than the row's takes a contender out, and the reason is told."""
    port = free_port()
    row = replace(ROW, **change)
    told = []
    async with _backend(tmp_path, port) as pid:
        contender = Contender(name="peer", version="1", port=port, pid=pid)
        stage = Stage(contenders={"one": [contender]}, requests={"one": requests}, skipped={})
        await check(stage, [row], told.append)

    assert left == [each.name for each in stage.contenders["one"]]
    assert bool(left) != bool(told)


async def test_ordinary_passage_is_no_assumed_row(tmp_path, requests):
    """If Locum lets a token's request through as a customer's, the run stops instead of measuring the wrong thing."""
    port = free_port()
    async with _backend(tmp_path, port) as pid:
        contender = Contender(name=LOCUM, version="1", port=port, pid=pid)
        stage = Stage(contenders={"one": [contender]}, requests={"one": requests}, skipped={})
        with pytest.raises(Fault, match="passed as ordinary traffic"):
            await check(stage, [replace(ROW, tokens=1)], lambda _line: None)


def test_the_backend_says_how_long_its_answer_is():
    """The body has exactly the bytes that the head promises."""
    head, _, body = response(1000).partition(b"\r\n\r\n")

    assert b"Content-Length: 1000" in head
    assert 1000 == len(body)

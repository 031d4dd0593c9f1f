"""What monitoring sees: every worker, whichever is asked; the truth about each part; and no name of anybody's."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gateway.metrics.catalogue import METRICS
from gateway.metrics.reading import ask_all
from gateway.tasks import Tasks
from policy.model import DenyReason
from tests.gateway_world import HOST, open_world
from tests.live_world import caught_up
from tests.patience import PATIENCE_SECONDS, unless_it_stalls, within
from tests.process_world import open_process_world
from tests.rawwire import response

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## Metrics$(.*?)^## ", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)(?:\{(.*?)\})?` \| (counter|gauge|histogram) \|", re.MULTILINE)
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


class Scrape:
    """One answer of `/metrics`."""

    def __init__(self, text, parse=parse_plain):
        self.text = text
        self.families = list(parse(text))
        self.series = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name, *, worker="gateway", **labels):
        return self.series.get((name, *sorted({"worker": worker, **labels}.items())))

    def total(self, name, **labels):
        wanted = set(labels.items())
        return sum(value for (one, *has), value in self.series.items() if one == name and wanted <= set(has))


async def scrape(world, accept="", parse=parse_plain):
    """Scrape over a connection of its own, as the kernel deals those out."""
    headers = {"Accept": accept, "Connection": "close"}
    async with world.http.get(f"{world.gateway.admin_url}/metrics", headers=headers) as answer:
        assert 200 == answer.status
        return Scrape(await answer.text(), parse)


async def scrape_until(world, condition):
    """Scrape again and again; one that meets a worker as it dies is no scrape."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(aiohttp.ClientError):
                if condition(found := await scrape(world)):
                    return found
            await asyncio.sleep(0.02)


async def readiness(world):
    async with world.http.get(f"{world.gateway.admin_url}/readyz") as ready:
        return ready.status, (await ready.json())["parts"]


def documented():
    """The section of the docs, and its table: name, labels and type of each metric."""
    [section] = SECTION.findall((ROOT / "docs" / "operate.md").read_text(encoding="utf-8"))
    return section, {
        name: (kind, set(filter(None, re.split(r",\s*", labels or "")))) for name, labels, kind in ROW.findall(section)
    }


async def test_the_docs_name_every_metric_and_no_other(tmp_path):
    """Name, type and labels, in both formats; and the alerts ask for metrics that there are."""
    section, table = documented()
    assert {metric.name: (metric.kind, set(metric.labels)) for metric in METRICS} == table
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}

    def change(wanted):
        wanted["audit"] = {
            "sinks": [{"name": "siem", "kind": "file", "path": "siem.jsonl"}],
            "witnesses": [{"name": "customer", "kind": "file", "path": "checkpoints"}],
        }
        wanted["notices"] = {}

    async with open_world(tmp_path, change=change) as world:
        await world.choose()
        keeping = Tasks()
        world.gateway.keep_index(keeping)
        # A receiver has to have taken something, and the index to have been looked at.
        seen = await scrape_until(world, lambda found: table.keys() <= {name for name, *_ in found.series} | histograms)
        plain, openmetrics = await scrape(world), await scrape(world, OPENMETRICS, parse_openmetrics)
        await keeping.close()
    assert seen.series.keys() == plain.series.keys() == openmetrics.series.keys()
    for found in (plain, openmetrics):
        families = {}
        for family in found.families:
            for sample in family.samples:
                name = family.name if family.type == "histogram" else sample.name
                families[name] = (family.type, sample.labels.keys() - {"worker", "le"})
                assert "worker" in sample.labels
        assert table == families
    alerts = re.findall(r"\b(?:locum|process)_[a-z_]+\b", "".join(re.findall(r"expr: (.*)", section)))
    assert 3 <= len(alerts)
    assert set(alerts) <= table.keys()


def test_names_are_those_that_prometheus_asks_for():
    """Lower case, ours or the process's, `_total` for counters and for nothing else, never `worker` as a label."""
    for metric in METRICS:
        assert re.fullmatch(r"(locum|process)_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert "worker" not in metric.labels


async def test_a_lost_push_and_a_lost_store_show(tmp_path):
    """As in `readyz`; customers are served, and each loss is counted once, however often it is tried in vain."""
    async with open_world(tmp_path) as world:
        newest = (await world.gateway.store.read_changes(0)).position
        before = await scrape_until(world, lambda found: found.value("locum_store_position") == newest)
        assert (1, 0, 1, 0, 1, 0) == tuple(map(before.value, PARTS))
        channel, database = tmp_path / "locum.sqlite3.push", tmp_path / "locum.sqlite3"
        shutil.rmtree(channel)
        channel.write_text("in the way")
        lost = await scrape_until(world, lambda found: found.value("locum_push_up") == 0)
        assert (0, 1, 1, 0, 1, 0) == tuple(map(lost.value, PARTS))
        assert (200, "lost") == ((ready := await readiness(world))[0], ready[1]["push"])
        database.rename(tmp_path / "away")
        away = await scrape(world)
        assert (0, 1, 0, 0, 1, None) == tuple(map(away.value, PARTS))
        assert (503, "failing") == ((ready := await readiness(world))[0], ready[1]["store"])
        assert 200 == (await world.get())[0]
        (tmp_path / "away").rename(database)
        channel.unlink()
        back = await scrape_until(world, lambda found: found.value("locum_push_up") == 1)
        assert (1, 1, 1, 0, 1, 0) == tuple(map(back.value, PARTS))
        assert before.value("locum_store_position") == back.value("locum_store_position") >= 1


PARTS = (
    "locum_push_up",
    "locum_push_losses_total",
    "locum_store_up",
    "locum_store_stale",
    "locum_journal_up",
    "locum_kill_switch",
)


async def test_fetches_stay_flat_while_requests_grow(tmp_path):
    """Ten times the requests are not one question more; once facts are old, each is asked for once again."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        await caught_up(world)  # or the change may be heard of, and facts forgotten for it, half way

        async def ask(times):
            for _ in range(times):
                assert 200 == (await world.get(token))[0]
            return await scrape(world)

        few = await ask(5)
        many = await ask(50)
        assert 50 == many.total("locum_requests_total") - few.total("locum_requests_total")
        assert 4 <= few.total("locum_fact_fetches_total") == many.total("locum_fact_fetches_total")
        world.clock.forward(seconds=3)
        old = await ask(5)
        for kind in ("kill_switch", "account", "assumption", "staff"):
            name = "locum_fact_fetches_total"
            assert 1 == old.value(name, kind=kind) - many.value(name, kind=kind)


async def test_what_happens_is_counted_once(tmp_path):
    """By kind and by decision, as the journal has it; a reload begins nothing anew."""

    async def stream(connection):
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await asyncio.Event().wait()

    def script(seen):
        return stream if seen.target == b"/events" else response()

    def limit(document):
        document["limits"] = {"connections_per_peer": 3}

    async with open_world(tmp_path, script=script, change=limit) as world:
        assert (400, "grant_off") == ((refused := await world.ask())[0], refused[1]["reason"])
        await world.choose("day")
        token = await world.token()
        assert [200] * 3 == [(await world.get())[0] for _ in range(3)]
        assert [200] * 2 == [(await world.get(token))[0] for _ in range(2)]
        assert 403 == (await world.get(token, "/admin/agents", method="POST"))[0]
        assert 401 == (await world.get(token[:-8] + "AAAAAAAA"))[0]
        await world.gateway.renew(world.gateway.config)
        # The one through which tokens were asked for stays.
        await scrape_until(world, lambda one: one.value("locum_connections") == 1)
        async with connected(world) as (reader, writer), connected(world):
            writer.write(f"GET /events HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            await reader.readuntil(b"first\r\n")
            found = await scrape_until(world, lambda one: one.value("locum_connections") == 3)
            assert (1, 1, 1) == tuple(
                found.value(f"locum_{name}")
                for name in ("open_exchanges", "requests_in_flight", "upstream_connections")
            )
            assert 0 == found.total("locum_cuts_total") == found.total("locum_turned_away_total")
            assert 503 == (await world.get())[0]
            await world.choose("off")
            with suppress(ConnectionError):
                assert b"" == await reader.read()
        found = await scrape_until(world, lambda one: one.value("locum_connections") == 1)
        kinds = {kind: found.value("locum_requests_total", kind=kind) for kind in ("ordinary", "assumed", "control")}
        assert {"ordinary": 3, "assumed": 5, "control": 2} == kinds
        assert (3, 2) == decided(found, "locum_decisions_total", never_allowed=1, token_invalid=1)
        assert (1, 1) == decided(found, "locum_token_decisions_total", grant_off=1)
        assert 1 == found.total("locum_cuts_total") == found.value("locum_cuts_total", reason="grant_revoked")
        assert 1 == found.total("locum_turned_away_total")
        assert 1 == found.value("locum_turned_away_total", limit="connections_per_peer")
        assert 0 == found.value("locum_open_exchanges")
        # The end of what was cut is recorded behind the cut.
        await scrape_until(world, lambda one: one.value("locum_journal_records_total") == len(world.records()) == 12)


@asynccontextmanager
async def connected(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def decided(found, name, **reasons):
    """Return how many were allowed and denied; the denied are for these reasons."""
    for reason in DenyReason:
        assert reasons.get(reason, 0) == found.value(name, decision="deny", reason=str(reason))
    return found.value(name, decision="allow", reason=""), found.total(name, decision="deny")


async def test_no_name_of_anybody_becomes_a_label(tmp_path):
    """Whatever strangers, staff and customers call themselves: the series stay the very same."""
    evil = 'evil"} 1\\n'
    async with open_world(tmp_path, account="evilcorp") as world:
        before = await scrape(world)
        await world.choose("day", account="evilcorp")
        token = await world.token(
            account="evilcorp", subject_token="evilagent", actor_token=world.actor_token("evilstaff")
        )
        head = f"GET /evilpath HTTP/1.1\r\nHost: evilcorp.helpdesk.example\r\nAuthorization: Bearer {token}\r\n"
        await world.raw(f"{head}Connection: close\r\n\r\n".encode())
        await world.ask(account="evil")
        await world.get(evil, f"/{evil}", method="EVIL", headers=[("Evil", evil), ("X-Locum-Evil", evil)])
        await world.get(target="/.locum/evil")
        await world.raw(b"EVIL /evil HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n")
        for accept in (
            evil.strip(),
            "application/openmetrics-text;version=evil;escaping=evil",
            "text/plain;version=evil",
        ):
            after = await scrape(world, accept.encode("unicode_escape").decode())
        assert before.series.keys() == after.series.keys()
        assert 3 <= after.total("locum_requests_total")
        assert "evil" not in after.text.lower()
        assert "dana" not in after.text


async def test_a_scrape_meets_one_worker_and_tells_of_all(tmp_path):
    """Whoever is asked says the same of each; of one that is gone, that it is gone, until it begins anew."""
    async with open_process_world(tmp_path) as world, world.running(workers=2) as running:
        pids = {}
        for worker in ("gateway-0", "gateway-1"):
            pids[worker] = int(re.search(r"process ([0-9]+)", await running.says(f"worker {worker} serves"))[1])
        statuses = await asyncio.gather(*(world.get() for _ in range(20)))
        assert {200} == {status for status, *_ in statuses}
        seen = [await scrape(world) for _ in range(8)]
        for found in seen:
            assert dict.fromkeys(pids, 1) == {one: found.value("locum_worker_up", worker=one) for one in pids}
            assert 20 == found.total("locum_requests_total", kind="ordinary")
        counted = {one: seen[0].value("locum_requests_total", worker=one, kind="ordinary") for one in pids}
        first = seen[0].value("process_start_time_seconds", worker="gateway-1")
        os.kill(pids["gateway-1"], signal.SIGKILL)
        gone = await scrape_until(world, lambda found: found.value("locum_worker_up", worker="gateway-1") == 0)
        assert counted["gateway-0"] == gone.total("locum_requests_total", kind="ordinary")
        assert {("locum_worker_up", ("worker", "gateway-1"))} == {
            series for series in gone.series if ("worker", "gateway-1") in series
        }
        anew = await scrape_until(world, lambda found: found.value("locum_worker_up", worker="gateway-1") == 1)
        assert counted["gateway-0"] == anew.total("locum_requests_total", kind="ordinary")
        assert first < anew.value("process_start_time_seconds", worker="gateway-1")


async def test_a_worker_that_does_not_answer_keeps_no_scrape_waiting(tmp_path):
    """One that hangs, one that talks nonsense and one that is not there are three that do not answer."""
    release = asyncio.Event()

    async def hang(_reader, writer):
        await release.wait()
        writer.close()

    def babble(_reader, writer):
        writer.write(b'{"samples": {"locum_push_up": [[["x"], "much"]]}}')
        writer.close()

    servers = [
        await asyncio.start_unix_server(hang, tmp_path / "hangs"),
        await asyncio.start_unix_server(babble, tmp_path / "babbles"),
    ]
    async with within(5):
        assert [None] * 3 == await ask_all([tmp_path / "hangs", tmp_path / "babbles", tmp_path / "missing"])
    release.set()
    for server in servers:
        server.close()
        await server.wait_closed()


def test_the_command_line_does_not_load_the_library():
    """Only a gateway that runs does, and all else of a gateway; no command gets slower by it, nor a supervisor bigger."""
    heavy = {"prometheus_client", "aiohttp", "jinja2", "gateway.app"}
    code = f"import sys, gateway.cli.root, gateway.cli.run; sys.exit(not {heavy}.isdisjoint(sys.modules))"
    assert 0 == subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode


@unless_it_stalls
async def test_how_long_requests_take_is_counted_by_bounds(tmp_path):
    """Each once, from its head to the end of its answer, below the first bound that it fits; in both formats."""
    release = asyncio.Event()

    async def late(connection):
        await release.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with open_world(tmp_path, script=lambda seen: late if seen.target == b"/late" else response()) as world:
        began = asyncio.get_running_loop().time()
        slow = asyncio.ensure_future(world.get(target="/late"))
        for _ in range(3):
            assert 200 == (await world.get())[0]
        quick = await scrape_until(world, lambda found: found.value("locum_request_duration_seconds_count") == 3)
        assert quick.value("locum_request_duration_seconds_bucket", le="+Inf") == 3
        await asyncio.sleep(0.06)
        release.set()
        assert 200 == (await slow)[0]
        found = await scrape_until(world, lambda found: found.value("locum_request_duration_seconds_count") == 4)
        took = asyncio.get_running_loop().time() - began
        name = "locum_request_duration_seconds_bucket"
        assert found.value(name, le="+Inf") == found.value(name, le="0.05") + 1 == 4
        assert 0.06 <= found.value("locum_request_duration_seconds_sum") <= 4 * took


async def test_what_the_app_does_not_answer_is_counted_by_what_is_told(tmp_path):
    """502 for one that breaks off before its answer; what it answers itself is no fault of that kind."""

    async def hang_up(connection):
        connection.close()

    script = {b"/gone": hang_up, b"/own": response(status=b"502 Bad Gateway")}
    async with open_world(tmp_path, script=lambda seen: script.get(seen.target, response())) as world:
        for path, expected in (("/gone", 502), ("/own", 502), ("/", 200)):
            assert expected == (await world.get(target=path))[0]
        found = await scrape(world)
        assert (1, 0) == tuple(found.value("locum_upstream_faults_total", status=status) for status in ("502", "504"))

"""The record is complete under kill -9: whatever a gateway has done or said by then is on it, and nothing else."""

import asyncio
import base64
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager

from gateway.audit.segment import list_segments, parse_name
from tests import started
from tests.process_world import Running, open_process_world
from tests.rawwire import response

KILLS = 20
AT_ONCE = 8
"""Staff who ask at the same time, each for one thing after another."""
LIVES = """
import gc, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
gc.disable()
from gateway.cli.root import cli
from gateway.workers import alone  # noqa: F401 - what each would import

def tell(words):
    os.write(2, f"{words}\\n".encode())

for number, _ in enumerate(sys.stdin):
    pid = os.fork()
    if pid == 0:
        cli(["run"], prog_name="locum")
        os._exit(70)
    tell(f"life {number} is process {pid}")
    _, status = os.waitpid(pid, 0)
    tell(f"life {number} has ended: {os.waitstatus_to_exitcode(status)}")
"""
"""`locum run`, begun anew for each line, by a process that has all of it imported: the half second that takes adds nothing."""


class Lives:
    """One gateway after another, of the same data directory."""

    def __init__(self, running):
        self.running = running
        self.pid = 0
        self._number = -1

    async def begin(self, *, serving=True):
        """Start the next one; return once it serves, or at once."""
        self._number += 1
        before = sum("for everybody" in line for line in self.running.lines)
        self.running.process.stdin.write(b"\n")
        said = await self.running.says(f"life {self._number} is process ")
        self.pid = int(said.rpartition(" ")[2])
        if serving:
            await self.running.says("for everybody", times=before + 1)

    async def end(self, how):
        """Send a signal; return the exit code."""
        os.kill(self.pid, how)
        said = await self.running.says(f"life {self._number} has ended: ")
        self.pid = 0
        return int(said.rpartition(" ")[2])


@asynccontextmanager
async def open_lives(world):
    world.configure(more="index = false")  # `[audit]` ends there
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIVES, cwd=world.directory, env=started.environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    running = Running(process, world.gateway)
    lives = Lives(running)
    try:
        yield lives
    finally:
        if lives.pid:
            os.kill(lives.pid, signal.SIGKILL)
        process.stdin.close()
        assert 0 == await running.ends()


class Staff:
    """Ask for numbered things, each once, anew after a broken connection, and keep what was answered."""

    def __init__(self, world, chance):
        self.world, self.chance = world, chance
        self.serving = asyncio.Event()
        """Clear while the port may be anybody's."""
        self.done = False
        self.token = ""
        self.told = {}
        """By target, the status and the request's id, of what was answered whole."""
        self.broken = set()
        """The targets to which no answer had begun when the connection broke."""
        self._numbers = iter(range(1, 1_000_000))

    def _next(self):
        number, what = next(self._numbers), self.chance.random()
        if what < 0.1:
            return f"/admin/{number}", "GET"
        return (f"/tickets/{number}/reply", "POST") if what < 0.3 else (f"/tickets/{number}", "GET")

    async def work(self):
        while not self.done:
            await self.serving.wait()
            try:
                async with self.world.connection() as line:
                    while not self.done:
                        await self._ask(line)
            except (ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)  # somebody was killed, and nothing tells us when their place is taken

    async def _ask(self, line):
        target, method = self._next()
        self.broken.add(target)
        line.send(self.token, target, method=method)
        status, headers = await line.head()
        self.broken.remove(target)
        body = await line.reader.readexactly(int(headers["content-length"]))
        self.told[target] = status, headers.get("x-locum-request") or json.loads(body)["request_id"]
        if self.chance.random() < 0.1:
            assert (200, b"ok") == (await line.get(target="/tickets/0"))[::2]  # a customer's


def slowly(chance):
    """Return an app that takes a moment, each time another one."""

    async def answer(connection):
        await asyncio.sleep(chance.random() * 0.004)
        await connection.send(response())

    return answer


async def live(staff):
    """Have gateways run and be killed until the last has ended in order; return the tokens that they gave out."""
    world, chance, tokens = staff.world, staff.chance, []
    upstream = world.upstream
    working = [asyncio.ensure_future(staff.work()) for _ in range(AT_ONCE)]
    async with open_lives(world) as lives:
        for number in range(KILLS + 1):
            if number % 5 == 4:
                # While it looks at what the others have left.
                await lives.begin(serving=False)
                await asyncio.sleep(chance.random() * 0.1)
                await lives.end(signal.SIGKILL)
                continue
            await lives.begin()
            assert 200 == (await world.choose("day", ("read", "write")))[0]
            staff.token = await world.token("tickets:read tickets:write")
            tokens.append(staff.token)
            staff.serving.set()
            enough = len(upstream.requests) + chance.randrange(20, 100)
            await upstream.until(lambda enough=enough: len(upstream.requests) >= enough)
            if number < KILLS:
                await asyncio.sleep(chance.random() * 0.005)
                staff.serving.clear()
                assert -signal.SIGKILL == await lives.end(signal.SIGKILL)
        staff.done = True
        await asyncio.gather(*working)
        assert 0 == await lives.end(signal.SIGTERM)
    return tokens


def id_of(token):
    """Return the id that a token was given."""
    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"]


async def test_nothing_is_off_the_record_however_often_a_gateway_is_killed(tmp_path):
    """Two workers under load, killed one by one, both, and with their supervisor, at moments of chance.

    Each request that the app got with an assertion has one permit on the record; whatever staff were told is there, as
    the same and under the id that they were told. A permit of which the app has not heard is one whose process was
    killed within it: no completion says how it ended, no answer to it had begun when its connection broke, and another
    process has gone on with that journal. All verifies, with no more torn lines than kills.
    """
    chance = random.Random(20261123)  # noqa: S311 - chosen, not secret
    async with open_process_world(tmp_path, script=slowly(chance)) as world:
        staff = Staff(world, chance)
        tokens = await live(staff)
        heard = Counter(one.target.decode() for one in world.upstream.requests if one.values(b"x-locum-assertion"))
        code, said = await world.told("audit", "verify")
        assert (0, "ok") == (code, said.splitlines()[-1]), said
    journal = tmp_path / "data" / "journal"
    decided = {record["path"]: record for record in world.records(kind="decision")}
    allowed = {target: record for target, record in decided.items() if record["decision"] == "allow"}
    assert len(world.records(kind="decision")) == len(decided)
    # What reached the app, and what staff were told.
    assert {1} == set(heard.values())
    assert set() == set(heard) - set(allowed)
    for target, (status, request_id) in staff.told.items():
        record = decided[target]
        assert (request_id, status == 200) == (record["request_id"], record["decision"] == "allow"), target
        assert (status == 200) == (target in heard)
    assert {id_of(token) for token in tokens} <= {record.get("token_id") for record in world.records(kind="token")}
    # What nobody has heard of.
    ends = {(end["origin"], end["completes"]): end["request_id"] for end in world.records(kind="completion")}
    assert len(world.records(kind="completion")) == len(ends)
    last = {origin: parse_name(paths[-1].name).first for origin, paths in list_segments(journal).items()}
    for target, record in allowed.items():
        request_id = ends.pop((record["origin"], record["seq"]), None)
        if request_id is None:
            assert record["seq"] < last[record["origin"]], "the last process has ended in order"
        assert request_id in (None, record["request_id"])
        assert target in heard or (request_id is None and target in staff.broken), target
    assert {} == ends
    marks = Counter((record["origin"], record["reason"]) for record in world.records(kind="journal"))
    assert {"unsigned_tail", "torn_tail"} >= {reason for _, reason in marks}
    for origin in last:
        assert marks[origin, "torn_tail"] <= KILLS[origin]
    # So that this test can fail.
    assert {15, 2} == {sum(KILLS.values()), sum(whom is EVERYBODY for blows in RUNS for whom in blows)}
    assert {200, 403} == {status for status, _ in staff.told.values()}
    assert len(staff.broken) >= len(RUNS)

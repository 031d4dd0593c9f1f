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

KILLS = 16
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
            who = world.actor_token(f"dana-{number}")  # nobody may have so many open
            staff.token = await world.token("tickets:read tickets:write", actor_token=who)
            tokens.append(staff.token)
            staff.serving.set()
            enough = len(upstream.requests) + chance.randrange(10, 60)
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


def the_only(records, key):
    """Return the records by `key`, which no two of them share."""
    found = {key(record): record for record in records}
    assert len(records) == len(found)
    return found


async def test_nothing_is_off_the_record_however_often_a_gateway_is_killed(tmp_path):
    """A gateway under load, killed at moments of chance and begun again, and now and then killed as it begins.

    Each request that the app got with an assertion has one permit on the record; whatever staff were told is there, as
    the same and under the id that they were told. A permit of which the app has not heard is one whose process was
    killed within it: no completion says how it ended, its connection broke before any answer, and another process has
    gone on with the journal since. All verifies, with no more torn lines than kills.
    """
    chance = random.Random(20261123)  # noqa: S311 - chosen, not secret
    async with open_process_world(tmp_path, script=slowly(chance)) as world:
        staff = Staff(world, chance)
        tokens = await live(staff)
        heard = Counter(one.target.decode() for one in world.upstream.requests if one.values(b"x-locum-assertion"))
        code, said = await world.told("audit", "verify")
        assert (0, "ok") == (code, said.splitlines()[-1]), said
    decided = the_only(world.records(kind="decision"), lambda record: record["path"])
    allowed = {target: record for target, record in decided.items() if record["decision"] == "allow"}
    # What the app and staff have heard.
    assert {1} == set(heard.values())
    assert set() == heard.keys() - allowed.keys()
    told = {target: (target in heard, decided[target]["request_id"]) for target in staff.told}
    assert told == {target: (status == 200, request_id) for target, (status, request_id) in staff.told.items()}
    assert set(map(id_of, tokens)) <= {record.get("token_id") for record in world.records(kind="token")}
    # What nobody knows the end of.
    ends = the_only(world.records(kind="completion"), lambda record: record["completes"])
    by_seq = {record["seq"]: record["request_id"] for record in allowed.values()}
    assert {seq: end["request_id"] for seq, end in ends.items()} == {seq: by_seq.get(seq) for seq in ends}
    segments = list_segments(tmp_path / "data" / "journal")["gateway"]
    assert max(by_seq.keys() - ends.keys(), default=0) < parse_name(segments[-1].name).first, "it has ended in order"
    unheard = {allowed[target]["seq"]: target for target in allowed.keys() - heard.keys()}
    assert set() == unheard.keys() & ends.keys()
    assert set() == set(unheard.values()) - staff.broken
    # What the journal has to say of itself.
    marks = Counter(record["reason"] for record in world.records(kind="journal"))
    assert {"unsigned_tail", "torn_tail"} >= marks.keys()
    assert marks["torn_tail"] <= KILLS <= len(segments) + marks["torn_tail"] + KILLS // 5
    # So that this test can fail.
    assert {200, 403} == {status for status, _ in staff.told.values()}
    assert KILLS // 2 < len(staff.broken) < len(staff.told)

"""Three nodes at one database, through wires that stall, break and half-open, stopped, killed and started again.

Whatever happens to them, no request that begins later than the facts' time to live behind an acknowledged revoke is let
through, by any node. The nodes are real processes, and so is the database. All times are of one clock, and of a node's
answer the time counts at which it was asked for, so a machine that stands still makes nothing a violation.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from gateway.audit.writing.journal import Journal
from gateway.clock import boot_seconds, utc_now
from gateway.grants.service import GrantService
from gateway.selftest import revocation
from gateway.selftest.door import PING
from gateway.stores.store import KillSwitch, StoreConflict
from gateway.tokens.keys import KeyTerms, open_keys
from policy.model import Account, AccountType, Duration
from tests.gateway_world import ISSUER
from tests.history import Answer, History, Partition
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.postgres_server import Wire, open_store
from tests.process_world import Addresses, open_process_world, until
from tests.tally import TALLY, Tally
from tests.upstream_client import eventually

TTL_SECONDS = 0.8
BOUND_SECONDS = TTL_SECONDS + 0.05
NODES = 3
PARTITIONS = ("stall", "half_open", "cut")
"""A round each: what cuts one node off from the database."""
OTHER_FAULTS = ("stop", "kill", "cut")
"""Beside it, at another node."""
HOST = f"{revocation.ACCOUNT}.helpdesk.example"


class Node:
    """One gateway that is stopped and started, behind a wire of its own."""

    def __init__(self, number, world, wire, url, *, ttl):
        self.number = number
        self.world = world
        self.wire = wire
        self.port = free_port()
        more = f'[grants]\nfact_ttl_seconds = {ttl}\n[store]\nurl = "{url}"\n'
        world.configure(listen=f"127.0.0.1:{self.port}", shutdown=0.2, more=more)
        self.process = None

    async def start(self):
        self.process = await self.world.locum("run")
        self._draining = asyncio.ensure_future(self.process.communicate())
        await until(self._accepts)

    async def end(self, number=signal.SIGKILL):
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self._draining

    def _accepts(self):
        assert self.process.returncode is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@asynccontextmanager
async def open_nodes(tmp_path, postgres, database, *, count, ttl):
    """Start the nodes, the first one first: it makes the keys."""
    async with AsyncExitStack() as stack:
        whole = await stack.enter_async_context(open_process_world(tmp_path))
        nodes = []
        for number in range(count):
            directory = tmp_path / f"node{number}"
            (directory / "data").mkdir(mode=0o700, parents=True)
            wire = await stack.enter_async_context(Wire(postgres))
            world = replace(whole, gateway=Addresses(), directory=directory)
            nodes.append(Node(number, world, wire, postgres.url(database, port=wire.port), ttl=ttl))
        first, *others = nodes
        await first.start()
        stack.push_async_callback(first.end)
        for node in others:
            stack.push_async_callback(node.end)
        await asyncio.gather(*(node.start() for node in others))
        yield nodes


class Visitor:
    """Asks one node all the time, and stays with one token: what the node knows of it is warm when it is revoked."""

    def __init__(self, node, token, history, http):
        self.node = node
        self.token = token
        self.allowed = 0
        self.known = 0
        """How often it was refused by what the database says, and not for want of it."""
        self._history = history
        self._http = http
        self.task = asyncio.ensure_future(self._go_on())

    async def end(self):
        """Raise what went wrong."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _go_on(self):
        while True:
            await asyncio.sleep(0.01)
            began = boot_seconds()
            try:
                status = await self._ask()
            except (aiohttp.ClientError, TimeoutError):
                continue
            self._history.answers.append(Answer(self.node.number, self.token, began, status == 204))
            self.allowed += status == 204
            self.known += status in (401, 403)

    async def _ask(self):
        headers = {"Host": HOST, "Authorization": f"Bearer {self.token}"}
        async with self._http.get(f"http://127.0.0.1:{self.node.port}{PING}", headers=headers) as answer:
            return answer.status


class Scene:
    """The nodes, staff who have one token at a time, and what has become of it so far."""

    def __init__(self, nodes, bench, http, *, seed):
        self.nodes = nodes
        self.bench = bench
        self.history = History()
        self.choices = random.Random(seed)  # noqa: S311 - a test's choice
        self._http = http
        self._visitors = []
        self._late = []
        """Who still asks with the token of the last revoke."""

    async def begin(self):
        """Switch on, and have every node asked with a new token from now on."""
        # Whoever hears of this forgets all that it knows: so what it knows next is of one age.
        await self.bench.store.set_kill_switch(KillSwitch(by="a test", at=utc_now()))
        token = await revocation.begin(self.bench)
        self._visitors = [Visitor(node, token, self.history, self._http) for node in self.nodes]

    async def are_let_in(self):
        await eventually(lambda: all(visitor.allowed for visitor in self._visitors))

    async def revoke(self):
        """Switch off; returns who had the token of it."""
        await revocation.choose(self.bench, Duration.OFF)
        # Only now is it acknowledged.
        [token] = {visitor.token for visitor in self._visitors}
        self.history.revoked_at[token] = boot_seconds()
        return self._visitors

    async def stay_out(self, visitors):
        """Have them go on for twice the bound, and until every node knows that it is over."""
        await until_behind(self.history.revoked_at[visitors[0].token], 2 * BOUND_SECONDS)
        known = [visitor.known for visitor in visitors]
        await eventually(lambda: all(v.known > before for v, before in zip(visitors, known, strict=True)))

    async def next_round(self, partition, other="none"):
        """Cut one node off behind an allow, revoke, mend, begin anew; meanwhile something else goes wrong at another."""
        await self.are_let_in()
        # Those of the round before have seen that a new grant brings nothing back.
        await self._let_go(self._late)
        cut_off, beside = self.choices.sample(self.nodes, 2) if len(self.nodes) > 1 else (self.nodes[0], None)
        async with self._disturbed(beside, other), self._apart(cut_off, partition):
            await asyncio.sleep(self.choices.uniform(0, 0.3 * TTL_SECONDS))
            self._late = await self.revoke()
            await until_behind(self.history.revoked_at[self._late[0].token], self.choices.uniform(2, 2.7) * TTL_SECONDS)
        await self.stay_out(self._late)
        await self.begin()

    async def end(self):
        """Raise what went wrong with a visitor."""
        await self._let_go([*self._visitors, *self._late])

    async def _let_go(self, visitors):
        await asyncio.gather(*(visitor.end() for visitor in visitors))

    @asynccontextmanager
    async def _apart(self, node, fault):
        # Right behind an allow with a new token its facts are fresh: they last for nearly all of their time to live.
        visitor = next(visitor for visitor in self._visitors if visitor.node is node)
        seen = visitor.allowed
        await eventually(lambda: visitor.allowed > seen)
        async with self._disturbed(node, fault):
            partition = Partition(node.number, boot_seconds())
            self.history.partitions.append(partition)
            yield
            partition.ended = boot_seconds()

    @asynccontextmanager
    async def _disturbed(self, node, fault):
        if fault == "none":
            yield
            return
        self.history.faults.append((boot_seconds(), f"{fault} {node.number}"))
        if fault == "kill":
            await node.end()
            yield
            await node.start()
        elif fault == "stop":
            os.kill(node.process.pid, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(node.process.pid, signal.SIGCONT)
        else:
            getattr(node.wire, fault)()
            try:
                yield
            finally:
                node.wire.cut()
                node.wire.go_on()


async def until_behind(moment, seconds):
    """Sleep until so many seconds behind a moment of the clock of all of this."""
    await asyncio.sleep(max(0.0, moment + seconds - boot_seconds()))


@asynccontextmanager
async def open_scene(tmp_path, postgres, database, *, count=NODES, ttl=TTL_SECONDS, seed=1):
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(open_nodes(tmp_path, postgres, database, count=count, ttl=ttl))
        store = await open_store(postgres, database)
        stack.push_async_callback(store.close)
        journal = await Journal.open(
            tmp_path / "journal", origin="test", clock=utc_now, signer=None, patience_seconds=PATIENCE_SECONDS
        )
        stack.push_async_callback(journal.close)
        bench = revocation.Bench(
            store=store,
            grants=GrantService(store, journal, accepted_roles=frozenset({"admin"}), clock=utc_now),
            key=(await open_keys(store, KeyTerms(), now=utc_now())).signing,
            issuer=ISSUER,
            host=HOST,
            role="admin",
            clock=utc_now,
            ticks=boot_seconds,
        )
        with contextlib.suppress(StoreConflict):
            await store.add_account(Account(id=revocation.ACCOUNT, type=AccountType.PAID))
        timeout = aiohttp.ClientTimeout(total=1)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        scene = Scene(nodes, bench, http, seed=seed)
        await scene.begin()
        stack.push_async_callback(scene.end)
        yield scene


async def go_on(scene, partitions, others, *, until):
    """A round for each partition, and more of them for as long as a slow machine has not shown what is to be shown."""
    latest = time.monotonic() + 2 * PATIENCE_SECONDS
    for partition, other in zip(partitions, others, strict=True):
        await scene.next_round(partition, other)
    while not until() and time.monotonic() < latest:
        await scene.next_round("stall")


def was_no_idle_promise(history, nodes):
    """A node that could not know went on with what it knew, and each has let staff in and refused them many times."""
    often = all(history.allowed(node.number) > 50 and history.refused(node.number) > 50 for node in nodes)
    return often and history.latest_cut_off() > 0.3 * TTL_SECONDS


@pytest.mark.parametrize("seed", [1])
async def test_no_node_lets_anybody_in_behind_an_acknowledged_revoke(tmp_path, postgres, database, seed):
    """The checker looks at every answer of every node, and has seen allows that came nearly too late."""
    async with open_scene(tmp_path, postgres, database, seed=seed) as scene:
        partitions = scene.choices.sample(PARTITIONS, len(PARTITIONS))
        others = scene.choices.sample(OTHER_FAULTS, len(OTHER_FAULTS))
        await go_on(scene, partitions, others, until=lambda: was_no_idle_promise(scene.history, scene.nodes))
    history = scene.history
    TALLY.take_over(Tally(operations=history.operations, latest_seconds=history.latest(), bound_seconds=BOUND_SECONDS))
    assert [] == history.violations(BOUND_SECONDS), (history.faults, history.revoked_at)
    assert was_no_idle_promise(history, scene.nodes), history.latest_cut_off()


async def test_a_node_whose_facts_last_twice_as_long_is_found(tmp_path, postgres, database):
    """The same staff, checker and faults are too much for a time to live that is not kept: so they can fail."""
    async with open_scene(tmp_path, postgres, database, count=1, ttl=2 * TTL_SECONDS) as scene:
        await go_on(scene, ["stall"], ["none"], until=lambda: scene.history.violations(BOUND_SECONDS))
    assert scene.history.violations(BOUND_SECONDS)
    assert [] == scene.history.violations(2 * BOUND_SECONDS)


def test_the_checker_finds_an_answer_that_came_too_late():
    """One allow a moment behind the bound is found; one within it, one refused, and one never revoked are not."""
    history = History(revoked_at={"a": 10.0})
    history.answers = [Answer(0, "a", 10.5, True), Answer(0, "a", 11.5, False), Answer(1, "b", 99.0, True)]
    assert [] == history.violations(1.0)
    late = Answer(2, "a", 11.001, True)
    history.answers.append(late)
    assert [late] == history.violations(1.0)


def test_the_checker_knows_what_a_node_could_not_be_told():
    """Of the late allows those count as cut off that were asked for in a partition that had begun before the revoke."""
    history = History(revoked_at={"a": 10.0}, partitions=[Partition(0, 9.0, 12.0), Partition(1, 10.1, 12.0)])
    history.answers = [Answer(1, "a", 10.9, True), Answer(2, "a", 10.8, True), Answer(0, "a", 12.1, True)]
    assert (0.0, 2.1) == (history.latest_cut_off(), pytest.approx(history.latest()))
    history.answers.append(Answer(0, "a", 10.5, True))
    assert 0.5 == history.latest_cut_off()

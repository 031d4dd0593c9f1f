"""Three nodes at one database, through wires that stall, break and half-open, stopped, killed and started again.

Whatever happens to them, no request that begins later than the facts' time to live behind an acknowledged revoke is let
through, by any node. The nodes are real processes, and so is the database.
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
from gateway.stores.store import StoreConflict
from gateway.tokens.keys import KeyTerms, open_keys
from policy.model import Account, AccountType, Duration
from tests.gateway_world import ISSUER
from tests.history import Answer, History
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.postgres_server import Wire, open_store
from tests.process_world import Addresses, open_process_world, until
from tests.tally import TALLY

TTL_SECONDS = 0.8
SLACK_SECONDS = 0.05
SECONDS = 6.0
NODES = 3
HOST = f"{revocation.ACCOUNT}.helpdesk.example"


class Node:
    """One gateway that is stopped and started, behind a wire of its own."""

    def __init__(self, number, world, wire, url):
        self.number = number
        self.world = world
        self.wire = wire
        self.port = free_port()
        more = f'[grants]\nfact_ttl_seconds = {TTL_SECONDS}\n[store]\nurl = "{url}"\n'
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
async def open_nodes(tmp_path, postgres, database):
    """Start the nodes, the first one first: it makes the keys."""
    async with AsyncExitStack() as stack:
        whole = await stack.enter_async_context(open_process_world(tmp_path))
        nodes = []
        for number in range(NODES):
            directory = tmp_path / f"node{number}"
            (directory / "data").mkdir(mode=0o700, parents=True)
            wire = await stack.enter_async_context(Wire(postgres))
            world = replace(whole, gateway=Addresses(), directory=directory)
            nodes.append(Node(number, world, wire, postgres.url(database, port=wire.port)))
        first, *others = nodes
        await first.start()
        stack.push_async_callback(first.end)
        for node in others:
            stack.push_async_callback(node.end)
        await asyncio.gather(*(node.start() for node in others))
        yield nodes


async def visit(node, history, tokens, http):
    """Ask all the time, with the newest token or one before it."""
    while True:
        await asyncio.sleep(0.002)
        token = random.choice(tokens[-3:])  # noqa: S311 - a test's choice
        began = boot_seconds()
        try:
            headers = {"Host": HOST, "Authorization": f"Bearer {token}"}
            async with http.get(f"http://127.0.0.1:{node.port}{PING}", headers=headers) as answer:
                history.answers.append(Answer(node.number, token, began, answer.status == 204))
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.02)


async def annoy(nodes, history, choices):
    """Let one thing after the other go wrong, for a moment each."""
    while True:
        node = choices.choice(nodes)
        fault = choices.choice(["stall", "cut", "half_open", "stop", "kill"])
        history.faults.append((boot_seconds(), f"{fault} {node.number}"))
        pause = choices.uniform(0.2, 1.5 * TTL_SECONDS)
        if fault == "kill":
            await node.end()
            await node.start()
        elif fault == "stop":
            os.kill(node.process.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(pause)
            finally:
                os.kill(node.process.pid, signal.SIGCONT)
        else:
            getattr(node.wire, fault)()
            await asyncio.sleep(pause)
            node.wire.cut()
            node.wire.go_on()
        await asyncio.sleep(choices.uniform(0, 0.3))


@pytest.mark.parametrize("seed", [1])
async def test_no_node_lets_anybody_in_behind_an_acknowledged_revoke(tmp_path, postgres, database, seed):
    """The checker looks at every answer of every node, and says how many operations there were."""
    history, tokens, choices = History(), [], random.Random(seed)  # noqa: S311 - a test's choice
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(open_nodes(tmp_path, postgres, database))
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
        tokens.append(await revocation.begin(bench))
        work = [asyncio.ensure_future(visit(node, history, tokens, http)) for node in nodes for _ in range(2)]
        work.append(asyncio.ensure_future(annoy(nodes, history, choices)))
        ends = time.monotonic() + SECONDS
        # A busy machine gets the time to show something.
        latest = ends + PATIENCE_SECONDS
        while (now := time.monotonic()) < ends or (now < latest and not history.shows_something(nodes)):
            await asyncio.sleep(choices.uniform(0.05, 0.3))
            await revocation.choose(bench, Duration.OFF)
            history.revoked_at[tokens[-1]] = boot_seconds()
            await asyncio.sleep(choices.uniform(0, 0.3))
            tokens.append(await revocation.begin(bench))
        for task in work:
            task.cancel()
        outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    TALLY.operations += history.operations
    assert [] == history.violations(TTL_SECONDS + SLACK_SECONDS), (history.faults, history.revoked_at)
    # It was no idle promise: every node has let staff in and refused them, while things went wrong.
    assert history.shows_something(nodes)
    assert len(history.revoked_at) > 10
    assert len(history.faults) > 4


def test_the_checker_finds_an_answer_that_came_too_late():
    """One allow a moment behind the bound is found; one within it, one refused, and one never revoked are not."""
    history = History(revoked_at={"a": 10.0})
    history.answers = [Answer(0, "a", 10.5, True), Answer(0, "a", 11.5, False), Answer(1, "b", 99.0, True)]
    assert [] == history.violations(1.0)
    late = Answer(2, "a", 11.001, True)
    history.answers.append(late)
    assert [late] == history.violations(1.0)

"""The supervisor among workers that come, go, hang and say nothing, each at the moment that suits it least."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import msgspec
import pytest

from gateway.config.load import build
from gateway.workers.orders import Begin, Done, Refused, Renew, Stop
from gateway.workers.supervisor import Supervisor, WorkersFailed
from gateway.workers.vigil import Vigil, tick_seconds
from tests.gateway_world import document
from tests.patience import PATIENCE_SECONDS, within
from tests.upstream_client import eventually

DONE = Done(public_url="http://127.0.0.1:1", admin_url="http://127.0.0.1:2")


class Hand:
    """A worker without a process: what it does is in the test's hands."""

    def __init__(self, number, answer):
        self.pid = 1000 + number
        self.asked_at = None
        self.answers_pings = True
        self.asked = []
        self.told = []
        self.killed = False
        self.fails = None
        """What waiting for its end raises."""
        self._answer = answer
        self._code = asyncio.get_running_loop().create_future()

    async def ask(self, order):
        self.asked.append(order)
        answer = self._answer(self, order)
        return await answer if asyncio.iscoroutine(answer) else answer

    @property
    def over(self):
        return self._code.done()

    def tell(self, order):
        self.told.append(order)
        if order == Stop(now=True):
            self.end()

    def ping(self, now):
        self.asked_at = None if self.answers_pings else now

    def kill(self):
        self.killed = True
        self.end(-signal.SIGKILL)

    def end(self, code=0):
        if not self._code.done():
            self._code.set_result(code)

    async def ended(self):
        code = await asyncio.shield(self._code)
        if self.fails is not None:
            raise self.fails
        return code


class Crew:
    """Every worker that was started, in order, and one supervisor over them."""

    def __init__(self, directory, count, answer, reply_seconds=30.0, **server):
        self.hands = []
        self.gate = asyncio.Event()
        """While it is cleared, no start gets done."""
        self.gate.set()
        self.announced = []
        self._answer = answer
        whole = document(directory, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2")
        whole["server"] |= {"shutdown_seconds": 0.05, "workers": count} | server
        self.config = build(whole, {}, base=directory)
        self.supervisor = Supervisor(
            self.config, lambda: self.config, count=count, spawn=self._spawn, reply_seconds=reply_seconds
        )

    @property
    def told(self):
        return [hand.told for hand in self.hands]

    async def _spawn(self, *, scratch):
        hand = Hand(len(self.hands), self._answer)
        self.hands.append(hand)
        await self.gate.wait()
        return hand


def serves(_hand, _order):
    return DONE


@asynccontextmanager
async def crew(directory, *, count=2, answer=serves, begun=True, **server):
    """Run a supervisor; at the end it is told to stop, everybody ends, and so does it."""
    crew = Crew(directory, count, answer, **server)
    if not begun:
        crew.gate.clear()
    run = asyncio.ensure_future(crew.supervisor.run(lambda *urls: crew.announced.append(urls)))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await eventually(lambda: (crew.announced if begun else len(crew.hands) == count) or run.done())
            if run.done():
                await run
            yield crew
            crew.supervisor._stopping.ask()
            crew.gate.set()
            await eventually(lambda: run.done() or all(hand.told or hand.over for hand in crew.hands))
            for hand in crew.hands:
                hand.end()
            await run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_a_stop_while_workers_are_being_started_ends_them(tmp_path):
    """None is ordered to serve, nothing is announced, and none is left."""
    async with crew(tmp_path, begun=False) as world:
        assert 2 == len(world.hands)
    assert [[Stop(now=True)], [Stop(now=True)]] == [told[:1] for told in world.told]
    assert ([], []) == (world.announced, [hand for hand in world.hands if hand.asked])


async def test_a_worker_that_is_lost_sight_of_is_killed_and_replaced(tmp_path, caplog):
    """Whatever goes wrong in looking after it; the others do not notice."""
    async with crew(tmp_path) as world:
        lost, other = world.hands
        lost.fails = RuntimeError("no such child")
        lost.end()
        await eventually(lambda: len(world.hands) == 3 and world.hands[2].asked)
        assert lost.killed
        assert isinstance(world.hands[2].asked[0], Begin)
        assert lost.asked[0].origin == world.hands[2].asked[0].origin
        assert ([], 1) == (other.told, len(other.asked))
    assert any("was lost sight of" in message for message in caplog.messages)


async def test_a_worker_that_is_lost_before_it_serves_ends_the_start(tmp_path):
    """With an error, and the others are told to stop."""

    def answer(hand, order):
        if hand.pid == 1000:
            raise RuntimeError("no pipe")
        return DONE

    with pytest.raises(WorkersFailed, match="lost sight of"):
        async with crew(tmp_path, answer=answer):
            raise AssertionError("it has begun")


async def test_a_reload_asks_the_next_worker_if_one_has_ended(tmp_path, caplog):
    """It does not keep the new configuration from the rest."""

    def answer(hand, order):
        return None if isinstance(order, Renew) and hand.pid == 1000 else DONE

    caplog.set_level("INFO")
    async with crew(tmp_path, answer=answer, count=3) as world:
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: any("configuration is in force" in message for message in caplog.messages))
        assert [1, 1] == [sum(isinstance(order, Renew) for order in hand.asked) for hand in world.hands[1:]]


def audience_of(hand):
    """What a worker serves that did all it was asked."""
    return hand.asked[-1].config.upstream.audience


def reload_as(world, audience):
    upstream = msgspec.structs.replace(world.config.upstream, audience=audience)
    world.config = msgspec.structs.replace(world.config, upstream=upstream)
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize("slow", [1000, 1001])
async def test_a_worker_that_is_slow_over_a_reload_is_left_alone(tmp_path, caplog, slow):
    """The reload is refused as a whole. Whoever took it, and the slow one once it has, goes back to what is in force."""
    stuck = asyncio.Event()

    async def after(event):
        await event.wait()
        return DONE

    def answer(hand, order):
        new = isinstance(order, Renew) and order.config.upstream.audience == "new"
        return after(stuck) if new and hand.pid == slow else DONE

    async with crew(tmp_path, answer=answer, reply_seconds=0.05) as world:
        before = audience_of(world.hands[0])
        reload_as(world, "new")
        await eventually(lambda: f"process {slow} is not done within 0.05 s, and keeps the old one" in caplog.text)
        assert "the new configuration is refused, the old one stays in force" in caplog.text
        other = world.hands[1001 - slow]
        await eventually(lambda: audience_of(other) == before)
        # While one of them is not done, no other reload is begun.
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: f"process {slow} is not done with the last one" in caplog.text)
        assert "new" == audience_of(world.hands[slow - 1000])
        stuck.set()
        await eventually(lambda: audience_of(world.hands[slow - 1000]) == before)
        assert ([[], []], 2) == (world.told, len(world.hands))
        await eventually(lambda: not world.supervisor._slow)
        reload_as(world, "newer")
        await eventually(lambda: ["newer"] * 2 == [audience_of(hand) for hand in world.hands])


async def test_a_worker_that_cannot_go_back_yet_is_asked_again(tmp_path, caplog):
    """As where the store stands still in the middle of a reload: nobody is replaced, and in the end all serve the same."""
    refusals = []

    def answer(hand, order):
        if not isinstance(order, Renew):
            return DONE
        new = order.config.upstream.audience == "new"
        if (hand.pid, new) == (1001, True) or ((hand.pid, new) == (1000, False) and len(refusals) < 2):
            refusals.append(hand.pid)
            return Refused(why="the database does not answer in time", in_config=False)
        return DONE

    async with crew(tmp_path, answer=answer) as world:
        before = audience_of(world.hands[0])
        reload_as(world, "new")
        await eventually(lambda: "not every worker takes it: the database does not answer" in caplog.text)
        await eventually(lambda: not world.supervisor._slow)
        assert [before] * 2 == [audience_of(hand) for hand in world.hands]
        assert ([[], []], [1001, 1000]) == (world.told, refusals)


async def test_a_worker_that_began_under_what_is_no_longer_in_force_is_brought_there(tmp_path, caplog):
    """Its start took as long as a reload of the others."""
    starting = asyncio.Event()

    async def later():
        await starting.wait()
        return DONE

    def answer(hand, order):
        return later() if isinstance(order, Begin) and hand.pid == 1002 else DONE

    caplog.set_level("INFO")
    async with crew(tmp_path, answer=answer) as world:
        world.hands[0].end()
        await eventually(lambda: len(world.hands) == 3 and world.hands[2].asked)
        reload_as(world, "new")
        await eventually(lambda: "the new configuration is in force" in caplog.text)
        assert "new" != audience_of(world.hands[2])
        starting.set()
        await eventually(lambda: audience_of(world.hands[2]) == "new")
        assert [] == world.hands[2].told


async def test_workers_do_not_wait_for_a_store_that_was_waited_for_in_vain(tmp_path):
    """Not those of the start, so that customers wait once; whoever comes later tries for itself."""
    (tmp_path / "locum.sqlite3").write_bytes(b"this is no database" * 1000)
    (tmp_path / "locum.sqlite3").chmod(0o600)
    async with crew(tmp_path) as world:
        world.hands[0].end()
        await eventually(lambda: len(world.hands) == 3 and world.hands[2].asked)
        assert [True, True, False] == [hand.asked[0].without_store for hand in world.hands]


async def test_a_reload_that_no_worker_answers_changes_nothing(tmp_path, caplog):
    """The operator is told to send the signal again; who comes later begins with the old configuration."""
    async with crew(tmp_path, answer=lambda _hand, order: None if isinstance(order, Renew) else DONE) as world:
        before = world.hands[0].asked[0].config
        world.config = msgspec.structs.replace(
            world.config, upstream=msgspec.structs.replace(world.config.upstream, audience="another")
        )
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: any("no worker has answered" in message for message in caplog.messages))
        world.hands[0].end()
        await eventually(lambda: len(world.hands) == 3 and world.hands[2].asked)
        assert before == world.hands[2].asked[0].config


async def test_what_one_worker_refuses_no_other_serves(tmp_path, caplog):
    """Whoever took it already goes back; nobody is replaced."""

    def answer(hand, order):
        refuses = isinstance(order, Renew) and hand.pid == 1001 and order.config.upstream.audience == "new"
        return Refused(why="not here", in_config=True) if refuses else DONE

    async with crew(tmp_path, answer=answer) as world:
        before = audience_of(world.hands[0])
        reload_as(world, "new")
        await eventually(lambda: "not every worker takes it: not here" in caplog.text)
        await eventually(lambda: [before] * 2 == [audience_of(hand) for hand in world.hands])
        assert [[], []] == world.told


async def test_a_worker_without_a_sign_of_life_is_killed_and_replaced(tmp_path, caplog):
    """Within its deadline and one look; who answers is left alone."""
    async with crew(tmp_path, worker_deadline_seconds=0.2) as world:
        hanging, other = world.hands
        hanging.answers_pings = False
        begun = asyncio.get_running_loop().time()
        async with within(1):
            await eventually(lambda: len(world.hands) == 3 and world.hands[2].asked)
        assert (True, False) == (hanging.killed, other.killed)
        assert asyncio.get_running_loop().time() - begun >= 0.2
    assert any(f"process {hanging.pid} has given no sign of life for 0.2 s" in message for message in caplog.messages)


class Sign:
    """What a vigil knows of a worker."""

    def __init__(self, *, answers):
        self.asked_at = None
        self.asked = 0
        self.answers = answers

    def ping(self, now):
        self.asked += self.asked_at is None
        self.asked_at = None if self.answers else now


def test_only_who_owes_a_sign_for_the_whole_time_hangs():
    """By the supervisor's clock; each is asked once, and again when it has answered."""
    vigil, deadline = Vigil(), 10.0
    lively, hanging = Sign(answers=True), Sign(answers=False)
    looks = [vigil.look([lively, hanging], float(now), deadline) for now in range(11)]
    assert [[]] * 10 + [[hanging]] == looks
    assert (11, 1) == (lively.asked, hanging.asked)


@pytest.mark.parametrize("gap", [2.5, 60.0, 86400.0])
def test_a_machine_that_stood_still_kills_nobody(gap):
    """Nobody can have answered: from the moment that we go on ourselves, there is the whole time again."""
    vigil, deadline = Vigil(), 10.0
    worker = Sign(answers=False)
    for now in range(10):
        assert [] == vigil.look([worker], float(now), deadline)
    for now in range(10):
        assert [] == vigil.look([worker], 9.0 + gap + now, deadline)
    assert [worker] == vigil.look([worker], 9.0 + gap + 10, deadline)


@pytest.mark.parametrize("deadline", [0.01, 1.0, 10.0, 86400.0])
def test_it_looks_several_times_within_a_deadline(deadline):
    """And no more than that: an idle gateway stays idle."""
    assert min(1.0, deadline / 4) == tick_seconds(deadline)

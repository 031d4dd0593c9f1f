"""The record is complete under kill -9 of workers and of who keeps them: of each, and of all together."""

import asyncio
import os
import random
import signal
from collections import Counter

from tests.process_world import open_process_world, until
from tests.test_record_kills import AT_ONCE, Staff, id_of, slowly, the_only
from tests.test_workers import BOTH, gone

KILLS = 4


def place(record, key="seq"):
    """A record's place, or the one that it speaks of: each worker has a journal of its own."""
    return record["origin"], record[key]


async def served(world, staff, chance):
    """Wait until some more requests have come to the app."""
    staff.serving.set()
    enough = len(world.upstream.requests) + chance.randrange(20, 60)
    await world.upstream.until(lambda: len(world.upstream.requests) >= enough)
    await asyncio.sleep(chance.random() * 0.005)


async def live(staff):
    """Kill workers in turn, then who keeps them, begin anew and end in order; return the tokens that were given out."""
    world, chance, tokens = staff.world, staff.chance, []
    working = [asyncio.ensure_future(staff.work()) for _ in range(AT_ONCE)]
    for last in (False, True):
        async with world.running(workers=2, more="index = false") as running:
            assert 200 == (await world.choose("day", ("read", "write")))[0]
            who = world.actor_token(f"dana-{last}")
            staff.token = await world.token("tickets:read tickets:write", actor_token=who)
            tokens.append(staff.token)
            for number in range(KILLS):
                await served(world, staff, chance)
                name = f"gateway-{number % 2}"
                said = await running.says(f"worker {name} serves", times=number // 2 + 1)
                os.kill(int(said.rpartition("process ")[2].rstrip(")")), signal.SIGKILL)
                await running.says(f"worker {name} serves", times=number // 2 + 2)
            await served(world, staff, chance)
            workers = running.workers()
            if last:
                staff.done = True
                await asyncio.gather(*working)
                running.send(signal.SIGTERM)
                assert 0 == await running.ends()
            else:
                staff.serving.clear()
                running.send(signal.SIGKILL)
                await until(lambda workers=workers: all(map(gone, workers)))
    return tokens


async def test_nothing_is_off_the_record_whoever_of_several_is_killed(tmp_path):
    """Each request that the app got with an assertion has one permit, on the record of one worker.

    Whatever staff were told is there as the same; who had no answer is the only one whose permit the app has not heard
    of. Both journals verify, and each killed worker's place was taken by one that went on with its journal.
    """
    chance = random.Random(20261124)  # noqa: S311 - chosen, not secret
    async with open_process_world(tmp_path, script=slowly(chance)) as world:
        staff = Staff(world, chance)
        tokens = await live(staff)
        heard = Counter(one.target.decode() for one in world.upstream.requests if one.values(b"x-locum-assertion"))
        code, said = await world.told("audit", "verify")
        assert (0, "ok") == (code, said.splitlines()[-1]), said
    decided = the_only(world.records(kind="decision"), lambda record: record["path"])
    allowed = {target: record for target, record in decided.items() if record["decision"] == "allow"}
    assert {1} == set(heard.values())
    assert set() == heard.keys() - allowed.keys()
    told = {target: (target in heard, decided[target]["request_id"]) for target in staff.told}
    assert told == {target: (status == 200, request_id) for target, (status, request_id) in staff.told.items()}
    assert set(map(id_of, tokens)) <= {record.get("token_id") for record in world.records(kind="token")}
    assert set() == (allowed.keys() - heard.keys()) - staff.broken
    # How exchanges ended, as far as anybody lived to say it.
    ends = the_only(world.records(kind="completion"), lambda record: place(record, "completes"))
    permits = {place(record): record["request_id"] for record in allowed.values()}
    assert {at: end["request_id"] for at, end in ends.items()} == {at: permits.get(at) for at in ends}
    marks = Counter(record["reason"] for record in world.records(kind="journal"))
    assert {"unsigned_tail", "torn_tail"} >= marks.keys()
    assert marks["torn_tail"] <= 2 * KILLS
    # So that this test can fail.
    assert BOTH == {origin for origin, _ in permits}
    assert {200, 403} == {status for status, _ in staff.told.values()}
    assert KILLS <= len(staff.broken) < len(staff.told)

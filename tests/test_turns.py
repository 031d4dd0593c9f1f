"""Turns: in order, never more than there are, and none is lost with whoever goes away."""

import asyncio

import pytest

from gateway.proxy.turns import Turns

BOTH_LOOPS = True


async def waiting(turns: Turns, count: int) -> list[asyncio.Task]:
    tasks = [asyncio.ensure_future(turns.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def cancelled(task: asyncio.Task) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_more_turns_are_taken_than_there_are():
    """Also after some were given back."""
    turns = Turns(2)
    assert [True, True, False] == [turns.take_free() for _ in range(3)]
    turns.give_back()
    assert [True, False] == [turns.take_free() for _ in range(2)]


async def test_whoever_waits_longest_is_next_and_nobody_overtakes():
    """A turn that is given back while somebody waits is never free."""
    turns = Turns(1)
    turns.take_free()
    first, second = await waiting(turns, 2)
    turns.give_back()
    assert not turns.take_free()
    await first
    assert not second.done()
    turns.give_back()
    await second


async def test_whoever_stops_waiting_takes_no_turn_away():
    """Nor stays in the queue."""
    turns = Turns(1)
    turns.take_free()
    first, second, third = await waiting(turns, 3)
    await cancelled(first)
    await cancelled(third)
    assert 1 == len(turns._waiting)
    turns.give_back()
    await second
    turns.give_back()

    assert [True, False] == [turns.take_free() for _ in range(2)]


async def test_a_turn_that_comes_as_one_leaves_goes_to_the_next():
    """Handed over and cancelled in one step of the loop."""
    turns = Turns(1)
    turns.take_free()
    first, second = await waiting(turns, 2)
    turns.give_back()
    await cancelled(first)
    await second
    turns.give_back()

    assert turns.take_free()


async def test_who_is_passed_over_as_it_gives_up_is_only_gone():
    """Told to go, and passed over before it could: that is the end of its wait and no error."""
    turns = Turns(1)
    assert turns.take_free()
    [one] = await waiting(turns, 1)
    one.cancel()
    turns.give_back()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert [True, False] == [turns.take_free() for _ in range(2)]


async def test_their_number_can_change():
    """What is new goes to whoever waits, what is taken stays so, and no more than the new number is handed on."""
    turns = Turns(1)
    assert turns.take_free()
    tasks = await waiting(turns, 3)
    turns.resize(3)
    await asyncio.sleep(0)
    assert [True, True, False] == [task.done() for task in tasks]
    turns.resize(1)
    for _ in range(2):
        turns.give_back()
        await asyncio.sleep(0)
        assert not tasks[2].done()
        assert not turns.take_free()
    turns.give_back()
    await tasks[2]
    turns.give_back()
    assert [True, False] == [turns.take_free() for _ in range(2)]

"""What every store must keep to about signing keys; part of `StoreContract`."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.store import Store, StoreChange, StoreConflict
from tests.store_examples import KEY, LATEST, NOW

SECOND = timedelta(seconds=1)
JOURNAL = replace(KEY, id="j1", algorithm="journal")


async def add_keys(store: Store, *keys) -> None:
    """Add keys in the order of their signing, each behind the newest of its algorithm."""
    newest = {}
    for key in sorted(keys, key=lambda key: (key.signs_from, key.id)):
        await store.add_key(key, after=newest.get(key.algorithm))
        newest[key.algorithm] = key.id


class KeyContract:
    async def test_keys_come_back_newest_first(self, store: Store):
        """With all their times; those made at the same moment are in the order of their ids, what is over is there."""
        old = replace(KEY, id="k0", created_at=NOW - timedelta(microseconds=1), retired_at=NOW, ended_at=LATEST)
        twin = replace(KEY, id="k2", signs_from=NOW + SECOND)
        await add_keys(store, twin, old, KEY)
        assert [KEY, twin, old] == list(await store.list_keys())

    async def test_a_key_is_added_behind_the_newest_only(self, store: Store):
        """Whoever decided on other keys of the algorithm decides again; those of other algorithms do not matter."""
        await store.add_key(KEY)
        await store.add_key(JOURNAL)
        second = replace(KEY, id="k2", signs_from=NOW + SECOND)
        for after in (None, "k0", JOURNAL.id):
            with pytest.raises(StoreConflict):
                await store.add_key(second, after=after)
        await store.add_key(second, after=KEY.id)
        await store.end_key(second.id, at=NOW)
        with pytest.raises(StoreConflict):
            await store.add_key(replace(KEY, id="k3", signs_from=NOW), after=KEY.id)
        with pytest.raises(StoreConflict):
            await store.add_key(replace(KEY, private_pem=b"mine"), after=second.id)
        assert {KEY.id, second.id, JOURNAL.id} == {key.id for key in await store.list_keys()}

    async def test_of_many_who_make_a_missing_key_one_does(self, store: Store):
        """All at once, and the others hear that it is there."""
        keys = [replace(KEY, id=f"k{number}") for number in range(12)]
        outcomes = await asyncio.gather(*(store.add_key(key) for key in keys), return_exceptions=True)
        assert 11 == sum(isinstance(outcome, StoreConflict) for outcome in outcomes), outcomes
        assert 1 == len(await store.list_keys())

    async def test_a_keys_times_are_written_once(self, store: Store):
        """It may sign sooner, never later; it retires once and ends once; what has ended cannot be changed."""
        waiting = replace(KEY, signs_from=NOW + 9 * SECOND)
        await store.add_key(waiting)
        assert False is await store.start_key(waiting.id, at=NOW + 9 * SECOND)
        assert True is await store.start_key(waiting.id, at=NOW + SECOND)
        assert False is await store.start_key(waiting.id, at=NOW + 2 * SECOND)
        assert [True, False] == [await store.retire_key(KEY.id, at=NOW + n * SECOND) for n in (3, 4)]
        assert False is await store.start_key(KEY.id, at=NOW)
        assert [True, False] == [await store.end_key(KEY.id, at=NOW + n * SECOND) for n in (5, 6)]
        [kept] = await store.list_keys()
        life = {"signs_from": NOW + SECOND, "retired_at": NOW + 3 * SECOND, "ended_at": NOW + 5 * SECOND}
        assert replace(KEY, private_pem=b"", **life) == kept
        await store.add_key(replace(KEY, id="k2", signs_from=NOW + 7 * SECOND), after=KEY.id)
        await store.end_key("k2", at=NOW)
        assert [False] * 3 == [
            await store.start_key("k2", at=NOW),
            await store.retire_key("k2", at=NOW),
            await store.end_key("k9", at=NOW),
        ]

    async def test_every_change_of_a_key_is_heard_of(self, store: Store):
        """As one of everything; the journal's own key is nobody's business, and what changes nothing is no change."""
        await store.add_key(JOURNAL)
        assert 0 == (await store.read_changes(0)).position
        writes = [
            lambda: store.add_key(replace(KEY, signs_from=LATEST)),
            lambda: store.start_key(KEY.id, at=NOW),
            lambda: store.retire_key(KEY.id, at=NOW),
            lambda: store.end_key(KEY.id, at=NOW),
        ]
        for number, write in enumerate(writes):
            await write()
            assert [StoreChange(position=number + 1)] == (await store.read_changes(number)).changes
        for write in writes[1:]:
            await write()
        with pytest.raises(StoreConflict):
            await store.add_key(KEY)
        assert len(writes) == (await store.read_changes(0)).position

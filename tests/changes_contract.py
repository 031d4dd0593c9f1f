"""What every store must keep to when it counts its changes and tells of them; part of `StoreContract`."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.store import Changes, KillSwitch, Store, StoreChange, StoreConflict, StoreError
from policy.model import AccountId, AssumptionId
from tests.patience import PATIENCE_SECONDS
from tests.store_examples import ACME, ACTOR, ASSUMPTION, CLIENT, NOW, STAFF, a_change, a_grant, begin


class ChangesContract:
    async def test_every_change_is_counted_and_named(self, store: Store):
        """Each write that changes a fact raises the position and names what it changed, and only that.

        By one; a grant that is counted apart from its account is the same name once more.
        """
        other = replace(ASSUMPTION, id=AssumptionId("s2"))
        writes = [
            (store.add_account(ACME), {"account": ACME.id}),
            (store.save_change(a_change(ACME, grant=a_grant(ACME)), by="x", at=NOW), {"account": ACME.id}),
            (store.save_staff(STAFF, at=NOW), {"staff": ACTOR}),
            (begin(store, ASSUMPTION), {"assumption": ASSUMPTION.id}),
            (store.end_assumption(ASSUMPTION.id, at=NOW), {"assumption": ASSUMPTION.id}),
            (begin(store, other), {"assumption": other.id}),
            (store.end_assumptions_of(ACTOR, at=NOW), {"assumption": other.id}),
            (store.save_staff(replace(STAFF, groups=frozenset()), at=NOW), {"staff": ACTOR}),
            (store.disable_staff(ACTOR, disabled=True), {"staff": ACTOR}),
            (store.touch_account(ACME.id), {"account": ACME.id}),
            (store.touch_account(AccountId("nobody")), {"account": AccountId("nobody")}),
            (store.set_kill_switch(KillSwitch(on=True)), {}),
        ]
        assert Changes(position=0, changes=[]) == await store.read_changes(0)
        named: list[StoreChange] = []
        for number, (write, names) in enumerate(writes):
            await write
            found = await store.read_changes(len(named))
            assert 1 <= found.position - len(named) <= (2 if number == 1 else 1)
            positions = range(len(named) + 1, found.position + 1)
            assert [StoreChange(position=position, **names) for position in positions] == found.changes
            named += found.changes
        assert Changes(position=len(named), changes=named) == await store.read_changes(0)
        assert Changes(position=len(named), changes=[]) == await store.read_changes(len(named))

    async def test_what_changes_no_fact_is_not_counted(self, store: Store):
        """Not what ends, locks or sets again what is so already, not being seen again, not a conflict, not a client."""
        await store.add_account(ACME)
        await begin(store, replace(ASSUMPTION, ended_at=NOW))
        await store.save_staff(replace(STAFF, disabled=True), at=NOW)
        await store.set_kill_switch(switch := KillSwitch(on=True, by="x", reason="y", at=NOW))
        before = await store.read_changes(0)
        later = NOW + timedelta(days=1)
        assert False is await store.end_assumption(ASSUMPTION.id, at=later)
        assert [] == list(await store.end_assumptions_of(ACTOR, at=later))
        await store.save_staff(STAFF, at=later)
        assert True is await store.disable_staff(ACTOR, disabled=True)
        assert False is await store.disable_staff(ACTOR._replace(subject="u2"), disabled=True)
        await store.set_kill_switch(switch)
        await store.add_client(CLIENT)
        stale = a_change(replace(ACME, epoch=7), grant=a_grant(ACME))
        for conflict in (
            store.add_account(ACME),
            begin(store, ASSUMPTION),
            store.save_change(stale, by="", at=NOW),
        ):
            with pytest.raises(StoreConflict):
                await conflict
        assert before == await store.read_changes(0)

    async def test_what_cannot_be_named_is_everything(self, store: Store):
        """Across a gap, and after a position that the store has not reached, anything may have changed."""
        await store.add_account(ACME)
        assert Changes(position=1, changes=None) == await store.read_changes(41)
        await store.raise_position(41)
        assert Changes(position=42, changes=None) == await store.read_changes(1)
        assert Changes(position=42, changes=[StoreChange(position=42)]) == await store.read_changes(41)
        await store.raise_position(7)
        assert Changes(position=43, changes=[StoreChange(position=43)]) == await store.read_changes(42)

    async def test_each_change_has_a_tag_that_no_other_has(self, store: Store):
        """It is told with the position asked about and with the newest, as long as the change is kept, and stays."""
        nothing = await store.read_changes(0)
        assert (None, None) == (nothing.tag, nothing.newest_tag)
        tags: list[str | None] = [None]
        for number in range(20):
            await store.touch_account(AccountId(str(number)))
            found = await store.read_changes(number)
            assert tags[number] == found.tag
            tags.append(found.newest_tag)
        assert None not in tags[1:]
        assert 21 == len(set(tags))
        assert tags == [(await store.read_changes(position)).tag for position in range(21)]
        ahead = await store.read_changes(41)
        assert (None, tags[20]) == (ahead.tag, ahead.newest_tag)
        await store.raise_position(10_000)
        beyond = await store.read_changes(20)
        assert (None, 10_001) == (beyond.tag, beyond.position)
        assert beyond.newest_tag == (await store.read_changes(10_001)).tag is not None

    async def test_positions_are_in_the_order_of_commits(self, store: Store):
        """Of fifty writers at once: no gap, nothing comes in below what was read, and no fact is seen before its count."""
        ids = [AccountId(f"a{n:02}") for n in range(50)]
        writes = [asyncio.ensure_future(store.add_account(replace(ACME, id=id_))) for id_ in ids]
        read: list[StoreChange] = []
        while len(read) < len(ids):
            await asyncio.sleep(0)
            stored = {record.account.id for record in await store.list_accounts()}
            found = (await store.read_changes(0)).changes
            assert read == found[: len(read)]
            read = list(found)
            assert list(range(1, len(read) + 1)) == [change.position for change in read]
            assert stored <= {change.account for change in read}
            assert {change.account for change in read} <= {record.account.id for record in await store.list_accounts()}
        await asyncio.gather(*writes)
        assert ids == sorted(change.account for change in read)

    async def test_a_cancelled_write_is_counted_if_and_only_if_it_is_there(self, store: Store):
        """Wherever the cancellation meets it."""
        for number in range(30):
            write = asyncio.ensure_future(store.add_account(replace(ACME, id=AccountId(f"a{number:02}"))))
            await asyncio.wait([write], timeout=number / 10_000)
            write.cancel()
            await asyncio.wait([write])
        await store.add_account(ACME)
        stored = [record.account.id for record in await store.list_accounts()]
        assert stored == sorted(change.account for change in (await store.read_changes(0)).changes)

    async def test_every_listener_is_told_of_what_came_while_nobody_waited(self, store: Store):
        """Nothing committed after the block was entered is missed, by however many; other waits end when cancelled."""
        async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as one, store.listen() as two:
            for number in range(5):
                await store.add_account(replace(ACME, id=AccountId(str(number))))
                for push in (one, two):
                    await push.wait()
                    assert number < (await store.read_changes(0)).position
            waiting = asyncio.ensure_future(one.wait())
            await asyncio.wait([waiting], timeout=0.01)
            waiting.cancel()
            await store.add_account(ACME)
            await one.wait()

    async def test_many_commits_are_few_returns(self, store: Store):
        """However much was committed while nobody waited, a few returns tell of all of it."""
        async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
            await asyncio.gather(*(store.add_account(replace(ACME, id=AccountId(str(n)))) for n in range(300)))
            await push.wait()
            returns = 1
            with suppress(TimeoutError):
                while returns <= 5:
                    await asyncio.wait_for(push.wait(), 0.3)
                    returns += 1
            assert returns <= 5

    async def test_a_channel_of_a_closed_store_is_lost_for_ever(self, store: Store):
        """Every wait raises StoreError, the one under way and all that follow."""
        async with asyncio.timeout(PATIENCE_SECONDS), store.listen() as push:
            waiting = asyncio.ensure_future(push.wait())
            await asyncio.wait([waiting], timeout=0.01)
            await store.close()
            with pytest.raises(StoreError):
                await waiting
            for _ in range(2):
                with pytest.raises(StoreError):
                    await push.wait()

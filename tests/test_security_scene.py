"""What the console knows of everything open: kept by the store's changes, and never other than read anew."""

from dataclasses import replace

from gateway.console.security.scene import Scenes
from gateway.stores.store import KillSwitch
from policy.model import AccountType, ActorId, Permission, Staff
from tests.security_world import open_guard


class Heard:
    """The store itself, with a count of the questions that were put to it."""

    def __init__(self, store):
        self._store = store
        self.asked = []
        self.tag = None
        """In place of the tag that the store tells, if it is not None."""

    def __getattr__(self, name):
        self.asked.append(name)
        return getattr(self._store, name)

    async def read_changes(self, after):
        found = await self._store.read_changes(after)
        return found if self.tag is None else replace(found, tag=self.tag)


def scenes_of(world, store):
    clock = world.clock
    return Scenes(
        store,
        trial_permissions=frozenset({Permission.READ}),
        position=lambda: 0,
        clock=clock.utc,
        ticks=clock.ticks,
    )


async def now(scenes):
    scenes.forget()
    return replace(await scenes.now(), position=0)


async def test_what_is_kept_up_is_what_would_be_read_anew(tmp_path):
    """After every kind of change, also by time alone; and all accounts are read but once as long as changes have names."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        store = world.gateway.store
        heard = Heard(store)
        kept = scenes_of(world, heard)
        dana = ActorId(issuer=world.issuer.issuer, subject="dana")

        async def renamed():
            staff = await store.find_staff(dana)
            await store.save_staff(replace(staff, name="Dana Doe", told_at=world.clock.now), at=world.clock.now)

        async def ended():
            [one, *_] = await store.list_assumptions(at=world.clock.now)
            await store.end_assumption(one.id, at=world.clock.now)

        async def hours():
            world.clock.forward(hours=25)

        steps = [
            lambda: world.choose("week"),
            world.token,
            renamed,
            lambda: world.add_account("tria", AccountType.TRIAL),
            lambda: world.add_account("globex"),
            lambda: world.choose("day", account="globex"),
            lambda: world.token(account="globex", actor_token=world.actor_token("erin")),
            lambda: world.token(account="tria"),
            ended,
            lambda: world.choose("off"),
            lambda: world.choose("always"),
            world.token,
            lambda: store.sign_out(dana, since=world.clock.now, at=world.clock.now),
            hours,
            lambda: store.save_staff(
                Staff(id=ActorId(issuer="x", subject="y"), name="z", permissions=frozenset()), at=world.clock.now
            ),
        ]
        assert await now(scenes_of(world, store)) == await now(kept)
        heard.asked.clear()
        seen = set()
        for step in steps:
            await step()
            scene = await now(kept)
            assert await now(scenes_of(world, store)) == scene
            seen |= {one.name for one in scene.inside}
        assert "list_accounts" not in heard.asked
        assert {"Dana Doe", "erin"} <= seen


async def test_what_cannot_be_named_is_read_anew(tmp_path):
    """A change of everything, another history of the store, and the read behind one that failed."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        heard = Heard(world.gateway.store)
        kept = scenes_of(world, heard)
        await now(kept)

        async def reads():
            heard.asked.clear()
            await now(kept)
            return heard.asked.count("list_accounts")

        assert 0 == await reads()
        await world.gateway.store.set_kill_switch(KillSwitch(on=True, by="x", reason="y", at=world.clock.now))
        assert 1 == await reads()
        assert 0 == await reads()
        heard.tag = "of another history"
        assert 1 == await reads()


async def test_a_scene_is_read_once_for_all_who_look(tmp_path):
    """Within a second, however many ask; a change that was heard of is in the next."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        position = 0
        heard = Heard(world.gateway.store)
        scenes = Scenes(
            heard,
            trial_permissions=frozenset(),
            position=lambda: position,
            clock=world.clock.utc,
            ticks=world.clock.ticks,
        )
        first = await scenes.now()
        heard.asked.clear()
        assert first is await scenes.now()
        assert [] == heard.asked
        position = first.position + 1
        assert first is not await scenes.now()
        world.clock.forward(seconds=2)
        position = 0
        later = await scenes.now()
        assert world.clock.now == later.at

"""The accounts that allow it, kept in order: never other than sorted anew, and never in the way of requests."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

from gateway.console.security.allowed import SLICE, AllowedNow
from gateway.console.security.scene import Scene
from gateway.stores.store import AccountRecord, KillSwitch
from policy.grants import GrantState, state
from policy.model import Account, AccountId, AccountType, Duration, Grant, GrantId, Permission
from tests.journals import NOON

SWITCH = KillSwitch(on=False, by=None, reason=None, at=None)


def record_of(name, *, kind=AccountType.PAID, hours=None, suspended=False, by="owner"):
    grant = Grant(
        id=GrantId(f"g-{name}"),
        account=AccountId(name),
        epoch=1,
        duration=Duration.DAY,
        permissions=frozenset({Permission.READ}),
        not_before=NOON,
        expires_at=None if hours is None else NOON + timedelta(hours=hours),
        given_by=by,
    )
    account = Account(id=AccountId(name), type=kind, suspended=suspended, epoch=1)
    return AccountRecord(account=account, grant=grant)


def anew(records, at):
    """Return what is to be shown, made from all of it."""
    live = [
        name for name, record in sorted(records.items()) if state(record.account, record.grant, at) is GrantState.ON
    ]
    trials = [name for name, record in sorted(records.items()) if record.account.type is AccountType.TRIAL]
    return live, trials


def shown(kept):
    allowed, trials = kept.show()
    return [one.account for one in allowed], list(trials)


async def test_whatever_changes_it_is_as_if_it_were_sorted_anew():
    """Accounts that come, go, become trials and back, are given longer or shorter, and time that goes by."""
    dice, kept, records, at = random.Random(7), AllowedNow(), {}, NOON  # noqa: S311 - repeatable, not secret
    for _ in range(600):
        name = AccountId(f"a{dice.randrange(40)}")
        if dice.random() < 0.2:
            records.pop(name, None)
            kept.put(name, None, at)
        else:
            kind = AccountType.TRIAL if dice.random() < 0.3 else AccountType.PAID
            records[name] = record_of(name, kind=kind, hours=dice.choice([None, *range(200)]))
            kept.put(name, records[name], at)
        at += timedelta(minutes=dice.randrange(30))
        kept.expire(at)
        assert anew(records, at) == shown(kept)
    fresh = AllowedNow()
    await fresh.read(records, at)
    assert shown(fresh) == shown(kept)


async def test_what_has_not_changed_is_not_made_again():
    """However many there are: who looks gets what the one before got, and that stays as it was."""
    kept = AllowedNow()
    await kept.read({AccountId(name): record_of(name) for name in "abc"}, NOON)
    before = kept.show()
    kept.expire(NOON + timedelta(days=1))
    assert before[0] is kept.show()[0]
    kept.put(AccountId("b"), None, NOON)
    assert (["a", "c"], []) == shown(kept)
    assert ["a", "b", "c"] == [one.account for one in before[0]]


async def scene_of(*names, **more):
    kept = AllowedNow()
    await kept.read({AccountId(name): record_of(name, **more) for name in names}, NOON)
    allowed, trials = kept.show()
    return Scene(at=NOON, position=1, switch=SWITCH, inside=(), allowed=allowed, trials=trials)


async def test_to_look_among_many_lets_requests_have_their_turn():
    """Reading and searching many accounts is done in slices; and without words there is nothing to look for."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    scene = await scene_of(*(f"account{number:05}" for number in range(10 * SLICE)))
    assert turns >= 10
    turns = 0
    assert ["account00007"] == [one.account for one in (await scene.about("OWNER t00007")).allowed]
    assert turns >= 10
    assert scene is await scene.about(" ")
    counting.cancel()


async def test_an_account_without_a_name_is_no_account():
    """Whoever is limited to it sees nothing, and not everything; and one name is not the beginning of another's."""
    scene = await scene_of("acme", "acme2", "globex")
    trials = replace(scene, trials=(AccountId("acme"), AccountId("tria")))
    assert scene is scene.narrowed(account=None)
    for account, allowed, trial in (("", [], []), ("acm", [], []), ("acme", ["acme"], ["acme"]), ("zz", [], [])):
        found = trials.narrowed(account=account)
        assert (allowed, trial) == ([one.account for one in found.allowed], list(found.trials))

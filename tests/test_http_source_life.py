"""What the app says becomes the account's life here: epochs, grants of their own, a history, and an end that bites."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.audit.log import JournalError
from gateway.grants.http_source import HttpSource
from gateway.grants.service import GrantService
from gateway.stores.store import StoreConflict, StoreError
from policy.grants import Change
from policy.model import Account, AccountId, AccountType, Duration, Permission
from policy.setting import Setting
from tests.app_world import OFF, on, open_app_world, opened, trial
from tests.forgery import NOON
from tests.live_world import caught_up
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import hold
from tests.upstream_client import eventually

ACME = AccountId("acme")
ON = Setting(duration=Duration.WEEK, expires_at=NOON + timedelta(days=7), permissions=frozenset({Permission.READ}))
OFF_SAID = Setting()


async def reason(world, token):
    world.clock.forward(seconds=3)
    status, _, body = await world.get(token)
    return status if status == 200 else body.decode().partition('"reason":"')[2].partition('"')[0]


async def history(world, account="acme"):
    return [str(event.change) for event in reversed(await world.gateway.store.list_changes(account))]


async def test_the_first_answer_adds_the_account(tmp_path):
    """Nobody has added it; it is in the store, in its history and on the record, by the app."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        assert 200 == (await world.get(token))[0]
        record = await world.gateway.store.find_account("acme")
        assert ("app", Duration.WEEK, 1) == (record.grant.given_by, record.grant.duration, record.account.epoch)
        assert world.clock.now + timedelta(days=7) == record.grant.expires_at
        [event] = await world.gateway.store.list_changes("acme")
        assert ("app", Change.ENABLED) == (event.by, event.change)
        assert 1 == len(world.records(kind="account", reason="added_paid", by="app", account="acme"))
        [given] = world.records(kind="grant", reason="enabled", granted_by="app", grant_id=record.grant.id)
        assert ("allow", ["read"], "week") == (given["decision"], given["permissions"], given["duration"])


async def test_an_account_that_the_app_does_not_know_is_none(tmp_path):
    """A 404 is an answer: no account, no token, nothing stored."""
    async with open_app_world(tmp_path) as world:
        status, document = await world.ask(account="nobody")
        assert (400, "unknown_account") == (status, document["reason"])
        assert None is await world.gateway.store.find_account("nobody")


async def test_off_and_on_again_kills_what_was_issued(tmp_path):
    """The new grant has an id of its own, so the token of the old one is worth nothing, though it has not expired."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        assert 200 == await reason(world, token)
        world.app.settings["acme"] = OFF
        assert "grant_revoked" == await reason(world, token)
        world.app.settings["acme"] = on(world.clock)
        assert "grant_revoked" == await reason(world, token)
        assert 200 == await reason(world, await world.token())
        assert ["enabled", "turned_off", "enabled"] == await history(world)


async def test_the_app_may_forget_an_account_and_find_it_again(tmp_path):
    """While it is gone nobody is let in, and what was issued before stays dead."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        setting = world.app.settings.pop("acme")
        assert "unknown_account" == await reason(world, token)
        world.app.settings["acme"] = setting
        assert "grant_revoked" == await reason(world, token)
        assert ["enabled", "turned_off", "enabled"] == await history(world)


async def test_changes_of_the_setting_are_changes_of_the_grant(tmp_path):
    """Longer, shorter, suspended and lifted: each has its line, none needs a new token, and the epoch goes up."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        for setting, expected in [
            (on(world.clock, "month", ends=timedelta(days=30)), 200),
            (on(world.clock, "day", ends=timedelta(hours=9)), 200),
            (on(world.clock, "always", ends=None), 200),
        ]:
            world.app.settings["acme"] = setting
            assert expected == await reason(world, token)
        assert ["enabled", "extended", "reduced", "extended"] == await history(world)
        assert 4 == (await world.gateway.store.find_account("acme")).account.epoch


async def test_the_answer_s_own_end_is_the_end(tmp_path):
    """It bites to the second, also while the app is away, and the grant is not stretched to its duration's name."""
    async with open_app_world(tmp_path) as world:
        world.app.settings["acme"] = on(world.clock, "year", ends=timedelta(seconds=61))
        token = await world.token()
        world.clock.forward(seconds=60)
        assert 200 == (await world.get(token))[0]
        # A change that is heard of only now would have the app asked once more, which is away then.
        await caught_up(world)
        assert 200 == (await world.get(token))[0]
        await world.app.stop()
        world.clock.forward(seconds=1)
        status, _, body = await world.get(token)
        assert 401 == status, "the token ends with the grant"
        assert b"token_expired" in body


async def test_an_end_that_is_over_is_off(tmp_path):
    """Whatever the other fields say."""
    async with open_app_world(tmp_path) as world:
        world.app.settings["acme"] = on(world.clock, ends=timedelta(0))
        status, document = await world.ask()
        assert (400, "grant_off") == (status, document["reason"])


async def test_trials_and_suspensions_come_from_the_same_answer(tmp_path):
    """A trial is assumable until it is converted, a suspended account never is; each is one line of history."""

    def fields(grants):
        grants["http"]["fields"] = {"suspended": "/security_settings/frozen"}

    async with open_app_world(tmp_path, change=fields) as world:
        world.app.settings["acme"] = trial() | {"frozen": False}
        token = await world.token()
        assert 200 == await reason(world, token)
        world.app.settings["acme"]["frozen"] = True
        assert "account_suspended" == await reason(world, token)
        world.app.settings["acme"]["frozen"] = False
        assert 200 == await reason(world, token)
        world.app.settings["acme"] = OFF | {"frozen": False}
        assert "grant_revoked" == await reason(world, token)
        world.app.settings["acme"] = on(world.clock, frozen=False)
        assert "grant_revoked" == await reason(world, token)
        world.app.settings["acme"] = trial() | {"frozen": False}
        assert "grant_revoked" == await reason(world, token), "another trial is not the first"
        assert 200 == await reason(world, await world.token())
        assert ["suspended", "resumed", "converted", "enabled", "enabled"] == await history(world)
        assert 1 == len(world.records(kind="account", reason="added_trial", by="app"))


async def test_an_open_stream_is_cut_though_nobody_tells(tmp_path):
    """The app is asked about what is open as often as facts grow old; no notice came."""
    released = asyncio.Event()

    def quick(document):
        document["grants"]["fact_ttl_seconds"] = 0.5

    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    script = lambda _request: hold(released, before=body)  # noqa: E731 - one line of a test
    async with open_app_world(tmp_path, script=script, server=quick, asks=True) as world:
        reader, writer = await opened(world, await world.token())
        world.app.settings["acme"] = OFF
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ConnectionResetError):
                while await reader.read(100):
                    pass
        writer.close()
        await eventually(lambda: world.ends(ended="cut", reason="grant_revoked"))
        [cut] = world.ends(ended="cut", reason="grant_revoked")
        assert "acme" == cut["account"]


async def test_an_open_stream_is_cut_when_the_app_is_gone(tmp_path):
    """What cannot be known any more is not permitted any more."""
    released = asyncio.Event()

    def quick(document):
        document["grants"]["fact_ttl_seconds"] = 0.5

    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    script = lambda _request: hold(released, before=body)  # noqa: E731 - one line of a test
    async with open_app_world(tmp_path, script=script, server=quick, asks=True) as world:
        reader, writer = await opened(world, await world.token())
        await world.app.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ConnectionResetError):
                while await reader.read(100):
                    pass
        writer.close()


# --- our own ways of changing it ---


async def test_the_grants_api_shows_it_and_changes_nothing(tmp_path):
    """GET asks the app; PUT says who keeps the setting."""
    async with open_app_world(tmp_path) as world:
        url = f"{world.gateway.admin_url}/api/v1/accounts/acme/assumption"
        async with world.http.get(url, headers={"Authorization": world.basic()}) as found:
            shown = await found.json()
        assert ("week", True, ["read"], 1) == tuple(
            shown[name] for name in ("assumption_duration", "assumable", "permissions", "epoch")
        )
        status, document = await world.choose("off")
        assert (409, "kept_by_app") == (status, document["reason"])
        assert "the app keeps this setting" in document["title"]
        assert 1 == (await world.gateway.store.find_account("acme")).account.epoch
        await world.app.stop()
        async with world.http.get(url, headers={"Authorization": world.basic()}) as found:
            assert (503, "1") == (found.status, found.headers["Retry-After"])


# --- faults of our own, and answers that cross ---


class Moody:
    """An audit log that can be told to fail: implements AuditLog."""

    def __init__(self):
        self.records, self.fails = [], False

    @property
    def healthy(self):
        return not self.fails

    async def append(self, record, *, durable=False):
        if self.fails:
            raise JournalError("full")
        self.records.append(record)


class Says:
    """What the app says, one answer after the other, the last for ever; an answer may wait, or be an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def ask(self, _account):
        self.asked += 1
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, tuple):
            said[0].set()
            await said[1].wait()
            said = said[2]
        if isinstance(said, StoreError):
            raise said
        return said


class Scene:
    """A source before a store and a journal in memory."""

    def __init__(self, *answers, store=None):
        self.store = store or MemoryStore()
        self.journal = Moody()
        self.told = []
        self.app = Says(*answers)
        self.service = GrantService(self.store, self.journal, accepted_roles=frozenset(), clock=lambda: NOON)
        self.source = self.another(self.app)

    def another(self, app):
        """Another worker's source before the same store."""
        return HttpSource(
            app,
            store=self.store,
            grants=self.service,
            is_account=lambda account: account == ACME,
            timeout_seconds=5,
            clock=lambda: NOON,
            changed=self.told.append,
        )


async def test_what_was_stored_is_never_the_answer():
    """With a live grant in the store and an app that does not answer, there is no answer."""
    scene = Scene(ON, StoreError("away"))
    assert (await scene.source.find_account(ACME)).grant.is_live(NOON)
    for _ in range(3):
        with pytest.raises(StoreError, match="away"):
            await scene.source.find_account(ACME)


async def test_power_that_cannot_be_recorded_is_not_given():
    """Neither a new grant nor a longer one nor a trial; what was there is no answer either, and nothing changed."""
    trial_said = Setting(type=AccountType.TRIAL, duration=Duration.ALWAYS)
    longer = replace(ON, expires_at=NOON + timedelta(days=30))
    wider = replace(ON, expires_at=NOON + timedelta(days=1), permissions=frozenset(Permission))
    for known in (True, False):
        for said in (ON, trial_said) if not known else (longer, wider, trial_said):
            scene = Scene(ON)
            if known:
                await scene.source.find_account(ACME)
            before = await scene.store.find_account(ACME)
            scene.app.answers = [said]
            scene.journal.fails = True
            with pytest.raises(StoreError, match="recorded"):
                await scene.source.find_account(ACME)
            assert before == await scene.store.find_account(ACME)


async def test_what_takes_power_does_not_wait_for_its_record():
    """Off, reduced and suspended are done at once, and are owed to the journal."""
    scene = Scene(
        ON, replace(ON, suspended=True), replace(ON, suspended=True, expires_at=NOON + timedelta(days=1)), OFF_SAID
    )
    await scene.source.find_account(ACME)
    scene.journal.fails = True
    epochs = [(await scene.source.find_account(ACME)).account.epoch for _ in range(2)]
    assert [2, 3] == epochs
    scene.app.answers = [Setting(suspended=True)]
    assert NOON == (await scene.source.find_account(ACME)).grant.revoked_at
    scene.journal.fails = False
    await scene.service.debts.settle()
    assert ["suspended", "reduced", "turned_off"] == [record.reason for record in scene.journal.records][-3:]


async def test_an_old_answer_never_undoes_a_newer_one():
    """One worker's question is slow; meanwhile another one's answer is stored: the slow one asks again."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    scene = Scene(ON)
    await scene.source.find_account(ACME)
    slow = Says((asked, go_on, replace(ON, expires_at=None, duration=Duration.ALWAYS)), OFF_SAID)
    waiting = asyncio.ensure_future(scene.another(slow).find_account(ACME))
    await asked.wait()
    scene.app.answers = [OFF_SAID]
    await scene.source.find_account(ACME)
    go_on.set()
    found = await waiting
    assert (NOON, 2, 2) == (found.grant.revoked_at, found.account.epoch, slow.asked)
    assert [Change.TURNED_OFF, Change.ENABLED] == [event.change for event in await scene.store.list_changes(ACME)]


async def test_many_workers_agree_on_one_grant():
    """Twenty at once meet the account for the first time: one grant, one line of history, the same answer for all."""
    scene = Scene(ON)
    sources = [scene.another(Says(ON)) for _ in range(20)]
    found = await asyncio.gather(*(source.find_account(ACME) for source in sources), return_exceptions=True)
    records = [one for one in found if not isinstance(one, StoreError)]
    assert records
    assert 1 == len({record.grant.id for record in records if record.grant is not None})
    assert [Change.ENABLED] == [event.change for event in await scene.store.list_changes(ACME)]
    assert await sources[0].find_account(ACME) == await scene.source.find_account(ACME)


class Restless(MemoryStore):
    """Everything was changed by somebody else, every time."""

    async def save_change(self, change, *, by, at):
        raise StoreConflict("meanwhile")


async def test_an_account_that_never_rests_is_not_waited_for():
    """After three tries there is no answer, rather than one that may be old."""
    store = Restless()
    await store.add_account(Account(id=ACME, type=AccountType.PAID))
    scene = Scene(ON, store=store)
    with pytest.raises(StoreError, match="all the time"):
        await scene.source.find_account(ACME)
    assert 3 == scene.app.asked


async def test_a_store_that_cannot_keep_it_keeps_staff_out():
    """An answer that is not stored has no epoch, and does not count."""
    scene = Scene(ON)
    scene.store.fail_with = StoreError("disk")
    with pytest.raises(StoreError, match="disk"):
        await scene.source.find_account(ACME)
    assert 0 == scene.app.asked


async def test_what_is_open_here_hears_of_each_change():
    """Step by step, with what holds after each; the same answer again tells nobody."""
    scene = Scene(ON, ON, OFF_SAID, OFF_SAID)
    for _ in range(4):
        await scene.source.find_account(ACME)
    assert [1, 2] == [record.account.epoch for record in scene.told]
    assert [None, NOON] == [record.grant.revoked_at for record in scene.told]


async def test_nobody_else_s_answer_is_asked_for():
    """What can be no account is none, and the app hears nothing of it."""
    scene = Scene(ON)
    assert None is await scene.source.find_account(AccountId("../admin"))
    assert 0 == scene.app.asked

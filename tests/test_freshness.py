"""Asking a source anew: what changed is cut here, and what is not known is told to everybody, push or no push."""

import asyncio
from datetime import timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.config.model import GrantsWebhook
from gateway.config.section import Secret
from gateway.grants.hooks import PATH, GrantHook
from gateway.grants.source import Freshness
from gateway.stores.store import StoreError
from tests.app_world import SECRET, signed
from tests.follow_scene import FollowScene, until
from tests.forgery import NOON
from tests.test_http_source_life import ACME, OFF_SAID, ON, Says, Scene


class Source:
    """The store, unless it is told to fail."""

    def __init__(self, store):
        self.store = store
        self.fails = False

    async def find_account(self, account):
        if self.fails:
            raise StoreError("the app is away")
        return await self.store.find_account(account)


@pytest.fixture
async def scene(tmp_path):
    """A worker that hears of no change by itself, with a stream open."""
    scene = FollowScene(tmp_path)
    await scene.furnish("acme", "other")
    await scene.open_up()
    scene.source = Source(scene.store)
    scene.facts.renew(("read",), scene.source.find_account)
    scene.fresh = Freshness(scene.source, store=scene.store, facts=scene.facts, live=scene.live)
    scene.streams = {account: await scene.stream(account) for account in ("acme", "other")}
    yield scene
    await scene.close()


async def test_what_others_stored_is_cut_here_too(scene):
    """Nothing is new to the store, but it is to us; others are told as well, who may have been asking before."""
    await scene.revoke()
    position = (await scene.store.read_changes(0)).position
    await scene.fresh.refresh("acme")
    assert ("grant_revoked", None) == (scene.streams["acme"].cut, scene.streams["other"].cut)
    assert "grant_revoked" == await scene.ask()
    assert ["acme"] == [change.account for change in (await scene.store.read_changes(position)).changes]


async def test_an_answer_from_before_is_stored_no_more(scene):
    """Another worker's question is slow; what was said since is what is stored, so nothing differs, and yet it counts."""
    app = Scene(OFF_SAID, store=scene.store)
    await app.source.find_account(ACME)
    asked, go_on = asyncio.Event(), asyncio.Event()
    slow = Says((asked, go_on, ON), OFF_SAID)
    waiting = asyncio.ensure_future(app.another(slow).find_account(ACME))
    await asked.wait()
    history = await scene.store.list_changes(ACME)
    await Freshness(app.source, store=scene.store, facts=scene.facts, live=scene.live).refresh(ACME)
    go_on.set()
    assert ("off", 2) == (state_of(await waiting), slow.asked)
    assert history == await scene.store.list_changes(ACME)


def state_of(record):
    return "off" if record.grant is None or record.grant.revoked_at is not None else "on"


async def test_what_is_not_known_is_cut_and_told(scene):
    """The account is named in the store, so that every process looks at it again; others are left alone."""
    position = (await scene.store.read_changes(0)).position
    scene.source.fails = True
    with pytest.raises(StoreError, match="away"):
        await scene.fresh.refresh("acme")
    assert ("store_unavailable", None) == (scene.streams["acme"].cut, scene.streams["other"].cut)
    assert ["acme"] == [change.account for change in (await scene.store.read_changes(position)).changes]
    with pytest.raises(StoreError):
        await scene.ask()


async def test_what_cannot_even_be_told_is_cut_here(scene):
    """The store is away as well."""
    scene.source.fails = True
    scene.store.fail_with = StoreError("disk")
    with pytest.raises(StoreError, match="disk"):
        await scene.fresh.refresh("acme")
    assert "store_unavailable" == scene.streams["acme"].cut


async def test_what_is_open_is_asked_about_again_and_again(scene):
    """One question for each account, however much is open of it; what changed is cut, and the look goes on."""
    more = [await scene.stream("acme") for _ in range(5)]
    scene.store.fetched.clear()
    following = asyncio.ensure_future(scene.fresh.follow(0.01))
    await until(lambda: scene.store.count("acme") >= 3)
    assert scene.store.count("acme") <= scene.store.count("other") + 1
    await scene.revoke()
    await until(lambda: scene.streams["acme"].cut)
    assert {"grant_revoked"} == {stream.cut for stream in more}
    assert None is scene.streams["other"].cut
    scene.source.fails = True
    await until(lambda: scene.streams["other"].cut)
    assert "store_unavailable" == scene.streams["other"].cut
    assert not following.done()
    following.cancel()


async def test_only_so_many_notices_are_remembered():
    """Beyond that they have to come again; what is out of its window makes room."""
    now = [NOON]
    heard = []

    async def refresh(account):
        heard.append(account)

    hook = GrantHook(
        GrantsWebhook(secret=Secret(SECRET)),
        refresh=refresh,
        is_account=lambda _account: True,
        clock=lambda: now[0],
        most_seen=3,
    )
    application = web.Application()
    application.add_routes(hook.routes())
    async with TestClient(TestServer(application)) as client:

        async def send(number):
            body = b'{"account": "a%d"}' % number
            async with client.post(PATH, data=body, headers=signed(body, at=now[0].timestamp())) as answer:
                return answer.status

        assert [204, 204, 204, 503, 409] == [await send(number) for number in (0, 1, 2, 3, 0)]
        now[0] = NOON + timedelta(seconds=300)
        assert 503 == await send(3), "the window has not ended yet"
        now[0] = NOON + timedelta(seconds=301)
        assert [204, 204] == [await send(number) for number in (3, 0)]
    assert ["a0", "a1", "a2", "a3", "a0"] == heard

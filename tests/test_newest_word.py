"""What the provider has told last of a person counts: at once, for all they have open, and no older token undoes it."""

import asyncio
import json

import pytest

from policy.model import ActorId
from tests.browser_world import open_browser
from tests.gateway_world import open_world
from tests.patience import within
from tests.provider_world import Browser, open_sign_in
from tests.rawwire import hold, response
from tests.test_reload import AT_ONCE, FIRST, LAST, half_way, line_to

POST = {"method": "POST", "body": b"x"}
REPLY = "/tickets/1/reply"
BOTH = "tickets:read tickets:write"


def ruled(document):
    document["staff"]["rules"] = [
        {"group": "support", "permissions": ["read", "write"]},
        {"group": "viewers", "permissions": ["read"]},
    ]


def slow_events(request):
    slow = request.target.startswith(b"/events")
    return hold(asyncio.Event(), before=FIRST, after=LAST) if slow else response()


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path, change=ruled, script=slow_events) as world:
        assert 200 == (await world.choose("week", ["read", "write"]))[0]
        yield world


def told(world, *groups, subject="dana"):
    """A token that the provider issues a second later than whatever it issued before."""
    world.clock.forward(seconds=1)
    return world.actor_token(subject, groups=list(groups))


async def reason_at_the_door(world, token, *args, **options):
    status, _, body = await world.get(token, *args, **options)
    return None if status == 200 else json.loads(body)["reason"]


async def known(world, subject="dana"):
    return await world.gateway.store.find_staff(ActorId(issuer=world.issuer.issuer, subject=subject))


async def test_a_group_that_is_taken_away_ends_what_is_open(world):
    """The token that says so is refused; from then on so is each one from before, and what is open is cut."""
    token = await world.token(BOTH, actor_token=told(world, "support"))
    other = await world.token(actor_token=told(world, "support", subject="erin"))
    async with line_to(world) as line:
        await half_way(line, token, "/events")
        refused = await world.ask(actor_token=told(world))
        assert (400, "staff_not_allowed") == (refused[0], refused[1]["reason"])
        async with within(AT_ONCE):
            assert b"" == await line.rest()
    assert "staff_not_allowed" == await reason_at_the_door(world, token, REPLY, **POST)
    assert None is await reason_at_the_door(world, other)
    again = await world.token(BOTH, actor_token=told(world, "support"))
    assert [None, None] == [await reason_at_the_door(world, one, REPLY, **POST) for one in (again, token)]


async def test_what_is_told_counts_whatever_is_asked_for(world):
    """A group less is a group less, also if nothing was begun with that token because it asked for too much."""
    token = await world.token(BOTH, actor_token=told(world, "support"))
    status, document = await world.ask(actor_token=told(world, "viewers"), scope="tickets:write")
    assert (400, "permission_not_granted") == (status, document["reason"])
    assert "permission_not_granted" == await reason_at_the_door(world, token, REPLY, **POST)
    assert None is await reason_at_the_door(world, token)


async def test_an_older_token_brings_nothing_back(world):
    """It is judged by what is known since, and what is known stays."""
    old = told(world, "support")
    token = await world.token(BOTH, actor_token=old)
    await world.token(actor_token=told(world, "viewers"))
    asked = [await world.ask(actor_token=old, scope=scope) for scope in ("tickets:read", "tickets:write")]
    assert [200, 400] == [status for status, _ in asked]
    assert "permission_not_granted" == asked[1][1]["reason"]
    assert "permission_not_granted" == await reason_at_the_door(world, token, REPLY, **POST)
    await world.ask(actor_token=told(world))
    status, document = await world.ask(actor_token=old, scope="tickets:read")
    assert (400, "staff_not_allowed") == (status, document["reason"])
    assert "staff_not_allowed" == await reason_at_the_door(world, token)
    assert frozenset() == (await known(world)).groups


async def test_an_older_token_is_as_good_as_the_newest(world):
    """A group that was given since counts for it, as it does for what is open."""
    old = told(world, "viewers")
    token = await world.token(actor_token=told(world, "support"))
    assert 200 == (await world.ask(actor_token=old, scope=BOTH))[0]
    assert None is await reason_at_the_door(world, token)
    assert {"support"} == (await known(world)).groups


async def test_a_stranger_who_is_refused_leaves_nothing_behind(world):
    """Whoever the rules know nothing of is not written down, however often they come."""
    before = (await world.gateway.store.read_changes(0)).position
    for _ in range(3):
        status, document = await world.ask(actor_token=told(world, "visitors", subject="mallory"))
        assert (400, "staff_not_allowed") == (status, document["reason"])
    assert (None, before) == (
        await known(world, "mallory"),
        (await world.gateway.store.read_changes(0)).position,
    )


async def test_the_same_token_again_writes_nothing(world):
    """However often a refused token comes, the store has heard of it once."""
    await world.token(actor_token=told(world, "support"))
    refused = told(world)
    await world.ask(actor_token=refused)
    before = (await world.gateway.store.read_changes(0)).position
    for _ in range(3):
        assert 400 == (await world.ask(actor_token=refused))[0]
    assert before == (await world.gateway.store.read_changes(0)).position


async def test_a_lock_and_a_sign_out_outlive_a_newer_word(world):
    """Nothing that a token says lifts them."""
    dana = ActorId(issuer=world.issuer.issuer, subject="dana")
    await world.token(actor_token=told(world, "support"))
    store, now = world.gateway.store, world.clock.now
    await store.disable_staff(dana, disabled=True)
    await store.sign_out(dana, since=now, at=now)
    assert 400 == (await world.ask(actor_token=told(world)))[0]
    assert (True, now, frozenset()) == (
        (found := await known(world)).disabled,
        found.signed_out_at,
        found.groups,
    )


async def test_a_browser_of_before_ends_with_the_group(tmp_path):
    """Its session begins nothing any more, and what it holds is worth nothing, from the next request on."""
    async with open_browser(tmp_path, change=ruled) as browser:
        assert 200 == (await browser.ask()).status
        home = await browser.home()
        form = home.text.partition('name="form_token" value="')[2].partition('"')[0]
        assert 400 == (await browser.world.ask(actor_token=told(browser.world)))[0]
        held = await browser.ask("/tickets/1", "Accept: application/json")
        assert (403, "staff_not_allowed") == (held.status, json.loads(held.body)["reason"])
        begun = await browser.begin(token=form)
        assert (403, True) == (begun.status, "staff_not_allowed" in begun.text)
        assert 403 == (await browser.home()).status


async def test_a_refused_sign_in_with_a_browser_ends_what_is_open(tmp_path):
    """What the provider says to the callback is its word as well, for tokens and for another browser's session."""
    async with open_sign_in(tmp_path, change=ruled) as world:
        await world.choose("week", ["read", "write"])
        token = await world.token(actor_token=told(world, "support"))
        elsewhere = Browser(world)
        world.clock.forward(seconds=1)
        assert 303 == (await elsewhere.sign_in()).status
        assert None is await reason_at_the_door(world, token)
        world.clock.forward(seconds=1)
        refused = await Browser(world).sign_in(groups=[])
        assert (403, True) == (refused.status, "staff_not_allowed" in refused.text)
        assert "staff_not_allowed" == await reason_at_the_door(world, token)
        assert 403 == (await elsewhere.send()).status

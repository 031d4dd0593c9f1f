"""Bounds that hold for what is sent at once: on asking, on beginning, and on what one person puts on the record."""

import asyncio
from datetime import timedelta

from gateway.audit.writing.strangers import AT_ONCE_OF_PERSON, Persons
from gateway.devices.guesses import Tries
from gateway.grants.service import ChangeRequest
from gateway.keyed_locks import KeyedLocks
from gateway.stores.request_room import Room
from policy.asking import RequestRefusal, RequestState
from policy.grants import Change
from policy.model import Duration, Permission
from tests.asking_world import OWNER, Desk, Notes
from tests.browser_world import open_browser
from tests.gateway_world import open_world
from tests.journals import Ticks
from tests.test_stand_in import by_region, listed, text_of
from tests.test_stand_in_asking import ask

TESTING = Permission.TEST_TICKETS
ASKED = ("grant_request", "allow", "asked")


async def test_of_many_who_ask_at_once_no_more_are_recorded_as_asked_than_there_is_room():
    """What is recorded is told to the customer at once, so taking it back would come too late."""
    desk = await Desk(room=Room(per_staff_and_account=3, per_account=5, per_staff=50)).open("acme", "globex")
    people = [desk.person(name) for name in ("dana", "kim", "lee")]
    asks = [desk.ask("test_tickets", person=one, ticket=f"T-{n}") for n in range(10) for one in people]
    outcomes = await asyncio.gather(*asks, desk.ask("test_tickets", account="globex"))
    assert 6 == sum(not isinstance(one, RequestRefusal) for one in outcomes)
    assert (6, 5) == (desk.journal.said.count(ASKED), len(await desk.waiting()))
    assert [] == [one for one in desk.journal.records if one.decision == "deny" and one.grant_request]


async def test_of_many_who_ask_several_accounts_at_once_the_bound_of_a_person_holds_too():
    """Each account has a line of its own, and so has each person."""
    accounts = [f"a{n}" for n in range(8)]
    desk = await Desk(room=Room(per_staff_and_account=3, per_account=5, per_staff=4)).open(*accounts)
    outcomes = await asyncio.gather(*(desk.ask("test_tickets", account=one) for one in accounts * 2))
    assert 4 == desk.journal.said.count(ASKED) == sum(not isinstance(one, RequestRefusal) for one in outcomes)


async def test_of_many_that_begin_at_once_no_more_are_recorded_than_may_be_open(tmp_path):
    """An account would be told of each that something has begun there."""
    async with open_world(tmp_path, change=lambda document: document["staff"].update(max_assumptions=3)) as world:
        await world.choose("week")
        asked = await asyncio.gather(*(world.ask(scope="tickets:read") for _ in range(12)))
        assert [200] * 3 + [400] * 9 == sorted(status for status, _ in asked)
        assert 3 == len(world.records(kind="token", decision="allow"))
        assert 9 == len(world.records(kind="token", reason="too_many_assumptions"))


async def test_locks_of_keys_are_forgotten():
    """Whoever holds one keeps out who names the same key; what nobody holds is not kept."""
    locks, said = KeyedLocks(), []

    async def work(name, *keys):
        async with locks.held(*keys):
            said.append(name)
            await asyncio.sleep(0)
            said.append(name)

    await asyncio.gather(work("a", 1, 2), work("b", 1, 3), work("c", 4))
    assert said.index("b") > len(said) - 1 - said[::-1].index("a"), "b has waited for a"
    assert 0 == len(locks._locks)


async def test_refused_wishes_do_not_fill_the_accounts_log():
    """Of somebody who may not even know the account as little as of anybody: some are on the record, the rest counted."""
    desk = await Desk(room=Room()).open()
    eve = desk.person("eve", "europe")
    for _ in range(AT_ONCE_OF_PERSON + 50):
        assert RequestRefusal.UNKNOWN_ACCOUNT is await desk.ask(person=eve, reason="sign in at evil.example")
    refused = [one for one in desk.journal.records if one.account == "acme"]
    assert AT_ONCE_OF_PERSON <= len(refused) < AT_ONCE_OF_PERSON + 50
    kim = await desk.ask(person=desk.person("kim", "sales"))
    assert (RequestRefusal.UNKNOWN_ACCOUNT, "kim") == (kim, desk.journal.records[-1].actor.subject), "a share each"


async def test_of_a_flood_of_one_person_it_is_recorded_how_many_there_were():
    """With the kind and the reason, and without an account, whose log it would only fill."""
    desk, notes = await Desk(room=Room()).open(), Notes()
    ticks = Ticks()
    persons = Persons(notes, ticks=ticks)
    desk.requests._persons = persons
    for _ in range(AT_ONCE_OF_PERSON + 7):
        await desk.ask(person=desk.person("eve", "europe"))
    persons.say()
    # One record, or two where a second has gone by.
    counted = notes.records[AT_ONCE_OF_PERSON:]
    assert {("grant_request", "unknown_account", None)} == {(one.kind, one.reason, one.account) for one in counted}
    assert 7 == sum(one.count for one in counted)
    ticks.now += 60
    await desk.ask(person=desk.person("eve", "europe"))
    assert "eve" == notes.records[-1].actor.subject, "one comes back in a minute"


async def test_an_approval_that_changes_nothing_is_taken_back_if_it_came_too_late():
    """On the record, and in the answer: somebody else has answered, or turned it off, while it was recorded."""
    desk = await Desk().open()
    await desk.approve(await desk.ask("test_tickets"), Duration.ALWAYS, TESTING)
    asked = await desk.ask("write", person=desk.person("lee", "leads"))
    epoch = (await desk.store.find_account("acme")).account.epoch
    desk.journal.when_appended = lambda: desk.decline(asked)
    outcome = await desk.approve(asked, Duration.ALWAYS, TESTING, keeps_end=True, known_epoch=epoch)
    assert (RequestRefusal.REQUEST_DECLINED, ("grant", "deny", "overtaken")) == (outcome, desk.journal.said[-1])

    asked = await desk.ask("write", person=desk.person("lee", "leads"))
    off = ChangeRequest(
        account="acme", duration=Duration.OFF, permissions=frozenset(), administrator=OWNER, client=None
    )
    desk.journal.when_appended = lambda: desk.grants.choose(off)
    outcome = await desk.approve(asked, Duration.ALWAYS, TESTING, keeps_end=True, known_epoch=epoch)
    assert (RequestRefusal.OVERTAKEN, ("grant", "deny", "overtaken")) == (outcome, desk.journal.said[-1])
    assert RequestState.WAITING is (await desk.store.find_grant_request(asked.id)).answer


async def test_an_approval_that_changes_nothing_is_done_once_though_its_answer_is_lost():
    """The request is answered under the account's epoch, which stays."""
    desk = await Desk().open()
    await desk.approve(await desk.ask("test_tickets"), Duration.ALWAYS, TESTING)
    asked = await desk.ask("write", person=desk.person("lee", "leads"))
    outcome = await desk.approve(asked, Duration.ALWAYS, TESTING, keeps_end=True)
    assert (Change.UNCHANGED, RequestState.APPROVED) == (
        outcome.change,
        (await desk.store.find_grant_request(asked.id)).answer,
    )
    assert "deny" not in [one.decision for one in desk.journal.records]


async def test_asking_counts_as_a_look_at_the_account(tmp_path):
    """Who has looked as often as one may in a minute asks nothing, and nothing is on the record."""
    async with open_browser(tmp_path, stand_in=False) as browser:
        world = browser.world
        await world.choose("off")
        await browser.sign_in()
        looks = Tries(
            world.gateway.store,
            lambda: world.clock.now,
            what="accounts looked for",
            most=120,
            within=timedelta(minutes=1),
        )
        while await looks.take(f"{world.issuer.issuer}\0dana"):
            pass
        page = await ask(browser)
        assert (429, True) == (page.status, "very often within a minute" in page.text)
        assert "SUP-7" in page.text, "what was typed is still there"
        assert [] == world.records(kind="grant_request")
        world.clock.forward(minutes=1)
        assert 303 == (await ask(browser)).status


async def test_where_a_list_goes_on_is_an_account_that_was_shown(tmp_path):
    """Behind one that they may not know, or that is not there, nobody looks: it would tell where hidden ids lie."""
    async with open_browser(tmp_path, stand_in=False, change=by_region) as browser:
        for name in ("axe", "axis", "axle"):
            await browser.world.add_account(name, attributes=frozenset({("region", "eu")} if name != "axis" else ()))
        await browser.sign_in()
        first = await browser.home("?account=ax&list=1")
        assert ["axe", "axle"] == listed(first)
        assert ["axle"] == listed(await browser.home("?account=ax&list=1&after=axe"))
        for hidden in ("axis", "axf", "axz"):
            page = await browser.home(f"?account=ax&list=1&after={hidden}")
            assert text_of(first) == text_of(page), hidden

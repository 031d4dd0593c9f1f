"""When something is broken, an administrator can take power away still, gives none, and is told what happened."""

import pytest

from gateway.config.load import build
from tests.console_world import FIELDS, PATH, console, open_customer
from tests.gateway_world import document
from tests.rawwire import then_close


@pytest.fixture
async def olivia(tmp_path):
    async with open_customer(tmp_path) as customer:
        yield customer


async def test_without_the_journal_nothing_is_given_and_everything_can_be_taken_back(olivia):
    """Extending is refused and did not happen; ending and turning off are done, and owed to the journal."""
    await olivia.choose("day")
    token = await olivia.world.token()
    form = await olivia.form()
    [one] = await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now)
    await olivia.world.gateway.journal.close()
    answer = await olivia.choose("year", form=form)
    assert (503, True) == (answer.status, "could not be recorded" in answer.text)
    assert "day" == (await olivia.grant()).duration
    assert 303 == (await olivia.do("end", form=form, assumption=one.id)).status
    assert [] == await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now)
    assert 303 == (await olivia.do("off", form=form)).status
    assert None is not (await olivia.grant()).revoked_at
    assert (await olivia.world.get(token))[0] in (403, 503)


async def test_without_the_store_it_is_said_and_customers_notice_nothing(olivia):
    """Neither page nor form pretends anything."""
    form = await olivia.form()
    await olivia.world.gateway.store.close()
    for answer in (await olivia.page(), await olivia.choose("day", form=form), await olivia.do("off", form=form)):
        assert (503, True) == (answer.status, "store_unavailable" in answer.text)
    assert 200 == (await olivia.ask("/tickets/1")).status


async def test_without_the_app_nobody_is_known(olivia):
    """It breaks off after the page was shown: nothing is changed on what it said before."""
    form = await olivia.form()
    olivia.world.app.answer = then_close(b"")
    answer = await olivia.choose("always", form=form)
    assert (503, True) == (answer.status, "could not be asked who you are" in answer.text)
    assert None is await olivia.grant()


async def test_a_reload_turns_the_page_on_and_off(tmp_path):
    """Nothing has to be restarted, and the roles of now count."""
    async with open_customer(tmp_path, change=lambda wanted: wanted.pop("console")) as olivia:
        world = olivia.world

        async def renew(change):
            wanted = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
            change(wanted)
            await world.gateway.renew(build(wanted, {}, base=world.directory))

        assert 404 == (await olivia.page()).status
        await renew(lambda wanted: console(wanted, fields=FIELDS))
        form = await olivia.form()

        def owners_only(wanted):
            console(wanted)
            wanted["grants"] = {"administrator_roles": ["owner"]}

        await renew(owners_only)
        assert [403, 403] == [(await olivia.page()).status, (await olivia.choose("day", form=form)).status]
        await renew(lambda _wanted: None)
        assert 404 == (await olivia.ask(f"{PATH}/live")).status

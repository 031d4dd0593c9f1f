"""Nobody keeps the disk and the mail relay busy with the account's forms; and taking power away is never too much."""

import pytest

from gateway.audit.writing.strangers import AT_ONCE_OF_ACCOUNT, AT_ONCE_OF_PERSON
from gateway.console.account.form_shares import ACCOUNT_MOST, PERSON_MOST, FormShares
from tests.console_world import BEN, OLIVIA, Customer, console, open_customer
from tests.telling_world import notices

NOTHING = {"form_token": "", "request": "nothing", "assumption": "nothing"}


@pytest.fixture
async def olivia(tmp_path):
    def change(document):
        # Who is there is asked once, so that the many forms are quick.
        console(document, remember_seconds=3.0)
        document["notices"] = notices()

    async with open_customer(tmp_path, change=change) as customer:
        yield customer


async def use_up(customer, form):
    """Send as many forms as one person may, none of which changes anything."""
    for _ in range(PERSON_MOST):
        answer = await customer.post("requests/decline", (NOTHING | {"form_token": form["form_token"]}).items())
        assert (404, True) == (answer.status, "request_unknown" in answer.text), answer.text


async def test_a_form_that_is_none_of_ours_is_told_so(olivia):
    """One that is longer than any of ours, and one whose number is longer than any number of ours: nothing is done."""
    form = await olivia.form()
    for more in ({"note": "x" * 9 * 1024}, {"epoch": "1" * 19}):
        answer = await olivia.post("setting", {**form, "duration": "year", **more}.items())
        assert (400, True) == (answer.status, "no form of ours" in answer.text), answer.text
    assert form["epoch"] == (await olivia.form())["epoch"]


async def test_one_person_has_so_many_and_one_more_after_a_while(olivia):
    """The setting, who is told, and both answers count together; what is too many does nothing and costs no record."""
    await olivia.world.choose()
    form = await olivia.form()
    await use_up(olivia, form)
    before = len(olivia.world.records())
    contacts = {"form_token": form["form_token"], "version": "0", "addresses": "eve@evil.example"}
    refused = [
        await olivia.choose("year", form=form),
        await olivia.post("contacts", contacts.items()),
        await olivia.do("requests/approve", form=form, epoch=form["epoch"], request="nothing", duration="year"),
        await olivia.do("requests/decline", form=form, request="nothing"),
    ]
    assert [(429, "60", True)] * 4 == [
        (answer.status, answer.headers["retry-after"], "nothing was done" in answer.text) for answer in refused
    ]
    assert ("day", before) == ((await olivia.grant()).duration, len(olivia.world.records()))
    olivia.world.clock.forward(seconds=6)
    assert [303, 429] == [(await olivia.choose("year", form=form)).status, (await olivia.choose(form=form)).status]


async def test_ending_and_turning_off_are_never_too_many(olivia):
    """However many forms were sent before."""
    await olivia.world.choose()
    form = await olivia.form()
    await use_up(olivia, form)
    assert 429 == (await olivia.choose("year", form=form)).status
    for name in ("end", "end-all"):
        await olivia.world.token()
        [one] = await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now)
        more = {"assumption": one.id} if name == "end" else {}
        assert 303 == (await olivia.do(name, form=form, **more)).status
        assert [] == list(await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now))
    assert 303 == (await olivia.do("off", form=form)).status
    assert None is not (await olivia.grant()).revoked_at


async def test_one_who_used_up_a_share_leaves_others_theirs(olivia):
    """Somebody else of the account, and another account, have shares of their own."""
    await use_up(olivia, await olivia.form())
    olivia.world.app.people["s-omar"] = OLIVIA | {"id": 10, "name": "Omar"}
    for other in (Customer(olivia.world, session="s-omar"), Customer(olivia.world, session="s-gina", account="globex")):
        assert 303 == (await other.choose("day")).status


async def test_an_agent_who_may_end_nothing_cannot_fill_the_record(olivia):
    """Each refusal of theirs is on the record, so there are no more of them than forms."""
    await olivia.world.choose()
    olivia.world.app.people["s-ben"] = OLIVIA | {"id": BEN["id"]}
    ben = Customer(olivia.world, session="s-ben")
    form = await ben.form()
    olivia.world.app.people["s-ben"] = BEN
    statuses = [(await ben.do("off", form=form)).status for _ in range(PERSON_MOST + 2)]
    assert [403] * PERSON_MOST + [429] * 2 == statuses
    assert PERSON_MOST == len([one for one in olivia.world.records() if one.get("reason") == "not_administrator"])


async def test_made_up_administrators_of_one_account_bury_nobody_elses_refusals(olivia):
    """The attack: an app, or a provider, that names another person for each few forms that are not from our pages."""
    people = olivia.world.app.people
    for number in range(AT_ONCE_OF_ACCOUNT // AT_ONCE_OF_PERSON + 2):
        mallory = Customer(olivia.world, session=f"s-{number}")
        people[mallory.session] = OLIVIA | {"id": f"made up {number}"}
        assert {403} == {(await mallory.post("off", site="cross-site")).status for _ in range(AT_ONCE_OF_PERSON)}
    assert AT_ONCE_OF_ACCOUNT == len([one for one in olivia.world.records() if one.get("reason") == "cross_site"])
    gina = Customer(olivia.world, session="s-gina", account="globex")
    assert 403 == (await gina.post("off", [("form_token", "x")])).status
    [record] = olivia.world.records(account="globex", reason="cross_site")
    assert "9" == record["by"]


def test_an_account_has_a_share_for_all_of_its_people():
    """Whoever makes people up in their own app has no more by that; nothing is kept of who has not come for long."""

    class Visiting:
        def __init__(self, person, account="acme"):
            self.account, self.administrator = account, self
            self.id = person

    now = 0.0
    shares = FormShares(lambda: now)
    assert ACCOUNT_MOST == sum(shares.take(Visiting(f"p{number}")) for number in range(2 * ACCOUNT_MOST))
    assert shares.take(Visiting("p", "globex"))
    now = 2.0
    assert [True, False] == [shares.take(Visiting("p")), shares.take(Visiting("p"))]
    for number in range(5000):
        now += 100
        assert shares.take(Visiting("p", f"a{number}"))
    assert 1100 > len(shares._shares)

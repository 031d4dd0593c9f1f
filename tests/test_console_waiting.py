"""What staff ask for, on the account's page: an administrator approves for a chosen time or declines, and nobody else."""

import asyncio
import re
from datetime import timedelta

import pytest

from gateway.stores.request_room import Room
from policy.asking import MOST_WAITING, GrantRequest, GrantRequestId, RequestState
from policy.model import AccountId, AccountType, ActorId, Duration, Permission, Staff
from tests.browser_world import ASSUMPTION, ISSUER, STAFF_HOST, Browser
from tests.console_world import BEN, OLIVIA, PATH, Customer, open_customer, who
from tests.live_world import caught_up

ROOM = Room(per_staff_and_account=500, per_account=500, per_staff=500)
DANA = ActorId("https://id.vendor.example", "dana")
READ, TESTING, WRITE = Permission.READ, Permission.TEST_TICKETS, Permission.WRITE
ANSWERS = ("requests/approve", "requests/decline")


@pytest.fixture
async def olivia(tmp_path):
    async with open_customer(tmp_path) as customer:
        yield customer


async def asks(customer, *permissions, number=1, account="acme", **changes):
    """Have Dana ask the account, as the service stores it."""
    now = customer.world.clock.now
    request = GrantRequest(
        **{
            "id": GrantRequestId(f"ask_{number}"),
            "account": AccountId(account),
            "actor": DANA,
            "name": "Dana",
            "permissions": frozenset({READ, *permissions}),
            "duration": Duration.WEEK,
            "ticket": f"SUP-{number}",
            "reason": "the export is empty",
            "asked_at": now,
            "expires_at": now + MOST_WAITING,
        }
        | changes
    )
    assert None is await customer.world.gateway.store.add_grant_request(request, room=ROOM)
    return request


async def answer(customer, name, request, *, form=None, **fields):
    sent = {"request": request.id, **(form or await customer.form())}
    permissions = fields.pop("permissions", ())
    if name == "approve":
        sent = {"duration": "day"} | sent | fields
    else:
        sent.pop("epoch", None)
    return await customer.post(f"requests/{name}", [*sent.items(), *(("permission", one) for one in permissions)])


async def stands(customer, request):
    return (await customer.world.gateway.store.find_grant_request(request.id)).answer


async def test_an_administrator_approves_for_a_chosen_time(olivia):
    """Not what was asked for is given but what was chosen; it is on the record, and nothing waits any more."""
    asked = await asks(olivia, TESTING)
    page = (await olivia.page()).text
    section = page[page.index("Waiting for your answer") : page.index("Who is in now")]
    for words in ("Dana", "asks for: <strong>look, test tickets</strong>, one week", "SUP-1", "the export is empty"):
        assert words in section
    assert re.search(r'value="test_tickets" checked>', section)
    assert re.search(r'value="week" checked', section)
    assert 5 == section.count('<span class="small">until '), "each duration says its end"
    done = await answer(olivia, "approve", asked, duration="day", permissions=["write"])
    assert (303, True) == (done.status, done.headers["location"].startswith(f"{PATH}?said=approved."))
    grant = await olivia.grant()
    assert ({READ, WRITE}, olivia.world.clock.now + timedelta(days=1), "7") == (
        grant.permissions, grant.expires_at, grant.given_by
    )  # fmt: skip
    [record] = olivia.world.records(kind="grant", reason="enabled")
    assert (asked.id, "SUP-1", "7", "console") == (
        record["grant_request"], record["ticket"], record["granted_by"], record["client_id"]
    )  # fmt: skip
    shown = await olivia.page(done.headers["location"].partition("account")[2])
    assert "Approved. What you have chosen counts from now on." in shown.text
    assert "Waiting for your answer" not in shown.text
    assert 200 == (await olivia.world.ask(scope="tickets:read"))[0]


async def test_from_the_question_to_the_work(olivia):
    """Staff are refused, ask on their page, the customer approves on theirs, and staff stand in: no more than was chosen."""
    dana = Browser(olivia.world)
    await dana.sign_in()
    assert 403 == (await dana.begin()).status
    token = re.search(r'name="form_token" value="([^"]+)"', (await dana.home("?account=acme")).text)[1]
    wish = {"account": "acme", "permission": "test_tickets", "duration": "year", "ticket": "SUP-1", "reason": "empty"}
    sent = await dana.post("/.locum/requests", {"form_token": token, **wish}.items(), host=STAFF_HOST, origin=ISSUER)
    assert 303 == sent.status, sent.text
    assert 403 == (await dana.begin()).status, "asking gives nothing"
    [asked] = await olivia.world.gateway.store.list_waiting("acme", at=olivia.world.clock.now)
    assert 303 == (await answer(olivia, "approve", asked, duration="day")).status
    await caught_up(olivia.world)
    assert 403 == (await dana.begin(scopes=("tickets:write:test",))).status
    await dana.stand_in()
    said = [(one["kind"], one["reason"]) for one in olivia.world.records(grant_request=asked.id)]
    assert [("grant_request", "asked"), ("grant", "enabled")] == said


async def test_an_administrator_declines(olivia):
    """Nothing is given, and the record says who said no to whom."""
    asked = await asks(olivia, WRITE)
    done = await answer(olivia, "decline", asked)
    assert (303, True) == (done.status, "said=declined." in done.headers["location"])
    assert (None, RequestState.DECLINED) == (await olivia.grant(), await stands(olivia, asked))
    [record] = olivia.world.records(kind="grant_request", reason="declined")
    assert ("7", "dana", "acme", asked.id, "console") == (
        record["by"], record["actor"]["subject"], record["account"], record["grant_request"], record["client_id"]
    )  # fmt: skip


async def test_what_is_on_is_neither_cut_nor_shortened_unless_that_is_chosen(olivia):
    """The form begins with the end as it is and all that the account allows; each shorter time says that it is."""
    await olivia.choose("year", ["write"])
    year = (await olivia.grant()).expires_at
    asked = await asks(olivia, TESTING)
    page = (await olivia.page()).text
    section = page[page.index("Waiting for your answer") : page.index("Who is in now")]
    assert re.search(r'value="keep" checked', section)
    assert ["test_tickets", "write"] == sorted(re.findall(r'value="(\w+)" checked>\n<span><strong>[TC]', section))
    assert 3 == section.count("shorter than now")
    await answer(olivia, "approve", asked, duration="keep", permissions=["test_tickets", "write"])
    grant = await olivia.grant()
    assert (year, {READ, WRITE, TESTING}) == (grant.expires_at, grant.permissions)
    again = await asks(olivia, TESTING, number=2)
    await answer(olivia, "approve", again, duration="day")
    assert olivia.world.clock.now + timedelta(days=1) == (await olivia.grant()).expires_at


async def test_more_time_is_what_the_form_begins_with_where_that_is_asked_for(olivia):
    """Of what the account allows already; a shorter time than it has is never the first choice."""
    await olivia.choose("day", ["test_tickets"])
    await asks(olivia, TESTING, duration=Duration.MONTH)
    section = (await olivia.page()).text.partition("Who is in now")[0]
    assert re.search(r'value="month" checked', section)
    await olivia.choose("year", ["test_tickets"])
    section = (await olivia.page()).text.partition("Who is in now")[0]
    assert re.search(r'value="keep" checked', section)


async def test_what_changed_since_the_page_was_shown_is_not_overwritten(olivia):
    """The account, by whomever; the request waits on, for a look at how it is."""
    asked, form = await asks(olivia, TESTING), await olivia.form()
    await olivia.world.choose("month", ("read", "write"))
    refused = await answer(olivia, "approve", asked, form=form)
    assert (409, True) == (refused.status, "The account has changed meanwhile" in refused.text)
    assert (Duration.MONTH, RequestState.WAITING) == ((await olivia.grant()).duration, await stands(olivia, asked))


@pytest.mark.parametrize("first", ["approve", "decline", "withdrawn", "expired"])
async def test_a_second_answer_is_told_of_the_first(olivia, first):
    """A form that is sent twice, by two administrators or late, does nothing more."""
    asked, form = await asks(olivia, TESTING), await olivia.form()
    store, now = olivia.world.gateway.store, olivia.world.clock.now
    if first == "withdrawn":
        await store.answer_grant_request(asked.id, RequestState.WITHDRAWN, by="dana", at=now)
    elif first == "expired":
        # Time also passes for the form's token, which is good for half a day.
        olivia.world.clock.forward(days=4)
        form = await olivia.form()
    else:
        await answer(olivia, first, asked, form=form)
    epoch = (await store.find_account("acme")).account.epoch
    said = {"approve": "approved already", "decline": "declined already", "withdrawn": "has withdrawn"}.get(first)
    for name in ("approve", "decline"):
        refused = await answer(olivia, name, asked, form=await olivia.form())
        assert (409, True) == (refused.status, (said or "waited too long") in refused.text), refused.text
    assert epoch == (await store.find_account("acme")).account.epoch


async def test_many_answers_at_once_are_one(olivia):
    """Ten forms of each kind: one leads back with its note, and the grant is its own."""
    asked, form = await asks(olivia, TESTING), await olivia.form()
    calls = [answer(olivia, name, asked, form=form) for name in ("approve", "decline") * 5]
    statuses = [done.status for done in await asyncio.gather(*calls)]
    assert {303: 1, 409: 9} == {status: statuses.count(status) for status in set(statuses)}
    grant, state = await olivia.grant(), await stands(olivia, asked)
    assert (grant is not None) == (state is RequestState.APPROVED)
    assert (1 if grant else 0) == len(await olivia.world.gateway.store.list_changes("acme"))


async def test_a_request_can_only_be_declined_once_the_vendor_has_locked_out_who_asked(olivia):
    """It is shown, for it takes room, and cannot be approved, not even by a form that was shown before."""
    asked, form = await asks(olivia, TESTING), await olivia.form()
    store = olivia.world.gateway.store
    await store.save_staff(Staff(id=DANA, name="Dana", permissions=frozenset()), at=olivia.world.clock.now)
    await store.disable_staff(DANA, disabled=True)
    page = (await olivia.page()).text
    assert ("locked out whoever asked" in page, "requests/approve" in page) == (True, False)
    refused = await answer(olivia, "approve", asked, form=form)
    assert (409, None) == (refused.status, await olivia.grant())
    assert 303 == (await answer(olivia, "decline", asked)).status
    assert "Waiting for your answer" not in (await olivia.page()).text


async def test_a_trial_and_a_suspended_account_approve_nothing(tmp_path):
    """They see what waits, and may decline it."""
    async with open_customer(tmp_path, account=None, accounts=()) as olivia:
        await olivia.world.add_account("acme", AccountType.TRIAL)
        asked = await asks(olivia, TESTING)
        page = await olivia.page()
        assert "This cannot be approved while the account is as it is now." in page.text
        assert "requests/approve" not in page.text
        token = re.search(r'name="form_token" value="([^"]+)"', page.text)[1]
        form = {"form_token": token, "epoch": "0"}
        assert 409 == (await answer(olivia, "approve", asked, form=form)).status
        assert (None, 303) == (await olivia.grant(), (await answer(olivia, "decline", asked, form=form)).status)


async def test_where_the_app_keeps_the_setting_nothing_is_approved_here(tmp_path):
    """What waits from before is shown with where to change it, and can be declined."""
    off = {"security_settings": {"assumable": False, "assumption_duration": "off", "assumption_expiration": None}}
    off["security_settings"]["assumable_account_type"] = False

    def change(document):
        url = document["upstream"]["url"] + "/accounts/{account}/settings"
        document["grants"] = {"source": "http", "http": {"url": url}}

    async with open_customer(tmp_path, change=change, account=None, accounts=()) as olivia:
        olivia.world.app.setting = who(off)
        await olivia.page()
        asked = await asks(olivia, TESTING)
        page = await olivia.page()
        assert "The app keeps this setting: to allow it, change it there" in page.text
        assert "requests/approve" not in page.text
        form = {"form_token": re.search(r'name="form_token" value="([^"]+)"', page.text)[1], "epoch": "1"}
        refused = await answer(olivia, "approve", asked, form=form)
        assert (409, True) == (refused.status, "kept_by_app" in refused.text)
        assert 303 == (await answer(olivia, "decline", asked, form=form)).status


# Attacks.


async def test_another_accounts_administrator_answers_nothing(olivia):
    """Neither at their own host with acme's id, nor at acme's host; and is told nothing of it."""
    asked = await asks(olivia, WRITE)
    gina = Customer(olivia.world, session="s-gina", account="globex")
    form = await gina.form()
    for name in ("approve", "decline"):
        refused = await answer(gina, name, asked, form=form)
        assert (404, True) == (refused.status, "There is no such request." in refused.text)
        sent = {"request": asked.id, "duration": "day", **form}
        there = await gina.post(f"requests/{name}", sent.items(), host=olivia.host)
        assert 403 == there.status
    assert "SUP-1" not in (await gina.page()).text
    assert (None, RequestState.WAITING) == (await olivia.grant(), await stands(olivia, asked))
    assert None is await gina.grant()


async def test_whoever_is_no_administrator_answers_nothing(olivia):
    """Not even with an administrator's form; and it is on the record."""
    asked, form = await asks(olivia, WRITE), await olivia.form()
    ben = Customer(olivia.world, session="s-ben")
    assert 403 == (await ben.page()).status
    for name in ("approve", "decline"):
        assert 403 == (await answer(ben, name, asked, form=form)).status
    # Somebody who has just lost the role has a good token still.
    olivia.world.app.people["s-olivia"] = OLIVIA | {"roles": BEN["roles"]}
    for name in ("approve", "decline"):
        assert 403 == (await answer(olivia, name, asked, form=form)).status
    assert 2 == len(olivia.world.records(decision="deny", reason="not_administrator", grant_request=asked.id))
    assert (None, RequestState.WAITING) == (await olivia.grant(), await stands(olivia, asked))


@pytest.mark.parametrize("how", ["both cookies", "a token", "the app says so"])
async def test_staff_who_stand_in_approve_nothing(olivia, how):
    """The one who asked least of all: with the assumption's cookie, a token, or a session of the app's they were given."""
    await olivia.choose("week", ["write"])
    form = await olivia.form()
    staff = Browser(olivia.world)
    await staff.stand_in()
    asked = await asks(olivia, TESTING, WRITE, duration=Duration.ALWAYS)
    cookie, lines = "session=s-olivia", ()
    if how == "both cookies":
        cookie += f"; {ASSUMPTION}={staff.held}"
    elif how == "a token":
        lines = (f"Authorization: Bearer {await olivia.world.token(detail={'ticket': 'SUP-9'})}",)
    else:
        olivia.world.app.people["s-taken"] = OLIVIA | {"act": {"sub": "dana"}}
        cookie = "session=s-taken"
    before = (await olivia.world.gateway.store.find_account("acme")).account.epoch
    fields = {**form, "request": asked.id, "duration": "always", "permission": "write"}
    for name in ANSWERS:
        refused = await olivia.post(name, fields.items(), *lines, cookie=cookie)
        assert 403 == refused.status, refused.text
    assert before == (await olivia.world.gateway.store.find_account("acme")).account.epoch
    assert RequestState.WAITING is await stands(olivia, asked)


async def test_no_other_site_answers_and_no_link_does(olivia):
    """Origin, Sec-Fetch-Site and the form's token are each looked at; nothing is answered by GET."""
    asked, form = await asks(olivia, TESTING), await olivia.form()
    fields = {**form, "request": asked.id, "duration": "day"}
    for name in ANSWERS:
        for more in ({"origin": "https://evil.example"}, {"origin": ""}, {"site": "cross-site"}, {"site": "same-site"}):
            assert 403 == (await olivia.post(name, fields.items(), **more)).status
        assert 403 == (await olivia.post(name, (fields | {"form_token": "x" * 43}).items())).status
        assert (await olivia.ask(f"{PATH}/{name}?request={asked.id}&form_token={form['form_token']}")).status in (
            404,
            405,
        )
    assert (None, RequestState.WAITING) == (await olivia.grant(), await stands(olivia, asked))


BAD = {
    "no request": lambda fields: [pair for pair in fields if pair[0] != "request"],
    "two requests": lambda fields: [*fields, ("request", "ask_2")],
    "no duration": lambda fields: [pair for pair in fields if pair[0] != "duration"],
    "off": lambda fields: [*(pair for pair in fields if pair[0] != "duration"), ("duration", "off")],
    "two durations": lambda fields: [*fields, ("duration", "always")],
    "another permission": lambda fields: [*fields, ("permission", "root")],
    "no epoch": lambda fields: [pair for pair in fields if pair[0] != "epoch"],
    "an odd epoch": lambda fields: [*(pair for pair in fields if pair[0] != "epoch"), ("epoch", "-1")],
}


async def test_a_form_that_is_none_of_ours_approves_nothing(olivia):
    """Whatever is missing, twice or unknown."""
    asked, form = await asks(olivia, TESTING), await olivia.form()
    for what, spoil in BAD.items():
        fields = spoil([*form.items(), ("request", asked.id), ("duration", "day")])
        assert 400 == (await olivia.post("requests/approve", fields)).status, what
    assert (None, RequestState.WAITING) == (await olivia.grant(), await stands(olivia, asked))


async def test_hostile_words_are_shown_as_words(olivia):
    """Markup, quotes and marks that turn the reading direction are in an element of their own, and run nothing."""
    odd = "<script>alert(1)</script>\"'&\u202e{{7*7}}"
    await asks(olivia, TESTING, name=odd, ticket=odd, reason=odd * 20, actor=DANA._replace(subject=odd))
    page = (await olivia.page()).body.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "{{7*7}}" in page
    for found in re.finditer("\u202e", page):
        before = page[: found.start()]
        assert before.rfind("<bdi>") > before.rfind("</bdi>"), "it turns nothing but itself"


async def test_a_flood_does_not_bury_the_page(olivia):
    """The first fifty are shown, and how many more there are."""
    for number in range(60):
        await asks(olivia, TESTING, number=number)
    page = await olivia.page()
    assert 50 == page.text.count('action="/.locum/account/requests/decline"')
    assert "And 10 more" in page.text
    assert len(page.text) < 400_000


async def test_an_open_page_is_told_of_what_is_asked_and_answered(olivia):
    """Its mark is another one; once answered it is the old one again."""
    await caught_up(olivia.world)
    marks = [re.search(r"seen=(\w+)", (await olivia.page()).text)[1]]
    asked = await asks(olivia, TESTING)
    marks.append(re.search(r"seen=(\w+)", (await olivia.page()).text)[1])
    told = await olivia.ask(f"{PATH}/live?seen={marks[0]}", "Accept: text/event-stream")
    assert "event: changed" in told.text
    await answer(olivia, "decline", asked)
    marks.append(re.search(r"seen=(\w+)", (await olivia.page()).text)[1])
    assert marks[0] == marks[2] != marks[1]

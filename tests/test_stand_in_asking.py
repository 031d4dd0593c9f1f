"""Staff ask an account with the browser: the form, what waits, what was answered, and whom nobody lets ask."""

import re

import pytest

from policy.asking import RequestState
from policy.model import AccountType, ActorId
from tests.browser_world import ISSUER, STAFF_HOST, Browser, open_browser
from tests.test_stand_in import by_region, text_of, token_of
from tests.test_stand_in_refusals import inputs

ASK, WITHDRAW = "/.locum/requests", "/.locum/requests/withdraw"
WISH = {"account": "acme", "duration": "week", "ticket": "SUP-7", "reason": "the <b>export</b> fails"}


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, stand_in=False) as browser:
        await browser.world.choose("off")
        await browser.sign_in()
        yield browser


async def ask(
    browser, *, permissions=("test_tickets",), token=None, origin=ISSUER, host=STAFF_HOST, more=(), **changes
):
    token = token_of(await browser.home()) if token is None else token
    fields = [(name, value) for name, value in (WISH | changes).items() if value is not None]
    fields += [("permission", one) for one in permissions] + [("form_token", token), *more]
    return await browser.post(ASK, fields, host=host, origin=origin)


async def withdraw(browser, *requests, token=None, origin=ISSUER):
    token = token_of(await browser.home()) if token is None else token
    named = [("request", one) for one in requests]
    return await browser.post(WITHDRAW, [("form_token", token), *named], host=STAFF_HOST, origin=origin)


async def asked(browser, subject="dana"):
    store, now = browser.world.gateway.store, browser.world.clock.now
    return await store.list_asked(ActorId(browser.world.issuer.issuer, subject), since=now.replace(year=2000))


def waiting(page):
    return {*re.findall(r'name="request" value="([^"]+)"', page.text)}


async def test_a_customer_is_asked_and_the_page_says_that_it_waits(browser):
    """What for, how long, until when; with a button that takes it back, once, on the record."""
    page = await browser.home("?account=acme&ticket=SUP-7")
    assert 'action="/.locum/requests"' in page.text
    assert "SUP-7" == inputs(page)["ticket"]["value"]
    answer = await ask(browser)
    assert (303, "/.locum/?account=acme#asked") == (answer.status, answer.headers["location"])
    [request] = await asked(browser)
    assert ({"read", "test_tickets"}, "week", "SUP-7", "the <b>export</b> fails") == (
        {*request.permissions},
        request.duration,
        request.ticket,
        request.reason,
    )
    page = await browser.home("?account=acme")
    until = f"{request.expires_at:%Y-%m-%d %H:%M} UTC"
    assert f"For look, test tickets, one week. It waits for an answer until {until}" in text_of(page)
    assert ({request.id}, False, True) == (
        waiting(page),
        'action="/.locum/requests"' in page.text,
        "ask=1" in page.text,
    )
    assert b"<b>" not in page.body
    assert "Your requests acme Waiting Look, Test tickets, one week" in text_of(await browser.home())
    answer = await withdraw(browser, request.id)
    assert (303, "/.locum/#requests") == (answer.status, answer.headers["location"])
    assert ("withdrawn", set()) == ((await asked(browser))[0].answer, waiting(await browser.home()))
    again = await withdraw(browser, request.id)
    assert (409, True) == (again.status, "request_withdrawn" in again.text)
    kinds = [record["reason"] for record in browser.world.records(kind="grant_request")]
    assert ["asked", "withdrawn"] == kinds


async def test_what_the_customer_answered_is_said_with_when(browser):
    """Declined, approved with the way there, or nobody answered; for a week."""
    store, clock = browser.world.gateway.store, browser.world.clock
    for reason in ("one", "two", "three"):
        clock.forward(seconds=1)
        await ask(browser, reason=reason)
    third, second, first = await asked(browser)
    await store.answer_grant_request(first.id, RequestState.APPROVED, by="olivia", at=clock.now)
    await store.answer_grant_request(second.id, RequestState.DECLINED, by="olivia", at=clock.now)
    at = f"{clock.now:%Y-%m-%d %H:%M} UTC"
    page = await browser.home("?account=acme")
    assert f"acme : Declined by the customer {at}" in text_of(page)
    assert f"acme : Approved by the customer {at}" in text_of(page)
    assert 'href="/.locum/?account=acme&ticket=SUP-7">Stand in there' in page.text
    assert {third.id} == waiting(page)
    await withdraw(browser, third.id)
    assert "Withdrawn by you" in text_of(await browser.home())
    clock.forward(days=7)
    await browser.sign_in()
    page = await browser.home()
    assert "None. What you ask a customer for waits here until they answer." in text_of(page)
    await ask(browser, reason="four")
    clock.forward(days=4)
    await browser.sign_in()
    assert "acme : Over: nobody answered" in text_of(await browser.home())


async def test_a_no_is_said_at_the_account_until_one_asks_again(browser):
    """With when, above the form."""
    await ask(browser)
    [request] = await asked(browser)
    clock = browser.world.clock
    await browser.world.gateway.store.answer_grant_request(request.id, RequestState.DECLINED, by="o", at=clock.now)
    page = await browser.home("?account=acme")
    said = f"Declined by the customer {clock.now:%Y-%m-%d %H:%M} UTC : look, test tickets, one week."
    assert (True, True) == (said in text_of(page), 'action="/.locum/requests"' in page.text)
    clock.forward(seconds=1)
    await ask(browser)
    assert said not in text_of(await browser.home("?account=acme"))


async def test_of_an_open_account_one_asks_for_more(browser):
    """By a link beside the form to begin; ticked is what is allowed already."""
    await browser.world.choose("day", ["read", "test_tickets"])
    page = await browser.home("?account=acme")
    assert "Ask the customer for more, or for longer" in text_of(page)
    assert 'action="/.locum/requests"' not in page.text
    page = await browser.home("?account=acme&ask=1")
    assert 'action="/.locum/assumptions"' not in page.text
    ticks = dict(re.findall(r'name="permission" value="([^"]+)"([^>]*)', page.text))
    assert {"test_tickets": True, "write": False, "administrators": False} == {
        name: "checked" in rest for name, rest in ticks.items()
    }
    assert "disabled" in ticks["administrators"], "the vendor's rules do not let this person"
    answer = await ask(browser, permissions=["test_tickets"], duration="day")
    assert (403, True) == (answer.status, "already_allowed" in answer.text)
    assert 303 == (await ask(browser, permissions=["write"], duration="day")).status


REFUSED = {
    "no ticket": ({"ticket": " "}, 400, "ticket", "ticket_missing"),
    "no reason": ({"reason": ""}, 400, "reason", "reason_missing"),
    "more than they may": ({"permissions": ["administrators"]}, 403, "permissions", "permission_not_allowed"),
    "a permission that is none": ({"permissions": ["everything"]}, 400, "", "exchange_malformed"),
    "no duration that there is": ({"duration": "century"}, 400, "", "exchange_malformed"),
    "off": ({"duration": "off"}, 400, "", "exchange_malformed"),
    "two lines": ({"reason": "a\nb"}, 400, "", "exchange_malformed"),
    "a trial": ({"account": "trial"}, 403, "", "trial_account"),
    "a suspended one": ({"account": "shut"}, 403, "", "account_suspended"),
    "an unknown one": ({"account": "nobody"}, 403, "find", "unknown_account"),
    "no account's name": ({"account": "../x"}, 403, "find", "unknown_account"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_who_cannot_ask_is_told_why_at_the_form(browser, case):
    """What was typed is kept, and nobody is asked."""
    change, status, field, reason = REFUSED[case]
    await browser.world.add_account("trial", kind=AccountType.TRIAL)
    await browser.world.add_account("shut", suspended=True)
    page = await ask(browser, **change)
    assert (status, True, []) == (page.status, f"{reason} · req_" in page.text, list(await asked(browser)))
    if field:
        assert f'id="{field}-wrong"' in page.text
    if "account" not in change:
        wanted = WISH | change
        assert wanted["ticket"].strip() == inputs(page)["ticket"]["value"]
        assert [wanted["duration"]] == re.findall(r'value="(\w+)" selected', page.text) or "duration" in change
    assert b"<b>" not in page.body


FORGED = {
    "another site's page": {"origin": "https://evil.example"},
    "no Origin": {"origin": ""},
    "a token of nobody's": {"token": "A" * 43},
    "no token": {"token": ""},
    "two tokens": {"more": [("form_token", "A" * 43)]},
    "two accounts": {"more": [("account", "other")]},
    "an account's host": {"host": "acme.helpdesk.example", "origin": "https://acme.helpdesk.example", "token": "x"},
}


@pytest.mark.parametrize("case", FORGED)
async def test_no_other_page_asks_a_customer(browser, case):
    """Nor withdraws what was asked."""
    browser.lax = False
    answer = await ask(browser, **FORGED[case])
    assert answer.status in (400, 403, 404)
    assert (0, "") == (len(await asked(browser)), answer.headers.get("location", ""))
    assert 303 == (await ask(browser)).status
    [request] = await asked(browser)
    for forged in ({"origin": "https://evil.example"}, {"token": "A" * 43}):
        assert 403 == (await withdraw(browser, request.id, **forged)).status
    assert {request.id} == waiting(await browser.home())


async def test_nobody_sees_or_withdraws_what_another_asked(browser):
    """Of that it is said as of one that there is not."""
    await ask(browser)
    [request] = await asked(browser)
    other = Browser(browser.world)
    await other.sign_in("erin")
    assert set() == waiting(await other.home("?account=acme"))
    answers = [await withdraw(other, *named) for named in ([request.id], ["ask_nobody"], [request.id] * 2, [])]
    assert {409} == {answer.status for answer in answers}
    assert 1 == len({re.sub(r"req_\w+", "", answer.text) for answer in answers})
    stranger = Browser(browser.world)
    assert 403 == (await withdraw(stranger, request.id, token=token_of(await browser.home()))).status
    assert 403 == (await ask(stranger, token=token_of(await browser.home()))).status
    assert "waiting" == (await asked(browser))[0].answer


async def test_an_account_where_one_may_not_stand_in_is_not_asked(tmp_path):
    """It is said as of one that nobody has, whatever else is wrong."""
    async with open_browser(tmp_path, stand_in=False, change=by_region) as browser:
        await browser.sign_in()
        await browser.world.add_account("corp-us")
        for change in ({}, {"ticket": ""}, {"permissions": ["administrators"]}):
            nobody, hidden = (
                await ask(browser, account="corp-xx", **change),
                await ask(browser, account="corp-us", **change),
            )
            texts = [re.sub(r"req_\w+", "", text_of(page)) for page in (nobody, hidden)]
            assert texts[0].replace("corp-xx", "") == texts[1].replace("corp-us", "")
            assert {403} == {nobody.status, hidden.status}
        assert [] == list(await asked(browser))


async def test_so_many_may_wait_of_one_person_in_an_account(browser):
    """One more is refused at the form, and kept."""
    for _ in range(3):
        assert 303 == (await ask(browser)).status
    page = await ask(browser, reason="once more")
    assert (403, "once more", 3) == (page.status, inputs(page)["reason"]["value"], len(await asked(browser)))
    assert "as often as you may in a day: wait for an answer" in text_of(page)


async def test_what_cannot_be_recorded_is_not_asked(browser):
    """The form says so, and is there as it was."""
    token = token_of(await browser.home())
    await browser.world.gateway.journal.close()
    page = await ask(browser, token=token)
    assert (503, True, []) == (page.status, "journal_unavailable" in page.text, list(await asked(browser)))
    assert "SUP-7" == inputs(page)["ticket"]["value"]
    assert "What you have typed is still here: send it again." in text_of(page)

"""The account's page: its administrators see how it is and choose, and nobody else."""

import re
from datetime import timedelta

import pytest

from policy.model import AccountType, Duration, Permission
from tests.console_world import PATH, Customer, asked, hidden, open_customer


@pytest.fixture
async def olivia(tmp_path):
    async with open_customer(tmp_path) as customer:
        yield customer


async def test_an_administrator_of_any_product_turns_it_on(olivia):
    """Who chose it, when, for how long and what for stands in the store, in the journal and on the page."""
    page = await olivia.page()
    assert (200, "Off") == (page.status, re.search(r"<strong>(O\w+)</strong>", page.text)[1])
    answer = await olivia.choose("week", ["test_tickets"])
    assert (303, True) == (answer.status, answer.headers["location"].startswith(f"{PATH}?said=saved."))
    grant = await olivia.grant()
    assert (Duration.WEEK, "7", olivia.world.clock.now + timedelta(days=7)) == (
        grant.duration,
        grant.given_by,
        grant.expires_at,
    )
    assert {Permission.READ, Permission.TEST_TICKETS} == grant.permissions
    [record] = olivia.world.records(kind="grant", reason="enabled")
    assert ("7", "console", "127.0.0.1") == (record["granted_by"], record["client_id"], record["client_ip"])
    shown = await olivia.page(answer.headers["location"].partition("account")[2])
    assert "Saved. It counts from now on." in shown.text
    assert re.search(r"<strong>Turned on</strong> until .*staff may: look, test tickets", shown.text)
    assert "by you" in shown.text
    status, document = await olivia.world.ask(scope="tickets:read")
    assert 200 == status, document


async def test_extending_reducing_and_keeping_the_end(olivia):
    """What is chosen counts from now; with the end kept only what staff may do is new."""
    await olivia.choose("week")
    olivia.world.clock.forward(days=1)
    await olivia.choose("month")
    month = (await olivia.grant()).expires_at
    olivia.world.clock.forward(hours=1)
    await olivia.choose("keep", ["write"])
    kept = await olivia.grant()
    assert (month, Duration.MONTH, True) == (kept.expires_at, kept.duration, Permission.WRITE in kept.permissions)
    await olivia.choose("day", ["write"])
    assert olivia.world.clock.now + timedelta(days=1) == (await olivia.grant()).expires_at
    await olivia.choose("always")
    assert None is (await olivia.grant()).expires_at
    done = [(one["reason"], one["duration"]) for one in olivia.world.records(kind="grant", decision="allow")]
    assert [
        ("enabled", "week"),
        ("extended", "month"),
        ("permissions_changed", "month"),
        ("reduced", "day"),
        ("extended", "always"),
    ] == done
    page = await olivia.page()
    assert "until somebody turns it off" in page.text


async def test_turning_off_ends_what_is_open_at_once(olivia):
    """One confirmed click, whatever was chosen meanwhile; staff are refused from then on."""
    form = await olivia.form()
    await olivia.choose("week", form=form)
    token = await olivia.world.token()
    assert 200 == (await olivia.world.get(token))[0]
    answer = await olivia.do("off", form=form)
    assert 303 == answer.status, answer.text
    assert 403 == (await olivia.world.get(token))[0]
    page = await olivia.page(answer.headers["location"].partition("account")[2])
    assert "Account assumption is off. Whoever was in is out." in page.text
    assert ["turned_off", "enabled"] == [one.change for one in await olivia.world.gateway.store.list_changes("acme")]


async def test_what_somebody_else_changed_meanwhile_is_not_overwritten(olivia):
    """The form counts for what the page showed; the refusal is on the record, and said."""
    form = await olivia.form()
    await olivia.world.choose("month", ("read", "write"))
    answer = await olivia.choose("day", form=form)
    assert (409, True) == (answer.status, "Somebody changed it meanwhile" in answer.text)
    assert Duration.MONTH == (await olivia.grant()).duration
    assert 1 == len(olivia.world.records(kind="grant", decision="deny", reason="overtaken", granted_by="7"))
    await olivia.choose("day")
    olivia.world.clock.forward(hours=23)
    kept = await olivia.form()
    olivia.world.clock.forward(hours=2)
    answer = await olivia.choose("keep", form=kept)
    assert 409 == answer.status, "its end had passed: nothing is left to keep"


async def test_who_is_in_is_named_and_can_be_ended(olivia):
    """Staff member, agent, ticket, reason; one by one, or all; the record says who ended it."""
    await olivia.choose("week")
    first = await olivia.world.token(detail={"ticket": "SUP-7", "reason": "the export is empty"})
    olivia.world.clock.forward(seconds=1)
    second = await olivia.world.token(detail={"ticket": "SUP-8"})
    page = await olivia.page()
    for word in ("stands in for", "maria", "SUP-7", "the export is empty", "SUP-8", "End all 2 now"):
        assert word in page.text
    [one, _two] = re.findall(r'name="assumption" value="([^"]+)"', page.text)
    answer = await olivia.do("end", assumption=one)
    assert (303, True) == (answer.status, "said=ended." in answer.headers["location"])
    assert [403, 200] == [(await olivia.world.get(token))[0] for token in (first, second)]
    [record] = olivia.world.records(kind="assumption", reason="ended")
    assert ("7", one, "console") == (record["by"], record["assumption"], record["client_id"])
    answer = await olivia.do("end", assumption=one)
    assert "said=over." in answer.headers["location"]
    assert "said=all-ended." in (await olivia.do("end-all")).headers["location"]
    assert 403 == (await olivia.world.get(second))[0]
    assert "Nobody." in (await olivia.page()).text


async def test_nobody_is_shown_as_in_once_it_is_off(olivia):
    """An assumption under a grant that is over lets nobody in, and is not shown."""
    await olivia.choose("week")
    await olivia.world.token()
    assert "End now" in (await olivia.page()).text
    await olivia.do("off")
    assert "End now" not in (await olivia.page()).text


async def test_a_trial_says_that_it_is_always_on_and_has_no_setting(tmp_path):
    """There is no form, and one that is sent all the same is refused; who is in can be ended."""
    async with open_customer(tmp_path, account=None, accounts=()) as olivia:
        await olivia.world.add_account("acme", AccountType.TRIAL)
        token = await olivia.world.token()
        page = await olivia.page()
        assert "Always on" in page.text
        assert "This is a trial account." in page.text
        assert 'name="duration"' not in page.text
        form = {"form_token": hidden(page, "form_token"), "epoch": "0"}
        for sent in (await olivia.choose("day", form=form), await olivia.do("off", form=form)):
            assert (409, True) == (sent.status, "A trial account has no setting" in sent.text)
        assert 2 == len(olivia.world.records(kind="grant", decision="deny", reason="trial_account"))
        [one] = re.findall(r'name="assumption" value="([^"]+)"', page.text)
        await olivia.do("end", form=form, assumption=one)
        assert 403 == (await olivia.world.get(token))[0]


async def test_a_suspended_account_says_so(tmp_path):
    """Nobody is in, whatever the setting says."""
    async with open_customer(tmp_path, account=None, accounts=()) as olivia:
        await olivia.world.add_account("acme", suspended=True)
        assert "This account is suspended" in (await olivia.page()).text


async def test_an_account_that_is_not_known_is_told_so(tmp_path):
    """Its own administrator is told whom to ask."""
    async with open_customer(tmp_path, account=None) as olivia:
        page = await olivia.page()
        assert (404, True) == (page.status, "Locum does not know this account yet" in page.text)


async def test_the_history_is_long_and_says_who(olivia):
    """The newest twenty at first, all on demand; an operator's word stands there as it is."""
    for _ in range(12):
        await olivia.world.choose("week")
        await olivia.world.choose("off")
    page = await olivia.page()
    assert 20 == page.text.count("by <bdi>owner</bdi>")
    assert "Show 4 earlier" in page.text
    assert 24 == (await olivia.page("?history=all")).text.count("by <bdi>owner</bdi>")


async def test_the_app_is_asked_once_in_a_while_and_for_each_change_anew(olivia):
    """Pages of the same seconds share one answer; nothing is changed on one that was remembered."""
    await olivia.page()
    await olivia.page()
    assert 1 == len(asked(olivia.world))
    form = await olivia.form()
    assert 1 == len(asked(olivia.world))
    await olivia.choose("day", form=form)
    assert 2 == len(asked(olivia.world))
    olivia.world.clock.forward(seconds=3)
    await olivia.page()
    assert 3 == len(asked(olivia.world))
    await Customer(olivia.world, session="s-ben").page()
    assert 4 == len(asked(olivia.world))


async def test_the_app_is_shown_the_cookies_and_nothing_else_of_the_caller(olivia):
    """What is configured comes along; credentials, other headers and our own cookies stay here."""
    lines = ("X-Forwarded-Proto: https", "Authorization: Basic Zm9v", "X-Api-Key: k", "X-Locum-Account: globex")
    cookie = "a=1; session=s-olivia; __Host-locum-staff=" + "x" * 43 + "; b=2"
    assert 200 == (await olivia.page("", *lines, "Referer: https://x.example/", cookie=cookie)).status
    [seen] = asked(olivia.world)
    names = sorted(name.lower() for name, _ in seen.headers)
    assert [b"accept", b"accept-encoding", b"cookie", b"host", b"x-forwarded-proto"] == names
    assert [b"a=1; session=s-olivia; b=2"] == seen.values(b"cookie")
    assert [b"acme.helpdesk.example"] == seen.values(b"host")

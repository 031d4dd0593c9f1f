"""What people do on our pages waits for the disk before it takes effect; what only takes power away does not need it."""

import re
from contextlib import asynccontextmanager

import pytest

from gateway.audit.index.building import Builder
from gateway.audit.index.database import beside
from gateway.audit.record import Record
from policy.asking import RequestState
from policy.model import ActorId
from tests.console_world import Customer, open_customer
from tests.customer_sign_in_world import open_administrator
from tests.provider_world import CALLBACK, STAFF_COOKIE, Browser, open_sign_in
from tests.security_world import CLIENT_ID, open_guard, open_guard_at_provider
from tests.test_console_waiting import answer, asks, stands
from tests.test_durable import keeps_nothing
from tests.test_telling_page import fields
from tests.upstream_client import eventually

DONE, LED, REFUSED = 200, 303, 503


def still(document):
    """Have nothing but what is done need the disk."""
    document["audit"] |= {"checkpoint_seconds": 3600}


# Each has a world, gets ready, yields, acts, and yields the status of what it is answered; then it looks what is.


@asynccontextmanager
async def staff_browser(directory):
    async with open_sign_in(directory, change=still) as world:
        yield Browser(world)


async def sign_in(browser):
    query = browser.world.issuer.consent(await browser.begin())
    yield
    yield (await browser.send(f"{CALLBACK}?{query}")).status
    assert STAFF_COOKIE not in browser.cookies


async def sign_out(browser):
    await browser.sign_in()
    yield
    yield (await browser.sign_out()).status
    assert STAFF_COOKIE not in browser.cookies


@asynccontextmanager
async def guard(directory):
    async with open_guard(directory, change=lambda document: (_security(document), still(document))) as it:
        await it.world.choose("year")
        await it.world.token()
        await it.enter("boss", "operate")
        yield it


def _security(document):
    document.setdefault("console", {})["security"] = {}


async def live(visitor):
    return await visitor.world.gateway.store.list_assumptions(at=visitor.world.clock.now)


async def enter_by_secret(guard):
    other, secret = guard.another(), await guard.add_client("second", "audit")
    yield
    yield (await other.sign_in("second", secret)).status
    assert "" == other.cookie


async def leave(guard):
    token = await guard.form_token()
    yield
    yield (await guard.post("sign-out", {"form_token": token})).status
    assert LED == (await guard.page()).status


async def end_one(guard):
    page = await guard.page()
    [one] = re.findall(r'name="assumption" value="([^"]+)"', page.text)
    yield
    yield (await guard.do("end", assumption=one)).status
    assert [] == await live(guard)


async def end_all(guard):
    yield
    yield (await guard.do("end-all", q="", account="acme", confirm="yes")).status
    assert [] == await live(guard)


async def turn_off(guard):
    yield
    yield (await guard.do("off", account="acme", confirm="yes")).status
    assert None is not (await guard.world.gateway.store.find_account("acme")).grant.revoked_at


async def lock(guard):
    who = {"issuer": guard.world.issuer.issuer, "subject": "dana"}
    yield
    yield (await guard.do("staff", **who, do="lock", confirm="yes")).status
    assert (await guard.world.gateway.store.find_staff(ActorId(**who))).disabled


async def switch_on(guard):
    yield
    yield (await guard.do("kill-switch", set="on", reason="a leak", confirm="yes")).status
    assert (await guard.world.gateway.store.find_kill_switch()).on


async def switch_off(guard):
    await guard.do("kill-switch", set="on", reason="a leak", confirm="yes")
    yield
    yield (await guard.do("kill-switch", set="off", reason="it is over", confirm="yes")).status
    assert (await guard.world.gateway.store.find_kill_switch()).on


async def export(guard):
    journal = guard.world.gateway.config.journal_directory
    with Builder(journal, beside(journal)) as builder:
        builder.catch_up()
    yield
    yield (await guard.do("log/export", format="jsonl", range="all")).status


@asynccontextmanager
async def person(directory):
    async with open_guard_at_provider(directory, change=still) as it:
        yield it


async def enter_at_provider(guard):
    query = guard.world.issuer.consent(await guard.begin(), "sam", groups=["security"], audience=CLIENT_ID)
    yield
    yield (await guard.come_back(query)).status
    assert "" == guard.cookie


@asynccontextmanager
async def administrator(directory):
    def change(document):
        still(document)
        # Nobody listens there, and nobody is told anything.
        mail = {"host": "127.0.0.1", "port": 9, "security": "none", "sender": "locum@vendor.example"}
        document["notices"] = {"mail": mail}

    async with open_customer(directory, change=change) as it:
        yield it


async def choose(customer: Customer):
    yield
    yield (await customer.choose("year")).status
    assert None is await customer.grant()


async def choose_off(customer):
    await customer.choose("year")
    yield
    yield (await customer.do("off")).status
    assert None is not (await customer.grant()).revoked_at


async def approve(customer):
    one = await asks(customer)
    yield
    yield (await answer(customer, "approve", one)).status
    assert (None, RequestState.WAITING) == (await customer.grant(), await stands(customer, one))


async def decline(customer):
    one = await asks(customer)
    yield
    yield (await answer(customer, "decline", one)).status
    assert RequestState.DECLINED is await stands(customer, one)


async def end_theirs(customer):
    await customer.choose("year")
    await customer.world.token()
    [one] = re.findall(r'name="assumption" value="([^"]+)"', (await customer.page()).text)
    yield
    yield (await customer.do("end", assumption=one)).status
    assert [] == await live(customer)


async def end_all_theirs(customer):
    await customer.choose("year")
    await customer.world.token()
    yield
    yield (await customer.do("end-all")).status
    assert [] == await live(customer)


async def name_contacts(customer):
    form = await fields(customer) | {"addresses": "eve@acme.example"}
    yield
    yield (await customer.post("contacts", form.items())).status
    assert None is await customer.world.gateway.store.find_contacts("acme")


@asynccontextmanager
async def at_their_provider(directory):
    async with open_administrator(directory, change=still) as it:
        yield it


async def enter_by_their_provider(administrator):
    query = administrator.consent(await administrator.begin())
    yield
    yield (await administrator.come_back(query)).status
    assert "" == administrator.session


async def leave_by_their_provider(administrator):
    await administrator.enter()
    token = await administrator.form()
    yield
    yield (await administrator.change("sign-out", {"form_token": token})).status
    assert "" == administrator.session


WAIT = [
    (staff_browser, sign_in, REFUSED),
    (staff_browser, sign_out, DONE),
    (guard, enter_by_secret, REFUSED),
    (guard, leave, DONE),
    (guard, end_one, LED),
    (guard, end_all, LED),
    (guard, turn_off, LED),
    (guard, lock, LED),
    (guard, switch_on, LED),
    (guard, switch_off, REFUSED),
    (guard, export, REFUSED),
    (person, enter_at_provider, REFUSED),
    (administrator, choose, REFUSED),
    (administrator, choose_off, LED),
    (administrator, approve, REFUSED),
    (administrator, decline, LED),
    (administrator, end_theirs, LED),
    (administrator, end_all_theirs, LED),
    (administrator, name_contacts, REFUSED),
    (at_their_provider, enter_by_their_provider, REFUSED),
    (at_their_provider, leave_by_their_provider, DONE),
]


@pytest.mark.parametrize(("opened", "act", "status"), WAIT, ids=[act.__name__ for _, act, _ in WAIT])
async def test_what_people_do_on_our_pages_waits_for_the_disk(tmp_path, opened, act, status):
    """Where an fsync fails nobody is let in or given anything; what takes power away is done, and owed to the record."""
    async with opened(tmp_path) as visitor:
        steps = act(visitor)
        await anext(steps)
        journal, directory = visitor.world.gateway.journal, tmp_path / "journal"
        # There is a segment to fail, and the one checkpoint of the first hour, which would be an fsync of its own.
        await journal.append(Record(kind="audit", reason="searched"))
        await eventually((directory / "gateway.checkpoint").exists)
        before = journal.failures
        with keeps_nothing(directory):
            answered = await anext(steps)
            failures = journal.failures - before
        assert None is await anext(steps, None)
    assert (status, True) == (answered, failures > 0)

"""The account's page against strangers who ask all the time, and staff who come by another way than they should."""

import asyncio

import pytest
from msgspec import structs

from gateway.console.account.questions import Questions
from tests.browser_world import PAGE, STAFF_HOST, Browser
from tests.console_world import FIELDS, OLIVIA, asked, console, open_customer, who
from tests.patience import unless_it_stalls
from tests.rawwire import hold, response
from tests.upstream_client import eventually

SESSION = ((b"Set-Cookie", b"session=s-minted; Path=/; HttpOnly"),)
TURNED = "Mallory\u202e"


# Staff.


def without_acting(document):
    console(document, fields={name: place for name, place in FIELDS.items() if name != "acting"})


@pytest.mark.parametrize(
    ("change", "given"), [(without_acting, 0), (console, 1), (lambda document: document.pop("console"), 1)]
)
async def test_a_token_gets_no_session_that_would_be_an_administrators(tmp_path, change, given):
    """Where the app makes a session of an assertion, and its answer would not say that staff act in it, no cookie goes."""

    def changed(document):
        profile = tmp_path / "demo-helpdesk.toml"
        profile.write_text(profile.read_text().replace('withhold_cookies = ["session"]', ""))
        change(document)

    async with open_customer(tmp_path, change=changed) as olivia:
        await olivia.world.choose("day")
        olivia.world.app.sets = SESSION
        token = await olivia.world.token()
        answer = await olivia.ask("/tickets/1", f"Authorization: Bearer {token}", cookie="")
        assert (200, given) == (answer.status, len(answer.set_cookies))
        assert given == answer.raw.count(b"s-minted")
        customers = await olivia.ask("/tickets/1")
        assert 1 == len(customers.set_cookies), "customers get theirs in any case"


async def test_staffs_own_host_is_no_accounts(tmp_path):
    """Where every host is the one account's, the host where staff sign in still has no page of it, token or none."""
    accounts = {"source": "fixed", "fixed": "acme", "host": "acme.helpdesk.example"}
    async with open_customer(tmp_path, change=lambda wanted: wanted.update(accounts=accounts), accounts=()) as olivia:
        await olivia.choose("week", ["write"])
        token, form = await olivia.world.token(), await olivia.form()
        for lines in ((), (f"Authorization: Bearer {token}",)):
            page = await olivia.page("", *lines, host=STAFF_HOST)
            sent = await olivia.post("setting", {**form, "duration": "always"}.items(), *lines, host=STAFF_HOST)
            assert (404, 404) == (page.status, sent.status)
        assert "week" == (await olivia.grant()).duration
        assert 200 == (await olivia.page()).status


async def test_a_name_turns_only_itself_around(tmp_path):
    """Who stands in for whom reads in that order, on the customer's page and on staff's own; what turns it is spelled."""
    async with open_customer(tmp_path) as olivia:
        await olivia.choose("week")
        browser = Browser(olivia.world)
        await browser.sign_in(subject="mallory", name=TURNED)
        home = await browser.home()
        entering = await browser.begin(ticket=TURNED, reason=TURNED)
        await browser.stand_in(ticket=TURNED, reason=TURNED)
        session = await browser.session(accept=PAGE)
        page = await olivia.page()
        # A name is stored without it, so that messages have it right as well.
        assert "<bdi>Mallory</bdi></strong> stands in for <strong><bdi>maria</bdi>" in page.text
        for shown in (home, entering, session, page):
            assert "Mallory" in shown.text
            assert "\u202e" not in shown.text
        assert r"<bdi>Mallory\u202e</bdi>" in page.text, "the ticket, as it was given"


# Strangers.


def behind_a_proxy(document):
    document["server"]["trusted_proxies"] = ["127.0.0.1"]


def small(config):
    return structs.replace(config, upstream=structs.replace(config.upstream, max_connections=16))


async def test_strangers_who_ask_all_the_time_wait_alone(tmp_path):
    """An app that answers none of them, and forty of one network: an administrator elsewhere has the page at once."""
    async with open_customer(tmp_path, change=behind_a_proxy) as olivia:
        app, go_on = olivia.world.app, asyncio.Event()
        app.answer = hold(go_on, before=b"", after=response(status=b"401 Unauthorized"))
        strangers = [
            asyncio.ensure_future(olivia.page("", f"X-Forwarded-For: 2001:db8:1:{n:x}::1", cookie=f"session=x{n}"))
            for n in range(40)
        ]
        await eventually(lambda: len(asked(olivia.world)) == 4)
        app.answer = None
        assert 200 == (await olivia.page("", "X-Forwarded-For: 192.0.2.7")).status
        assert 5 == len(asked(olivia.world))
        go_on.set()
        assert {403} == {answer.status for answer in await asyncio.gather(*strangers)}


async def test_questions_leave_the_connections_to_customers(tmp_path):
    """Where there are few, nearly all are theirs: what they ask is answered while strangers' questions hang."""
    async with open_customer(tmp_path, change=behind_a_proxy, finish=small) as olivia:
        app, go_on = olivia.world.app, asyncio.Event()
        app.answer = hold(go_on, before=b"", after=response(status=b"401 Unauthorized"))
        strangers = [
            asyncio.ensure_future(olivia.page("", f"X-Forwarded-For: 192.0.2.{n}", cookie=f"session=x{n}"))
            for n in range(20)
        ]
        await eventually(lambda: len(asked(olivia.world)) == 2)
        customers = await asyncio.gather(*(olivia.ask("/tickets/1") for _ in range(8)))
        assert {200} == {answer.status for answer in customers}
        assert 2 == len(asked(olivia.world))
        go_on.set()
        await asyncio.gather(*strangers)


@unless_it_stalls
async def test_waiting_for_a_turn_is_no_part_of_the_apps_time(tmp_path):
    """Each answer is in time, and all of them together are not: nobody is told that the app could not be asked."""

    async def slow(connection):
        await asyncio.sleep(0.1)  # the app takes its time
        await connection.send(who(OLIVIA))

    def change(document):
        document["console"]["account"]["timeout_seconds"] = 0.5

    async with open_customer(tmp_path, change=change, finish=small) as olivia:
        olivia.world.app.answer = slow
        pages = await asyncio.gather(*(olivia.page(cookie=f"session=x{n}") for n in range(6)))
        assert {200} == {page.status for page in pages}


async def test_who_waits_leaves_room_for_the_rest_of_their_network(tmp_path):
    """Of few connections not all that an address may have under way is taken by questions; the others are told so."""
    async with open_customer(tmp_path, finish=small) as olivia:
        app, go_on = olivia.world.app, asyncio.Event()
        app.answer = hold(go_on, before=b"", after=response(status=b"401 Unauthorized"))
        strangers = [asyncio.ensure_future(olivia.page(cookie=f"session=x{n}")) for n in range(20)]
        assert 200 == (await olivia.ask("/tickets/1")).status
        go_on.set()
        assert {403, 503} == {answer.status for answer in await asyncio.gather(*strangers)}


async def test_a_turn_is_given_back_and_no_network_is_remembered():
    """However it ends: in good order, by a fault, or before it has come; a small app is asked one thing at a time."""
    questions, go_on = Questions(1), asyncio.Event()

    async def ask(address):
        async with questions.turn(address):
            await go_on.wait()

    first, gone, last = (asyncio.ensure_future(ask(address)) for address in ("192.0.2.1", "192.0.2.1", None))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert not (first.done() or last.done())
    go_on.set()
    await asyncio.gather(first, last)
    assert gone.cancelled()
    with pytest.raises(ValueError, match="odd"):
        async with questions.turn("192.0.2.1"):
            raise ValueError("odd")
    async with questions.turn("192.0.2.1"):
        assert ["192.0.2.1"] == list(questions._shares)
    assert {} == questions._shares


async def test_nobody_writes_into_the_journal(tmp_path):
    """A form from elsewhere is on the record where it came with a person's session, under their name, and else not."""
    async with open_customer(tmp_path) as olivia:
        before = len(olivia.world.records())
        for cookie in ("", "session=s-none", "session=s-gina"):
            for name in ("setting", "off", "end", "end-all"):
                sent = await olivia.post(name, [("form_token", "x")], origin="https://evil.example", cookie=cookie)
                assert (403, True) == (sent.status, "cross_site" in sent.text)
        assert before == len(olivia.world.records())
        await olivia.post("off", [("form_token", "x")], origin="https://evil.example")
        [record] = olivia.world.records()[before:]
        assert ("deny", "cross_site", "7") == (record["decision"], record["reason"], record["by"])


async def test_who_loses_a_race_is_denied_once(tmp_path):
    """Of five forms about the same setting one counts; of each other one denial is on the record, and never two."""
    async with open_customer(tmp_path) as olivia:
        form = await olivia.form()
        durations = ("day", "week", "month", "year", "always")
        sent = await asyncio.gather(*(olivia.choose(duration, form=form) for duration in durations))
        assert [303, 409, 409, 409, 409] == sorted(answer.status for answer in sent)
        denied = [one["request_id"] for one in olivia.world.records(kind="grant", decision="deny")]
        assert (4, 4) == (len(denied), len(set(denied)))
        assert 1 == len(await olivia.world.gateway.store.list_changes("acme"))

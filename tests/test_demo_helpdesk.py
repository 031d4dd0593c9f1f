"""The demo helpdesk has ordinary sign-ins, seats and streams, and the routes that a look at the method misjudges."""

import asyncio

import pytest
from aiohttp import ClientPayloadError

from tests.demo_world import AGENT_ROUTES, ATTACHMENT_BYTES, Gateway, open_client, open_desk


@pytest.fixture
async def gateway():
    gateway = Gateway()
    async with gateway.server:
        yield gateway


@pytest.fixture
async def desk(gateway):
    async with open_desk(gateway) as desk:
        yield desk


@pytest.fixture
async def client(desk):
    async with open_client(desk) as client:
        yield client


# --- ordinary agents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), AGENT_ROUTES)
async def test_nobody_gets_nothing(client, method, path):
    """Without session and assertion each route asks to sign in."""
    assert 401 == (await client.send(method, path))[0]
    assert 401 == (await client.send(method, path, cookie="guessed"))[0]


async def test_signing_in_makes_a_session_and_a_login(client):
    """This is what an assumption must not do; signing out takes the session away, not the login."""
    cookie = await client.sign_in("maria")
    _, document = await client.send("GET", "/whoami", cookie=cookie)
    assert ("maria", None) == (document["agent"], document["act"])
    _, figures = await client.send("GET", "/seats")
    assert (1, 1) == (figures["logins"], figures["sessions"])
    await client.send("GET", "/logout", cookie=cookie)
    _, figures = await client.send("GET", "/seats")
    assert (1, 0) == (figures["logins"], figures["sessions"])
    assert 401 == (await client.send("GET", "/whoami", cookie=cookie))[0]


@pytest.mark.parametrize(("agent", "password"), [("maria", "wrong"), ("maria", ""), ("walter", "demo"), ("", "demo")])
async def test_a_failed_sign_in_leaves_no_trace(client, agent, password):
    """Only agents sign in, and only with their password."""
    assert await client.sign_in(agent, password=password) is None
    _, figures = await client.send("GET", "/seats")
    assert (0, 0) == (figures["logins"], figures["sessions"])


async def test_accounts_are_apart(gateway, client):
    """A cookie or an assertion of one account opens nothing of another, although both have a maria."""
    cookie = await client.sign_in("maria")
    assert 401 == (await client.send("GET", "/tickets", cookie=cookie, account="globex"))[0]
    assert 401 == (await client.send("GET", "/tickets", assertion=gateway.assertion(), account="globex"))[0]
    assertion = gateway.assertion(account="globex")
    _, document = await client.send("GET", "/tickets", assertion=assertion, account="globex")
    assert ["Reactor dashboard is empty"] == [ticket["title"] for ticket in document["tickets"]]


@pytest.mark.parametrize("host", ["unknown.helpdesk.localhost", "127.0.0.1", "helpdesk.localhost"])
async def test_a_host_that_names_no_account_has_nothing(client, host):
    """There is no account to fall back to."""
    assert 404 == (await client.send("GET", "/tickets", headers={"Host": host}))[0]


# --- routes that a look at the method misjudges -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/tickets/1/hold", "on hold"),
        ("GET", "/tickets/1?action=close", "closed"),
        ("HEAD", "/tickets/1?action=close", "closed"),
        ("GET", "/tickets/1?x=1&%61ction=close", "closed"),
    ],
)
async def test_these_safe_methods_really_write(gateway, desk, client, method, path, status):
    """The demonstration would be empty if the GET that writes did not."""
    answer, _ = await client.send(method, path, assertion=gateway.assertion())
    assert (200, status) == (answer, desk.accounts["acme"].tickets[1].status)


async def test_searching_is_a_post_that_changes_nothing(gateway, desk, client):
    """Reading is not always a GET."""
    before = dict(desk.accounts["acme"].tickets)
    answer = await client.send("POST", "/tickets/search", assertion=gateway.assertion(), data={"q": "WIDGET"})
    assert [1] == [ticket["id"] for ticket in answer[1]["tickets"]]
    assert before == desk.accounts["acme"].tickets


@pytest.mark.parametrize(("path", "test"), [("/tickets", False), ("/tickets/test", True)])
async def test_only_the_test_route_marks_tickets_as_tests(gateway, client, path, test):
    """The two kinds of new ticket differ by route, so that they can differ by scope."""
    answer = await client.send("POST", path, assertion=gateway.assertion(), json={"title": "T", "test": not test})
    assert (201, 4, test) == (answer[0], answer[1]["id"], answer[1]["test"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/tickets/1/reply", 400),
        ("POST", "/tickets", 400),
        ("GET", "/tickets/1?action=burn", 400),
        ("GET", "/tickets/99", 404),
        ("GET", "/tickets/99/hold", 404),
        ("GET", "/attachments/99", 404),
        ("HEAD", "/tickets/1/hold", 405),
    ],
)
async def test_what_makes_no_sense_is_the_callers_fault(gateway, client, method, path, status):
    """Bad input gets a 4xx, never a 500."""
    assert status == (await client.send(method, path, assertion=gateway.assertion()))[0]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff"])
async def test_a_body_that_is_not_a_json_object_is_refused(gateway, client, body):
    """The parser's complaint is the caller's fault."""
    headers = {"Content-Type": "application/json"}
    answer = await client.send("POST", "/tickets", assertion=gateway.assertion(), headers=headers, data=body)
    assert 400 == answer[0]


async def test_when_every_seat_is_taken_an_agent_costs_money(client):
    """One more agent than seats is refused with 402 and not created."""
    cookie = await client.sign_in("owner")
    status, document = await client.send("POST", "/admin/agents", cookie=cookie, data={"name": "eve"})
    assert (402, "seats_full") == (status, document["error"])
    _, figures = await client.send("GET", "/seats")
    assert (5, 6) == (figures["used"], figures["users"])


async def test_a_free_seat_can_be_taken_once(client):
    """Where there is a seat left, a new agent takes it."""
    cookie = await client.sign_in("owner", account="globex")
    for name, expected in (("eve", 201), ("eve", 409), ("mallory", 402)):
        sent = {"cookie": cookie, "account": "globex", "data": {"name": name}}
        assert expected == (await client.send("POST", "/admin/agents", **sent))[0]
    _, figures = await client.send("GET", "/seats", account="globex")
    assert (3, 0) == (figures["used"], figures["available"])


@pytest.mark.parametrize(("method", "path"), [("GET", "/admin"), ("POST", "/admin/agents")])
async def test_administration_is_for_administrators(client, method, path):
    """An agent without the role is refused, the owner is not."""
    assert 403 == (await client.send(method, path, cookie=await client.sign_in("maria")))[0]
    assert 403 != (await client.send(method, path, cookie=await client.sign_in("owner")))[0]


async def test_an_api_token_is_counted(desk, client):
    """A demonstration can show that none was made."""
    status, document = await client.send("POST", "/api-tokens", cookie=await client.sign_in("maria"))
    assert (201, 1) == (status, desk.accounts["acme"].api_tokens)
    assert document["token"]


# --- streams ----------------------------------------------------------------------------------------------------


async def test_events_tick_and_end_when_the_helpdesk_stops(gateway):
    """A stream stays open by itself and does not hold up the end."""
    async with asyncio.timeout(30):
        async with open_desk(gateway) as desk, open_client(desk) as client:
            response = await client.open("GET", "/events", assertion=gateway.assertion())
            assert "text/event-stream" == response.content_type
            events = [await response.content.readuntil(b"\n\n") for _ in range(3)]
            assert [b"event: tick\nid: %d\ndata: 3\n\n" % tick for tick in (1, 2, 3)] == events
            await desk.stop()
            await response.content.read()
            assert response.content.at_eof()


@pytest.mark.parametrize("path", ["/events", "/attachments/1"])
async def test_the_end_of_a_cut_stream_is_noticed_and_no_error(gateway, desk, client, caplog, path):
    """Whoever cuts a stream can see that the app has stopped writing; the next request is served."""
    async with client.open("GET", path, assertion=gateway.assertion()) as response:
        assert await response.content.read(10)
        assert 1 == desk.streams.open
        response.close()
    async with asyncio.timeout(30):
        while desk.streams.open:
            assert 200 == (await client.send("GET", "/seats"))[0]
    assert [] == [record.message for record in caplog.records if record.levelname == "ERROR"]


async def test_an_attachment_is_complete_to_the_byte(gateway, client):
    """The announced length is the length, so that a cut download can be told from a whole one."""
    async with client.open("GET", "/attachments/1", assertion=gateway.assertion()) as response:
        body = await response.read()
    assert str(ATTACHMENT_BYTES) == response.headers["Content-Length"]
    assert ATTACHMENT_BYTES == len(body)
    assert bytes(range(256)) * 2 == body[65280:65792]


async def test_a_download_cut_by_the_helpdesks_end_is_noticed(gateway, client, desk):
    """A stalled download does not hold up the end for longer than a second or so, and is not taken for whole."""
    async with asyncio.timeout(30):
        response = await client.open("GET", "/attachments/1", assertion=gateway.assertion())
        await desk.stop()
        with pytest.raises(ClientPayloadError):
            await response.read()


# --- what came through, and how it looks ------------------------------------------------------------------------


async def test_every_request_is_remembered_as_it_came(gateway, desk, client):
    """What is not in `seen` did not reach the app, refused requests included."""
    assert [] == list(desk.seen)
    await client.send("GET", "/tickets/1?q=%41", headers={"x-ODD": "1"})
    await client.send("DELETE", "/no/such/route")
    assert [("GET", "/tickets/1?q=%41"), ("DELETE", "/no/such/route")] == [(s.method, s.path) for s in desk.seen]
    assert (b"x-ODD", b"1") in desk.seen[0].headers


async def test_a_browser_gets_pages_and_text_stays_text(gateway, client):
    """What a customer typed is shown, not run; the page says who stands in."""
    title = "<script>alert(1)</script>"
    await client.send("POST", "/tickets", assertion=gateway.assertion(), data={"title": title})
    for path in ("/tickets", "/tickets/4"):
        browser = {"Accept": "text/html,*/*;q=0.8"}
        status, page = await client.send("GET", path, assertion=gateway.assertion(), headers=browser)
        assert (200, True, False) == (status, "&lt;script&gt;" in page, "<script>" in page)
        assert "maria (dana stands in)" in page


async def test_a_link_signs_in_once_and_at_its_own_account_only(desk, client):
    """Whoever comes second is asked for a password; whoever came first is led on; nobody else's link is anybody's."""
    link = desk.invite("acme", "owner", then="/.locum/account")
    assert 401 == (await client.send("GET", "/login?invitation=guessed"))[0]
    assert 401 == (await client.send("GET", link, account="globex"))[0]
    assert 0 == (await client.send("GET", "/seats"))[1]["logins"]
    assert 303 == (await client.send("GET", link))[0]
    assert 401 == (await client.send("GET", link))[0]
    [session] = desk.accounts["acme"].sessions
    assert 303 == (await client.send("GET", link, cookie=session))[0]
    assert 1 == (await client.send("GET", "/seats"))[1]["logins"]

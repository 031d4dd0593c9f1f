"""A device's request, from asking to the token: who may say what to it, and what comes of it when."""

import asyncio
import re
from hashlib import sha256

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from gateway.clients import digest_of
from gateway.devices.authorization import MOST_FROM_ONE
from gateway.devices.page import MOST_OF_A_SESSION
from gateway.stores.store import Client
from policy.model import ActorId, ClientId
from tests.browser_world import ASSUMPTION, STAFF, STAFF_HOST, Browser
from tests.device_world import DEVICE, GRANT, PAGE_PATH, Device, add_device_client, look, open_device, say
from tests.gateway_world import HOST, ISSUER, open_world
from tests.oauth_world import proof
from tests.token_endpoint_world import TOKEN_URL


@pytest_asyncio.fixture
async def world(tmp_path):
    async with open_device(tmp_path) as (device, browser):
        yield device, browser


async def test_what_is_approved_is_fetched_once(world):
    """The device gets codes, waits, and has one token of what was approved; a second time there is none."""
    device, browser = world
    status, headers, codes = await device.ask()
    assert (200, "no-store") == (status, headers["cache-control"])
    assert (600, 5) == (codes["expires_in"], codes["interval"])
    assert f"{ISSUER}{PAGE_PATH}" == codes["verification_uri"]
    assert f"{ISSUER}{PAGE_PATH}?user_code={codes['user_code']}" == codes["verification_uri_complete"]
    assert "authorization_pending" == await device.error()
    page = await look(browser, codes["user_code"].lower().replace("-", " ").replace(" ", "%20"))
    for said in ("maria", "acme", "SUP-1", "cannot see it", "127.0.0.1", "locum-assume/1", codes["user_code"]):
        assert said in page.text
    assert "not the address that this browser comes from" not in page.text
    assert "Approved" in (await say(browser, "approve", codes["user_code"])).text
    status, token = await device.poll()
    assert (200, "Bearer", "tickets:read") == (status, token["token_type"], token["scope"])
    assert 200 == await device.use(token["access_token"])
    assert "invalid_grant" == await device.error()
    kinds = [record["reason"] for record in device.world.records(kind="assumption")]
    assert ["device_asked", "device_approved"] == kinds
    [approved] = device.world.records(reason="device_approved")
    assert ("dana", "maria", "acme", "allow") == (
        approved["actor"]["subject"],
        approved["subject"],
        approved["account"],
        approved["decision"],
    )
    [issued] = device.world.records(kind="token", decision="allow")
    assert ("locum-cli", "maria", "SUP-1") == (issued["client_id"], issued["subject"], issued["ticket"])


async def test_a_client_that_is_removed_fetches_nothing(world):
    """Not even what was approved before: it is refused from its next request on."""
    device, browser = world
    _, _, codes = await device.ask()
    await look(browser, codes["user_code"])
    assert "Approved" in (await say(browser, "approve", codes["user_code"])).text
    assert await device.world.gateway.store.remove_client(ClientId("locum-cli"))
    status, document = await device.poll()
    assert (401, "invalid_client") == (status, document["error"])
    assert (401, "invalid_client") == ((await device.ask())[0], document["error"])


async def test_what_is_declined_is_over(world):
    """The device is told so each time, and nobody can approve it any more."""
    device, browser = world
    await device.ask()
    assert "Declined" in (await say(browser, "decline", device.codes["user_code"])).text
    assert 404 == (await say(browser, "approve", device.codes["user_code"])).status
    assert ["access_denied"] * 2 == [await device.error() for _ in range(2)]
    assert 1 == len(device.world.records(reason="device_declined", decision="deny"))
    assert [] == device.world.records(kind="token")


async def test_what_nobody_approves_expires(world):
    """At its end, not before; later nobody knows it."""
    device, browser = world
    await device.ask()
    device.world.clock.forward(seconds=599)
    assert "authorization_pending" == await device.error()
    device.world.clock.forward(seconds=1)
    assert "expired_token" == await device.error()
    assert 404 == (await say(browser, "approve", device.codes["user_code"])).status
    device.world.clock.forward(minutes=5)
    assert "invalid_grant" == await device.error()


async def test_what_was_approved_and_not_fetched_expires_too(world):
    """An approval is for now."""
    device, browser = world
    await device.ask()
    await say(browser, "approve", device.codes["user_code"])
    device.world.clock.forward(seconds=600)
    assert "expired_token" == await device.error()


async def test_whoever_asks_too_often_waits_longer_from_then_on(world):
    """RFC 8628 section 3.5: by five seconds each time; whoever keeps to it is told nothing of the kind."""
    device, _ = world
    await device.ask()
    heard = []
    for seconds in (0, 4, 9, 10, 14, 15):
        device.world.clock.forward(seconds=seconds)
        heard.append(await device.error())
    slow, pending = "slow_down", "authorization_pending"
    assert [pending, slow, slow, slow, slow, slow] == heard
    device.world.clock.forward(seconds=5 + 5 * heard.count(slow))
    assert pending == await device.error()


async def test_200_redemptions_at_once_give_one_token(world):
    """One assumption is begun, one token is signed."""
    device, browser = world
    await device.ask()
    await say(browser, "approve", device.codes["user_code"])
    answers = await asyncio.gather(*(device.poll() for _ in range(200)))
    assert 1 == sum(status == 200 for status, _ in answers)
    assert {"invalid_grant"} == {document["error"] for status, document in answers if status != 200}
    assert 1 == len(device.world.records(kind="token", decision="allow"))


async def test_another_client_gets_nothing(world):
    """Neither the token nor the answer whether there is such a code; nor can it take it back."""
    device, browser = world
    await add_device_client(device.world, "other-cli")
    await device.ask()
    await say(browser, "approve", device.codes["user_code"])
    other = Device(device.world, client="other-cli")
    other.codes = device.codes
    assert "invalid_grant" == await other.error()
    assert 200 == await other.revoke(device.codes["device_code"])
    assert 200 == (await device.poll())[0]


async def test_a_public_client_may_do_nothing_else(world):
    """No exchange, no introspection; nor does naming a client that has a secret help, or one that nobody knows."""
    device, _ = world
    await device.ask()
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    assert "unauthorized_client" == await device.error(grant_type=exchange)
    assert 401 == (await device.send("/.locum/oauth/introspect", {"client_id": device.client, "token": "x"}))[0]
    for name in ("app", "nobody", "", "x" * 2000):
        for target in (DEVICE, TOKEN_URL, "/.locum/oauth/revoke"):
            status, _, document = await device.send(target, {"client_id": name, "token": "x", "grant_type": GRANT})
            assert (401, "invalid_client") == (status, document["error"])
    lines = f"Authorization: {device.world.basic()}"
    assert 401 == (await device.send(DEVICE, {"client_id": "app"}, lines))[0]
    assert "unsupported_grant_type" == (await device.poll(lines, client_id=None))[1]["error"]


async def test_a_client_with_a_secret_is_not_public_whatever_its_role(world):
    """Whoever has a secret has to prove it."""
    device, _ = world
    odd = Client(id=ClientId("odd"), secret_digest=digest_of("plain"), roles=frozenset({"device"}))
    both = Client(id=ClientId("both"), secret_digest=b"", roles=frozenset({"device", "token"}))
    for client in (odd, both):
        await device.world.gateway.store.add_client(client)
        assert 401 == (await Device(device.world, client=client.id).ask())[0]


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"agent": None}, "invalid_authorization_details"),
        ({"agent": "maria\nor"}, "invalid_authorization_details"),
        ({"agent": 7}, "invalid_authorization_details"),
        ({"account": "*.acme"}, "invalid_authorization_details"),
        ({"account": None}, "invalid_authorization_details"),
        ({"ticket": ""}, "invalid_authorization_details"),
        ({"reason": None}, "invalid_authorization_details"),
        ({"reason": "two\nlines"}, "invalid_authorization_details"),
        ({"identifier": "grant_1"}, "invalid_authorization_details"),
        ({"locations": [HOST]}, "invalid_authorization_details"),
        ({"extra": "x"}, "invalid_authorization_details"),
        ({"scope": "tickets:read  x"}, "invalid_scope"),
        ({"scope": "planes:fly:write"}, "invalid_scope"),
        ({"scope": "planes:read"}, "invalid_scope"),
        ({"scope": "tickets:read", "twice": True}, "invalid_request"),
    ],
)
async def test_what_could_never_be_approved_is_refused_at_once(world, wish, error):
    """With a name, on the record, and without a code."""
    device, _ = world
    twice = [("scope", "tickets:read")] if wish.pop("twice", False) else ()
    status, _, document = await device.ask(more=twice, **wish)
    assert (400, error) == (status, document["error"])
    assert {} == device.codes
    assert 1 == len(device.world.records(kind="token", decision="deny"))


async def test_nobody_learns_of_accounts_without_signing_in(world):
    """An account that is not there, and one that allows nothing, get codes like any other."""
    device, browser = world
    assert 200 == (await device.ask(account="nobody"))[0]
    refused = await say(browser, "approve", device.codes["user_code"])
    assert (403, True) == (refused.status, "unknown_account" in refused.text)
    assert "authorization_pending" == await device.error()


@pytest.mark.parametrize("event", ["off", "sign-out", "lock", "sign-out elsewhere", "session over", "group"])
async def test_it_is_decided_anew_when_the_token_is_fetched(world, event):
    """What ends between the approval and the token ends it, and nothing has begun."""
    device, browser = world
    await device.ask()
    store = device.world.gateway.store
    assert 200 == (await say(browser, "approve", device.codes["user_code"])).status
    if event == "off":
        assert 200 == (await device.world.choose("off"))[0]
    elif event == "sign-out":
        await browser.post(
            "/.locum/sign-out", [("form_token", await form_token(browser))], host=STAFF_HOST, origin=ISSUER
        )
    elif event == "lock":
        assert await store.disable_staff(ActorId(issuer=device.world.issuer.issuer, subject="dana"), disabled=True)
    elif event == "sign-out elsewhere":
        now = device.world.clock.now
        await store.sign_out(ActorId(issuer=device.world.issuer.issuer, subject="dana"), since=now, at=now)
    elif event == "group":
        device.world.clock.forward(seconds=1)
        assert 400 == (await device.world.ask(actor_token=device.world.actor_token(groups=[])))[0]
    else:
        await store.end_session(browser_digest(browser))
    before = len(device.world.records(kind="token", decision="deny"))
    status, document = await device.poll()
    assert 400 == status
    assert "access_token" not in document
    assert [] == device.world.records(kind="token", decision="allow")
    assert before + 1 == len(device.world.records(kind="token", decision="deny"))
    assert "invalid_grant" == await device.error()


async def form_token(browser):
    return re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]


def browser_digest(browser):
    return sha256(browser.staff.encode()).digest()


async def test_the_page_asks_who_is_there_first(world):
    """A stranger is sent to sign in and comes back to the code; at a customer's host there is no such page."""
    device, _ = world
    await device.ask()
    code = device.codes["user_code"]
    stranger = Browser(device.world)
    sent = await look(stranger, code)
    assert 303 == sent.status
    assert f"/.locum/sign-in?return={PAGE_PATH}%3Fuser_code%3D{code}" == sent.headers["location"]
    assert 404 == (await stranger.ask(f"{PAGE_PATH}?user_code={code}", host=HOST)).status
    assert "authorization_pending" == await device.error()


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"origin": None},
        {"origin": "https://acme.helpdesk.example"},
        {"site": "cross-site"},
        {"site": "same-site"},
        {"token": ""},
        {"token": "x" * 43},
        {"token": "another session"},
        {"host": HOST},
    ],
    ids=str,
)
async def test_only_our_page_in_this_session_approves(world, wrong):
    """Forged by another site, or with another session's token: nothing is approved, and that is on the record."""
    device, browser = world
    browser.lax = False
    await device.ask()
    if wrong.get("token") == "another session":
        other = Browser(device.world)
        await other.sign_in("erin")
        wrong = {"token": await form_token(other)}
    answer = await say(browser, "approve", device.codes["user_code"], **wrong)
    assert answer.status in (403, 404)
    assert "authorization_pending" == await device.error()
    if "host" not in wrong:
        assert 1 == len(device.world.records(kind="token", reason="cross_site"))


async def test_a_link_approves_nothing(world):
    """Whatever a query says: only a form of ours does."""
    device, browser = world
    await device.ask()
    target = f"{PAGE_PATH}?user_code={device.codes['user_code']}&word=approve&form_token={await form_token(browser)}"
    assert 200 == (await browser.ask(target, host=STAFF_HOST)).status
    posted = await browser.post(target, [("x", "y")], host=STAFF_HOST, origin=ISSUER)
    assert 400 == posted.status
    assert "authorization_pending" == await device.error()


async def test_wrong_codes_are_counted(world):
    """After some of them a session finds nothing any more, also what is there; good ones do not count."""
    device, browser = world
    await device.ask()
    code = device.codes["user_code"]
    for _ in range(MOST_OF_A_SESSION + 2):
        assert 200 == (await look(browser, code)).status
    guesses = await asyncio.gather(*(look(browser, "BBBB-BBBB") for _ in range(3 * MOST_OF_A_SESSION)))
    assert MOST_OF_A_SESSION == sum(guess.status == 404 for guess in guesses)
    assert 2 * MOST_OF_A_SESSION == sum(guess.status == 429 for guess in guesses)
    assert 429 == (await look(browser, code)).status
    assert 429 == (await say(browser, "approve", code)).status
    assert "authorization_pending" == await device.error()
    # Another session is another matter, until the network has tried too much.
    other = Browser(device.world)
    await other.sign_in("erin")
    assert 200 == (await look(other, code)).status
    device.world.clock.forward(minutes=10)
    await device.ask()
    assert 200 == (await look(browser, device.codes["user_code"])).status


async def test_nobody_fills_the_store_with_requests(world):
    """So many a network may make in ten minutes."""
    device, _ = world
    statuses = [(await device.ask())[0] for _ in range(MOST_FROM_ONE)]
    assert {200} == set(statuses)
    status, headers, document = await device.ask()
    assert (429, "temporarily_unavailable") == (status, document["error"])
    assert int(headers["retry-after"]) > 0
    device.world.clock.forward(minutes=10)
    assert 200 == (await device.ask())[0]


async def test_a_device_takes_back_what_it_asked_for(world):
    """Nobody can approve it any more, and nobody can fetch it; on the record."""
    device, browser = world
    await device.ask()
    assert 200 == await device.revoke(device.codes["device_code"])
    assert 404 == (await say(browser, "approve", device.codes["user_code"])).status
    assert "invalid_grant" == await device.error()
    assert 1 == len(device.world.records(reason="device_withdrawn"))


async def test_a_device_ends_its_assumption(world):
    """RFC 7009 by a public client: its own token, and no other's."""
    device, browser = world
    await add_device_client(device.world, "other-cli")
    await device.ask()
    await say(browser, "approve", device.codes["user_code"])
    token = (await device.poll())[1]["access_token"]
    assert 400 == await Device(device.world, client="other-cli").revoke(token)
    assert 200 == await device.use(token)
    assert 200 == await device.revoke(token)
    assert 403 == await device.use(token)


async def test_a_program_cannot_dress_up_on_the_page(world):
    """What a stranger's program says of itself and of its reason is text, cut short, and never markup."""
    device, browser = world
    await device.ask(reason="<b>please</b> approve")
    page = await look(browser, device.codes["user_code"])
    assert b"<b>please</b>" not in page.body
    assert "<b>please</b> approve" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "DENY" == page.headers["x-frame-options"]


async def test_a_link_of_another_site_shows_nothing_and_uses_up_no_tries(world):
    """The code is filled in, and the person decides whether to look; only that counts."""
    device, browser = world
    await device.ask()
    for _ in range(2 * MOST_OF_A_SESSION):
        bait = await browser.ask(f"{PAGE_PATH}?user_code=BBBBBBBB", "Sec-Fetch-Site: cross-site", host=STAFF_HOST)
        assert (200, True) == (bait.status, 'value="BBBB-BBBB"' in bait.text)
    target = f"{PAGE_PATH}?user_code={device.codes['user_code']}"
    baited = await browser.ask(target, "Sec-Fetch-Site: cross-site", host=STAFF_HOST)
    assert "maria" not in baited.text
    assert "maria" in (await browser.ask(target, "Sec-Fetch-Site: same-origin", host=STAFF_HOST)).text


async def test_a_stranger_s_questions_fill_no_journal(world):
    """Whoever names the public client is answered, and nothing is written."""
    device, _ = world
    before = len(device.world.records())
    for changes in ({"device_code": None}, {"device_code": "x"}, {"grant_type": "password"}, {"grant_type": None}):
        assert 400 == (await device.poll(**changes))[0]
    twice = [("grant_type", GRANT), ("client_id", device.client), ("device_code", "x"), ("device_code", "x")]
    assert 400 == (await device.send(TOKEN_URL, twice))[0]
    assert before == len(device.world.records())


async def test_a_device_with_a_key_gets_a_token_for_that_key(world):
    """RFC 9449 section 5 holds for this grant type too; such a client gets no other token."""
    device, browser = world
    await add_device_client(device.world, "bound-cli", dpop=True)
    bound, key = Device(device.world, client="bound-cli"), ECKey.generate_key("P-256")
    await bound.ask()
    await say(browser, "approve", bound.codes["user_code"])
    assert "invalid_dpop_proof" == await bound.error()
    first = proof(device.world, key=key)
    form = {"grant_type": GRANT, "client_id": "bound-cli", "device_code": bound.codes["device_code"]}
    status, headers, document = await bound.send(TOKEN_URL, form, f"DPoP: {first}")
    assert (400, "use_dpop_nonce") == (status, document["error"])
    right = proof(device.world, key=key, nonce=headers["dpop-nonce"])
    status, _, document = await bound.send(TOKEN_URL, form, f"DPoP: {right}")
    assert (200, "DPoP") == (status, document["token_type"])
    assert 401 == await device.use(document["access_token"])


async def test_nobody_approves_from_within_an_assumption(world):
    """Where one host is both, a browser that stands in for somebody approves nothing."""
    device, browser = world
    await device.ask()
    token = await form_token(browser)
    fields = [("user_code", device.codes["user_code"]), ("word", "approve"), ("form_token", token)]
    both = f"{STAFF}={browser.staff}; {ASSUMPTION}={'x' * 43}"
    answer = await browser.post(PAGE_PATH, fields, host=STAFF_HOST, origin=ISSUER, cookie=both)
    assert 403 == answer.status
    assert 1 == len(device.world.records(kind="token", reason="exchange_chained"))
    assert "authorization_pending" == await device.error()


async def test_what_cannot_be_recorded_is_not_done(world):
    """No codes are given away, and nothing is approved or begun; declining waits for its record, too."""
    device, browser = world
    await device.ask()
    codes, journal = device.codes, device.world.gateway.journal
    await journal.close()
    status, _, document = await device.ask()
    assert (503, "temporarily_unavailable") == (status, document["error"])
    for word in ("approve", "decline"):
        assert 503 == (await say(browser, word, codes["user_code"])).status
    device.codes = codes
    device.world.clock.forward(seconds=5)
    assert "authorization_pending" == await device.error()


async def test_without_sign_in_there_is_nothing_to_ask(tmp_path):
    """The client is told what is missing, and there is no page."""
    async with open_world(tmp_path) as world:
        await add_device_client(world)
        device = Device(world)
        status, _, document = await device.ask()
        assert (400, "unauthorized_client") == (status, document["error"])
        assert "[staff.sign_in]" in document["error_description"].replace("?", "")
        assert 404 == (await Browser(world).ask(PAGE_PATH, host=STAFF_HOST)).status

"""`locum assume --ask`: the customer is asked where they do not allow it, and somebody stands in once they do."""

import pytest
from click.testing import CliRunner

from gateway.cli.root import cli
from gateway.stores.store import KillSwitch
from policy.asking import RequestState
from policy.model import ActorId
from tests.device_world import look, open_device, say
from tests.live_world import caught_up
from tests.ports import free_port
from tests.process_world import open_process_world
from tests.provider_world import Browser, Provider
from tests.test_assume_command import ASK, SIGN_IN, Command, approve

DAY = [("ask_duration", "day")]
WEEK = [("ask_duration", "week"), ("ask_permissions", "test_tickets")]


async def asked(device):
    """What staff have asked accounts for, the newest first."""
    store, now = device.world.gateway.store, device.world.clock.now
    return await store.list_asked(ActorId(device.world.issuer.issuer, "dana"), since=now.replace(year=2000))


async def answer(device, state):
    store, [request] = device.world.gateway.store, await asked(device)
    assert await store.answer_grant_request(request.id, state, by="olivia", at=device.world.clock.now)


async def approved(device, browser, more, **wish):
    """Have a device ask, and its staff member approve it; return the page's answer."""
    status, _, document = await device.ask(more=more, **wish)
    assert 200 == status, document
    return await say(browser, "approve", document["user_code"])


async def test_the_customer_is_asked_for_what_they_do_not_allow(tmp_path):
    """By whoever has approved it, who was told what for; the device waits, and has its token once they have it."""
    async with open_device(tmp_path) as (device, browser):
        clock = device.world.clock
        await device.world.choose("off")
        _, _, document = await device.ask(more=WEEK)
        page = await look(browser, document["user_code"])
        assert "are asked, in your name: look, test tickets, one week" in page.text
        answered = await say(browser, "approve", document["user_code"])
        assert (200, True) == (answered.status, "The administrators of acme are asked" in answered.text)
        [request] = await asked(device)
        assert ({"read", "test_tickets"}, "week", "SUP-1") == ({*request.permissions}, request.duration, request.ticket)
        assert "locum-cli" == device.world.records(kind="grant_request", reason="asked")[0]["client_id"]
        status, told = await device.poll()
        assert (400, "customer_asked", request.id, 5) == (status, told["error"], told["asked"]["id"], told["interval"])
        assert ("acme", "week") == (told["asked"]["account"], told["asked"]["assumption_duration"])
        assert f"{request.expires_at:%Y-%m-%dT%H:%M:%SZ}" == told["asked"]["expires_at"]
        # Nobody approves by a customer's word alone what is not allowed by now.
        clock.forward(seconds=5)
        await device.world.choose("week", ["read"])
        assert "customer_asked" == await device.error()
        await answer(device, RequestState.APPROVED)
        clock.forward(seconds=5)
        status, token = await device.poll()
        assert (200, 200) == (status, await device.use(token["access_token"])), token
        assert "invalid_grant" == await device.error()


async def test_who_was_approved_by_mistake_gets_nothing(tmp_path):
    """An approved request alone opens nothing: it is decided by the grant as it is when the token is fetched."""
    async with open_device(tmp_path) as (device, browser):
        await device.world.choose("off")
        await approved(device, browser, DAY)
        await answer(device, RequestState.APPROVED)
        status, told = await device.poll()
        assert (400, "grant_off") == (status, told["reason"])


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (RequestState.DECLINED, "customer_declined"),
        (RequestState.WITHDRAWN, "expired_token"),
        (None, "expired_token"),
    ],
)
async def test_a_no_is_told_to_the_device(tmp_path, state, error):
    """Declined, withdrawn by whoever asked, or nobody answered within the hour for which a device waits."""
    async with open_device(tmp_path) as (device, browser):
        await device.world.choose("off")
        await approved(device, browser, DAY)
        if state is None:
            device.world.clock.forward(minutes=60)
        else:
            await answer(device, state)
        assert error == await device.error()


async def test_nobody_is_asked_for_what_is_allowed_already_or_is_no_customers_to_allow(tmp_path):
    """The first begins; the second is refused as ever, and so is what the account may not be asked for."""
    async with open_device(tmp_path) as (device, browser):
        assert "Go back to where you asked" in (await approved(device, browser, DAY)).text
        assert 200 == (await device.poll())[0]
        store, at = device.world.gateway.store, device.world.clock.now
        await device.world.choose("off")
        await store.set_kill_switch(KillSwitch(on=True, by="sam", reason="a drill", at=at))
        await caught_up(device.world)
        assert "kill_switch" in (await approved(device, browser, DAY)).text
        await store.set_kill_switch(KillSwitch(by="sam", at=at))
        await caught_up(device.world)
        assert "ask_duration" not in (await approved(device, browser, [])).text
        assert [] == list(await asked(device))
        for more in ([("ask_duration", "fortnight")], [*DAY, ("ask_permissions", "everything")]):
            status, _, told = await device.ask(more=more)
            assert (400, "exchange_malformed") == (status, told["reason"])


async def test_who_may_not_ask_is_told_why_and_the_device_waits_for_nothing(tmp_path):
    """Too often for a day, say; the page says so, and the command ends."""
    async with open_device(tmp_path) as (device, browser):
        await device.world.choose("off")
        for _ in range(3):
            assert 200 == (await approved(device, browser, DAY)).status
        refused = await approved(device, browser, DAY)
        assert (409, True) == (refused.status, "too_many_of_staff_in_account" in refused.text)
        assert "access_denied" == await device.error()


async def test_only_staff_themselves_send_it_on(tmp_path):
    """`ask` is no word of the form's: what is approved is asked for, and nothing else."""
    async with open_device(tmp_path) as (device, browser):
        await device.world.choose("off")
        _, _, document = await device.ask(more=DAY)
        assert 400 == (await say(browser, "ask", document["user_code"])).status
        assert [] == list(await asked(device))


async def test_an_end_of_the_session_ends_what_waits_for_the_customer(tmp_path):
    """Whoever signed out meanwhile stands in nowhere, whatever the customer says then."""
    async with open_device(tmp_path) as (device, browser):
        await device.world.choose("off")
        await approved(device, browser, DAY)
        await device.world.choose("week", ["read"])
        await answer(device, RequestState.APPROVED)
        await device.world.gateway.store.disable_staff(ActorId(device.world.issuer.issuer, "dana"), disabled=True)
        await caught_up(device.world)
        assert 400 == (await device.poll())[0]


async def test_the_whole_way(tmp_path):
    """Asked by the command, approved in the browser, answered by the customer: with each exit code that there is."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    environment = {"LOCUM__SERVER__ISSUER": issuer, "LOCUM__ACCOUNTS__HOST": "{account}.helpdesk.example"}
    async with open_process_world(tmp_path, issuer_class=Provider) as world:
        world.configure(listen=f"127.0.0.1:{port}", more=SIGN_IN)
        assert 0 == (await world.told("client", "add", "locum-cli", "--public", "--role", "device", **environment))[0]
        async with world.running(listen=f"127.0.0.1:{port}", more=SIGN_IN, environment=environment):
            words = ("--server", issuer, *ASK, "--ask", "day")
            leaving, standing_in, refused = [
                await Command.start(tmp_path, *words, *more)
                for more in ((), ("--wait", "5"), ("--ask-for", "test_tickets", "--wait", "5"))
            ]
            browser = Browser(world, host=f"127.0.0.1:{port}")
            waiting = []
            for command in (leaving, standing_in, refused):
                code, _ = await command.code()
                await approve(browser, code, issuer)
                waiting += [one for one in await requests(world) if one not in waiting]
            ended, out, said = await leaving.ends()
            assert (3, "") == (ended, out), said
            assert f"administrators of acme are asked for: read, for one day ({waiting[0]})" in said
            assert f"see {issuer}/.locum/#requests" in said
            # The device is gone, and what was asked goes on waiting.
            assert waiting[0] in await requests(world)
            await post(world, f"{waiting[2]}/decline", {})
            chosen = {"assumption_duration": "day", "permissions": ["read"]}
            await post(world, f"{waiting[1]}/approve", chosen)
            ended, out, said = await refused.ends()
            assert (4, "") == (ended, out), said
            assert "have declined" in said
            ended, token, said = await standing_in.ends()
            assert (0, 1) == (ended, token.count("\n")), said
            assert 200 == (await world.get(token.strip()))[0]


async def requests(world):
    """The ids of what waits for acme's answer."""
    url = f"{world.gateway.admin_url}/api/v1/accounts/acme/assumption/requests"
    async with world.http.get(url, headers={"Authorization": world.basic()}) as found:
        assert 200 == found.status
        return [one["id"] for one in (await found.json())["requests"]]


async def post(world, name, body):
    url = f"{world.gateway.admin_url}/api/v1/accounts/acme/assumption/requests/{name}"
    document = {"administrator": {"id": "owner", "roles": {"support": "admin"}}, **body}
    async with world.http.post(url, json=document, headers={"Authorization": world.basic()}) as found:
        assert 200 == found.status, await found.text()


@pytest.mark.parametrize("more", [("--wait", "5"), ("--ask-for", "write"), ("--ask", "day", "--wait", "51")])
def test_what_makes_no_sense_is_said_before_anything_is_sent(more):
    """To wait for nobody, to ask for no time, or to wait longer than the gateway does."""
    words = ["assume", "--server", "http://127.0.0.1:9", *ASK, *more]
    assert 2 == CliRunner().invoke(cli, words).exit_code

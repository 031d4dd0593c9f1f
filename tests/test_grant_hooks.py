"""The app's signed notice: it makes everybody ask again, at once, and nothing that is sent there opens anything."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.state import Post
from tests.app_world import OFF, SECRET, answer, notify, on, open_app_world, opened, renew, signed
from tests.gateway_world import open_world
from tests.live_world import caught_up
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import hold, response, then_close
from tests.upstream_client import eventually

shared = pytest.mark.asyncio(loop_scope="module")
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
BODY = b'{"account": "acme"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for every notice that has to be refused."""
    async with open_app_world(tmp_path_factory.mktemp("hooks")) as world:
        yield world


def streaming(_request):
    return hold(asyncio.Event(), before=STREAM)


async def until_cut(reader, writer):
    """Read until the stream is cut off."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(ConnectionResetError):
            while await reader.read(100):
                pass
    writer.close()


# --- what a notice does ---


async def test_a_notice_cuts_and_forgets_at_once(tmp_path):
    """Off at the app, told, done: the stream is cut and the next request refused though facts are fresh."""
    async with open_app_world(
        tmp_path, script=lambda r: response() if r.target == b"/tickets/2" else streaming(r)
    ) as world:
        token = await world.token()
        reader, writer = await opened(world, token)
        assert 200 == (await world.get(token, "/tickets/2"))[0]
        await caught_up(world)  # or the gateway may ask by itself at the same time
        world.app.settings["acme"] = OFF
        assert (204, None) == (await notify(world))[:2]
        await until_cut(reader, writer)
        assert 403 == (await world.get(token, "/tickets/2"))[0]
        # Whoever heard the same at the same time has taken its record back: one change was made.
        made, undone = (world.records(kind="grant", reason=reason) for reason in ("turned_off", "overtaken"))
        assert (1, {"app"}) == (len(made) - len(undone), {one["granted_by"] for one in made})


async def test_a_notice_opens_at_once_too(tmp_path):
    """What the app says now counts, whatever was known a moment before."""
    async with open_app_world(tmp_path) as world:
        world.app.settings["acme"] = OFF
        assert 400 == (await world.ask())[0]
        world.app.settings["acme"] = on(world.clock)
        assert 204 == (await notify(world))[0]
        assert 200 == (await world.ask())[0]


async def test_every_worker_hears_of_it(tmp_path):
    """A notice to one process cuts what is open in another; when the app is gone, so does a notice that got a 503."""
    async with open_app_world(tmp_path, script=streaming) as world, AsyncExitStack() as stack:
        other = await stack.enter_async_context(
            open_gateway(
                world.gateway.config,
                post=Post(origin="second", shared=True),
                clock=world.clock.utc,
                ticks=world.clock.ticks,
                patience_seconds=PATIENCE_SECONDS,
            )
        )
        first, world.gateway = world.gateway, other
        reader, writer = await opened(world, await world.token())
        await caught_up(world)
        world.gateway = first
        world.app.settings["acme"] = OFF
        assert 204 == (await notify(world))[0]
        await until_cut(reader, writer)
        world.app.settings["acme"] = on(world.clock)
        assert 204 == (await notify(world, b'{"account":"acme"}'))[0]
        world.gateway = other
        await caught_up(world)
        reader, writer = await opened(world, await world.token())
        await caught_up(world)
        world.gateway = first
        await world.app.stop()
        assert (503, "not_known") == (await notify(world, b'{ "account":"acme"}'))[:2]
        await until_cut(reader, writer)


async def test_an_app_that_does_not_answer_gets_its_notice_back(tmp_path):
    """503 and when to try again; the account is forgotten meanwhile, and the same notice counts once it is heard."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        assert 200 == (await world.get(token))[0]
        world.app.script = lambda _request: then_close(b"")
        notice = signed(BODY, at=world.clock.now.timestamp())
        before = (await world.gateway.store.read_changes(0)).position
        status, reason, headers = await notify(world, BODY, headers=notice)
        assert (503, "not_known", "1") == (status, reason, headers["Retry-After"])
        told = (await world.gateway.store.read_changes(before)).changes
        assert ["acme"] == [change.account for change in told], "so every process forgets it"
        assert 503 == (await world.get(token))[0]
        assert (200, b"ok") == (await world.get(None))[0::2]
        world.app.script = None
        assert 204 == (await notify(world, BODY, headers=notice))[0]
        assert 200 == (await world.get(token))[0]


async def test_a_store_that_is_gone_sends_the_notice_back(tmp_path):
    """Nothing is promised that is not kept."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        await world.gateway.store.close()
        assert (503, "not_known") == (await notify(world))[:2]
        assert 503 == (await world.get(token))[0]
        assert 200 == (await world.get(None))[0]


async def test_a_stale_or_lying_notice_opens_nothing(tmp_path):
    """It says nothing but a name: what is in it besides is not read, and the app's answer is what counts."""
    async with open_app_world(tmp_path) as world:
        world.app.settings["acme"] = OFF
        lie = json.dumps({"account": "acme", "security_settings": on(world.clock), "assumable": True}).encode()
        assert 204 == (await notify(world, lie))[0]
        status, document_ = await world.ask()
        assert (400, "grant_off") == (status, document_["reason"])


async def test_a_notice_of_another_shape(tmp_path):
    """The account is where the map says, as in an event of Zendesk's."""

    def shape(grants):
        grants["webhook"]["account"] = "/detail/subdomain"

    async with open_app_world(tmp_path, change=shape) as world:
        body = json.dumps({"type": "zen:event-type:account.changed", "detail": {"subdomain": "acme"}}).encode()
        asked = world.app.asked["acme"]
        assert 204 == (await notify(world, body))[0]
        assert asked + 1 == world.app.asked["acme"]
        assert (422, "malformed") == (await notify(world, BODY))[:2]


async def test_notices_take_turns(tmp_path):
    """However many come at once, four questions are asked at a time, and beyond sixty-four waiting the rest come back."""
    async with open_app_world(tmp_path) as world:
        gate = asyncio.Event()
        under_way, most = 0, 0

        def script(_request):
            async def send(connection):
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await hold(gate, after=answer(on(world.clock)))(connection)
                under_way -= 1

            return send

        world.app.script = script
        bodies = [json.dumps({"account": "acme", "n": n}).encode() for n in range(80)]
        notices = [asyncio.ensure_future(notify(world, body)) for body in bodies]
        done, _ = await asyncio.wait(notices, return_when=asyncio.FIRST_COMPLETED)
        assert {(503, "busy")} <= {one.result()[:2] for one in done}
        await eventually(lambda: under_way == 4)
        assert 4 == len(world.app.upstream.requests)
        gate.set()
        found = [(await one)[0] for one in notices]
        assert 16 <= found.count(503)
        assert 4 == most


async def test_a_secret_can_be_changed_without_a_gap(tmp_path):
    """Two count at a time; a reload with the new one alone ends the old one."""
    new = "the next secret, which is long enough as well"
    both = {"secret": new, "previous_secret": SECRET}
    async with open_app_world(tmp_path, change=lambda grants: grants.update(webhook=both)) as world:
        assert 204 == (await notify(world))[0]
        assert 204 == (await notify(world, secret=new))[0]
        await renew(world, lambda grants: grants.update(webhook={"secret": new}))
        assert 204 == (await notify(world, b'{"account":"acme"}', secret=new))[0]
        assert (401, "bad_signature") == (await notify(world, b'{"account":"acme"}'))[:2]


async def test_without_a_secret_nobody_is_heard(tmp_path):
    """The path answers that it is not wanted, before and after a reload, and where grants are our own."""
    async with open_app_world(tmp_path, change=lambda grants: grants.pop("webhook")) as world:
        assert (404, "not_configured") == (await notify(world))[:2]
        await renew(world)
        assert 204 == (await notify(world))[0]


async def test_our_own_grants_know_no_notice(tmp_path):
    """Nothing can be told that we have not done ourselves."""
    async with open_world(tmp_path) as world:
        assert (404, "not_configured") == (await notify(world))[:2]


# --- what is refused, and asks nobody ---


async def refused(world, status, reason, body=BODY, **options):
    asked = world.app.asked.total()
    assert (status, reason) == (await notify(world, body, **options))[:2]
    assert asked == world.app.asked.total()


@shared
@pytest.mark.parametrize("seconds", [-301, 301, -86400, 10**10])
async def test_a_notice_of_another_time_is_refused(world, seconds):
    """Five minutes either way, and not a second more."""
    await refused(world, 401, "unsigned", at=world.clock.now.timestamp() + seconds)


@shared
@pytest.mark.parametrize("seconds", [-300, 300])
async def test_a_notice_from_within_the_window_counts(world, seconds):
    """Clocks differ."""
    assert 204 == (await notify(world, at=world.clock.now.timestamp() + seconds))[0]


@shared
async def test_a_notice_counts_once(world):
    """Of two hundred at a time one asks the app. The same again is told apart from a new one; in capitals it is the same."""
    now = (world.clock.now - timedelta(seconds=7)).timestamp()
    notice = signed(BODY, at=now)
    asked = world.app.asked.total()
    answers = await asyncio.gather(*(notify(world, BODY, headers=notice) for _ in range(200)))
    statuses = [status for status, _, _ in answers]
    # 503 is for more at a time than one address may have.
    assert (1, True) == (statuses.count(204), set(statuses) <= {204, 409, 503})
    assert asked + 1 == world.app.asked.total()
    await refused(world, 409, "seen_before", headers=notice)
    capitals = notice | {"Webhook-Signature": "v1=" + notice["Webhook-Signature"][3:].upper()}
    await refused(world, 409, "seen_before", headers=capitals)
    assert 204 == (await notify(world, BODY + b" ", at=now))[0]


@shared
async def test_every_changed_byte_is_refused(world):
    """Of the body, the timestamp and the signature: each bit of a notice is signed."""
    now = int(world.clock.now.timestamp()) - 20
    notice = signed(BODY, at=now)
    for index in range(len(BODY)):
        changed = bytearray(BODY)
        changed[index] ^= 1
        await refused(world, 401, "bad_signature", bytes(changed), headers=notice)
    await refused(world, 401, "bad_signature", BODY + b" ", headers=notice)
    await refused(world, 401, "bad_signature", b"", headers=notice)
    for stamp in (now + 1, now - 1, f"0{now}"):
        await refused(world, 401, "bad_signature", headers=notice | {"Webhook-Timestamp": str(stamp)})
    mac = notice["Webhook-Signature"]
    for index in range(3, len(mac)):
        other = mac[:index] + ("0" if mac[index] != "0" else "1") + mac[index + 1 :]
        await refused(world, 401, "bad_signature", headers=notice | {"Webhook-Signature": other})


@shared
@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Timestamp": None},
        {"Webhook-Signature": None},
        {"Webhook-Timestamp": ""},
        {"Webhook-Timestamp": "now"},
        {"Webhook-Timestamp": "-1"},
        {"Webhook-Timestamp": "1e9"},
        {"Webhook-Timestamp": "9" * 13},
        {"Webhook-Signature": ""},
        {"Webhook-Signature": "v1="},
        {"Webhook-Signature": "v0=" + "0" * 64},
        {"Webhook-Signature": "v1=" + "0" * 63},
        {"Webhook-Signature": "v1=" + "g" * 64},
    ],
)
async def test_a_notice_without_both_headers_is_refused(world, change):
    """Each once, in its one spelling."""
    headers = signed(BODY, at=world.clock.now.timestamp()) | change
    await refused(world, 401, "unsigned", headers={name: value for name, value in headers.items() if value is not None})


@shared
async def test_headers_that_are_there_twice_are_refused(world):
    """Nobody chooses between two, not even between two that are the same."""
    headers = signed(BODY, at=world.clock.now.timestamp())
    for name in headers:
        await refused(world, 401, "unsigned", headers=[*headers.items(), (name, headers[name])])


@shared
@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"account": null}', b'{"account": ""}', b'{"account": "../x"}',
                                  b'{"account": "a", "account": "acme"}', b'{"account": "ACME"}', b"\xff", b"["])  # fmt: skip
async def test_a_signed_notice_that_names_no_account_is_refused(world, body):
    """The signature is right, so it is told what is wrong with the rest."""
    await refused(world, 422, "malformed", body)


@shared
async def test_a_notice_may_be_so_long(world):
    """64 KiB, signed or not."""
    await refused(world, 413, "malformed", b"x" * 65537)
    body = BODY[:-1] + b', "pad": "' + b"x" * (65536 - len(BODY) - 11) + b'"}'
    assert 65536 == len(body)
    assert 204 == (await notify(world, body))[0]


@shared
async def test_an_account_that_nobody_knows_is_asked_about_and_not_added(world):
    """The app says that there is none, and that is all."""
    assert 204 == (await notify(world, b'{"account": "nobody"}'))[0]
    assert 1 == world.app.asked["nobody"]
    assert None is await world.gateway.store.find_account("nobody")

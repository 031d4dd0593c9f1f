"""The kill-switch on the admin listener: who may use it, what it does at once, and what is on the record of it."""

import asyncio
import base64
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.audit.log import JournalError
from gateway.cli.kill_switch import describe
from gateway.clients import ClientAuthenticator, digest_of
from gateway.grants.switch import Overtaken, Switch
from gateway.grants.switch_api import SwitchApi
from gateway.stores.store import Client, KillSwitch, StoreError
from policy.model import ClientId
from tests.forgery import NOON
from tests.gateway_world import open_world
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS
from tests.test_cuts import Moody

OPERATOR = "Basic " + base64.b64encode(b"siem:a secret").decode()
ON = {"kill_switch": "on", "by": "robin", "reason": "an incident"}
OFF = {"kill_switch": "off", "by": "kim"}


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as world:
        operator = Client(id=ClientId("siem"), secret_digest=digest_of("a secret"), roles=frozenset({"kill_switch"}))
        await world.gateway.store.add_client(operator)
        yield world


async def switch(world, body=None, *, authorization=OPERATOR, method=None):
    """Ask for it, or set it to what a document or raw bytes say; return (status, document)."""
    url = f"{world.gateway.admin_url}/api/v1/kill-switch"
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Authorization": authorization} if authorization else {}
    async with world.http.request(method or ("PUT" if body else "GET"), url, data=data, headers=sent) as answer:
        assert "no-store" == answer.headers["Cache-Control"]
        return answer.status, json.loads(await answer.text())


async def test_it_stops_everything_until_it_is_turned_off(world):
    """The next request is refused and customers do not notice; both are on the record, with who says so and through whom."""
    await world.choose("day")
    token = await world.token()
    assert (200, {"kill_switch": "off", "by": None, "reason": None, "since": None}) == await switch(world)
    status, document = await switch(world, ON)
    assert (200, "on", "robin", "an incident") == (status, *(document[key] for key in ("kill_switch", "by", "reason")))
    assert (200, document) == await switch(world)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while b"kill_switch" not in (await world.get(token))[2]:  # noqa: ASYNC110 - it is heard of in the background
            await asyncio.sleep(0.005)
    assert 200 == (await world.get())[0]
    assert "off" == (await switch(world, OFF))[1]["kill_switch"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while 200 != (await world.get(token))[0]:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.005)
    found = [(r["reason"], r["by"], r.get("stated_reason"), r["client_id"]) for r in world.records(kind="kill_switch")]
    assert [("on", "robin", "an incident", "siem"), ("off", "kim", None, "siem")] == found


BAD = {
    "nobody": {"kill_switch": "on", "reason": "x"},
    "an empty name": {**ON, "by": ""},
    "on for no reason": {"kill_switch": "on", "by": "robin"},
    "neither on nor off": {**ON, "kill_switch": True},
    "one field too many": {**ON, "account": "acme"},
    "a field twice": b'{"kill_switch":"off","kill_switch":"on","by":"robin","reason":"x"}',
    "too long a reason": {**ON, "reason": "x" * 1000},
    "no JSON": b"on",
    "a name that clears the screen": {**ON, "by": "x\x1b[2J"},
    "a reason of two lines": {**ON, "reason": "x\nkill-switch: off"},
    "an old steering character": {**ON, "reason": "r\x9b2J"},
    "a deletion": {**OFF, "reason": "\x7f"},
}


async def test_what_does_not_fit_changes_nothing(world):
    """It is told so, and nothing is on the record."""
    for what, body in BAD.items():
        status, document = await switch(world, body)
        assert (what, 400, "malformed") == (what, status, document["reason"])
    assert KillSwitch() == await world.gateway.store.find_kill_switch()
    assert [] == world.records(kind="kill_switch")


@pytest.mark.parametrize("steering", ["\x1b[2J", "\r\n", "\x9b2J", "\x07", "\u202e", "\u2028"])
def test_what_is_shown_of_it_steers_no_terminal(steering):
    """However it came into the store, it is one line, and one can see what it says; other letters stay."""
    shown = describe(KillSwitch(on=True, by=f"zoë{steering}", reason=f"{steering}kill-switch: off", at=NOON))
    assert shown.startswith("kill-switch: on since ")
    assert (2, True, True) == (shown.count(f"\\u{ord(steering[0]):04x}"), "by zoë\\u" in shown, shown.isprintable())


async def test_the_app_may_not_use_it(world):
    """Neither with its own role, nor without a secret, nor with a wrong one; not even to look."""
    wrong = "Basic " + base64.b64encode(b"siem:another").decode()
    for authorization in (world.basic(), None, wrong):
        for body in (None, ON, OFF):
            status, document = await switch(world, body, authorization=authorization)
            assert (401, "unauthenticated") == (status, document["reason"])
    assert KillSwitch() == await world.gateway.store.find_kill_switch()


async def test_stopping_does_not_wait_for_its_record_and_going_on_does():
    """With the journal broken, on is done and owed, in order; off is not done."""
    store, journal = MemoryStore(), Moody()
    switch = Switch(store, journal, clock=lambda: NOON)
    journal.broken = True
    await switch.turn_on(by="robin", reason="why")
    assert (await store.find_kill_switch()).on
    with pytest.raises(JournalError):
        await switch.turn_off(by="robin", reason="")
    assert (await store.find_kill_switch()).on
    journal.broken = False
    await switch.turn_off(by="robin", reason="over")
    assert not (await store.find_kill_switch()).on
    assert ["on", "off"] == [record.reason for record in journal.records]


async def test_a_store_that_fails_is_not_taken_for_done():
    """On: nothing is on the record. Off: nor is what was not begun, and the record of what was is taken back."""
    store, journal = MemoryStore(), Moody()
    switch = Switch(store, journal, clock=lambda: NOON)
    store.fail_with = StoreError("away")
    with pytest.raises(StoreError):
        await switch.turn_on(by="robin", reason="why")
    assert [] == journal.records
    with pytest.raises(StoreError):
        await switch.turn_off(by="robin", reason="")
    assert [] == journal.records
    store.fail_with = None
    await store.set_kill_switch(KillSwitch(on=True, by="robin", reason="why", at=NOON))

    async def fail():
        store.fail_with = StoreError("away")

    switch = Switch(store, Meanwhile(journal, "off", fail), clock=lambda: NOON)
    with pytest.raises(StoreError):
        await switch.turn_off(by="robin", reason="")
    assert ["off", "off_failed"] == [record.reason for record in journal.records]


class Meanwhile:
    """An AuditLog that something happens behind, while one record is written."""

    healthy = True

    def __init__(self, journal, reason, happen):
        self._journal, self._reason, self._happen = journal, reason, happen

    async def append(self, record, *, durable=False):
        number = await self._journal.append(record, durable=durable)
        if record.reason == self._reason:
            await self._happen()
        return number

    async def close(self):
        await self._journal.close()


@pytest.mark.parametrize("before", ["on", "off"])
async def test_an_older_off_never_undoes_a_newer_on(before):
    """Whoever turns it on is told so and it stays so, on top of what was on or after another's off; the record tells."""
    store, journal = MemoryStore(), Moody()
    newer = Switch(store, journal, clock=lambda: NOON)
    await newer.turn_on(by="kim", reason="first")

    async def another_incident():
        if before == "off":
            await newer.turn_off(by="sam", reason="over, too")
        await newer.turn_on(by="robin", reason="another")

    older = Switch(store, Meanwhile(journal, "off", another_incident), clock=lambda: NOON)
    with pytest.raises(Overtaken):
        await older.turn_off(by="kim", reason="over")
    assert KillSwitch(on=True, by="robin", reason="another", at=NOON) == await store.find_kill_switch()
    told = [(record.reason, record.by) for record in journal.records]
    assert [("on", "robin"), ("off_failed", "kim")] == told[-2:]
    await newer.turn_off(by="robin", reason="over")
    assert not (await store.find_kill_switch()).on


async def test_off_says_that_it_was_overtaken(world):
    """409 to the program, and nothing that stops is let go on."""
    store, journal = world.gateway.store, Moody()
    assert 200 == (await switch(world, ON))[0]

    async def another_incident():
        assert 200 == (await switch(world, {**ON, "by": "alex"}))[0]

    late = Switch(store, Meanwhile(journal, "off", another_incident), clock=lambda: NOON)
    application = web.Application()
    application.add_routes(SwitchApi(late, ClientAuthenticator(store)).routes())
    async with TestClient(TestServer(application)) as client:
        sent = {"Authorization": OPERATOR}
        async with client.put("/api/v1/kill-switch", json=OFF, headers=sent) as answer:
            assert (409, "overtaken") == (answer.status, (await answer.json(content_type=None))["reason"])
    assert (200, "on", "alex") == ((found := await switch(world))[0], found[1]["kill_switch"], found[1]["by"])


async def test_off_of_what_is_off_already_changes_nothing(world):
    """It is told what there is, and nothing is on the record."""
    assert (200, "off") == ((found := await switch(world, OFF))[0], found[1]["kill_switch"])
    assert KillSwitch() == await world.gateway.store.find_kill_switch()
    assert [] == world.records(kind="kill_switch")

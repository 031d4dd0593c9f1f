"""What a loss of power cannot take away: what changes anything waits for the disk first, and what only reads does not."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.clients import digest_of
from gateway.grants.service import ChangeRequest
from gateway.grants.switch import Overtaken, Switch
from gateway.stores.store import Client, KillSwitch, StoreError
from policy.asking import RequestRefusal, RequestState
from policy.model import Account, AccountId, AccountType, ClientId, Duration, Permission
from tests.asking_world import OWNER, Desk, Notes
from tests.browser_world import code_of, open_browser
from tests.device_world import Device, add_device_client, say
from tests.forgery import NOON
from tests.gateway_world import open_world
from tests.memory_store import MemoryStore
from tests.oauth_world import revoke
from tests.patience import within
from tests.sign_out_world import logout_token, tell
from tests.test_requests_api import NO, YES, asks, call
from tests.test_stand_in_asking import ask, asked, withdraw
from tests.test_switch_api import OFF, ON, switch
from tests.upstream_client import eventually

DONE, REFUSED = 200, 503


@contextmanager
def keeps_nothing(journal: Path):
    """Have the disk take every line and fail every fsync: what is asked of the newest segment goes to /dev/null."""
    newest = str(max(journal.glob("*.jsonl"), key=lambda path: path.name).resolve())
    handles = [int(one.name) for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == newest]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for handle in handles:
            os.dup2(nothing, handle, inheritable=False)
        yield
    finally:
        os.close(nothing)


# Each gets ready, yields, acts, and yields the status of what it is answered.


async def read(browser):
    token = await browser.world.token()
    yield
    yield (await browser.world.get(token))[0]


async def read_by_cookie(browser):
    await browser.stand_in()
    yield
    yield (await browser.ask()).status


async def write(browser):
    token = await browser.world.token("tickets:read tickets:write")
    yield
    yield (await browser.world.get(token, "/tickets/1/reply", method="POST", body=b"{}"))[0]
    assert [] == [one for one in browser.world.upstream.requests if one.method == b"POST"]


async def write_by_cookie(browser):
    await browser.stand_in(scopes=("tickets:read", "tickets:write"))
    yield
    yield (await browser.write()).status
    assert [] == [one for one in browser.world.upstream.requests if one.method == b"POST"]


async def issue(browser):
    yield
    yield (await browser.world.ask(scope="tickets:read"))[0]


async def begin(browser):
    await browser.home()
    yield
    yield (await browser.begin()).status


async def enter(browser):
    code = code_of(await browser.begin())
    yield
    entered = await browser.enter(code)
    yield entered.status
    assert [] == entered.set_cookies


async def approve_device(browser):
    await add_device_client(browser.world)
    device = Device(browser.world)
    await device.ask()
    yield
    yield (await say(browser, "approve", device.codes["user_code"])).status
    assert "authorization_pending" == await device.error()


async def choose(browser):
    yield
    yield (await browser.world.choose("year"))[0]


async def choose_off(browser):
    yield
    yield (await browser.world.choose("off"))[0]


async def request(browser):
    await browser.world.choose("off")
    yield
    yield (await ask(browser)).status
    assert [] == list(await asked(browser))


async def take_back(browser):
    await browser.world.choose("off")
    await ask(browser)
    [one] = await asked(browser)
    yield
    yield (await withdraw(browser, one.id)).status
    assert RequestState.WAITING is (await asked(browser))[0].answer


async def approve(browser):
    one = await asks(browser.world)
    yield
    yield (await call(browser.world, f"/{one.id}/approve", YES))[0]


async def decline(browser):
    one = await asks(browser.world)
    yield
    yield (await call(browser.world, f"/{one.id}/decline", NO))[0]


async def turn_on(browser):
    yield
    yield (await switch(browser.world, ON))[0]


async def turn_off(browser):
    await switch(browser.world, ON)
    yield
    yield (await switch(browser.world, OFF))[0]
    assert (await browser.world.gateway.store.find_kill_switch()).on


async def end(browser):
    token = await browser.world.token()
    yield
    yield (await revoke(browser.world, token))[0]


async def sign_out(browser):
    yield
    yield (await tell(browser.world, logout_token(browser.world)))[0]


WAIT = {
    write: REFUSED, write_by_cookie: REFUSED, issue: REFUSED, begin: REFUSED, enter: REFUSED, approve_device: REFUSED,
    choose: REFUSED, request: REFUSED, take_back: REFUSED, approve: REFUSED, turn_off: REFUSED,
    # What only takes power away is done all the same, and owed to the record.
    choose_off: DONE, decline: DONE, turn_on: DONE, end: DONE, sign_out: DONE,
}  # fmt: skip


async def failures_of(act, tmp_path, *, durability="process"):
    """Return what an act was answered by a gateway whose disk keeps nothing, and how often an fsync failed."""

    def change(document):
        document["audit"] |= {"checkpoint_seconds": 3600, "durability": durability}

    async with open_browser(tmp_path, stand_in=False, change=change) as browser:
        await browser.sign_in()
        operator = Client(id=ClientId("siem"), secret_digest=digest_of("a secret"), roles=frozenset({"kill_switch"}))
        await browser.world.gateway.store.add_client(operator)
        steps = act(browser)
        await anext(steps)
        journal, directory = browser.world.gateway.journal, tmp_path / "journal"
        # The one checkpoint of the first hour would be an fsync of its own.
        await eventually((directory / "gateway.checkpoint").exists)
        before = journal.failures
        with keeps_nothing(directory):
            status = await anext(steps)
            failures = journal.failures - before
        assert None is await anext(steps, None)
    return status, failures


@pytest.mark.parametrize("act", WAIT, ids=lambda act: act.__name__)
async def test_what_changes_anything_waits_for_the_disk(tmp_path, act):
    """Data, a token, a grant, a request to the customer, the kill-switch, an end: not before an fsync of its record."""
    assert (WAIT[act], 1) == await failures_of(act, tmp_path)


@pytest.mark.parametrize("act", [read, read_by_cookie], ids=lambda act: act.__name__)
async def test_what_only_reads_does_not(tmp_path, act):
    """Its record survives this process, and that is what it waits for."""
    assert (DONE, 0) == await failures_of(act, tmp_path)


@pytest.mark.parametrize("act", [read, read_by_cookie], ids=lambda act: act.__name__)
async def test_with_power_everything_waits_for_it(tmp_path, act):
    """`audit.durability = "power"`: no request of staff is let through before its record outlives the machine's crash."""
    assert (REFUSED, 1) == await failures_of(act, tmp_path, durability="power")


class Noting(Notes):
    """An audit log that notes which records have to outlive a loss of power."""

    def __init__(self):
        super().__init__()
        self.kept = []

    async def append(self, record, *, durable=False, instead=None):
        self.kept.append((record.reason, durable))
        return await super().append(record, durable=durable, instead=instead)


class Failing(MemoryStore):
    """Takes no change of a grant and no request, and has had the kill-switch set by somebody else meanwhile."""

    async def save_change(self, change, *, by, at):
        raise StoreError("the store is full")

    async def add_grant_request(self, request, *, room):
        return RequestRefusal.TOO_MANY_OF_ACCOUNT

    async def set_kill_switch(self, switch, *, known=None):
        return known is None and await super().set_kill_switch(switch)


CHOICE = ChangeRequest(
    account=AccountId("acme"), duration=Duration.DAY, permissions=frozenset({Permission.READ}), administrator=OWNER
)


async def test_what_did_not_happen_is_said_as_durably():
    """Or after a loss of power the record of it would stand for its having happened; a new account is as safe."""
    desk = Desk(Failing())
    noting = desk.grants._journal = desk.requests._journal = Noting()
    await desk.open()
    await desk.store.set_kill_switch(KillSwitch(on=True, by="robin", reason="an incident", at=NOON))
    with pytest.raises(Overtaken):
        await Switch(desk.store, noting, clock=desk.clock).turn_off(by="kim", reason="")
    assert RequestRefusal.TOO_MANY_OF_ACCOUNT is await desk.ask()
    with pytest.raises(StoreError):
        await desk.grants.choose(CHOICE)
    await desk.grants.add(Account(id=AccountId("globex"), type=AccountType.PAID), by="kim")
    said = ["off", "off_failed", "asked", "too_many_of_account", "enabled", "store_unavailable", "added_paid"]
    assert [(reason, True) for reason in said] == noting.kept


async def test_what_there_is_is_signed_every_second_if_nothing_else_is_configured(tmp_path):
    """As long as something is written: first at once, then again within the second, and so on."""
    async with open_world(tmp_path) as world:
        for choice in ("day", "off"):
            await world.choose(choice)
            # The disk may take long, which is no second of ours.
            async with within(10):
                await eventually(lambda: signed(tmp_path) == world.gateway.journal.size)


def signed(directory):
    """How many records the newest checkpoint covers."""
    path = directory / "journal" / "gateway.checkpoint"
    return int(path.read_text().splitlines()[1]) if path.exists() else 0

"""What concerns many accounts: each one's administrators are told, once each, a page of accounts at a time."""

import contextlib
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from gateway.config.notices import NoticesSecurity
from gateway.stores.outbox import ALL, Former, Room
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import StoreError
from gateway.telling.addressing import Addressing
from gateway.telling.events import Event, read_event
from gateway.telling.spreading import CHANNEL, MOST, Spreader, begin_round
from policy.model import Account, AccountId, AccountType, Duration
from tests.memory_store import MemoryStore
from tests.store_examples import a_change, a_grant
from tests.telling_world import Hands, Log, Time, put_contacts, sending
from tests.test_telling_mail import wording
from tests.upstream_client import eventually

HOUR = timedelta(hours=1)
INSIDE = "sam, because mallory stood in at globex"
ROUNDS_ALONE = Room(full=["mail", "webhook", "none"])


def event_of(name, at, *, reason="on", by="sam"):
    entry = {"kill_switch": {"kind": "kill_switch", "reason": reason, "by": by}}
    entry["evidence"] = {"kind": "audit", "reason": "evidence_broken"}
    entry["mended"] = {"kind": "audit", "reason": "evidence_mended", "since": (at - HOUR).isoformat()}
    said = {"at": at.isoformat(), "origin": "inner-host-7", "seq": 471100471100, "stated_reason": INSIDE}
    return read_event({**entry[name], **said})


async def add(store, name, at, *, kind=AccountType.PAID, grant=None, mail=None):
    """Add an account, and who of it is told."""
    account = Account(id=AccountId(name), type=kind)
    await store.add_account(account)
    if grant is not None:
        await store.save_change(a_change(account, grant=a_grant(account, id=f"g_{name}", **grant)), by="x", at=at)
    await put_contacts(store, name, mail=[f"{name}@customers.example"] if mail is None else mail, at=at - HOUR)


async def world_of(at):
    """Return a store with accounts whose setting is on, is off, or was."""
    store = MemoryStore()
    on = {"not_before": at - 2 * HOUR, "expires_at": at + HOUR}
    await add(store, "on", at, grant=on)
    await add(store, "always", at, grant={**on, "duration": Duration.ALWAYS, "expires_at": None})
    await add(store, "trial", at, kind=AccountType.TRIAL)
    await add(store, "off-after", at, grant={**on, "revoked_at": at + timedelta(seconds=1)})
    await add(store, "off-before", at, grant={**on, "revoked_at": at})
    await add(store, "over", at, grant={**on, "expires_at": at})
    await add(store, "never", at)
    await add(store, "on-nobody", at, grant=on, mail=[])
    await put_contacts(store, "unknown", mail=["unknown@customers.example"], at=at - HOUR)
    return store


async def deal(store, clock, *, kept_by_app=False, most=3):
    """Deal with all rounds that are due, as time goes on."""
    spreader = Spreader(store, kept_by_app=kept_by_app, clock=clock, most=most)
    while (claim := await claim_round(store, clock)) is not None:
        await spreader.deal(claim)
        clock.now += timedelta(seconds=1)


async def claim_round(store, clock, holder="one"):
    now = clock.now
    return await store.claim_notices(holder, now=now, until=now + timedelta(minutes=3), most=50, room=ROUNDS_ALONE)


async def waiting(store):
    """Return who is to be told, and that nothing of rounds is left."""
    found = [each.notice for each in await store.list_pending(most=10**6)]
    assert CHANNEL not in {each.target.channel for each in found}
    return found


ON = ["always", "off-after", "on", "on-nobody", "trial"]


@pytest.mark.parametrize(
    ("name", "kept_by_app", "more"),
    [
        ("kill_switch", False, []),
        ("kill_switch", True, ["unknown"]),
        ("evidence", False, ["unknown"]),
        ("mended", False, ["unknown"]),
    ],
)
async def test_whom_what_concerns_every_account_is_told(name, kept_by_app, more):
    """Of the kill-switch whose setting was on, a trial's always is; of evidence everybody, and so where the app knows."""
    clock = Time()
    store = await world_of(clock.now)
    await store.add_notices([begin_round(event_of(name, clock.now), about="r")], now=clock.now)
    await deal(store, clock, kept_by_app=kept_by_app)
    told = await waiting(store)
    everybody = [*ON, "off-before", "over", "never", *more]
    assert sorted(everybody if more else ON) == sorted(each.account for each in told)
    assert {"r"} == {each.about for each in told}
    # Somebody named nobody: that is for the record.
    assert [("none", "on-nobody")] == [each.target for each in told if each.account == "on-nobody"]
    assert all(
        each.target.address == f"{each.account}@customers.example" for each in told if each.account != "on-nobody"
    )


@pytest.mark.parametrize("name", ["kill_switch", "evidence", "mended"])
async def test_an_account_hears_nothing_of_others_nor_of_the_inside(name):
    """Neither who, nor why, nor where; in a mail, bare or not, and in what programs get."""
    clock = Time()
    store = await world_of(clock.now)
    await store.add_notices([begin_round(event_of(name, clock.now, by=INSIDE), about="r")], now=clock.now)
    await deal(store, clock)
    words = wording()
    [notice] = [each for each in await waiting(store) if each.account == "on"]
    mails = [words.mail([notice], is_bare=is_bare) for is_bare in (False, True)]
    said = [f"{mail.subject}\n{mail.body}" for mail in mails] + [words.document(notice).decode()]
    for text in said:
        for inner in ("sam", "mallory", "globex", "471100471100", "inner-host", "trial", "always", "locum audit"):
            assert inner not in text.replace("https://on.helpdesk.example/.locum/account", "")
    data = msgspec.json.decode(said[2])["data"]
    more, subject = {
        "kill_switch": ("change", "Nobody can stand in now, at any account"),
        "evidence": ("id", "could not be verified"),
        "mended": ("since", "could be verified again"),
    }[name]
    assert {"id", "account", "link", more} == set(data)
    assert subject in said[0]


async def test_the_same_is_told_once_however_often_it_is_read():
    """A record that is read again tells nobody again; what else is broken on the same day neither; another switch does."""
    clock = Time()
    store, at = await world_of(clock.now), clock.now.replace(hour=1)
    events = [(event_of("kill_switch", at), "r1"), (event_of("evidence", at), "r2")]
    events += [(event_of("evidence", at + HOUR), "r3"), (event_of("kill_switch", at + HOUR, reason="off"), "r4")]
    for _ in range(2):
        for event, about in events:
            await store.add_notices([begin_round(event, about=about)], now=clock.now)
        await deal(store, clock, kept_by_app=True)
    told = Counter((each.account, each.about) for each in await waiting(store))
    assert {1} == set(told.values())
    assert {"r1", "r2", "r4"} == {about for _, about in told}
    assert 9 * 3 == len(told)


async def test_whoever_was_taken_off_since_is_told_too():
    """It happened in their time."""
    clock = Time()
    store = await world_of(clock.now)
    happened = clock.now - timedelta(minutes=1)
    before = await store.find_contacts(AccountId("on"))
    former = tuple(Former(target, clock.now) for target in before.targets)
    after = replace(before, version=2, mail=("new@customers.example",), former=former)
    await store.save_contacts(after, tell=[], now=clock.now)
    await store.add_notices([begin_round(event_of("evidence", happened), about="r")], now=clock.now)
    await deal(store, clock)
    told = {each.target.address for each in await waiting(store) if each.account == "on"}
    assert {"on@customers.example", "new@customers.example"} == told


async def test_who_is_told_of_several_accounts_hears_of_each():
    """For each account can look up that its own were told, and each webhook is signed for its account."""
    clock, store = Time(), MemoryStore()
    for name in ("acme", "globex"):
        await put_contacts(store, name, mail=["partner@both.example"], webhooks=["https://both.example/"])
    await store.add_notices([begin_round(event_of("evidence", clock.now), about="r")], now=clock.now)
    await deal(store, clock)
    told = sorted((each.account, each.target.channel) for each in await waiting(store))
    assert [("acme", "mail"), ("acme", "webhook"), ("globex", "mail"), ("globex", "webhook")] == told


class Dying(MemoryStore):
    """Dies at the calls named, before or behind them."""

    def __init__(self):
        super().__init__()
        self.deaths = []
        self.calls = Counter()
        self.most_added = 0
        self.others_wait = False

    async def _count(self, name):
        self.calls[name] += 1
        if self.deaths and self.deaths[0] == name:
            self.deaths.pop(0)
            raise StoreError("dead")

    async def is_due(self, *, now, room=ALL):
        return self.others_wait

    async def page_contacts(self, after, *, most):
        await self._count("page")
        return await super().page_contacts(after, most=most)

    async def add_notices(self, notices, *, now):
        await self._count("add")
        self.most_added = max(self.most_added, len(notices))
        return await super().add_notices(notices, now=now)

    async def settle_notices(self, ids, *, outcome):
        await self._count("settle")
        await super().settle_notices(ids, outcome=outcome)

    async def finish_claim(self, claim, **more):
        await self._count("finish")
        await super().finish_claim(claim, **more)


async def filled(store, count, at):
    for index in range(count):
        await put_contacts(store, f"a{index:05}", mail=[f"a{index:05}@customers.example"], at=at - HOUR)


async def test_a_round_goes_on_where_it_was_when_somebody_died():
    """Wherever that is: another takes it once the claim is over, and everybody is told once."""
    store, clock = Dying(), Time()
    await filled(store, 40, clock.now)
    await store.add_notices([begin_round(event_of("evidence", clock.now), about="r")], now=clock.now)
    store.deaths = ["page", "add", "settle", "finish", "settle", "page"]
    deaths = 0
    while store.deaths:
        with contextlib.suppress(StoreError):
            await deal(store, clock, most=5)
        deaths += 1
        # Nobody else gets it while the dead one's claim goes on.
        assert None is await claim_round(store, clock, "two")
        clock.now += timedelta(minutes=3)
    assert 6 == deaths
    await deal(store, clock, most=5)
    assert [f"a{index:05}" for index in range(40)] == sorted(each.account for each in await waiting(store))
    # It did not begin anew each time: 40 accounts are eight pages and an empty one, and of those six were done again.
    assert store.calls["page"] <= 9 + 6 + 1


async def test_many_accounts_are_a_page_at_a_time():
    """Of 2,000 accounts never more than a hundred are in hand, each page costs the same few calls, and each waits."""
    store, clock = Dying(), Time()
    await filled(store, 2000, clock.now)
    begun = clock.now
    await store.add_notices([begin_round(event_of("evidence", begun), about="r")], now=clock.now)
    store.calls.clear()
    await deal(store, clock, most=MOST)
    pages = 2000 // MOST + 1
    # The last page is empty: there is nothing to add.
    assert {"page": pages, "add": pages - 1, "settle": pages, "finish": pages} == dict(store.calls)
    assert MOST + 1 == store.most_added
    assert clock.now - begun >= timedelta(seconds=pages)
    assert 2000 == len({each.target for each in await waiting(store)})


async def test_what_others_are_told_is_not_behind_all_of_it():
    """While something else is due a page waits, and not for ever: whoever is never done holds up no round."""
    store, clock = Dying(), Time()
    await filled(store, 6, clock.now)
    await store.add_notices([begin_round(event_of("evidence", clock.now), about="r")], now=clock.now)
    begun, store.others_wait = clock.now, True
    await deal(store, clock, most=2)
    assert 6 == len(await waiting(store))
    # Four pages, the last one empty, each after ten pauses.
    assert timedelta(seconds=4 * 11) == clock.now - begun
    store.others_wait = False
    await store.add_notices([begin_round(event_of("kill_switch", clock.now), about="k")], now=clock.now)
    begun = clock.now
    await deal(store, clock, kept_by_app=True, most=2)
    assert timedelta(seconds=4) == clock.now - begun


async def test_two_nodes_tell_each_account_once(tmp_path):
    """Side by side on one store, each of them pages and sends; who was told is on the record."""
    one, two = await open_sqlite(tmp_path / "s.sqlite3"), await open_sqlite(tmp_path / "s.sqlite3")
    clock, courier, logs = Time(), Hands(), [Log(), Log()]
    try:
        await filled(one, 20, clock.now)
        await one.add_notices([begin_round(event_of("evidence", clock.now), about="r")], now=clock.now)
        async with (
            sending(one, courier, journal=logs[0], clock=clock),
            sending(two, courier, journal=logs[1], clock=clock),
        ):
            await eventually(lambda: sum(len(log.records) for log in logs) >= 20)
    finally:
        await one.close()
        await two.close()
    assert [f"a{index:05}@customers.example" for index in range(20)] == sorted(to for to, _ in courier.brought)
    records = [each for log in logs for each in log.records]
    assert {("sent", "evidence", "r")} == {(each.reason, each.event, each.about) for each in records}
    assert 20 == len({each.account for each in records})


def test_what_is_an_accounts_own_or_an_error_of_ours_is_no_round():
    """Nor does the team's own notice change: it is told as ever, of each thing that is found."""
    at = Time().now
    for name in ("begun", "setting", "asked", "ended", "contacts"):
        assert None is begin_round(Event(name=name, account="acme", at=at), about="r")
    assert None is begin_round(Event(name="evidence", at=at, facts={"why": "unreadable"}), about="r")
    team = Addressing(NoticesSecurity(mail=("s@v.example",)))
    [notice] = team.notices(event_of("evidence", at), None, about="r")
    assert ("s@v.example", "") == (notice.target.address, notice.account)

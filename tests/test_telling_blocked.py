"""What would silence notices: words that nobody takes, floods, whoever is slow, clocks that were ahead, a store away."""

import asyncio
import contextlib
import json
import sqlite3
import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from gateway.audit.formats.forms import FORMS
from gateway.audit.sinks.runner import Runner, Terms
from gateway.audit.sinks.status import Status
from gateway.clock import boot_seconds, utc_now
from gateway.config.notices import NoticesMail, NoticesSecurity
from gateway.pages.render import Texts
from gateway.stores.outbox import Notice, Target
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import StoreError
from gateway.telling.addressing import Addressing
from gateway.telling.counts import NoticeCounts
from gateway.telling.courier import NotNow, NotThis
from gateway.telling.mail import MailCourier
from gateway.telling.reading import Enqueuer, wants
from gateway.telling.running import begin
from gateway.telling.sending import Sender
from gateway.telling.spreading import Spreader
from gateway.telling.text import clean
from gateway.telling.wording import Wording
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS
from tests.sink_world import QUICK, Receiver, write_records
from tests.telling_world import (
    ANN,
    SECURITY,
    Hands,
    Log,
    Relay,
    Time,
    hook_of,
    notices,
    recorded,
    rests,
    sending,
    telling,
    until_waiting,
)
from tests.upstream_client import eventually

POISON = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE"


TO_ANN = Target("mail", ANN)


def a_notice(name, *, at, target=TO_ANN, event="begun", account="acme", **facts):
    return Notice(
        id=name, about=name, event=event, account=account, target=target, facts=json.dumps(facts), happened_at=at
    )


class Filter(Relay):
    """A relay that takes no mail in which these words stand."""

    def verdict(self, raw):
        """See `Relay.verdict`."""
        return "554 5.7.1 rejected as spam" if POISON.encode() in raw.replace(b"=\r\n", b"") else self.otherwise


def mailing(relay, **more):
    section = NoticesMail(
        host="127.0.0.1", port=relay.port, security="none", sender="l@v.example", timeout_seconds=15.0, **more
    )
    wording = Wording(Texts(clean), lambda account: f"https://{account}.v.example/.locum/account")
    return MailCourier(section, wording, pause_seconds=0.0, clock=utc_now)


async def test_ones_words_hold_up_no_other_notice():
    """A relay's filter refuses what one staff member wrote: all else comes as it is, and that without the words."""
    with Filter() as relay:
        store, clock, log = MemoryStore(), Time(), Log()
        made = [
            a_notice(f"n{index}", at=clock.now, staff=f"S{index}", stated_reason=POISON if index == 1 else "help")
            for index in range(4)
        ]
        await store.add_notices([*made, a_notice("k", at=clock.now, event="kill_switch", account="")], now=clock.now)
        async with sending(store, mailing(relay), journal=log, clock=clock):
            await eventually(lambda: len(log.records) == 5)
    assert {"sent"} == {record.reason for record in log.records}
    texts = [mail.get_content() for mail in relay.mails]
    assert 3 == sum("in their words: help" in text for text in texts)
    [bare] = [text for text in texts if "was left out" in text]
    assert "A staff member stands in." in bare
    assert "Account: acme" in bare
    assert "https://acme.v.example/.locum/account" in bare
    assert "S1" not in bare


async def test_what_is_refused_without_words_too_is_on_the_record():
    """And whatever stands behind it goes on."""
    with Relay(["554 no", "554 no", "554 no", "250 taken"]) as relay:
        store, clock, log = MemoryStore(), Time(), Log()
        await store.add_notices(
            [a_notice(f"n{index}", at=clock.now, staff=str(index)) for index in range(2)], now=clock.now
        )
        async with sending(store, mailing(relay), journal=log, clock=clock):
            await eventually(lambda: len(log.records) == 2)
    assert ["failed_refused", "sent"] == [record.reason for record in log.records]
    assert 4 == relay.asked


async def test_a_filter_before_a_webhook_holds_up_nothing(tmp_path):
    """It answers 403 to what looks like an attack; that is told without the words, and what came later as it is."""
    with Receiver([403]) as receiver:
        async with telling(tmp_path, notices(), webhooks=[hook_of(receiver)]) as world:
            assert 200 == (await world.choose())[0]
            await recorded(world, event="setting", reason="sent")
            await world.token()
            await recorded(world, event="begun", reason="sent")
    first, second = [json.loads(body) for body in receiver.bodies]
    assert (True, "account_assumption.setting_changed") == (first["data"]["reduced"], first["type"])
    assert {"id", "account", "reduced"} >= set(first["data"]) - {"link"}
    assert "ticket" in second["data"]


class Stubborn(Hands):
    """Takes nothing with the words of strangers, and says each time that it may pass; or refuses one for its own sake."""

    def __init__(self, *, refuses=frozenset(), takes_bare=True):
        super().__init__()
        self.refuses = refuses
        self.takes_bare = takes_bare
        self.tried = []

    def bring(self, parcel):
        [notice] = parcel.notices
        self.tried.append(notice.id)
        if notice.id in self.refuses:
            raise NotThis("it answers 403", for_good=False)
        if not self.refuses and not (parcel.is_bare and self.takes_bare):
            raise NotNow("it breaks off")
        super().bring(parcel)


async def test_what_fails_again_and_again_is_told_without_words():
    """Also where nobody says that it is about the words: a filter that only breaks off."""
    store, clock, hands, log = MemoryStore(), Time(), Stubborn(), Log()
    await store.add_notices([a_notice("n0", at=clock.now)], now=clock.now)
    async with sending(store, hands, journal=log, clock=clock):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not log.records:
                if await rests(store, clock.now):
                    clock.now += timedelta(seconds=90)
                await asyncio.sleep(0.002)
    assert (5, ["sent"]) == (len(hands.tried), [record.reason for record in log.records])


async def test_a_webhook_that_refuses_one_gets_the_next_one():
    """In the same turn; the one that was refused waits, and is tried again."""
    store, clock, hands, log = MemoryStore(), Time(), Stubborn(refuses={"n0"}), Log()
    await store.add_notices([a_notice(f"n{index}", at=clock.now) for index in range(3)], now=clock.now)
    async with sending(store, hands, journal=log, clock=clock):
        await eventually(lambda: len(log.records) == 2)
        await until_waiting(store, lambda count: count == 1)
        assert ["n1", "n2"] == [name for _, name in hands.brought]


async def test_ten_that_a_webhook_refuses_hold_up_the_rest_for_a_minute_at_most():
    """Each waits by itself then and comes behind the others, so with thirty the rest is told after three minutes."""
    store, clock, log = MemoryStore(), Time(), Log()
    hands, began = Stubborn(refuses={f"n{index:02}" for index in range(30)}), clock.now
    stuck = [a_notice(f"n{index:02}", at=clock.now) for index in range(30)]
    rest = [a_notice(f"r{index}", at=clock.now + timedelta(seconds=1)) for index in range(3)]
    await store.add_notices([*stuck, *rest], now=clock.now)
    async with sending(store, hands, journal=log, clock=clock):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(log.records) < 3:
                if await rests(store, clock.now):
                    clock.now += timedelta(seconds=5)
                await asyncio.sleep(0.002)
        await until_waiting(store, lambda count: count == 30)
        assert clock.now - began <= timedelta(minutes=3, seconds=15)
        assert ["r0", "r1", "r2"] == [name for _, name in hands.brought]
        # And what is refused is tried all the same, later and later.
        hands.refuses = set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(log.records) < 33:
                if await rests(store, clock.now):
                    clock.now += timedelta(seconds=60)
                await asyncio.sleep(0.002)
    assert {"sent"} == {record.reason for record in log.records}


async def test_a_flood_hides_nothing_that_is_urgent():
    """It comes first, in a mail of its own; what one person does again and again is one paragraph."""
    with Relay() as relay:
        store, clock, log = MemoryStore(), Time(), Log()
        flood = [
            a_notice(f"n{index:03}", at=clock.now, staff="Eve", subject=f"agent{index % 3}") for index in range(60)
        ]
        late = clock.now + timedelta(seconds=1)
        urgent = a_notice("z", at=late, event="evidence", account="", why="missing")
        await store.add_notices([*flood, a_notice("o", at=late, staff="Dana"), urgent], now=clock.now)
        async with sending(store, mailing(relay), journal=log, clock=clock):
            await eventually(lambda: len(log.records) == 62)
    first, second = relay.mails
    assert "The journal is not what it was" == str(first["Subject"])
    assert "Eve" not in first.get_content()
    text = second.get_content()
    assert "And 59 more by the same staff member" in text
    assert "Those for: agent1, agent2, agent0" in text
    assert (1, 1) == (text.count("Staff member: Eve"), text.count("Staff member: Dana"))


class Held(Hands):
    """Holds what goes to addresses with `slow` in them until it is let go."""

    def __init__(self, **more):
        super().__init__(**more)
        self.free = threading.Event()

    def bring(self, parcel):
        if "slow" in parcel.target.address:
            self.free.wait(PATIENCE_SECONDS)
        super().bring(parcel)


def senders(store, couriers, **more):
    spreader = Spreader(store, kept_by_app=False, clock=utc_now)
    return Sender(
        store,
        Log(),
        couriers,
        give_up=timedelta(hours=96),
        clock=utc_now,
        counts=NoticeCounts(),
        spreader=spreader,
        **more,
    )


@pytest.mark.parametrize("accounts", [1, 30])
async def test_who_is_slow_holds_up_no_other_channel_nor_account(accounts):
    """Thirty relays' recipients that hang leave webhooks alone, and one account's thirty leave all others."""
    store, now = MemoryStore(), utc_now()
    slow = [
        a_notice(f"s{index}", at=now, target=Target("mail", f"slow{index}@a.example"), account=f"a{index % accounts}")
        for index in range(30)
    ]
    await store.add_notices(slow, now=now)
    mails, hooks = Held(), Hands()
    sender = senders(store, {"mail": mails, "webhook": hooks}, own=[SECURITY])
    task = asyncio.ensure_future(sender.run())
    try:
        others = [a_notice("h", at=now, target=Target("webhook", "https://v.example/"), account="victim")]
        if accounts == 1:
            others += [
                a_notice("m", at=now, target=Target("mail", "v@v.example"), account="victim"),
                a_notice("own", at=now, target=Target("mail", SECURITY), account="a0"),
            ]
        await store.add_notices(others, now=now)
        sender.wake()
        await eventually(lambda: len(hooks.brought) + len(mails.brought) == len(others))
    finally:
        mails.free.set()
        task.cancel()
        await asyncio.wait([task])


def test_since_is_not_in_the_time_to_come(tmp_path, caplog):
    """A first start with a clock that was ahead silences nobody: it is written anew, and said."""
    path, now = tmp_path / "notices" / "since", utc_now().timestamp()
    begin(path, now + 365 * 86400)
    assert now == begin(path, now)
    assert "a clock was ahead" in caplog.text
    assert abs(begin(path, now + 500) - now) < 0.001
    assert ["since"] == [each.name for each in path.parent.iterdir()]


@asynccontextmanager
async def reading(directory, store, *, unread=lambda: None):
    """Put notices of a journal into a store until the block ends."""
    outlet = Enqueuer(
        store,
        Addressing(NoticesSecurity(mail=(SECURITY,))),
        since=0.0,
        most_age=timedelta(days=3650),
        clock=utc_now,
        enqueued=lambda: None,
        unread=unread,
    )
    terms = Terms(
        name="notices",
        journal=directory / "journal",
        cursor=directory / "cursor.json",
        lock=directory / "lock",
        form=FORMS["jsonl"],
        wants=wants,
        most_records=200,
        times=QUICK,
        gives_up=False,
    )
    status = Status(name="notices", kind="notices")
    runner = Runner(terms, outlet, status, clock=utc_now, ticks=boot_seconds)
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    try:
        yield status
    finally:
        runner.stop()
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)


async def test_a_store_that_is_away_for_long_loses_nothing(tmp_path):
    """However often it fails, and though what is nobody's news gets through meanwhile."""

    class Away(MemoryStore):
        tries = 0

        async def add_notices(self, notices, *, now):
            self.tries += 1
            if self.tries < 60:
                raise StoreError("away")
            return await super().add_notices(notices, now=now)

    store = Away()
    write_records(tmp_path / "journal", 5, kind="kill_switch", reason="on")
    async with reading(tmp_path, store) as status:
        # The team's, and each time the one of which those of accounts are made.
        await until_waiting(store, lambda count: count == 2 * 5)
    assert 0 == status.refused
    assert status.failures > 50


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z", "soon", 5, None])
async def test_a_record_of_no_time_that_can_be_is_told(tmp_path, at):
    """Somebody altered it; it is told as of now, and so is what stands behind it."""
    store = MemoryStore()
    write_records(tmp_path / "journal", 1, kind="kill_switch", reason="on", at=at)
    write_records(tmp_path / "journal", 1, first=1, kind="kill_switch", reason="on")
    async with reading(tmp_path, store):
        await until_waiting(store, lambda count: count == 2 * 2)


async def test_a_row_whose_time_is_none_stops_no_other(tmp_path):
    """Somebody has been at the store: that notice is told with the last time there is, and all others as ever."""
    store, hands = await open_sqlite(tmp_path / "s.sqlite3"), Hands(most=50)
    try:
        await store.add_notices([a_notice("n0", at=utc_now())], now=utc_now())
        with contextlib.closing(sqlite3.connect(tmp_path / "s.sqlite3", isolation_level=None)) as other:
            other.execute("UPDATE notices SET happened_at = 9000000000000000000")
        await store.add_notices([a_notice("n1", at=utc_now())], now=utc_now())
        async with sending(store, hands):
            await eventually(lambda: {"n0", "n1"} == {name for _, name in hands.brought})
    finally:
        await store.close()


async def test_a_part_that_cannot_be_read_is_an_alarm_before_anybody_is_told(tmp_path):
    """So it can be taken back over any number of starts; where that cannot be kept it is told all the same."""

    class Seen(MemoryStore):
        added = ()

        async def add_notices(self, notices, *, now):
            self.added = (*self.added, *(each.event for each in notices if each.event == "evidence"))
            return await super().add_notices(notices, now=now)

    store, alarms = Seen(), []

    def unread():
        alarms.append("before anybody is told" if not store.added else "too late")
        raise OSError("the disk is full")

    write_records(tmp_path / "journal", 3, kind="kill_switch", reason="on")
    [path] = (tmp_path / "journal").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"this is no record\n" + lines[2])
    async with reading(tmp_path, store, unread=unread):
        await eventually(lambda: store.added)
    assert "before anybody is told" == alarms[0]

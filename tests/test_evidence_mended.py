"""Evidence that was broken and is whole again: that is on the record once, and told to whom the break was told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.audit.evidence.alarm import raise_alarm, standing
from gateway.audit.evidence.verdict import Verdict, read_kept
from gateway.audit.evidence.watch import Watch
from gateway.clock import utc_now
from gateway.stores.outbox import Contacts, Former, Target
from gateway.telling.events import is_unread, read_event
from gateway.telling.spreading import begin_round
from policy.model import AccountId
from tests.gateway_world import open_world
from tests.memory_store import MemoryStore
from tests.sink_world import listening
from tests.telling_world import ANN, SECURITY, Log, Relay, Time, notices, put_contacts, recorded_later, telling
from tests.test_evidence_watch import alter, running, watch_over
from tests.test_telling_accounts import deal, waiting
from tests.test_telling_mail import wording
from tests.upstream_client import eventually

DAY = timedelta(days=1)
WHOLE = Verdict(count=0, covered={"gateway": 18, "two": 5})
BROKEN = Verdict(count=2, first="gateway-0.jsonl:3: it is not what it was", covered={"gateway": 2, "two": 5})


class Scripted(Watch):
    """Needs no process: it finds what it is told to, and counts how often it was asked."""

    verdict = WHOLE
    asked = 0

    async def ask(self):
        self.asked += 1
        return self.verdict


async def look(watch, verdict=WHOLE):
    """Have it verify, and wait until it is through with what comes of it."""
    watch.verdict = verdict
    before = watch.asked
    async with running(watch):
        # One begins behind the end of the last.
        await eventually(lambda: watch.asked >= before + 4)


def reasons(log):
    return [record.reason for record in log.records]


def scripted(directory, log, clock, **more):
    return watch_over(directory, log, kind=Scripted, every=0.001, clock=clock, **more)


async def test_a_journal_that_is_restored_is_said_to_be_whole_once(tmp_path):
    """By the real verification, on a later day: since when it was not, and until which record it is."""
    async with open_world(tmp_path) as world:
        assert 200 == (await world.choose())[0]
        await world.gateway.journal.checkpoint()
        count = world.gateway.journal.size
    [path] = (tmp_path / "journal").glob("gateway-*.jsonl")
    as_it_was, log, clock = path.read_bytes(), Log(), Time()
    broken_at = clock.now
    alter(tmp_path)
    async with running(watch_over(tmp_path, log, every=60, clock=clock)):
        await eventually((tmp_path / "verified" / "said").exists)
    path.write_bytes(as_it_was)
    clock.now += DAY
    async with running(watch_over(tmp_path, log, every=60, clock=clock)):
        await eventually(lambda: not standing(tmp_path / "verified"))
    assert ["evidence_broken", "evidence_mended"] == reasons(log)
    mended = log.records[-1]
    size = sum(read_kept(tmp_path / "verified").verdict.covered.values())
    assert (broken_at.isoformat(), size) == (mended.since, mended.count)
    assert f"gateway:{size - 1}" in mended.stated_reason
    assert size >= count


async def test_it_is_said_once_whoever_verifies_then_and_what_breaks_again_is_said_again(tmp_path):
    """Over starts; the same finding is a new one once it was taken back."""
    log, clock = Log(), Time()
    for _ in range(2):
        await look(scripted(tmp_path, log, clock), BROKEN)
        clock.now += DAY
        for _ in range(2):
            await look(scripted(tmp_path, log, clock))
    assert ["evidence_broken", "evidence_mended"] * 2 == reasons(log)
    assert log.records[1].since < log.records[3].since
    assert "verified until gateway:17, two:4" == log.records[1].stated_reason


async def test_nothing_is_taken_back_on_the_day_of_the_alarm(tmp_path):
    """For accounts are told of a break once a day: one that follows the all-clear would be told to nobody."""
    log, clock = Log(), Time()
    clock.now = clock.now.replace(hour=0, minute=0, second=1)
    await look(scripted(tmp_path, log, clock), BROKEN)
    clock.now = clock.now.replace(hour=23, minute=59)
    await look(scripted(tmp_path, log, clock))
    # Nor by a clock that is set back.
    clock.now -= 3 * DAY
    await look(scripted(tmp_path, log, clock))
    assert ["evidence_broken"] == reasons(log)
    assert (tmp_path / "verified" / "said").exists()


@pytest.mark.parametrize("covered", [{"two": 5}, {"gateway": 17, "two": 5}, {}], ids=["gone", "cut off", "all gone"])
async def test_what_is_gone_as_a_whole_mends_nothing(tmp_path, covered):
    """Whoever removes the broken part with its checkpoints has nothing found; less than before is not whole."""
    log, clock = Log(), Time()
    await look(scripted(tmp_path, log, clock))
    await look(scripted(tmp_path, log, clock), BROKEN)
    with listening() as lines:
        for _ in range(3):
            clock.now += DAY
            await look(scripted(tmp_path, log, clock), Verdict(count=0, covered=covered))
    assert ["evidence_broken"] == reasons(log)
    assert any("look for what is missing of gateway" in line for line in lines)
    await look(scripted(tmp_path, log, clock))
    assert ["evidence_broken", "evidence_mended"] == reasons(log)


async def test_what_a_witness_has_said_is_taken_back_by_nobody(tmp_path):
    """Not by the next start either: another history of ours, made with our key, verifies as well."""
    log, clock = Log(), Time()
    async with running(watch_over(tmp_path, log, conflicts=lambda: {"bank": 1}, every=0, clock=clock)):
        await eventually(lambda: log.records)
    await look(scripted(tmp_path, log, clock), BROKEN)
    clock.now += DAY
    await look(scripted(tmp_path, log, clock))
    assert ["evidence_broken"] * 2 == reasons(log)


async def test_a_journal_that_is_full_keeps_it_until_it_can_be_said(tmp_path):
    """And what cannot be forgotten is not said again by the process that has said it."""
    log, clock = Log(), Time()
    await look(scripted(tmp_path, log, clock), BROKEN)
    clock.now += DAY
    log.full = 2
    await look(scripted(tmp_path, log, clock))
    assert (0, ["evidence_broken", "evidence_mended"]) == (log.full, reasons(log))
    assert {} == standing(tmp_path / "verified")


async def test_what_cannot_be_forgotten_is_not_said_again(tmp_path):
    """A folder stands where the mark of what was said is, which nobody can remove as a file."""
    log, clock = Log(), Time()
    raise_alarm(tmp_path / "verified", "reading", at=clock.now)
    (tmp_path / "verified" / "said").mkdir()
    clock.now += DAY
    await look(scripted(tmp_path, log, clock))
    assert ["evidence_mended"] == reasons(log)


async def test_what_cannot_be_read_to_tell_people_is_taken_back_too(tmp_path):
    """Though it was mended before the gateway verified; since the first of all that was said."""
    log, clock = Log(), Time()
    first = clock.now
    raise_alarm(tmp_path / "verified", "reading", at=clock.now)
    await look(scripted(tmp_path, log, clock), BROKEN)
    clock.now += DAY
    raise_alarm(tmp_path / "verified", "reading", at=clock.now)
    await look(scripted(tmp_path, log, clock))
    assert ["evidence_broken"] == reasons(log), "not on the day of the last alarm"
    clock.now += DAY
    await look(scripted(tmp_path, log, clock))
    assert ["evidence_broken", "evidence_mended"] == reasons(log)
    assert first.isoformat() == log.records[-1].since


@pytest.mark.parametrize(
    "damaged", [b"", b"{}", b'{"since":"2026-01-01T00:00:00","last":"2026-01-01T00:00:00"}', b"\xff"]
)
def test_an_alarm_that_cannot_be_read_is_one(tmp_path, damaged):
    """Since the file's own time: that something was said is known."""
    raise_alarm(tmp_path, "witness", at=utc_now())
    (tmp_path / "said-by-witness.json").write_bytes(damaged)
    [(finder, alarm)] = standing(tmp_path).items()
    assert ("witness", True) == (finder, alarm.since == alarm.last)


def test_only_what_is_no_record_is_an_alarm_of_the_reader():
    """A gap that it has found; not one of retention, and not what verification has put on the record."""
    assert is_unread({"kind": "sink", "reason": "gap", "why": "missing"})
    assert not is_unread({"kind": "sink", "reason": "gap", "why": "gone"})
    assert not is_unread({"kind": "audit", "reason": "evidence_broken"})


def mended_event(at, since):
    entry = {"kind": "audit", "reason": "evidence_mended", "since": since, "origin": "o", "seq": 1}
    return read_event({**entry, "at": at.isoformat()})


async def test_who_was_told_of_the_break_is_told_and_nobody_twice():
    """Whoever is told now, and whoever was then; not who named their first contact since, nor again for a second record."""
    store, clock = MemoryStore(), Time()
    at, since = clock.now, clock.now - DAY
    await put_contacts(store, "before", mail=["b@c.example"], at=since - DAY)
    await put_contacts(store, "after", mail=["a@c.example"], at=since + timedelta(seconds=1))
    was = (Former(Target("mail", "then@c.example"), since + DAY / 2), Former(Target("mail", "old@c.example"), since))
    changed = Contacts(
        account=AccountId("changed"), mail=("now@c.example",), by="pat", at=since + DAY / 2, version=1, former=was
    )
    await store.save_contacts(changed, tell=[], now=at)
    for version in (2, 3):
        await store.save_contacts(replace(changed, version=version), tell=[], now=at)
    for about in ("r1", "r2"):
        link = begin_round(mended_event(at, since.isoformat()), about=about)
        await store.add_notices([link], now=at)
        await deal(store, clock)
    told = await waiting(store)
    assert ["b@c.example", "now@c.example", "then@c.example"] == sorted(each.target.address for each in told)
    assert f"Not verified since: {since.isoformat()}" in wording().mail([told[0]]).body


@pytest.mark.parametrize("since", [None, "", "soon", 5, "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00"])
async def test_a_record_that_says_no_time_that_can_be_is_told(since):
    """Somebody altered it: as of when it was recorded, and nothing of what stands there is said to accounts."""
    store, clock = MemoryStore(), Time()
    await put_contacts(store, "acme", mail=["b@c.example"], at=clock.now - DAY)
    await store.add_notices([begin_round(mended_event(clock.now, since), about="r")], now=clock.now)
    await deal(store, clock)
    [notice] = await waiting(store)
    assert "{}" == notice.facts


async def test_the_team_and_the_accounts_hear_that_it_is_whole_again(tmp_path):
    """By mail, each once, with what was verified for the team alone; and it is on the record that they were told."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay, security={"mail": [SECURITY]}), mail=[ANN]) as world:
            raise_alarm(tmp_path / "verified", "reading", at=world.clock.now - 2 * DAY)
            await put_contacts(world.gateway.store, "old", mail=["o@c.example"], at=world.clock.now - 9 * DAY)
            watch = scripted(tmp_path, world.gateway.journal, world.clock.utc)
            await look(watch)
            told = await recorded_later(world, 2, event="mended", reason="sent")
    assert {SECURITY, "o@c.example"} == {each["recipient"] for each in told}
    [team], [account] = relay.mails_to(SECURITY), relay.mails_to("o@c.example")
    assert ("The journal is whole again", True) == (team["Subject"], "until gateway:17, two:4" in team.get_content())
    assert "The record of what staff did could be verified again" == account["Subject"]
    assert "gateway:" not in account.get_content()
    assert [] == relay.mails_to(ANN), "who named a contact since"

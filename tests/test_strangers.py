"""Refusals of strangers on the record: a flood costs the disk little, and how large it was is on the record, too."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from gateway.audit.cutting import mark_cut
from gateway.audit.log import JournalError
from gateway.audit.record import Record, encode
from gateway.audit.search import read
from gateway.audit.segment import build_lines
from gateway.audit.writing.strangers import (
    A_SECOND,
    A_SECOND_EACH,
    A_SECOND_OF_ACCOUNT,
    AT_ONCE,
    AT_ONCE_EACH,
    AT_ONCE_OF_ACCOUNT,
    Persons,
    Strangers,
)
from tests.gateway_world import HOST, open_world
from tests.upstream_client import eventually

OTHERS = "203.0.113.{}"


class Notebook:
    """An AuditLog on paper, which can be closed."""

    healthy = True

    def __init__(self):
        self.records, self.notes, self.is_open = [], [], True

    async def append(self, record, *, durable=False, instead=None):
        self._look()
        self.records.append(record)
        return len(self.records)

    def note(self, note):
        self._look()
        self.notes.append(note)

    def _look(self):
        if not self.is_open:
            raise JournalError("not now")

    async def close(self):
        self.is_open = False


class Flood:
    """Strangers at a journal, on a clock that stands still by itself."""

    def __init__(self):
        self.now = 1000.0
        self.journal = Notebook()
        self.strangers = Strangers(self.journal, ticks=lambda: self.now)

    async def send(self, count, address="198.51.100.1", *, reason="token_invalid"):
        """Have so many refused, and return how many of them are on the record by themselves."""
        before = len(self.journal.records)
        for _ in range(count):
            await self.strangers.append(Record(kind="decision", decision="deny", reason=reason, client_ip=address))
        return len(self.journal.records) - before


async def test_a_flood_is_recorded_in_part_and_counted_in_whole():
    """Of one network some at once and then one a second; every other one is in a count, by its reason."""
    flood = Flood()
    assert AT_ONCE_EACH == await flood.send(AT_ONCE_EACH + 1000)
    assert 0 == await flood.send(7, reason="cookie_unknown")
    flood.strangers.say()
    said = {(note.kind, note.decision, note.reason): note.count for note in flood.journal.notes}
    assert {("decision", "deny", "token_invalid"): 1000, ("decision", "deny", "cookie_unknown"): 7} == said
    flood.now += 10
    assert 10 * A_SECOND_EACH == await flood.send(100)
    flood.strangers.say()
    flood.strangers.say()
    assert 90 == flood.journal.notes[-1].count
    assert 3 == len(flood.journal.notes), "nothing is said where nothing was left out"


async def test_no_network_takes_the_share_of_another():
    """An IPv6 network is its /64, because whoever has one address of that has every."""
    flood = Flood()
    assert AT_ONCE_EACH == sum([await flood.send(1, f"2001:db8::{n:x}") for n in range(1, 1001)])
    assert 1 == await flood.send(1, "2001:db8:0:1::1")
    assert 1 == await flood.send(1, "198.51.100.2")
    assert 1 == await flood.send(1, None)


async def test_many_networks_together_have_a_bound_as_well():
    """So that the disk takes no more in a day than that, whoever comes from wherever."""
    flood = Flood()
    assert AT_ONCE == sum([await flood.send(1, f"2001:db8:{n:x}::1") for n in range(5000)])
    for network in range(5):
        flood.now += 1
        assert A_SECOND == sum([await flood.send(1, f"2001:{network:x}::{n:x}:0:0:0:1") for n in range(50)])
    flood.now += 86_400
    assert AT_ONCE == sum([await flood.send(1, f"2001:dba:{n:x}::1") for n in range(5000)])


async def test_made_up_people_of_one_account_leave_the_others_theirs():
    """The attack: a provider that makes up an administrator for each few wrong forms. What is left out is in a count."""
    now, journal = 1000.0, Notebook()
    persons = Persons(journal, ticks=lambda: now)

    async def send(count, account):
        before = len(journal.records)
        for number in range(count):
            record = Record(kind="decision", decision="deny", reason="cross_site", account=account)
            await persons.append_of(f"{account} {number}", record, account=account)
        return len(journal.records) - before

    assert AT_ONCE_OF_ACCOUNT == await send(5000, "acme")
    persons.say()
    assert 5000 - AT_ONCE_OF_ACCOUNT == journal.notes[-1].count
    assert [False, True] == [persons.may_record("x", account=one) for one in ("acme", "globex")]
    assert 100 == await send(100, "globex")
    now += 60
    assert 60 * A_SECOND_OF_ACCOUNT == await send(5000, "acme")
    assert [True] * 10 == [persons.may_record(f"staff {number}") for number in range(10)]


async def test_what_was_counted_is_said_within_a_second_and_not_lost_while_there_is_no_journal():
    """The timer goes off by itself; what the journal does not take is said with what comes next."""
    flood = Flood()
    await flood.send(AT_ONCE_EACH + 5)
    await eventually(lambda: [5] == [note.count for note in flood.journal.notes])
    await flood.journal.close()
    await flood.send(3)
    flood.strangers.say()
    flood.journal.is_open = True
    await flood.send(4)
    flood.strangers.say()
    assert 7 == flood.journal.notes[-1].count


async def test_a_flood_at_the_door_leaves_staff_their_records_and_the_disk_its_room(tmp_path):
    """Every request is refused as ever; what is sent with it does not go on the record at any length."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        bogus = f"{token.split('.')[0]}.e30.AAAA"
        query = "&".join(f"{'n' * 600}{number}=1" for number in range(12))
        one = (
            f"GET /{'x' * 9000}?{query} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {'u' * 9000}\r\n"
            f"Authorization: Bearer {bogus}\r\n\r\n"
        ).encode()
        answers = Counter()
        for _ in range(AT_ONCE_EACH + 40):
            answers[(await world.raw(one))[:12]] += 1
        assert {b"HTTP/1.1 401": AT_ONCE_EACH + 40} == answers
        assert 200 == (await world.get(token))[0]
    # Whatever was counted by the end is said before the end.
    decisions = [entry for entry in read(tmp_path / "journal") if entry["kind"] == "decision"]
    records = [one for one in decisions if one["decision"] == "deny"]
    [allowed] = [one for one in decisions if one["decision"] == "allow"]
    whole, counted = [one for one in records if "count" not in one], [one for one in records if "count" in one]
    assert (AT_ONCE_EACH + 40, "maria") == (len(whole) + sum(one["count"] for one in counted), allowed["subject"])
    assert {"token_invalid"} == {one["reason"] for one in counted}
    assert AT_ONCE_EACH <= len(whole) < AT_ONCE_EACH + 30
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert len(written) / len(whole) < 5000


async def test_staffs_refusals_are_all_on_the_record(tmp_path):
    """Whose token is good is known, so each of theirs is evidence, whatever strangers send beside it."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        for _ in range(AT_ONCE_EACH + 10):
            assert 403 == (await world.get(token, "/admin/users"))[0]
        assert AT_ONCE_EACH + 10 == len(world.records(kind="decision", reason="never_allowed"))


@pytest.mark.parametrize(("letter", "gigabytes"), [("x", 0.7), ("\x80", 3.0)])
def test_what_a_day_of_flood_costs_the_disk_is_what_the_operators_guide_says(letter, gigabytes):
    """The largest record of a stranger that there can be, as often as it can be written."""
    worst = Record(
        kind="decision", decision="deny", reason="token_invalid", status=401, account="a" * 63,
        host=letter * 256 + mark_cut(b"", 9000, "bytes"),
        client_ip="2001:db8:1111:2222:3333:4444:5555:6666", method="GET", path=letter * 256 + mark_cut(b"", 32000, "characters"),
        query_names=(letter * 256 + mark_cut(b"", 9000, "characters"),) * 4,
        user_agent=letter * 1024 + mark_cut(b"", 9000, "bytes"),
        request_id=f"req_{0:016x}", traceparent=f"00-{1:032x}-{1:016x}-01",
    )  # fmt: skip
    record, openings = encode(
        worst, origin="gateway-00", seq=10**9, at=datetime(2026, 11, 23, microsecond=1, tzinfo=UTC)
    )
    _, lines = build_lines([record], [openings])
    assert (A_SECOND * 86_400 + AT_ONCE) * len(lines) < gigabytes * 1e9

"""A disk that hangs: staff are refused soon, customers never notice, and what was acknowledged is on the record."""

import asyncio
import errno
import threading

import pytest

from gateway.audit.evidence.verify import verify
from gateway.audit.log import JournalError
from gateway.audit.record import Actor, Record
from gateway.audit.writing import writer
from gateway.audit.writing.journal import Journal
from tests.attack_world import open_attack, request
from tests.journals import ENTRY, Ticks, check, open_journal, reasons_of, seqs_of
from tests.process_world import until
from tests.stuck_disk import StuckDisk, hanging_file

PATIENCE = 0.5
"""Each test waits as long as that where the disk hangs; everywhere else a machine that is slow must not come to it."""
STRANGERS = Record(kind="decision", decision="deny", reason="token_missing")
STAFFS = Record(kind="decision", decision="deny", reason="grant_off", actor=Actor(issuer="https://id", subject="dana"))


@pytest.fixture
def disk():
    disk = StuckDisk()
    yield disk
    disk.close()


async def open_on(disk, directory, **options) -> Journal:
    options = {"patience_seconds": PATIENCE, "closing_seconds": PATIENCE, "ticks": Ticks(), **options}
    return await open_journal(directory, write=disk.write, fsync=disk.fsync, checkpoint_seconds=3600, **options)


async def refused(journal, record=ENTRY, *, durable=False) -> str:
    """Return why a record was refused; it must be, and soon."""
    async with asyncio.timeout(30):
        with pytest.raises(JournalError) as caught:
            await journal.append(record, durable=durable)
    return str(caught.value)


async def _settled(journal) -> str:
    """Return why records are refused once that is no longer for what hung."""
    while "takes more than" in (why := await refused(journal)):  # noqa: ASYNC110 - a thread, which tells the journal only
        await asyncio.sleep(0.001)
    return why


async def appended(journal, **options) -> int:
    """Return the number of a record that is taken as soon as the disk works."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await journal.append(ENTRY, **options)
            except JournalError:
                await asyncio.sleep(0.001)


async def test_a_write_that_hangs_is_refused_in_time_and_counts_when_it_is_done(tmp_path, disk):
    """Who waits is refused after the stated time, who comes later at once; the late line is there, with its number."""
    journal = await open_on(disk, tmp_path / "journal")
    assert 0 == await journal.append(ENTRY)
    disk.hang("write")
    answers = await asyncio.gather(*(journal.append(ENTRY) for _ in range(3)), return_exceptions=True)
    assert [JournalError] * 3 == [type(answer) for answer in answers]
    assert not journal.healthy
    handed_over = disk.waiting
    for _ in range(100):
        journal_says = await refused(journal)
        assert "takes more than" in journal_says
    assert (1, handed_over, 1) == (journal.size, disk.waiting, handed_over)
    disk.let_go()
    assert 4 == await appended(journal)
    assert journal.healthy
    await journal.close()
    assert list(range(5)) == seqs_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_those_who_came_behind_a_hanging_write_are_not_on_the_record(tmp_path, disk):
    """They were refused and never handed over, so their numbers are given to others: none is lost, none doubled."""
    journal = await open_on(disk, tmp_path / "journal")
    await journal.append(ENTRY)
    disk.hang("write")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(refused(journal))
        await until(lambda: disk.waiting == 1)
        behind = [group.create_task(refused(journal)) for _ in range(5)]
    assert all(task.done() for task in (first, *behind))
    disk.let_go()
    assert 2 == await appended(journal)
    await journal.close()
    assert [0, 1, 2] == seqs_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_a_write_that_fails_after_it_hung_seals_the_segment(tmp_path, disk):
    """Late is no excuse: the journal recovers as from any other error, and the lost line's number is given anew."""
    ticks = Ticks()
    # So much that no other write is late, on a slow machine either: it would leave a line of its own.
    journal = await open_on(disk, tmp_path / "journal", ticks=ticks, patience_seconds=1)
    await journal.append(ENTRY)
    disk.hang("write")
    disk.fails_late = OSError(errno.EIO, "Input/output error")
    await refused(journal)
    disk.let_go()
    await until(lambda: disk.fails_late is None)
    assert "Input/output error" in await _settled(journal)
    assert not journal.healthy
    ticks.now += writer.RETRY_SECONDS
    assert 2 == await appended(journal)
    await journal.close()
    assert [None, "recovered", None] == reasons_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_an_fsync_that_hangs_stops_only_what_must_be_durable(tmp_path, disk):
    """Reading goes on being recorded, for that survives the process; changes are refused, soon and then at once."""
    journal = await open_on(disk, tmp_path / "journal")
    await journal.append(ENTRY, durable=True)
    disk.hang("fsync")
    assert "takes more than" in await refused(journal, durable=True)
    held_up = disk.waiting
    for _ in range(100):
        await refused(journal, durable=True)
        await journal.append(ENTRY)
    assert (102, False, held_up) == (journal.size, journal.healthy, disk.waiting)
    disk.let_go()
    assert 102 == await appended(journal, durable=True)
    assert journal.healthy
    await journal.close()
    check(tmp_path / "journal")


async def test_a_disk_that_hangs_while_a_segment_is_opened_keeps_nobody_waiting(tmp_path, disk):
    """The first record, and one for which the segment is full: refused in time, and again possible by itself."""
    journal = await open_on(disk, tmp_path / "journal", segment_bytes=1)
    for number in range(3):
        disk.hang("fsync")
        await refused(journal)
        assert "takes more than" in await refused(journal)
        disk.let_go()
        assert number == await appended(journal)
    await journal.close()
    assert [0, 1, 2] == seqs_of(tmp_path / "journal")
    check(tmp_path / "journal")


@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_closing_does_not_wait_for_a_disk_that_hangs(tmp_path, disk, call):
    """It returns soon, and the origin stays taken until the late call is over: nobody writes beside it."""
    directory, others = tmp_path / "journal", set(threading.enumerate())
    journal = await open_on(disk, directory)
    await journal.append(ENTRY)
    disk.hang(call)
    await refused(journal, durable=True)
    async with asyncio.timeout(30):
        await journal.close()
    assert "closed" in await refused(journal)
    with pytest.raises(JournalError, match="another process writes"):
        await open_journal(directory)
    disk.let_go()
    await until(lambda: others >= set(threading.enumerate()))
    again = await open_journal(directory)
    assert 3 == await again.append(ENTRY)
    await again.close()
    assert [None, None, "unsigned_tail", None] == reasons_of(directory)
    check(directory)


async def test_what_waits_for_the_disk_has_a_bound(tmp_path, disk, monkeypatch):
    """In number and in bytes; beyond it a record is refused at once, and nobody who waits loses their place."""
    monkeypatch.setattr(writer, "MOST_RECORDS", 100)
    for most_bytes, most in ((10**9, 100), (5000, 40)):
        monkeypatch.setattr(writer, "MOST_BYTES", most_bytes)
        journal = await open_on(disk, tmp_path / f"journal{most}", patience_seconds=30)
        await journal.append(ENTRY)
        async with asyncio.TaskGroup() as group:
            waiting = await _behind_a_hanging_write(group, journal, disk, [STAFFS] * 200)
            done = [task for task in waiting if task.done()]
            assert len(waiting) - len(done) <= most
            assert ["more is to be recorded than the disk takes"] * len(done) == [task.result() for task in done]
            disk.let_go()
        accepted = [task.result() for task in waiting if isinstance(task.result(), int)]
        assert list(range(2, 2 + len(accepted))) == accepted
        await journal.close()
        check(tmp_path / f"journal{most}")


async def test_a_flood_of_strangers_leaves_room_for_staff(tmp_path, disk, monkeypatch):
    """Refusals that anybody can bring about fill a quarter of the room; what concerns staff still finds its place."""
    monkeypatch.setattr(writer, "MOST_RECORDS", 100)
    journal = await open_on(disk, tmp_path / "journal", patience_seconds=30)
    await journal.append(ENTRY)
    async with asyncio.TaskGroup() as group:
        records = [*[STRANGERS] * 500, *[ENTRY, STAFFS] * 30]
        waiting = await _behind_a_hanging_write(group, journal, disk, records)
        assert not any(task.done() for task in waiting[500:])
        assert 25 == sum(not task.done() for task in waiting[:500])
        disk.let_go()
    assert list(range(27, 87)) == [task.result() for task in waiting[500:]]
    await journal.close()
    check(tmp_path / "journal")


async def _behind_a_hanging_write(group, journal, disk, records):
    """Let one write hang, then append all at once; return their tasks, done where they were refused."""
    held_up = disk.waiting
    disk.hang("write")
    group.create_task(journal.append(ENTRY))
    await until(lambda: disk.waiting > held_up)
    waiting = [group.create_task(_outcome(journal, record)) for record in records]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return waiting


async def _outcome(journal, record):
    try:
        return await journal.append(record)
    except JournalError as error:
        return str(error)


def _without_checkpoints(configuration):
    configuration["audit"] = {"checkpoint_seconds": 3600}


async def test_customers_of_a_whole_gateway_do_not_notice(tmp_path):
    """Its own file hangs, in the kernel: customers are served meanwhile, staff refused, and then both again."""
    async with open_attack(tmp_path, change=_without_checkpoints) as attacker:
        world = attacker.world
        assert 200 == (await attacker.send(request(attacker.token))).status
        (segment,) = (tmp_path / "journal").glob("*.jsonl")
        with hanging_file(segment) as let_go:
            # Whoever has no token cannot stop anybody either, though their refusal is to be recorded.
            for raw in (request(attacker.token + "x"), request(attacker.token), request(attacker.token + "y")):
                staff = asyncio.ensure_future(world.raw(raw))
                for _ in range(20):
                    assert (200, None, 1, []) == (await attacker.send(request(method="POST", body=b"hello"))).verdict
                assert b"HTTP/1.1 503 " == (await staff)[:13]
            assert not world.gateway.journal.healthy
            let_go()
        async with asyncio.timeout(30):
            while 200 != (await attacker.send(request(attacker.token))).status:
                pass
        assert world.gateway.journal.healthy
    assert verify(tmp_path / "journal").ok


async def test_a_whole_gateway_stops_while_its_disk_hangs(tmp_path):
    """As if it did not: stopping takes the time that is allowed for it."""
    async with open_attack(tmp_path, change=_without_checkpoints) as attacker:
        (segment,) = (tmp_path / "journal").glob("*.jsonl")
        with hanging_file(segment) as let_go:
            assert 503 == (await attacker.send(request(attacker.token))).status
            async with asyncio.timeout(30):
                await attacker.world.gateway.journal.close()
            let_go()
    assert verify(tmp_path / "journal").ok

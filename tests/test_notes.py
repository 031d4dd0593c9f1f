"""What is recorded without anybody's waiting: never lost silently, never in the way, and tried until it is there."""

import asyncio
import contextlib
import errno
import json
import os
import subprocess
import sys

import pytest

from gateway.audit.log import JournalError
from gateway.audit.record import Record
from gateway.audit.search import read
from gateway.audit.writing import notes
from tests.journals import ENTRY, Ticks, check, end, ends_of, open_journal, reasons_of, seqs_of
from tests.process_world import until
from tests.stuck_disk import StuckDisk


@pytest.fixture
def disk():
    disk = StuckDisk()
    yield disk
    disk.close()


class Flaky:
    """Stands for `os.write`: while it is full it takes a part of what it is given, or nothing."""

    def __init__(self):
        self.full = False
        self.room = 0

    def __call__(self, handle, data):
        if not self.full:
            return os.write(handle, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room, self.room = self.room, 0
        return os.write(handle, data[:room])


async def open_on(tmp_path, **options):
    return await open_journal(tmp_path / "journal", ticks=Ticks(), checkpoint_seconds=3600, **options)


async def test_a_note_is_written_soon_although_nobody_waits(tmp_path):
    """By itself, and at the latest with the next record; its number is the next one."""
    journal = await open_on(tmp_path)
    await journal.append(ENTRY)
    journal.note(end(0))
    await until(lambda: journal.size == 2)
    journal.note(end(0, "cut"))
    assert 3 == await journal.append(ENTRY)
    await journal.close()
    assert [(0, "complete"), (0, "cut")] == ends_of(tmp_path / "journal")
    assert [0, 1, 2, 3] == seqs_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_one_timer_serves_all_notes(tmp_path):
    """Also one that comes behind a record which took those before it along, and one that comes when all is quiet."""
    journal = await open_on(tmp_path)
    await journal.append(ENTRY)
    for round_ in range(3):
        journal.note(end(2 * round_))
        await journal.append(ENTRY)
        journal.note(end(2 * round_ + 1))
        await until(lambda size=3 * round_ + 4: journal.size == size)
    await journal.close()
    assert [(number, "complete") for number in range(6)] == ends_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_closing_writes_the_notes(tmp_path):
    """Also those of the very last moment."""
    journal = await open_on(tmp_path)
    for number in range(100):
        journal.note(end(number))
    await journal.close()
    assert [(number, "complete") for number in range(100)] == ends_of(tmp_path / "journal")
    check(tmp_path / "journal")


@pytest.mark.parametrize("room", [0, 1, 250, 400, 600])
async def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(tmp_path, room):
    """By itself, whole, once each and in order, wherever the write was cut; nothing else has to be recorded for it."""
    flaky, ticks = Flaky(), Ticks()
    journal = await open_journal(tmp_path / "journal", ticks=ticks, checkpoint_seconds=3600, write=flaky)
    await journal.append(ENTRY)
    flaky.full, flaky.room = True, room
    for number in range(3):
        journal.note(end(number))
    await until(lambda: not journal.healthy)
    journal.note(end(3))
    assert 2 <= journal.notes_waiting <= 4
    assert 1 <= journal.failures
    ticks.now += 1
    flaky.full = False
    await until(lambda: not journal.notes_waiting)
    await journal.close()
    assert [(number, "complete") for number in range(4)] == ends_of(tmp_path / "journal")
    assert ["recovered"] == [reason for reason in reasons_of(tmp_path / "journal") if reason]
    check(tmp_path / "journal")


async def test_a_disk_that_hangs_holds_notes_up_and_loses_none(tmp_path, disk):
    """What it was writing counts when it is done, and what came meanwhile is written then."""
    journal = await open_on(tmp_path, write=disk.write, patience_seconds=0.5)
    await journal.append(ENTRY)
    disk.hang("write")
    journal.note(end(0))
    with pytest.raises(JournalError):
        await journal.append(ENTRY)
    for number in range(1, 5):
        journal.note(end(number))
    assert 4 == journal.notes_waiting
    disk.let_go()
    await until(lambda: not journal.notes_waiting)
    await journal.close()
    assert [(number, "complete") for number in range(5)] == ends_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_there_is_a_bound_and_what_is_beyond_it_is_counted_on_the_record(tmp_path, monkeypatch, caplog):
    """Memory cannot be filled by what cannot be written; the journal itself says how many are missing."""
    monkeypatch.setattr(notes, "MOST_KEPT", 10)
    flaky, ticks = Flaky(), Ticks()
    journal = await open_journal(tmp_path / "journal", ticks=ticks, checkpoint_seconds=3600, write=flaky)
    flaky.full = True
    for number in range(25):
        journal.note(end(number))
    await until(lambda: journal.notes_waiting == 10)
    assert 15 == journal.notes_lost
    assert 1 == sum("than can be kept" in line.message for line in caplog.records)
    ticks.now += 1
    flaky.full = False
    await until(lambda: not journal.notes_waiting and not journal._writer.notes._unsaid)
    await journal.close()
    [lost] = [entry for entry in read(tmp_path / "journal") if entry.get("reason") == "completions_lost"]
    assert (15, 10) == (lost["count"], len(ends_of(tmp_path / "journal")))
    check(tmp_path / "journal")


async def test_a_disk_that_stays_full_to_the_end_is_complained_about(tmp_path, caplog):
    """The last word is the log's."""
    flaky = Flaky()
    journal = await open_on(tmp_path, write=flaky)
    flaky.full = True
    journal.note(end())
    await until(lambda: not journal.healthy)
    await journal.close()
    assert "how 1 exchanges ended could not be recorded" in caplog.text


async def _given_up(journal, record=ENTRY, *, seconds=None, **options):
    """Append, and hang up while the disk is busy, or be refused."""
    with contextlib.suppress(JournalError, TimeoutError):
        async with asyncio.timeout(seconds):
            await journal.append(record, instead=lambda: end(record.seq, "client_gone"), **options)
            raise AssertionError("it was not to be acknowledged")


@pytest.mark.parametrize("seconds", [0.01, None])
@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_what_is_on_the_record_although_nobody_waits_any_more_has_its_end(tmp_path, disk, call, seconds):
    """Hung up on, or refused because the disk hangs: once the line is there, so is what became of it."""
    journal = await open_on(tmp_path, write=disk.write, fsync=disk.fsync, patience_seconds=0.5)
    await journal.append(ENTRY, durable=True)
    disk.hang(call)
    record = Record(kind="decision", decision="allow")
    await _given_up(journal, record, seconds=seconds, durable=call == "fsync")
    disk.let_go()
    await until(lambda: journal.size == 3)
    await journal.close()
    assert [(1, "client_gone")] == ends_of(tmp_path / "journal")
    assert [0, 1, 2] == seqs_of(tmp_path / "journal")


@pytest.mark.parametrize("room", [0, 20])
async def test_what_did_not_get_to_the_record_has_no_end_either(tmp_path, room):
    """Its number becomes another record's."""
    flaky, ticks = Flaky(), Ticks()
    journal = await open_journal(tmp_path / "journal", ticks=ticks, checkpoint_seconds=3600, write=flaky)
    await journal.append(ENTRY)
    flaky.full, flaky.room = True, room
    await _given_up(journal, Record(kind="decision", decision="allow"))
    flaky.full, ticks.now = False, 1
    assert 2 == await journal.append(ENTRY)
    await journal.close()
    assert [] == ends_of(tmp_path / "journal")
    check(tmp_path / "journal")


async def test_with_power_durability_every_record_waits_for_an_fsync(tmp_path):
    """Also one that asks for nothing; and those that come together share it."""
    for always, least, most in ((False, 0, 0), (True, 1, 3)):
        synced = []
        journal = await open_journal(tmp_path / str(always), always_durable=always, signed=False, fsync=synced.append)
        await journal.append(ENTRY)
        before = len(synced)
        await asyncio.gather(*(journal.append(ENTRY) for _ in range(20)))
        assert least <= len(synced) - before <= most
        await journal.close()


SMALL_DISK = """
import asyncio, json, os, sys
from pathlib import Path
from gateway.audit.log import JournalError
from gateway.audit.search import read
from gateway.audit.evidence.verify import verify
from tests.journals import ENTRY, KEY, Ticks, end, ends_of, open_journal, seqs_of

async def main():
    disk, ticks, acknowledged, told = Path(sys.argv[1]), Ticks(), [], []
    filler = disk / "filler"
    filler.write_bytes(bytes(900 * 1024))
    journal = await open_journal(disk / "journal", ticks=ticks, checkpoint_seconds=3600)
    refused = 0
    while refused < 20:
        try:
            acknowledged.append(await journal.append(ENTRY, durable=True))
        except JournalError:
            refused += 1
            ticks.now += 1
        told.append(len(told))
        journal.note(end(told[-1]))
    left = os.statvfs(disk).f_bfree
    filler.unlink()
    ticks.now += 1
    while journal.notes_waiting:
        await asyncio.sleep(0.01)
    acknowledged.append(await journal.append(ENTRY, durable=True))
    await journal.close()
    kept = seqs_of(disk / "journal")
    print(json.dumps({
        "left": left, "lost": len(set(acknowledged) - set(kept)), "in_order": kept == list(range(len(kept))),
        "ends": [of for of, _ in ends_of(disk / "journal")] == told, "failures": journal.failures > 0,
        "verifies": verify(disk / "journal", public_key=KEY.public_key()).ok, "many": len(acknowledged) > 50,
    }))

asyncio.run(main())
"""


def test_a_real_small_disk_that_is_full_to_the_last_byte_loses_nothing(tmp_path):
    """A file system of 1 MiB: refused while it is full, whole and in order when there is room, all ends included."""
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, SMALL_DISK]
    try:
        run = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if (run.returncode and b"unshare" in run.stderr) or b"mount:" in run.stderr:
        pytest.skip("nobody may mount a file system here")
    assert 0 == run.returncode, run.stderr.decode()
    assert {
        "left": 0, "lost": 0, "in_order": True, "ends": True, "failures": True, "verifies": True, "many": True,
    } == json.loads(run.stdout)  # fmt: skip

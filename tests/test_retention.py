"""The content of the journal goes when it should, nothing else goes with it, and what is left verifies."""

import asyncio
import errno
import os
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.audit.log import JournalBusy
from gateway.audit.removal.retention import Keeping, Terms
from gateway.audit.removal.rewriting import Disk, is_removing, removing, rewriting
from gateway.audit.search import read
from gateway.audit.segment import list_segments, parse_line
from tests.journals import NOON, SecondHand, check, open_journal
from tests.kept_journal import EACH, Office, a_decision, write_days


def _left(directory) -> dict[str, int]:
    """Return how many decisions there are of each account."""
    found: dict[str, int] = {}
    for entry in read(directory):
        if entry["kind"] == "decision":
            found[entry["account"]] = found.get(entry["account"], 0) + 1
    return found


def _lines(directory) -> list[bytes]:
    """Return every line of the origin `gateway`."""
    files = (path.read_bytes() for path in list_segments(directory)["gateway"])
    return [line for content in files for line in content.splitlines(keepends=True)]


async def test_content_goes_when_it_is_older_than_the_days(tmp_path):
    """By whole days in UTC, never before its time; what goes, goes once, and is on the record by account."""
    await write_days(tmp_path, range(3))
    async with Office(tmp_path, day=4) as office:
        assert [] == await office.retain(days=4)
        gone = await office.retain(days=3)
        assert {("acme", 4, "age"), ("beta", 4, "age")} == {
            (removal.part.account, removal.part.lines, removal.reason) for removal in gone
        }
        assert {"acme": 8, "beta": 8} == _left(tmp_path)
        assert [] == await office.retain(days=3)
        check(tmp_path)
        await office.retain(days=1)
    assert {} == _left(tmp_path)
    check(tmp_path)
    records = [entry for entry in read(tmp_path) if entry["kind"] == "retention"]
    assert 6 == len(records)
    assert {4} == {record["count"] for record in records}


async def test_the_hashes_stay(tmp_path):
    """Line by line as they were, so that every checkpoint that anybody holds still fits."""
    await write_days(tmp_path, range(2))
    before = [parse_line(line).leaf for line in _lines(tmp_path)]
    async with Office(tmp_path) as office:
        await office.retain(days=1)
    after = [parse_line(line) for line in _lines(tmp_path)]
    assert before == [line.leaf for line in after]
    assert all(line.gone for line in after)
    assert b"acme" not in b"".join(_lines(tmp_path))
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.jsonl")}


async def test_an_account_can_have_terms_of_its_own(tmp_path):
    """Longer or shorter; 0 days are for ever."""
    await write_days(tmp_path, range(3))
    async with Office(tmp_path, day=9) as office:
        await office.retain(days=1, acme=Keeping(days=0))
        assert {"acme": 12} == _left(tmp_path)
        await office.retain(acme=Keeping(days=8))
        assert {"acme": 8} == _left(tmp_path)
        check(tmp_path)


async def test_the_oldest_goes_when_an_account_has_too_much(tmp_path):
    """All that a file holds of it, until what is left is within the bound; of others nothing."""
    await write_days(tmp_path, range(4))
    size = sum(len(line) for line in _lines(tmp_path) if b'"acme"' in line)
    async with Office(tmp_path, day=4) as office:
        assert [] == await office.retain(acme=Keeping(bytes=size))
        gone = await office.retain(acme=Keeping(bytes=size - 1))
        assert [("acme", "size", 4)] == [(each.part.account, each.reason, each.part.lines) for each in gone]
        assert gone[0].path.name.endswith(f"{0:012d}.jsonl")
        await office.retain(acme=Keeping(bytes=size * 2 // 3))
        assert {"acme": 8, "beta": 16} == _left(tmp_path)
        check(tmp_path)


async def test_nothing_goes_of_an_account_under_hold(tmp_path):
    """By age and by size, until it is released."""
    await write_days(tmp_path, range(2))
    async with Office(tmp_path) as office:
        office.held = {"acme"}
        await office.retain(days=1, acme=Keeping(days=1, bytes=1))
        assert {"acme": 8} == _left(tmp_path)
        office.held = set()
        await office.retain(days=1)
        assert {} == _left(tmp_path)
        check(tmp_path)


async def test_a_hold_counts_from_the_moment_that_it_is_there(tmp_path):
    """Placed after all was found and recorded, just before a file is rewritten: of that account nothing goes."""
    await write_days(tmp_path, range(2))

    class Placing:
        """Somebody places a hold while the record that lets content go is being signed."""

        def __init__(self, office):
            self.append = office.journal.append
            self._office = office

        async def checkpoint(self):
            self._office.held = {"acme"}
            await self._office.journal.checkpoint()

    async with Office(tmp_path) as office:
        retention = replace(office.retention(Terms(usual=Keeping(days=1))), recorder=Placing(office))
        assert {"beta"} == {removal.part.account for removal in await retention.retain(now=office.now)}
        assert {"acme": 8} == _left(tmp_path)
        check(tmp_path)


async def test_nothing_goes_while_somebody_is_being_told_of_a_hold(tmp_path):
    """Whoever takes something away is told to try again; and they who tell can see that something is being taken."""
    await write_days(tmp_path, range(2))
    async with Office(tmp_path) as office:
        with removing(tmp_path, disk=Disk()):
            assert is_removing(tmp_path)
            with pytest.raises(JournalBusy, match="come under hold"):
                await office.retain(days=1)
            with pytest.raises(JournalBusy, match="come under hold"):
                await office.erase(lambda _: frozenset({"actor"}))
        assert not is_removing(tmp_path)
        assert {"acme": 8, "beta": 8} == _left(tmp_path)
        check(tmp_path)


async def test_nothing_goes_when_the_holds_are_not_known(tmp_path):
    """A store that is down lets nothing be taken away."""
    await write_days(tmp_path, [0])

    class Lost(Office):
        async def _held(self):
            raise OSError(errno.EIO, "the store is down")

    async with Lost(tmp_path) as office:
        with pytest.raises(OSError, match="the store is down"):
            await office.retain(days=1)
    assert {"acme": 4, "beta": 4} == _left(tmp_path)


async def test_what_tells_that_the_rest_is_whole_never_goes(tmp_path):
    """The journal's own marks, retentions and erasures: without them what is gone could not be told from a theft."""
    await write_days(tmp_path, range(2))
    async with Office(tmp_path, day=10) as office:
        await office.retain(days=1)
    for day in (11, 400):
        async with Office(tmp_path, day=day) as office:
            await office.retain(days=1)
            await office.journal.rotate()
    kinds = {entry["kind"] for entry in read(tmp_path)}
    assert {"journal", "retention"} == kinds
    check(tmp_path)


async def test_what_is_being_written_stays(tmp_path):
    """The open file of a running writer is left alone, and named as overdue; closed, it goes."""
    journal = await open_journal(tmp_path, origin="gateway")
    for number in range(EACH):
        await journal.append(a_decision(number))
    async with Office(tmp_path) as office:
        retention = office.retention(Terms(usual=Keeping(days=1)))
        assert [] == await retention.retain(now=office.now)
        assert {"gateway"} == await retention.overdue(now=office.now)
        await journal.rotate()
        assert frozenset() == await retention.overdue(now=office.now)
        assert 2 == len(await retention.retain(now=office.now))
    await journal.append(a_decision(0))
    await journal.close()
    check(tmp_path)
    assert {"acme": 1} == _left(tmp_path)


async def test_a_preview_changes_nothing(tmp_path):
    """It names what would go, what is under hold left out, and writes no record."""
    await write_days(tmp_path, range(2))
    async with Office(tmp_path) as office:
        office.held = {"beta"}
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        found = await office.retention(Terms(usual=Keeping(days=1))).preview(now=office.now)
        assert [("acme", 4)] * 2 == [(removal.part.account, removal.part.lines) for removal in found]
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


async def test_an_altered_line_is_left_for_whoever_verifies(tmp_path):
    """Retention does not tidy up after a forger."""
    await write_days(tmp_path, [0])
    (path,) = list_segments(tmp_path)["gateway"]
    path.write_bytes(path.read_bytes().replace(b'"path":"/tickets/2"', b'"path":"/tickets/9"'))
    async with Office(tmp_path) as office:
        await office.retain(days=1)
    assert ["/tickets/9"] == [entry["path"] for entry in read(tmp_path) if entry["kind"] == "decision"]
    with pytest.raises(AssertionError, match="not the one that was hashed"):
        check(tmp_path)


async def test_a_writer_goes_on_behind_rewritten_files(tmp_path):
    """It finds its place, believes its checkpoint and says nothing of alterations, with its place and without."""
    await write_days(tmp_path, range(2))
    async with Office(tmp_path) as office:
        await office.retain(days=1)
    for lost in (False, True):
        if lost:
            (tmp_path / "gateway.place").unlink()
        journal = await open_journal(tmp_path, origin="gateway", clock=SecondHand(NOON + timedelta(days=200)))
        await journal.append(a_decision(0))
        assert 2 * EACH + 1 + lost == journal.size
        await journal.close()
        check(tmp_path)
    assert [] == [entry for entry in read(tmp_path) if entry.get("reason") == "history_altered"]


async def test_a_torn_line_goes_with_what_is_taken_away(tmp_path):
    """It was never acknowledged and may hold anything; the record that speaks of it still vouches for the file."""
    await write_days(tmp_path, [0])
    (path,) = list_segments(tmp_path)["gateway"]
    with path.open("ab") as file:
        file.write(b'{"leaf":"00","record":{"subject":"torn')
    async with Office(tmp_path) as office:
        await office.retain(acme=Keeping(days=1))
        assert b"torn" in path.read_bytes(), "nobody has said yet that it is torn: that must not be hidden"
    await write_days(tmp_path, [1])
    check(tmp_path)
    async with Office(tmp_path) as office:
        await office.retain(beta=Keeping(days=1))
    assert b"torn" not in path.read_bytes()
    check(tmp_path)
    await write_days(tmp_path, [2])
    assert 1 == sum(entry.get("reason") == "torn_tail" for entry in read(tmp_path))
    check(tmp_path)


async def test_only_one_process_rewrites(tmp_path):
    """A second one is told, and nothing happens."""
    await write_days(tmp_path, [0])
    async with Office(tmp_path) as office:
        with rewriting(tmp_path, disk=Disk()), pytest.raises(JournalBusy):
            await office.retain(days=1)
    assert {"acme": 4, "beta": 4} == _left(tmp_path)


class Killed(BaseException):
    """The process ends here."""


class FailingDisk:
    """Whose n-th call fails, or is where the process is killed; what was written may be there in part."""

    def __init__(self, fail_at: int, error: BaseException) -> None:
        self.calls = 0
        self._fail_at = fail_at
        self._error = error

    def _count(self) -> bool:
        self.calls += 1
        return self.calls == self._fail_at

    def write(self, handle: int, content: bytes) -> int:
        if self._count():
            os.write(handle, content[: len(content) // 2])
            raise self._error
        return os.write(handle, content)

    def fsync(self, handle: int) -> None:
        if self._count():
            raise self._error
        os.fsync(handle)

    def rename(self, old, new) -> None:
        if self._count():
            raise self._error
        old.replace(new)

    def disk(self) -> Disk:
        return Disk(write=self.write, fsync=self.fsync, rename=self.rename)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), OSError(errno.EIO, "i/o"), Killed()], ids=repr)
async def test_whichever_call_fails_the_journal_verifies_and_the_next_one_does_it(tmp_path, error):
    """Each write, fsync and rename of two files, in turn: afterwards every file is there whole, old or new."""
    original = tmp_path / "original"
    await write_days(original, range(2))
    steps = 0
    while True:
        steps += 1
        journal = tmp_path / f"{steps}"
        shutil.copytree(original, journal)
        failing = FailingDisk(steps, error)
        try:
            async with Office(journal, disk=failing.disk()) as office:
                await office.retain(days=1)
        except (OSError, Killed):
            pass
        check(journal)
        before = _left(journal)
        if failing.calls < steps:
            break
        (journal / "gateway-000000000000.jsonl.new").write_bytes(b"left by a process that was killed")
        async with Office(journal, day=101) as office:
            await office.retain(days=1)
        assert ({}, []) == (_left(journal), list(journal.glob("*.new")))
        check(journal)
    assert {} == before
    assert 9 == steps, "two files, each of write, fsync, rename and the directory's fsync"


async def test_a_journal_that_cannot_be_written_keeps_everything(tmp_path):
    """Nothing goes that is not on the record."""
    await write_days(tmp_path, [0])

    def fail(_handle: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space")

    async with Office(tmp_path) as office:
        await office.journal.close()
        office.journal = await open_journal(tmp_path, origin="cli", write=fail)
        with pytest.raises(Exception, match="cannot be written"):
            await office.retain(days=1)
    assert {"acme": 4, "beta": 4} == _left(tmp_path)
    check(tmp_path)


async def test_verifying_while_content_goes_finds_nothing(tmp_path):
    """Whatever of it was read before and after."""
    await write_days(tmp_path, range(6))
    done = asyncio.Event()

    def verify_all() -> int:
        rounds = 0
        while not done.is_set() or not rounds:
            check(tmp_path)
            rounds += 1
        return rounds

    async with Office(tmp_path) as office:
        await office.journal.rotate()
        await office.journal.checkpoint()
        verifying = asyncio.get_running_loop().run_in_executor(None, verify_all)
        for days in (99, 98, 97, 96, 95, 94):
            await office.retain(days=days)
            await asyncio.sleep(0)
        done.set()
        assert 1 <= await verifying
    assert {} == _left(tmp_path)


async def test_what_is_being_written_stays_though_older_files_are_lost(tmp_path):
    """The next file's name comes last though it begins with a smaller number; and open is open, whatever its name."""
    await write_days(tmp_path, range(5))
    for path in [*list_segments(tmp_path)["gateway"][:2], tmp_path / "gateway.place"]:
        path.unlink()
    journal = await open_journal(tmp_path, origin="gateway", clock=SecondHand(NOON))
    await journal.append(a_decision(0))
    *_, last = list_segments(tmp_path)["gateway"]
    assert f"gateway-{4 * EACH:012d}.1.jsonl" == last.name
    beside = tmp_path / f"gateway-{9 * EACH:012d}.jsonl"
    beside.touch()
    async with Office(tmp_path) as office:
        await office.retain(days=1)
    beside.unlink()
    seqs = [await journal.append(a_decision(0), durable=True) for _ in range(4)]
    await journal.close()
    assert seqs == [entry["seq"] for entry in read(tmp_path) if entry["kind"] == "decision"][-4:]

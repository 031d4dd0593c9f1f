"""A gateway that watches over its own evidence: what is broken is on the record once, and told."""

import asyncio
from contextlib import asynccontextmanager

from gateway.audit.evidence.verdict import Verdict, read_kept
from gateway.audit.evidence.watch import Watch
from tests.gateway_world import open_world
from tests.sink_world import listening
from tests.telling_world import SECURITY, Log, Relay, notices, recorded, telling
from tests.upstream_client import eventually


def watch_over(directory, log, *, conflicts=dict, every=0.05, kind=Watch, **more):
    return kind(
        directory / "journal",
        directory / "journal-key.pem",
        directory / "verified",
        log_to=log,
        conflicts=conflicts,
        every_seconds=every,
        first_seconds=0.0,
        again_seconds=0.0,
        **more,
    )


@asynccontextmanager
async def running(watch):
    task = asyncio.ensure_future(watch.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def alter(directory):
    [path] = (directory / "journal").glob("gateway-*.jsonl")
    text = path.read_bytes()
    at = text.index(b"enabled")
    path.write_bytes(text[:at] + b"enableD" + text[at + 7 :])


async def test_a_journal_that_was_altered_is_noticed_and_said_once(tmp_path):
    """Also by the next process; of one that is as it was nothing is said."""
    async with open_world(tmp_path) as world:
        assert 200 == (await world.choose())[0]
        assert 0 == (await watch_over(tmp_path, Log()).ask()).count
    alter(tmp_path)
    log = Log()
    async with running(watch_over(tmp_path, log)):
        await eventually((tmp_path / "verified" / "said").exists)
    found = read_kept(tmp_path / "verified").verdict
    assert 0 < found.count
    assert "gateway-" in found.first
    [record] = log.records
    assert ("audit", "evidence_broken") == (record.kind, record.reason)
    assert "gateway-" in record.stated_reason

    class Again(Watch):
        """Finds the same without a process."""

        async def ask(self):
            return found

    with listening() as lines:
        async with running(watch_over(tmp_path, log, kind=Again)):
            # It is said once more only behind that line, so what came of the first time is known by the second.
            await eventually(lambda: 2 <= sum("not what it was" in line for line in lines))
    assert 1 == len(log.records)


async def test_what_came_of_it_is_kept(tmp_path):
    """Until which record, and when, for whoever asks; what cannot be read is none."""
    kept = tmp_path / "verified"
    assert None is read_kept(kept)
    async with open_world(tmp_path) as world:
        assert 200 == (await world.choose())[0]
        await world.gateway.journal.checkpoint()
        count = world.gateway.journal.size
        async with running(watch_over(tmp_path, Log(), every=60, clock=world.clock.utc)):
            await eventually(lambda: read_kept(kept) is not None)
        found = read_kept(kept)
        assert (world.clock.now, 0, {"gateway": count}) == (found.at, found.verdict.count, found.verdict.covered)
        assert 0 < count
    for damaged in (b"", b"{}", b'{"at":"2026-01-01T00:00:00","verdict":{"count":0}}', b"\xff"):
        (kept / "verdict.json").write_bytes(damaged)
        assert None is read_kept(kept)


class Broken(Watch):
    """Does not ask a process, but knows already."""

    async def ask(self):
        return Verdict(count=1, first="altered")


async def test_what_is_broken_is_told_though_it_cannot_be_kept(tmp_path):
    """The verdict's place is taken by a folder, and the record is written all the same."""
    (tmp_path / "verified" / "verdict.json").mkdir(parents=True)
    log = Log()
    async with running(watch_over(tmp_path, log, kind=Broken)):
        await eventually(lambda: log.records)
    assert ["altered"] == [record.stated_reason for record in log.records]


async def test_a_witness_that_knows_another_history_is_heeded(tmp_path):
    """Only that one."""
    log = Log()
    async with running(watch_over(tmp_path, log, conflicts=lambda: {"customer": 3, "bank": 0}, every=0)):
        await eventually(lambda: log.records)
    assert ["the witness customer knows another history"] == [record.stated_reason for record in log.records]


async def test_the_security_team_is_told(tmp_path):
    """Of what stands on the record, by whichever way it came there."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay, security={"mail": [SECURITY]})) as world:
            watch = watch_over(tmp_path, world.gateway.journal, conflicts=lambda: {"customer": 1}, every=0)
            async with running(watch):
                await recorded(world, event="evidence", reason="sent")
    [mail] = relay.mails_to(SECURITY)
    assert "The journal is not what it was" == mail["Subject"]
    assert "the witness customer knows another history" in mail.get_content()

"""Nobody gets a forged retention or erasure signed: who starts behind unsigned records says so before it signs them."""

from datetime import timedelta

import pytest

from gateway.audit.evidence.verify import verify
from gateway.audit.log import JournalError
from gateway.audit.record import Record, to_json
from gateway.audit.removal.erasure import of_actor
from gateway.audit.sealed import join_openings, split_openings
from gateway.audit.search import read
from gateway.audit.segment import Gone, Line, build_line, encode_gone, join_line, list_segments, parse_line
from policy.merkle import Frontier, leaf_hash
from tests.journals import KEY, NOON, SecondHand, check, open_journal
from tests.kept_journal import ISSUER, Office, write_days
from tests.process_world import until
from tests.stuck_disk import StuckDisk

OF_CLI = Record(kind="client", reason="added")


def _lines(path) -> list[Line]:
    return [parse_line(line) for line in path.read_bytes().splitlines(keepends=True)]


def _put(path, lines) -> None:
    path.write_bytes(b"".join(map(join_line, lines)))


def _append_forged(path, **fields) -> None:
    _, line = build_line(to_json({"at": "2026-11-23T12:00:20.000000Z", **fields}))
    with path.open("ab") as file:
        file.write(line)


def _without_actor(line: Line) -> bytes:
    return join_openings((group, raw) for group, raw in split_openings(line.openings).items() if group != "actor")


async def _write_one(directory, origin) -> None:
    journal = await open_journal(directory, origin=origin, clock=SecondHand(NOON + timedelta(days=2)))
    await journal.append(OF_CLI)
    await journal.close()


def _whats(directory) -> list[str]:
    return [finding.what for finding in verify(directory, public_key=KEY.public_key()).findings]


async def test_a_retention_that_somebody_put_into_an_idle_origin_lets_nothing_go(tmp_path):
    """Who can write the files appends it to what a command wrote; the next command signs it, and does not vouch for it."""
    await write_days(tmp_path, [0])
    await _write_one(tmp_path, "cli")
    (path,) = list_segments(tmp_path)["gateway"]
    lines, leaves = _lines(path), Frontier()
    leaves.extend([leaf_hash(line.record) for line in lines])
    forged = {"kind": "retention", "reason": "age", "account": "acme", "origin": "cli", "seq": 1}
    (idle,) = list_segments(tmp_path)["cli"]
    _append_forged(idle, **forged, segment=path.name, count=leaves.size, root=leaves.root().hex())
    await _write_one(tmp_path, "cli")
    check(tmp_path)
    _put(path, [Line(line.leaf, b"", gone=encode_gone(Gone(seq=n, by="cli:1"))) for n, line in enumerate(lines)])
    assert ["the content is gone, and `cli:1` was signed only by a later start"] == _whats(tmp_path)


async def test_an_erasure_that_somebody_put_behind_a_crash_lets_nothing_go(tmp_path):
    """Whatever the writer itself had left unsigned; and three more starts make it no better."""
    await write_days(tmp_path, [0])
    (path,) = list_segments(tmp_path)["gateway"]
    lines = _lines(path)
    commitments = sorted({line.record.partition(b'"sealed":{"actor":"')[2][:43].decode() for line in lines})
    assert 2 == len(commitments)
    _append_forged(
        path, kind="erasure", reason="erased", origin="gateway", seq=len(lines), commitments=commitments, count=2
    )
    for _ in range(3):
        await _write_one(tmp_path, "gateway")
    check(tmp_path)
    _put(path, [line._replace(openings=_without_actor(line)) for line in _lines(path)])
    assert len(commitments) == len(whats := _whats(tmp_path))
    assert all("no erasure under a checkpoint speaks of it" in what for what in whats)


async def test_what_was_signed_in_its_time_counts_after_a_crash(tmp_path):
    """The newest checkpoint may be lost between its two files: the history still says that it was signed before."""
    await write_days(tmp_path, [0, 1])
    await _write_one(tmp_path, "cli")
    older = {path: path.read_bytes() for path in (tmp_path / "cli.checkpoint", tmp_path / "cli.place")}
    async with Office(tmp_path, day=9) as office:
        await office.retain(days=8)
        assert (await office.erase(of_actor(ISSUER, "dana.k"))).is_complete
    for path, content in older.items():
        path.write_bytes(content)
    await _write_one(tmp_path, "cli")
    assert 1 == sum(entry.get("reason") == "unsigned_tail" for entry in read(tmp_path))
    check(tmp_path)


async def test_nothing_unsigned_is_signed_before_it_is_said_to_be(tmp_path):
    """A disk that hangs at the start lets nobody say it: then nothing is signed, until it lets go."""
    await write_days(tmp_path, [0])
    (path,) = list_segments(tmp_path)["gateway"]
    _append_forged(path, kind="erasure", reason="erased", origin="gateway", seq=8, commitments=["x"], count=1)
    before, disk = (tmp_path / "gateway.checkpoint").read_bytes(), StuckDisk()
    disk.hang("write")
    journal = await open_journal(
        tmp_path, origin="gateway", write=disk.write, patience_seconds=0.5, checkpoint_seconds=3600
    )
    with pytest.raises(JournalError, match="not on the record yet"):
        await journal.checkpoint()
    assert before == (tmp_path / "gateway.checkpoint").read_bytes()
    disk.close()
    await until(lambda: journal.size > 9)
    await journal.close()
    assert before != (tmp_path / "gateway.checkpoint").read_bytes()
    check(tmp_path)

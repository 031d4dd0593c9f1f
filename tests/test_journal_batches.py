"""What is encoded together with other records, at the last moment: each as it was when it was given, at its place."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.audit.completion import Completion
from gateway.audit.log import JournalError
from gateway.audit.record import Record, encode, name_actor, seal, to_json
from gateway.audit.search import read
from gateway.audit.segment import build_line
from gateway.audit.writing.batch import Batch
from gateway.audit.writing.writer import RETRY_SECONDS
from policy.model import AccountId, ActorId, AssumptionId
from tests.journals import ENTRY, NOON, Ticks, check, open_journal

ACCOUNT, ASSUMPTION = AccountId("acme"), AssumptionId("as-1")


def _request(**fields: Any) -> Record:
    """Return a permit's record as a connection gives it to the journal, sealed already."""
    record = Record(
        kind="decision",
        decision="allow",
        account=ACCOUNT,
        assumption=ASSUMPTION,
        actor=name_actor(ActorId(issuer="https://idp.vendor.example", subject="dana"), "Dana"),
        ticket="SUP-1",
        **fields,
    )
    assert seal(record)
    return record


def _completion(completes: int) -> Completion:
    return Completion(
        kind="completion",
        account=ACCOUNT,
        assumption=ASSUMPTION,
        completes=completes,
        duration_us=7,
        ended="complete",
        request_id="req_1",
    )


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_a_batch_holds_the_bytes_that_each_record_has_by_itself(microsecond):
    """Sealed or not, short or long, with a query or none, beside others: the line is that of `encode`."""
    records = [
        _request(path="/tickets/1", rule="ticket-show"),
        Record(kind="grant", by="owner@acme.example", reason="enabled"),
        _request(path="/tickets/\u202e2"),
        _request(path="/" + "x" * 3000),
        _request(path="/search", query_names=("q", "page"), query_values=("page=2",)),
        _request(path="/é"),
    ]
    at = NOON.replace(microsecond=microsecond)
    batch, expected = Batch(), []
    for seq, record in enumerate(records):
        encoded = encode(replace(record), origin="node", seq=seq, at=at)
        # Its own salt, so its own bytes, unless it was sealed before.
        if record.sealed is not None:
            expected.append(build_line(*encoded)[1])
        batch.add(record, origin="node", seq=seq, at=at)
    lines = batch.finish().splitlines(keepends=True)

    assert expected == [line for line, record in zip(lines, records, strict=True) if record.sealed is not None]
    assert len(records) == len(batch.leaves) == len(lines)
    assert batch.bytes >= sum(map(len, lines)) - 200 * len(lines)


def test_a_note_in_a_batch_holds_the_bytes_that_it_has_by_itself():
    """How an exchange ended is one line, with its place and its time."""
    note, batch = _completion(3), Batch()
    batch.add_note(note, origin="node", seq=4, at=NOON)

    assert build_line(to_json(note))[1] == batch.finish()
    assert (4, "node", "2026-11-23T12:00:00.000000Z") == (note.seq, note.origin, note.at)
    assert ([note], []) == batch.end(0)


async def test_one_record_that_is_given_twice_has_two_places(tmp_path):
    """Whoever gives a sealed record again, while the first waits, changes nothing of where that one stands."""
    journal = await open_journal(tmp_path / "journal")
    record = _request(path="/tickets/1")
    seqs = await asyncio.gather(*(journal.append(record) for _ in range(3)))
    await journal.close()

    assert seqs == [entry["seq"] for entry in read(tmp_path / "journal")] == [0, 1, 2]
    check(tmp_path / "journal")


async def test_what_cannot_be_written_as_json_refuses_those_beside_it_and_no_others(tmp_path, caplog):
    """A fault of ours in one record acknowledges nothing of its batch, leaves no gap, and the journal goes on."""
    ticks = Ticks()
    journal = await open_journal(tmp_path / "journal", ticks=ticks)
    await journal.append(ENTRY)
    spoilt = _request(path="/tickets/1")
    spoilt.rule = object()  # type: ignore[assignment] # what only a fault of ours can bring
    outcomes = await asyncio.gather(
        journal.append(spoilt), journal.append(_request(path="/tickets/2")), return_exceptions=True
    )
    ticks.now += RETRY_SECONDS
    seq = await journal.append(_request(path="/tickets/3"))
    await journal.close()

    assert [JournalError, JournalError] == [type(outcome) for outcome in outcomes]
    assert 1 == seq
    assert [None, "/tickets/3"] == [entry.get("path") for entry in read(tmp_path / "journal")]
    check(tmp_path / "journal")
    assert "cannot be written as JSON" in caplog.text

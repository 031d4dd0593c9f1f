"""What of a line goes into an index: remembering what lines have in common changes nothing of what is found."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.completion import Completion
from gateway.audit.index.grouping import GROUPING, group_values
from gateway.audit.index.lines import read_indexed
from gateway.audit.index.places import id_of
from gateway.audit.record import Record, encode, name_actor, to_json
from gateway.audit.sealed import GROUPS
from gateway.audit.search.words import marks_of
from gateway.audit.segment import Gone, Line, build_line, encode_gone, join_line, parse_line, read_entry
from gateway.audit.times import time_of
from policy.model import AccountId, ActorId, AgentId, AssumptionId

_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_ACTOR = ActorId(issuer="https://idp.vendor.example", subject="dana")
_NAMES = st.sampled_from(
    sorted({*GROUPING, *GROUPS, "at", "path", "request_id", "seq", "completes", "status", "scopes", "origin", "x"})
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


def _request(number: int, **changed: object) -> Record:
    """Return the record of one of many requests of an assumption."""
    record = Record(
        kind="decision",
        decision="allow",
        account=AccountId("acme"),
        assumption=AssumptionId(f"as-{number % 3}"),
        actor=name_actor(_ACTOR, "Dana Müller", frozenset({"support"})),
        subject=AgentId("maria"),
        granted_by="owner@acme.example",
        ticket="SUP-1",
        stated_reason="cannot reproduce it, cannot",
        client_ip="192.0.2.1",
        method="GET",
        path=f"/tickets/{number % 4}",
        request_id=f"req_{number:016x}",
        rule="ticket-show",
        scopes=("tickets:read",),
    )
    for name, value in changed.items():
        setattr(record, name, value)
    return record


def _line(record: Record, number: int = 0) -> bytes:
    return build_line(*encode(record, origin="n-0", seq=number, at=_AT + timedelta(milliseconds=number)))[1]


def _check(line: bytes) -> None:
    """The line is in an index as all of it says, whatever was indexed before."""
    entry, found = read_entry(line), read_indexed(line)
    if entry is None:
        assert found is None
        return
    assert found is not None
    at = time_of(entry)

    assert (None if at is None else id_of(entry, at)) == found.id
    assert group_values(entry) == found.group
    assert set(marks_of(entry).split()) == set(found.marks.split())


def test_requests_of_assumptions_are_found_as_each_by_itself() -> None:
    """Neither what the last one had, nor what another assumption has, sticks to a record."""
    for number in range(40):
        _check(_line(_request(number), number))
        _check(_line(_request(number, decision="deny", reason="no_route_rule", path=None, status=403), number))


def test_a_completion_is_found_by_what_it_says() -> None:
    """Of its numbers none is a word, and how it ended is."""
    for number in range(6):
        completion = Completion(
            kind="completion",
            account=AccountId("acme"),
            assumption=AssumptionId("as-1"),
            at=_AT,
            bytes_received=number,
            bytes_sent=1000 + number,
            completes=number,
            duration_us=7 * number,
            ended="cut" if number % 2 else "complete",
            origin="n-0",
            reason="grant_revoked" if number % 2 else None,
            request_id=f"req_{number:016x}",
            seq=number + 1,
            status=200,
        )
        _check(build_line(to_json(completion))[1])


@pytest.mark.parametrize("group", GROUPS)
def test_what_was_erased_is_not_found_because_it_is_remembered(group: str) -> None:
    """A line that was read before its opening was taken away leaves nothing of that in the index afterwards."""
    line = _line(_request(1))
    _check(line)
    parts = parse_line(line)
    assert parts is not None
    openings = msgspec.json.decode(parts.openings, type=dict[str, msgspec.Raw])
    del openings[group]

    _check(join_line(Line(parts.leaf, parts.record, msgspec.json.encode(openings))))


def test_a_line_without_its_content_is_not_indexed() -> None:
    """What retention has taken away is in no index, nor is what cannot be read."""
    leaf = parse_line(_line(_request(1)))
    assert leaf is not None

    for line in (
        join_line(Line(leaf.leaf, b"", gone=encode_gone(Gone(seq=1, by="n-0:9")))),
        build_line(b'{"at":"2026-11-23T12:00:00.000001Z","kind":')[1],
        build_line(b"[1]")[1],
        b"\n",
    ):
        _check(line)
        assert read_indexed(line) is None


def test_long_texts_of_strangers_are_not_kept_in_memory() -> None:
    """A record that is longer than most is indexed all the same, each time anew."""
    for number in range(3):
        _check(_line(_request(number, user_agent="word " * 900, path="/" + "x/" * 700), number))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(_NAMES, _VALUES, max_size=6), st.dictionaries(st.sampled_from(sorted(GROUPS)), _VALUES, max_size=2)
)
def test_no_record_that_somebody_has_altered_is_found_otherwise(record: dict[str, object], opened: object) -> None:
    """Whatever JSON a line holds, its id, its group and its words are what the whole of it says."""
    _check(build_line(msgspec.json.encode(record))[1])
    _check(build_line(msgspec.json.encode({**record, "sealed": {"agent": "x"}}), msgspec.json.encode(opened))[1])

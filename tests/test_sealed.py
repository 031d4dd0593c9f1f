"""Personal fields stand beside the record, under commitments that tell nothing without their salts."""

import base64
import hashlib
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.audit.record import Actor, Record, encode, forget_commitments, seal
from gateway.audit.sealed import GROUPS, OpeningError, commit, join_openings, split_openings
from gateway.audit.segment import build_line, parse_line, read_entry
from policy.model import AssumptionId
from tests.journals import NOON
from tests.kept_journal import a_decision

FIELDS = [(group, field) for group, fields in GROUPS.items() for field in fields]


def _line(record: Record, seq: int = 0) -> bytes:
    return build_line(*encode(record, origin="node", seq=seq, at=NOON + timedelta(seconds=seq)))[1]


def _commitments(record: Record) -> dict[str, str]:
    return msgspec.json.decode(encode(record, origin="node", seq=0, at=NOON)[0]).get("sealed", {})


def _one(field: str) -> Record:
    value = Actor(issuer="i", subject="canary") if field == "actor" else "canary"
    return Record(kind="decision", **{field: value})


@pytest.mark.parametrize(("group", "field"), FIELDS)
def test_a_personal_field_stands_only_beside_the_record(group, field):
    """The record holds a commitment in its place, of its group alone, and reading gives it back."""
    line = _line(_one(field))
    parts = parse_line(line)
    assert b"canary" not in parts.record
    assert {group} == set(msgspec.json.decode(parts.record)["sealed"])
    assert "canary" in str(read_entry(line)[field])
    assert {"at", "kind", "origin", "seq", field} == set(read_entry(line))


def test_a_record_of_nobody_seals_nothing():
    """Its line is as it always was."""
    assert b"sealed" not in (line := _line(Record(kind="journal", reason="torn_tail")))
    assert b'"open"' not in line


def test_an_empty_text_is_no_absence():
    """It is kept, and comes back."""
    assert "" == read_entry(_line(Record(kind="decision", ticket="")))["ticket"]


def test_the_commitment_is_that_of_the_exact_bytes_and_the_salt_has_128_bits():
    """As docs/verify.md says, computed here by hand."""
    parts = parse_line(_line(a_decision(0)))
    sealed = msgspec.json.decode(parts.record)["sealed"]
    for group, raw in msgspec.json.decode(parts.openings, type=dict[str, msgspec.Raw]).items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(bytes(raw)).digest()).decode().rstrip("=")
        assert digest == sealed[group]
        salt = msgspec.json.decode(bytes(raw))["salt"]
        assert 16 == len(base64.urlsafe_b64decode(salt + "=="))
    assert set(GROUPS) == set(sealed)


def test_records_of_one_assumption_share_commitments_as_far_as_their_values_are_the_same():
    """Another browser is another commitment of the actor's, and of nothing else."""
    first, again = _commitments(a_decision(0)), _commitments(a_decision(2))
    assert first == again
    other = _commitments(structs.replace(a_decision(0), user_agent="another"))
    assert ["actor"] == [group for group in first if first[group] != other[group]]


def test_two_assumptions_of_one_person_cannot_be_told_to_be_theirs():
    """Nothing in the records is alike once the openings are gone."""
    first, second = _commitments(a_decision(0, day=1)), _commitments(a_decision(0, day=2))
    assert not set(first.values()) & set(second.values())


def test_what_belongs_to_no_assumption_has_commitments_of_its_own():
    """Two requests of one stranger cannot be told to be theirs either."""
    stranger = Record(kind="decision", decision="deny", client_ip="192.0.2.1", user_agent="x")
    assert _commitments(stranger) != _commitments(stranger)


def test_strangers_do_not_push_out_what_is_remembered_of_staff():
    """However many come, each from another address."""
    before = _commitments(a_decision(0))
    for number in range(10_000):
        seal(Record(kind="decision", decision="deny", client_ip=f"2001:db8::{number:x}"))
    assert before == _commitments(a_decision(0))


def test_what_somebody_makes_up_at_any_length_is_not_remembered():
    """A browser's name has a few hundred characters; or one token could fill the memory with ever new ones."""
    usual, long = (structs.replace(a_decision(0), user_agent="u" * length) for length in (256, 257))
    assert _commitments(usual) == _commitments(usual)
    assert not set(_commitments(long).values()) & set(_commitments(long).values())


def test_two_accounts_share_no_commitments():
    """One of them may be under hold, and what is erased in the other must not let that go."""
    first, second = a_decision(0), structs.replace(a_decision(0), account="beta")
    assert not set(_commitments(first).values()) & set(_commitments(second).values())


def test_what_was_forgotten_is_committed_to_anew():
    """So that an erasure takes what was before it, and says nothing of what comes."""
    before = _commitments(a_decision(0))
    forget_commitments()
    assert not set(before.values()) & set(_commitments(a_decision(0)).values())


def test_the_record_that_was_given_is_left_as_it_was():
    """Who owes it may have to give it again."""
    record = a_decision(1)
    first = encode(record, origin="node", seq=0, at=NOON)
    assert a_decision(1).actor == record.actor
    assert ("maria-of-beta", None) == (record.subject, record.sealed)
    assert first == encode(record, origin="node", seq=0, at=NOON)


def test_copies_of_a_sealed_record_say_what_it_says():
    """A connection seals once for all of its requests."""
    base = a_decision(0)
    seal(base)
    entry = read_entry(_line(structs.replace(base, path="/other")))
    plain = read_entry(_line(structs.replace(a_decision(0), path="/other")))
    assert plain == entry


TEXT = st.none() | st.text(st.characters(codec=None), max_size=40) | st.just("x" * 5000)


@settings(max_examples=150, deadline=None)
@given(
    fields=st.fixed_dictionaries({field: TEXT for _, field in FIELDS if field != "actor"}),
    name=TEXT,
    assumption=st.sampled_from([None, AssumptionId("as_1")]),
)
def test_whatever_strangers_write_is_one_canonical_line_and_comes_back(fields, name, assumption):
    """Escapes, surrogates, cutting: openings are made as records are, and are what they are checked to be."""
    record = Record(kind="decision", assumption=assumption, **fields)
    record.actor = Actor(issuer="i", name=name, subject="s")
    line = _line(record)
    text = line.decode()
    assert 1 == len(text.splitlines())
    assert not any(char < " " or "\x7f" <= char <= "\x9f" or char in "\u202e\u2028\u200f" for char in text[:-1])
    parts = parse_line(line)
    openings = split_openings(parts.openings)
    assert msgspec.json.decode(parts.record)["sealed"] == {group: commit(raw) for group, raw in openings.items()}
    entry = read_entry(line)
    for field, value in fields.items():
        if value is None:
            assert field not in entry
        elif len(value) < 1000 and not any("\ud800" <= char <= "\udfff" for char in value):
            assert value == entry[field]


def test_an_opening_cannot_speak_for_the_record():
    """Whatever is put into it, only its group's own fields are read from it; `verify` finds it in any case."""
    parts = parse_line(_line(a_decision(0)))
    openings = split_openings(parts.openings)
    openings["agent"] = b'{"decision":"deny","seq":9,"subject":"mallory"}'
    entry = read_entry(build_line(parts.record, join_openings(openings.items()))[1])
    assert ("allow", 0, "mallory") == (entry["decision"], entry["seq"], entry["subject"])


def test_a_group_that_is_gone_is_named():
    """And none of its fields is invented."""
    parts = parse_line(_line(a_decision(0)))
    openings = split_openings(parts.openings)
    del openings["actor"]
    entry = read_entry(build_line(parts.record, join_openings(openings.items()))[1])
    assert ["actor"] == entry["erased"]
    assert not {"actor", "client_ip", "user_agent"} & set(entry)
    assert "maria-of-acme" == entry["subject"]


@pytest.mark.parametrize(
    "openings",
    [
        b"{}",
        b'{"agent":{},"actor":{}}',
        b'{"actor":{},"actor":{}}',
        b'{"actor": {}}',
        b'{"actor":{}} ',
        b'{"\\u0061ctor":{}}',
        b"[]",
        b'{"actor":',
    ],
)
def test_openings_have_one_form(openings):
    """What could be written in two ways could be changed unseen."""
    with pytest.raises(OpeningError):
        split_openings(openings)


@pytest.mark.parametrize(
    "line",
    [
        b'{"leaf":"' + b"0" * 64 + b'","gone":{"seq":1,"by":"cli:1"}}\n',
        b'{"leaf":"' + b"0" * 64 + b'","record":nonsense}\n',
        b'{"leaf":"' + b"0" * 64 + b'","record":{"kind":"x"',
        b"\n",
        b"",
    ],
)
def test_what_is_gone_or_spoilt_is_no_entry(line):
    """Reading for content passes over it."""
    assert None is read_entry(line)

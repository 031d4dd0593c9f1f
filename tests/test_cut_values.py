"""What is too long is cut, and whoever has the whole can show by its length and digest that it is the one."""

import asyncio
import hashlib
import json
import re

import msgspec
import pytest
from click.testing import CliRunner
from locum_verify import receipt as alone

from gateway.audit.cutting import MAX_CHARACTERS, MAX_ITEMS
from gateway.audit.evidence.receipt_check import check_receipt
from gateway.audit.evidence.verify import verify
from gateway.audit.record import Actor, Record, encode
from gateway.audit.sealed import commit, split_openings
from gateway.audit.search import read
from gateway.audit.segment import build_line, read_entry
from gateway.caller import describe_agent
from gateway.cli.audit import audit
from tests.journals import NOON, open_journal
from tests.receipt_world import OURS, PUBLIC, entry, receipt_of

LONG = {
    "padding": "A" * 65536,
    "wide": "\U0001f600" * 65536,
    "bidi and lines": "\u202e\n" * 32768,
    "half characters": "a\ud800\\" * 20000,
    "short but for its escapes": "\udcff" * 1500,
    "one too many": "x" * (MAX_CHARACTERS + 1),
}
OPEN = ("path", "reason", "traceparent")
SEALED = ("ticket", "stated_reason", "user_agent", "by")
MARK = re.compile("…\\[cut, ([0-9]+) ([a-z]+), SHA-256 ([0-9a-f]{64})\\]")


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _mark(text):
    """Return the length, the unit and the digest at the end of a value that was cut."""
    found = MARK.search(text)
    assert found is not None, text[-200:]
    assert found.end() == len(text)
    assert 1 == text.count("…[cut, "), "cut twice"
    return int(found[1]), found[2], found[3]


def _read(record):
    found = read_entry(build_line(*encode(record, origin="node", seq=7, at=NOON))[1])
    assert found is not None
    return found


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("field", [*OPEN, *SEALED])
def test_whoever_has_the_whole_can_show_it(field, text):
    """The digest is that of the text's own bytes in UTF-8, before anything was escaped or cut."""
    assert (len(text), "characters", _sha256(text.encode("utf-8", "surrogatepass"))) == _mark(
        _read(Record(kind="decision", **{field: text}))[field]
    )


def test_half_characters_are_said_also_where_the_end_is_cut():
    """The beginning reads as it was, with the mark that tells how."""
    kept = _read(Record(kind="decision", path=LONG["half characters"]))["path"]
    assert kept.startswith("a\\ud800\\\\" * 100)
    assert "…[escaped]" == kept[MAX_CHARACTERS : kept.index("…[cut")]


def test_what_differs_only_behind_the_cut_is_told_apart():
    """So that nobody shows another text with the same beginning for the one that was sent."""
    ends = {
        _read(Record(kind="decision", path="A" * 65536 + end))["path"] for end in ("", "A", "B", "\ud800", "\ud801")
    }
    assert 5 == len(ends)


def test_the_digest_of_a_long_list_is_that_of_all_its_items():
    """Also of those that are not there, and of long ones as they were."""
    names = [f"näme{number}" for number in range(500)] + ["x" * 5000, "a\ud800"]
    kept = _read(Record(kind="decision", query_names=tuple(names)))["query_names"]
    whole = json.dumps(names, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    assert names[:MAX_ITEMS] == kept[:MAX_ITEMS]
    assert [(502, "items", _sha256(whole))] == [_mark(text) for text in kept[MAX_ITEMS:]]


@pytest.mark.parametrize("field", SEALED)
def test_of_what_is_sealed_the_digest_is_sealed(field):
    """Beside the record it would tell, without the salt and after an erasure, whether somebody guessed the text."""
    text = "secret " * 2000
    record, openings = encode(Record(kind="decision", **{field: text}), origin="node", seq=7, at=NOON)
    digest = _sha256(text.encode()).encode()
    assert digest in openings
    assert digest not in record
    [(group, opening)] = split_openings(openings).items()
    assert msgspec.json.decode(record)["sealed"] == {group: commit(opening)}


def test_a_name_within_a_sealed_group_is_cut_likewise():
    """Whatever the identity provider calls somebody."""
    kept = _read(Record(kind="decision", actor=Actor(issuer="i", subject="s", name="N" * 3000)))["actor"]["name"]
    assert (3000, "characters", _sha256(b"N" * 3000)) == _mark(kept)


@pytest.mark.parametrize("agent", [b"u" * 20_000, b"\xff" * 1024, b"\\" * 1023 + b"\xff", b"\xff" * 65536])
def test_a_programs_name_is_cut_once_with_the_digest_of_its_bytes(agent):
    """Of the bytes that were sent, however long they become by being written as text."""
    kept = _read(Record(kind="decision", user_agent=describe_agent(agent)))["user_agent"]
    assert (len(agent), "bytes", _sha256(agent)) == _mark(kept)


def test_a_value_that_says_itself_that_it_was_cut_is_cut_as_well():
    """Nobody writes another value's digest behind their own."""
    forged = f"{'A' * MAX_CHARACTERS}…[cut, 65536 characters, SHA-256 {'0' * 64}]"
    kept = _read(Record(kind="decision", path=forged))["path"]
    assert (len(forged), "characters", _sha256(forged.encode())) == _mark(kept)


def test_every_reader_takes_what_was_cut_and_cuts_nothing_more(tmp_path):
    """`verify`, a receipt with both of its checkers, and the commands that print JSON."""
    names = tuple(f"n{number}" for number in range(100))

    async def work():
        journal = await open_journal(tmp_path)
        for number in range(MAX_ITEMS + 6):
            more = {"path": "/" + "p" * 5000, "stated_reason": LONG["wide"], "query_names": names} if not number else {}
            await journal.append(entry(request_id=f"req_{number}", **more))
        await journal.close()

    asyncio.run(work())
    assert verify(tmp_path, public_key=PUBLIC).ok
    receipt = receipt_of(tmp_path).encode()
    assert [] == check_receipt(receipt, key=PUBLIC)[1]
    alone.check(receipt, PUBLIC, [], [])
    written = next(iter(read(tmp_path)))
    run = CliRunner().invoke
    printed = run(audit, ["search", "--scan", "--journal", str(tmp_path), "--json"])
    assert written == json.loads(printed.output.splitlines()[0])
    assert {"characters"} == {_mark(written[name])[1] for name in ("path", "stated_reason")}
    shown = json.loads(run(audit, ["show", "--scan", "--journal", str(tmp_path), "--json", OURS]).output)
    assert list(range(MAX_ITEMS + 6)) == [step["record"]["seq"] for step in shown["records"]]

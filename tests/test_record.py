"""A record's bytes: canonical, bounded, and harmless to whoever reads them."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.audit.cutting import MAX_CHARACTERS
from gateway.audit.formats.cef import to_cef
from gateway.audit.record import (
    Actor,
    Record,
    encode,
    name_actor,
    to_json,
    to_json_of_each,
)
from gateway.audit.sealed import commit, split_openings
from gateway.audit.search import printable, render
from gateway.audit.segment import build_line, read_entry
from policy.model import AccountId, ActorId, AgentId
from tests.journals import NOON

# What strangers put into a user agent, a path, a ticket or a reason to write in other people's logs.
POISON = {
    "new line": 'x\n{"leaf":"00","record":{}}',
    "carriage return": "quiet\r\n12:00:00 allow",
    "form feed": "a\x0bb\x0cc\x1cd\x1de\x1ef",
    "next line": "a\x85b",
    "separators": "a\u2028b\u2029c",
    "colour": "\x1b[31mred\x1b[0m",
    "cursor": "\x1b[2K\x1b[1A\x1b]0;title\x07",
    "control sequence of one byte": "\x9b2J",
    "delete": "a\x7f\x7f\x08b",
    "null": "a\x00b",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069",
    "marks": "\u200e\u200f\u061c\u200b\ufeff",
    "quotes": '"\'},{"kind":"journal",\\',
    "lone surrogate": "a\ud800b\udcffc",
    "surrogates and bidi": "\udc80\u202e\udfff",
    "plane 14": "a\U000e0041b",
    "long": "A" * 65536,
    "long and wide": "\U0001f600" * 65536,
    "long and poisonous": "\u202e\n" * 32768,
    "long and half": "a\ud800" * 32768,
}
SHORT = {name: text for name, text in POISON.items() if len(text) < MAX_CHARACTERS}
HALF = "…[escaped]"
TEXTS = ("ticket", "stated_reason", "path", "user_agent", "host", "reason", "request_id")


def _encode(record: Record) -> bytes:
    """Return the whole line: what is sealed stands in it as well."""
    return build_line(*encode(record, origin="node", seq=7, at=NOON))[1]


def _read(line: bytes) -> dict:
    entry = read_entry(line)
    assert entry is not None
    return entry


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
@pytest.mark.parametrize("field", TEXTS)
def test_no_value_can_break_its_line_or_steer_a_terminal(field, poison):
    """Whatever the value is, the record is one line of printable text that strict and lax readers understand alike."""
    data = _encode(Record(kind="decision", **{field: poison}))
    text = data.decode()
    assert text.endswith("}\n")
    assert 1 == len(text.splitlines())
    text = text.rstrip("\n")
    assert not [char for char in text if not char.isprintable() and char < "\U00010000"]
    assert json.loads(data) == msgspec.json.decode(data)
    assert {"at", "origin", "seq", "kind", field} == set(_read(data))
    assert len(data) < 8 * MAX_CHARACTERS


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("poison", SHORT.values(), ids=SHORT)
def test_a_hostile_value_is_kept_as_it_was(poison, field):
    """Escaping is undone by reading: the evidence is what was sent. Half a character says that it was one."""
    read = _read(_encode(Record(kind="decision", **{field: poison})))[field]
    assert poison == _unescaped(read)
    assert read.endswith(HALF) == any("\ud800" <= char <= "\udfff" for char in poison)


def _unescaped(text):
    """Undo what is done to a value with half a character in it, and tell by its mark whether it was done."""
    if not text.endswith(HALF):
        return text
    escape = re.compile(r"\\(?:(\\)|u([0-9a-f]{4}))")
    return escape.sub(lambda found: found[1] or chr(int(found[2], 16)), text.removesuffix(HALF))


def test_no_two_values_are_written_alike():
    """Half a character, the text of its escape, and the same with more backslashes."""
    texts = ["a\ud800b", *(f"a{chr(92) * number}ud800b" for number in range(1, 4)), "a\\\ud800b"]
    assert len(texts) == len({_read(_encode(Record(kind="decision", path=text)))["path"] for text in texts})
    assert texts == [_unescaped(_read(_encode(Record(kind="decision", path=text)))["path"]) for text in texts]


def test_characters_that_reorder_text_are_kept_but_escaped():
    """Bidi controls come back on reading and are not in the bytes."""
    data = _encode(Record(kind="decision", path="\u202egnp", ticket="\\\u2028"))
    assert data.isascii()
    assert ("\u202egnp", "\\\u2028") == (_read(data)["path"], _read(data)["ticket"])


def test_a_lone_surrogate_is_written_as_the_text_of_its_escape():
    """Strict readers refuse a lone surrogate, so that one could hide a record from them; and the value says so."""
    assert f"a\\ud800b{HALF}" == _read(_encode(Record(kind="decision", path="a\ud800b")))["path"]


def test_a_long_value_is_cut_and_says_so():
    """64 KiB of padding do not reach the disk, and nobody takes what is left for the whole (see test_cut_values)."""
    value = _read(_encode(Record(kind="decision", ticket="SUP-1", user_agent="A" * 65536)))
    digest = hashlib.sha256(b"A" * 65536).hexdigest()
    assert f"{'A' * MAX_CHARACTERS}…[cut, 65536 characters, SHA-256 {digest}]" == value["user_agent"]
    assert "SUP-1" == value["ticket"]


def test_the_bytes_are_canonical():
    """Keys are sorted, nothing is spaced, what is None is absent, and time has six digits even when they are noughts."""
    record = Record(
        kind="decision",
        decision="deny",
        reason="grant_off",
        actor=name_actor(ActorId(issuer="https://login.vendor.example", subject="s-1"), "Dana"),
        subject=AgentId("maria"),
        account=AccountId("acme"),
        scopes=("tickets:read",),
        grant_epoch=0,
    )
    record, openings = encode(record, origin="node", seq=7, at=NOON)
    actor, agent = (commit(opening) for opening in split_openings(openings).values())
    expected = (
        '{"account":"acme","at":"2026-11-23T12:00:00.000000Z","decision":"deny","grant_epoch":0,"kind":"decision",'
        f'"origin":"node","reason":"grant_off","scopes":["tickets:read"],"sealed":{{"actor":"{actor}","agent":"{agent}"}},'
        '"seq":7}'
    )
    assert expected == record.decode()
    salts = [msgspec.json.decode(opening)["salt"] for opening in split_openings(openings).values()]
    expected = (
        '{"actor":{"actor":{"issuer":"https://login.vendor.example","name":"Dana","subject":"s-1"},'
        f'"salt":"{salts[0]}"}},"agent":{{"salt":"{salts[1]}","subject":"maria"}}}}'
    )
    assert expected == openings.decode()


def test_the_order_of_the_fields_is_canonical():
    """They are written as they are declared, so that order is the sorted one."""
    for struct in (Record, Actor):
        names = [field.name for field in msgspec.structs.fields(struct)]
        assert sorted(names) == names


def test_time_is_kept_to_the_microsecond():
    """Two records of one millisecond can be told apart."""
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC) + timedelta(microseconds=1)
    assert "2026-01-02T03:04:05.000007Z" == json.loads(encode(Record(kind="token"), origin="o", seq=0, at=at)[0])["at"]


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_a_rendered_record_is_one_printable_line(poison):
    """What is shown to people has no control and no more lines or columns than it should."""
    record = Record(
        kind="decision",
        decision="deny",
        actor=name_actor(ActorId(issuer=poison, subject=poison), poison),
        subject=AgentId(poison),
        account=AccountId(poison),
        method="GET",
        path=poison,
        reason=poison,
        ticket=poison,
    )
    line = render(_read(_encode(record)))
    assert line.isprintable()
    assert line.startswith("12:00:00 deny   ")


def test_a_value_cannot_pass_itself_off_as_two_columns():
    """A path with spaces in it is quoted, quotes within it escaped."""
    entry = {"at": "2026-11-23T12:00:00.000000Z", "kind": "decision", "decision": "deny", "path": '/x"  allow  ok'}
    assert r'12:00:00 deny   "/x\"  allow  ok"' == render(entry)


def test_what_has_no_glyph_is_written_in_one_way_only():
    """A character beyond U+FFFF as two numbers, as in JSON: five digits would read as another one and a digit."""
    assert r"\udb40\udc01" == printable("\U000e0001")
    assert r"\ue0001" == printable("\ue0001")
    tag, private = ({"path": text, "at": "2026-11-23T12:00:00Z"} for text in ("\U000e0001", "\ue0001"))
    assert to_cef(tag) != to_cef(private)


def test_printable_text_stays_as_it_is():
    """Names of people are not damaged on the way."""
    assert "Zoë Łukasz 山田 – «ok»" == printable("Zoë Łukasz 山田 – «ok»")


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_records_that_are_encoded_together_are_what_each_is_by_itself(poison):
    """One that has to be made harmless, or is cut, changes no byte of those beside it, and what is encoded stays."""
    plain = [Record(kind="decision", path=f"/tickets/{number}", rule="ticket-show") for number in range(3)]
    long = msgspec.Raw(to_json(Record(kind="decision", path="/" + "p" * MAX_CHARACTERS)))
    for one in (plain, [*plain, Record(kind="decision", path=poison)], [plain[0], long, plain[1]], [long], []):
        expected = [bytes(record) if isinstance(record, msgspec.Raw) else to_json(record) for record in one]

        assert expected == to_json_of_each(one)

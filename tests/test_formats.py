"""The formats in which records leave: one record is one line, whatever is in it, and is what it says it is."""

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.formats.forms import FORMS
from gateway.audit.formats.table import COLUMNS, HEADER
from policy.model import DenyReason
from tests.format_examples import ENTRIES, HOSTILE
from tests.ocsf_cut import faults

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
FIELDS = ("path", "user_agent", "ticket", "stated_reason", "host", "method", "client_ip", "subject", "traceparent")


def with_text(text, *fields):
    entry = {**ENTRIES["allowed"], **dict.fromkeys(fields or FIELDS, text)}
    entry["actor"] = {**entry["actor"], "name": text, "groups": [text]}
    return entry


def one_line(form, entry):
    line = FORMS[form].line(entry)
    if form == "csv":
        assert line.endswith(b"\r")
        line = line[:-1]
    assert None is _CONTROL.search(line.decode()), line[:200]
    return line


def read_cell(text):
    """What stood in the journal, from a cell of the table."""
    text = re.sub("(^|[;|\t])'", r"\1", text)
    return json.loads('"' + re.sub(r'(?<!\\)"', '\\"', text.replace('"', "\x00")).replace("\x00", '\\"') + '"')


def read_row(line):
    (row,) = csv.reader(io.StringIO(line.decode(), newline=""), strict=True)
    assert len(row) == len(COLUMNS)
    return dict(zip(COLUMNS, row, strict=True))


def read_cef(line):
    header = re.split(r"(?<!\\)(?:\\\\)*\|", line.decode(), maxsplit=7)
    assert 8 == len(header)
    pairs = re.findall(r"(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)", header[7])
    undo = {"\\\\": "\\", "\\=": "=", "\\n": "\n"}
    return header[:7], {key: re.sub(r"\\(?:\\|=|n)", lambda hit: undo[hit[0]], value) for key, value in pairs}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_stays_in_its_record(form, name):
    """Nothing that a stranger writes into any field ends the line, steers a terminal or reorders text."""
    entry = with_text(HOSTILE[name])
    line = one_line(form, entry)
    if FORMS[form].document is not None:
        assert line.isascii()
        assert json.loads(line) == json.loads(json.dumps(FORMS[form].document(entry)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_comes_back_equal(name):
    """From JSON Lines, OCSF, ECS and CSV the very text can be read again; from CEF, unless it has no glyph."""
    text = HOSTILE[name]
    entry = with_text(text)
    assert entry == json.loads(one_line("jsonl", entry))
    ocsf = json.loads(one_line("ocsf", entry))
    assert (text, text) == (ocsf["unmapped"]["ticket"], ocsf["http_request"]["user_agent"])
    ecs = json.loads(one_line("ecs", entry))
    assert (text, text) == (ecs["locum"]["ticket"], ecs["user_agent"]["original"])
    row = read_row(one_line("csv", entry))
    for field in FIELDS:
        assert text == read_cell(row[field]), field
    _, pairs = read_cef(one_line("cef", entry))
    if text.isprintable():
        assert text == pairs["cs3"]


@pytest.mark.parametrize(
    "name", ["a formula", "a plus", "a minus", "an at", "a wide formula", "spaces before it", "our mark"]
)
def test_no_cell_is_a_formula(name):
    """What a spreadsheet would compute begins with an apostrophe, in every column."""
    row = read_row(one_line("csv", with_text(HOSTILE[name])))
    for field in (*FIELDS, "actor_name"):
        assert row[field].startswith("'" + HOSTILE[name][:3])
        assert HOSTILE[name] == read_cell(row[field])


@given(st.text(max_size=60))
def test_any_text_comes_back_from_a_cell(text):
    """Whatever it is: only lone surrogates, which the journal does not hold, are left out."""
    text = text.encode("utf-8", "ignore").decode()
    row = read_row(one_line("csv", with_text(text)))
    assert text == read_cell(row["ticket"])
    assert not row["ticket"].lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", ["hello;=1+1;tail", "a| =1", 'x;"=1"', "a;;@b", "a;'=1", "|\uff1d1"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_cell_is_a_formula_whatever_is_taken_for_the_separator(text, separator):
    """In many countries a spreadsheet cuts a line at its semicolons, and takes no notice of our quotes."""
    line = one_line("csv", with_text(text)).decode()
    assert text == read_cell(read_row(line.encode())["ticket"])
    for cell in next(csv.reader(io.StringIO(line, newline=""), delimiter=separator)):
        assert not cell.lstrip(' "').startswith(("=", "+", "-", "@", "\uff1d"))


@given(
    st.dictionaries(
        st.sampled_from([*COLUMNS, "actor", "kind", "new"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_an_entry_that_somebody_changed_is_still_one_line(entry):
    """A line whose fields are of other kinds than ours does not stop an export, and is one record there too."""
    for form in FORMS:
        if not _has_surrogate(entry):
            assert b"\n" not in FORMS[form].line(entry)


def _has_surrogate(value):
    return any("\ud800" <= char <= "\udfff" for char in repr(value))


@pytest.mark.parametrize("name", ENTRIES)
def test_an_event_is_of_its_class(name):
    """By OCSF 1.8.0: every required attribute is there, none is unknown, and each is of its type and list."""
    event = json.loads(FORMS["ocsf"].line(ENTRIES[name]))
    assert [] == faults(event), event


@pytest.mark.parametrize("reason", DenyReason)
def test_every_refusal_is_an_event(reason):
    """Whatever it was refused for, of a request and of a token."""
    for kind in ("decision", "token"):
        event = FORMS["ocsf"].document({**ENTRIES["denied"], "kind": kind, "reason": reason.value})
        assert [] == faults(event)
        assert (2, reason.value) == (event["status_id"], event["status_detail"])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_makes_no_invalid_event(name):
    """An address that is none, a method that nobody knows, a trace that is none: the event stays one of its class."""
    for example in ("allowed", "completed", "entered", "enabled"):
        entry = {**ENTRIES[example], **dict.fromkeys(FIELDS, HOSTILE[name])}
        assert [] == faults(FORMS["ocsf"].document(entry))


def test_the_judge_of_events_finds_each_kind_of_fault():
    """One that found nothing would pass for ever."""
    good = FORMS["ocsf"].document(ENTRIES["allowed"])
    assert [] == faults(good)
    for change in (
        {"class_uid": 3005}, {"type_uid": 600301}, {"activity_id": 7}, {"time": "now"}, {"severity_id": 9},
        {"src_endpoint": {}}, {"src_endpoint": {"ip": "localhost"}}, {"user": {}}, {"api": {}}, {"resources": []},
        {"metadata": {}}, {"actor": {"idp": {"uid": "x"}}}, {"http_request": {"http_method": "BREW"}},
    ):  # fmt: skip
        assert [] != faults({**good, **change}), change
    for name in ("actor", "api", "src_endpoint", "time", "severity_id", "metadata"):
        assert [] != faults({key: value for key, value in good.items() if key != name}), name


def test_the_classes_are_those_of_the_documentation():
    """What a rule in a SIEM counts on."""
    wanted = {
        "allowed": 600302, "denied": 600302, "a stranger": 600399, "completed": 600399, "token": 300207,
        "token denied": 300207, "entered": 300207, "ended": 300202, "signed in": 300201, "signed out": 300202,
        "locked": 300409, "enabled": 300408, "turned off": 300409, "key": 300403, "exported": 100803,
        "erasure": 100802, "retention": 100801, "store": 600299, "gap": 100899, "of a kind to come": 100899,
    }  # fmt: skip
    assert wanted == {name: FORMS["ocsf"].document(ENTRIES[name])["type_uid"] for name in wanted}
    token = FORMS["ocsf"].document(ENTRIES["token"])
    assert (2, "maria", "dana") == (
        token["account_switch_type_id"], token["user"]["uid"], token["actor"]["user"]["uid"],
    )  # fmt: skip
    assert 1795435200000 == token["time"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "ocsf", "ecs"])
@pytest.mark.parametrize("name", ENTRIES)
def test_nothing_of_a_record_is_left_out(form, name):
    """Every value of an entry stands somewhere in its line."""
    line = FORMS[form].line(ENTRIES[name]).decode().replace('""', '"')
    for value in _values(ENTRIES[name]):
        assert value in line, value


def _values(value):
    if isinstance(value, dict):
        for key, item in value.items():
            # Times and addresses are spelt in each format's own way; a duration is there in its unit.
            if key not in ("duration_us", "expires_at", "host", "traceparent"):
                yield from _values(item)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)
    elif isinstance(value, str):
        yield value


# Of ECS 8.17: the fields that we set, with their types there.
ECS = {
    "@timestamp": str, "ecs.version": str, "message": str, "event.id": str, "event.sequence": int, "event.kind": str,
    "event.category": list, "event.type": list, "event.action": str, "event.code": str, "event.dataset": str,
    "event.provider": str, "event.outcome": str, "event.reason": str, "event.duration": int, "user.id": str,
    "user.name": str, "user.domain": str, "user.effective.id": str, "user.effective.name": str, "related.user": list,
    "related.ip": list, "organization.id": str, "rule.id": str, "http.request.id": str, "http.request.method": str,
    "http.request.body.bytes": int, "http.response.status_code": int, "http.response.body.bytes": int, "url.path": str,
    "url.domain": str, "source.ip": str, "client.ip": str, "user_agent.original": str, "trace.id": str,
    "observer.vendor": str, "observer.product": str, "observer.type": str, "observer.version": str,
    "service.name": str, "service.node.name": str,
}  # fmt: skip
CATEGORIES = {"api", "authentication", "configuration", "iam", "session", "web"}
TYPES = {"access", "allowed", "change", "denied", "end", "info", "start"}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_document_is_of_the_common_schema(name):
    """Every field is one of ECS with its type, or stands below `locum`."""
    document = FORMS["ecs"].document(ENTRIES[name])
    own = document.pop("locum")
    assert isinstance(own, dict)
    for path, value in _flat(document):
        assert isinstance(value, ECS[path]), path
    assert set(document["event"]["category"]) <= CATEGORIES
    assert set(document["event"]["type"]) <= TYPES
    assert document["event"]["outcome"] in ("success", "failure", "unknown")


def _flat(document, prefix=""):
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_who_acts_and_whom_they_stand_in_for_are_kept_apart():
    """In each format, so that no rule takes one for the other."""
    entry = ENTRIES["allowed"]
    ecs = FORMS["ecs"].document(entry)
    assert ("dana", "maria") == (ecs["user"]["id"], ecs["user"]["effective"]["id"])
    ocsf = FORMS["ocsf"].document(entry)
    assert ("dana", "maria") == (ocsf["actor"]["user"]["uid"], ocsf["resources"][0]["uid"])
    _, cef = read_cef(FORMS["cef"].line(entry))
    assert ("dana", "Dana", "maria") == (cef["suid"], cef["suser"], cef["duser"])
    row = read_row(one_line("csv", entry))
    assert ("dana", "maria") == (row["actor_subject"], row["subject"])


def test_the_table_has_a_stable_header():
    """RFC 4180: the names of the columns, and as many cells in each line."""
    assert HEADER.startswith(b"at,origin,seq,kind,decision,reason,account,actor_issuer,actor_subject,actor_name,")
    assert HEADER.endswith(b",erased,more\r")
    row = read_row(one_line("csv", ENTRIES["of a kind to come"]))
    assert {"field": {"deep": [1, None, True, 0.5]}} == json.loads(row["more"])


def test_the_header_of_cef_has_seven_fields():
    """Version, vendor, product, its version, class, name and severity, whatever is in the record."""
    header, pairs = read_cef(FORMS["cef"].line(with_text("a|b\\|c=d")))
    assert ["CEF:0", "Locum", "Locum"] == header[:3]
    assert ["decision.allow", "decision allow", "2"] == header[4:]
    assert ("a|b\\|c=d", "1795435200000") == (pairs["cs3"], pairs["rt"])

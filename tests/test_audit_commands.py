"""`locum audit search|show|stats|reindex`: with the index, behind it, and without it, the same answers."""

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner

from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME
from gateway.audit.record import to_json
from gateway.audit.segment import build_line
from gateway.cli.audit import audit
from tests.journals import NOON

ACTOR = {"issuer": "https://login.example", "name": "dana\x1b[2J", "subject": "s-1"}


def _at(minutes):
    return (NOON + timedelta(minutes=minutes)).isoformat()


ENTRIES = [
    {
        "kind": "token",
        "decision": "allow",
        "assumption": "as-1",
        "expires_at": _at(15),
        "stated_reason": "cannot open it",
    },
    {"kind": "decision", "decision": "allow", "method": "GET", "path": "/tickets/1", "assumption": "as-1"},
    {
        "kind": "completion",
        "completes": 1,
        "assumption": "as-1",
        "status": 200,
        "ended": "complete",
        "duration_us": 12_345,
    },
    {
        "kind": "decision",
        "decision": "deny",
        "reason": "insufficient_scope",
        "method": "POST",
        "path": "/x",
        "assumption": "as-1",
    },
    {"kind": "decision", "decision": "allow", "method": "GET", "path": "/live", "assumption": "as-1"},
    {"kind": "completion", "completes": 4, "assumption": "as-1", "status": 101, "ended": "cut", "bytes_sent": 77},
    {"kind": "decision", "decision": "allow", "method": "GET", "path": "/tickets/2", "assumption": "AS-1"},
    {"kind": "assumption", "reason": "ended", "assumption": "as-1", "by": "carol"},
]
MINUTES = [0, 1, 1, 2, 12, 13, 13, 14]


def _lines(entries, first=0):
    for seq, entry in enumerate(entries, first):
        whole = {
            "account": "acme",
            "actor": ACTOR,
            "at": _at(MINUTES[seq]),
            "origin": "node",
            "seq": seq,
            "subject": "maria",
        }
        yield build_line(to_json(whole | entry))[1]


@pytest.fixture(params=["index", "behind", "none"])
def journal(request, tmp_path):
    """A journal that is indexed as a whole, in part, or not at all."""
    directory = tmp_path / "journal"
    directory.mkdir()
    path = directory / "node-000000000000.jsonl"
    known = {"index": 8, "behind": 4, "none": 8}[request.param]
    path.write_bytes(b"".join(_lines(ENTRIES[:known])))
    if request.param != "none":
        with Builder(directory, tmp_path / NAME) as builder:
            builder.catch_up()
    with path.open("ab") as file:
        file.writelines(_lines(ENTRIES[known:], known))
    return directory


def _run(command, journal, *arguments, code=0):
    result = CliRunner().invoke(audit, [command, "--journal", str(journal), *arguments])
    assert code == result.exit_code, result.output
    return result.output


def test_search_is_in_the_order_of_time(journal):
    """All that match, or the newest of them; with terms that are turned round."""
    found = [
        json.loads(line) for line in _run("search", journal, "--json", "account:acme", "-kind:completion").splitlines()
    ]
    assert [0, 1, 3, 4, 6, 7] == [one["seq"] for one in found]
    newest = _run("search", journal, "--json", "--limit", "2", "method:GET").splitlines()
    assert [4, 6] == [json.loads(line)["seq"] for line in newest]
    assert _run("search", journal, "account:acme") == _run("search", journal, "--scan", "account:acme")


def test_an_assumption_is_shown_as_one_story(journal):
    """Who, whom, why, until when, each request with its outcome, the silence in between, and the end."""
    shown = _run("show", journal, "as-1")
    assert r"actor: dana\u001b[2J s-1" in shown
    lines = shown.splitlines()
    for line in (
        "subject: maria",
        "account: acme",
        "stated reason: cannot open it",
        f"expires at: {_at(15)}",
        "denied: 1",
        "cut: 1",
    ):
        assert line in lines
    assert f"ended: {_at(14)} by carol" in lines
    assert any(line.endswith("GET /tickets/1  → 200, 12 ms") for line in lines)
    assert any(line.endswith("GET /live  → 101, cut, 77 bytes") for line in lines)
    assert "         … nothing for 10 min" in lines
    assert "/tickets/2" not in shown
    assert shown.replace("\n", "").isprintable()
    document = json.loads(_run("show", journal, "--json", "as-1"))
    assert [0, 1, 3, 4, 7] == [one["record"]["seq"] for one in document["records"]]


def test_an_assumption_that_is_not_there_is_told_apart(journal):
    """From one in which nothing happened."""
    assert "there is no record of the assumption `as-9`" in _run("show", journal, "as-9", code=1)


def test_what_there_is_is_counted(journal):
    """By everything, or by what was asked for; of all, or of what matches."""
    counts = json.loads(_run("stats", journal, "--json", "-kind:completion"))
    assert (6, {"2026-11-23": 6}, {"insufficient_scope": 1, "ended": 1}) == tuple(
        counts[name] for name in ("total", "day", "reason")
    )
    told = _run("stats", journal, "--by", "actor", "method:POST")
    assert "1 records\n\nactor\n         1  dana\\u001b[2J\n" == told


def test_the_index_is_made_anew_on_demand(journal):
    """Also where there was none; while somebody keeps it, it is left to them."""
    assert _run("reindex", journal).startswith("8 lines in ")
    assert "8\n" == _run("stats", journal).splitlines(keepends=True)[0].replace(" records", "")
    with Builder(journal, journal.parent / NAME):
        assert "delete its file" in _run("reindex", journal, code=1)


def test_an_index_that_cannot_be_read_is_not_in_the_way(journal):
    """The files tell everything."""
    (journal.parent / NAME).write_bytes(b"")
    assert 8 == len(_run("search", journal, "account:acme").splitlines())


@pytest.mark.parametrize("query", ["acount:acme", '"open', "after:soon", "ip:10.0.0.0/99", "actor:", "ab*", "%"])
def test_what_cannot_be_meant_is_refused(journal, query):
    """With 2, so that nobody takes it for "nothing found"."""
    for command in ("search", "stats"):
        assert "Error" in _run(command, journal, query, code=2)

"""Finding, following and judging records from the command line."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.record import Record, name_actor, to_json
from gateway.audit.search import Follower, Query, QueryError, read, render
from gateway.audit.segment import read_entry
from gateway.cli.audit import audit
from policy.model import AccountId, ActorId, AgentId, AssumptionId
from tests.journals import KEY, NOON, SecondHand, only_segment, open_journal, write_journal

DANA = ActorId(issuer="https://login.vendor.example", subject="s-1")
REPLY = Record(
    kind="decision",
    decision="deny",
    reason="insufficient_scope",
    actor=name_actor(DANA, "dana"),
    subject=AgentId("maria"),
    account=AccountId("acme"),
    ticket="SUP-1",
    stated_reason="Attachments do not open",
    method="POST",
    path="/tickets/1/reply",
    assumption=AssumptionId("as-1"),
)
READ = Record(kind="decision", decision="allow", account=AccountId("globex"), path="/ticketsabc")
ENABLED = Record(kind="grant", reason="enabled", account=AccountId("acme"), granted_by="carol")
KINDS = {"reply": REPLY, "read": READ, "enabled": ENABLED}


@pytest.fixture
async def directory(tmp_path) -> Path:
    """A journal with one record of each kind above, in their order."""
    journal = await open_journal(tmp_path / "journal")
    for record in KINDS.values():
        await journal.append(record)
    await journal.close()
    return tmp_path / "journal"


def _run(*arguments: object, settings: object = None):
    return CliRunner().invoke(audit, [str(argument) for argument in arguments], obj=settings)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"reply", "read", "enabled"}),
        ("actor:dana", {"reply"}),
        ("actor:s-1", {"reply"}),
        ("ACTOR:dana", set()),
        ("actor:DANA", {"reply"}),
        ("actor:dan", set()),
        ("account:acme", {"reply", "enabled"}),
        ("account:acme -kind:grant", {"reply"}),
        ("agent:maria", {"reply"}),
        ("decision:deny", {"reply"}),
        ("-decision:deny", {"read", "enabled"}),
        ("reason:insufficient_scope", {"reply"}),
        ("ticket:sup-1", {"reply"}),
        ("sid:as-1", {"reply"}),
        ("kind:grant", {"enabled"}),
        ("method:post", {"reply"}),
        ("path:/tickets", {"reply"}),
        ("path:/tickets/", {"reply"}),
        ("path:/tickets/1/reply", {"reply"}),
        ("path:/", {"reply", "read"}),
        ("attachments", {"reply"}),
        ('"do not open"', {"reply"}),
        ('-"do not open" account:acme', {"enabled"}),
        ("https://login", {"reply"}),
        ("acme globex", set()),
    ],
)
async def test_a_query_finds_what_it_says(directory, query, expected):
    """All terms must hold; qualifiers are exact, paths include what is below them, text is looked for everywhere."""
    wanted = Query.parse(query)
    found = [entry for entry in read(directory) if wanted.matches(entry)]
    names = {name for number, name in enumerate(KINDS) if number in {entry["seq"] for entry in found}}
    assert expected == names


@pytest.mark.parametrize("query", ["acount:acme", "-acount:acme", '"open'])
def test_a_query_that_cannot_be_meant_is_refused(query):
    """A misspelt qualifier must not pass for "nothing found"."""
    with pytest.raises(QueryError):
        Query.parse(query)


async def test_records_of_all_origins_come_in_the_order_of_time(tmp_path):
    """Two workers whose clocks interleave are read as one story."""
    directory = tmp_path / "journal"
    await write_journal(directory, 3, origin="a")
    await write_journal(directory, 3, origin="b", clock=SecondHand(NOON + timedelta(milliseconds=500)))
    assert [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)] == [
        (entry["origin"], entry["seq"]) for entry in read(directory)
    ]


async def test_a_line_is_rendered_for_people(directory):
    """Time, outcome, who for whom at which account, what, why, ticket."""
    assert [
        "12:00:01 deny   dana→maria@acme  POST /tickets/1/reply  insufficient_scope  SUP-1",
        "12:00:02 allow  @globex  /ticketsabc",
        "12:00:03 grant  carol @acme  enabled",
    ] == [render(entry) for entry in read(directory)]


async def test_a_follower_yields_each_record_once(tmp_path):
    """Also over a new segment, a second origin, and a line that is only half there yet."""
    directory = tmp_path / "journal"
    await write_journal(directory, 2)
    follower = Follower(directory)
    assert [0, 1] == [entry["seq"] for entry in follower.poll()]
    assert [] == list(follower.poll())
    await write_journal(directory, 1)
    await write_journal(directory, 1, origin="other")
    assert [("node", 2), ("other", 0)] == [(entry["origin"], entry["seq"]) for entry in follower.poll()]
    path = directory / "other-000000000000.jsonl"
    line = path.read_bytes()
    with path.open("ab", buffering=0) as file:
        file.write(line[:100])
        assert [] == list(follower.poll())
        file.write(line[100:])
        assert [0] == [entry["seq"] for entry in follower.poll()]


async def test_lines_that_are_none_do_not_stop_the_reader(directory):
    """Damage is what `verify` is for; the rest can still be read."""
    path = only_segment(directory)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\xff\n" + lines[0] + b"{}\n" + lines[1].replace(b'"record":{', b'"record":[') + lines[2])
    assert [0, 2] == [entry["seq"] for entry in read(directory)]


async def test_search_prints_what_was_hashed(directory):
    """With --json a record is as the journal has it, with what it seals put back in its place."""
    result = _run("search", "--journal", directory, "--json", "account:acme", "-decision:deny")
    (_, _, line) = only_segment(directory).read_bytes().splitlines(keepends=True)
    assert (0, to_json(read_entry(line)).decode() + "\n") == (result.exit_code, result.output)
    assert to_json(msgspec.json.decode(result.output)).decode() + "\n" == result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "acount:acme"),
        ("search", '"open'),
        ("tail", "-n", "-1"),
        ("verify", "--public-key", __file__),
        ("verify", "--checkpoint", "/nonexistent"),
        ("unknown",),
    ],
)
async def test_misuse_is_told_from_a_failed_check(directory, arguments):
    """Exit 2 is the caller's mistake, never a verdict on the journal."""
    command, *rest = arguments
    assert 2 == _run(command, "--journal", directory, *rest).exit_code


def test_the_journal_must_be_named_and_be_there(tmp_path):
    """Nothing to read is not the same as nothing found."""
    assert 2 == _run("verify").exit_code
    assert 2 == _run("verify", "--journal", tmp_path / "missing").exit_code


async def test_the_configured_journal_is_the_default(directory):
    """What the root command read from the configuration need not be typed again."""

    @dataclass(frozen=True)
    class Settings:
        journal_directory: Path

    result = _run("tail", "-n", "1", settings=Settings(journal_directory=directory))
    assert (0, "12:00:03 grant  carol @acme  enabled\n") == (result.exit_code, result.output)


async def test_verify_exits_with_the_verdict(directory, tmp_path):
    """0 and the extent for an honest journal, 1 and the place for a changed one, 1 for the wrong key."""
    key, held = tmp_path / "key.pem", tmp_path / "held"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    held.write_bytes((directory / "node.checkpoint").read_bytes())
    arguments = ("verify", "--journal", directory, "--public-key", key, "--checkpoint", held)
    result = _run(*arguments)
    assert (0, "node: 3 records, 3 under a checkpoint (signed)\nok\n") == (result.exit_code, result.output)
    path = only_segment(directory)
    path.write_bytes(path.read_bytes().replace(b"maria", b"mario"))
    result = _run(*arguments)
    assert 1 == result.exit_code
    what = "the opening of `agent` is not the one that the record seals"
    assert f"{path.name}:1 (byte 0): {what}" in result.output.splitlines()
    path.write_bytes(path.read_bytes().replace(b"mario", b"maria"))
    assert 0 == _run(*arguments).exit_code
    other = Ed25519PrivateKey.generate().public_key()
    key.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert 1 == _run(*arguments).exit_code


async def test_what_a_forger_writes_cannot_steer_the_terminal_of_who_verifies(directory):
    """A finding quotes the journal: it is made printable like everything else."""
    name = "\x1b[2J\u202e"
    (directory / "node.checkpoint").write_text(f"{name}\n1\n{'A' * 43}=\n\n\u2014 x y\n")
    result = _run("verify", "--journal", directory)
    assert 1 == result.exit_code
    assert r"another origin's, `\u001b[2J\u202e`" in result.output
    assert result.output.replace("\n", "").isprintable()


def test_tail_follows_what_is_being_written(tmp_path):
    """A record shows up in a running `tail -f` of another process."""
    directory = tmp_path / "journal"
    asyncio.run(write_journal(directory, 3))
    command = [sys.executable, "-c", "from gateway.cli.audit import audit; audit()", "tail", "-f", "-n1"]
    with subprocess.Popen([*command, "--journal", directory], stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert "12:00:03 allow\n" == follower.stdout.readline()
            asyncio.run(write_journal(directory, 1, clock=SecondHand(NOON + timedelta(hours=1))))
            assert "13:00:01 allow\n" == follower.stdout.readline()
        finally:
            follower.terminate()

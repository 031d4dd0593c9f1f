"""`locum audit export`: what leaves, that it is on the record first, and what the exit code says."""

import json
import stat

import pytest

from gateway.audit.search import read
from tests.ocsf_cut import faults
from tests.sink_world import write_records
from tests.test_cli import Shell


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A command line beside a journal of sixty seconds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir(mode=0o700)
    write_records(tmp_path / "data" / "journal", 60, origin="gateway")
    return Shell(tmp_path)


def _exported(shell):
    return [entry for entry in read(shell.directory / "data" / "journal") if entry["kind"] == "audit"]


def test_it_writes_what_the_query_wants(shell):
    """In the order of time, between two moments, in the chosen format; and says on the record who took what."""
    said = shell.here(
        "audit", "export", "--as", "rita", "--format", "ocsf", "--after", "2026-11-23T12:00:10Z",
        "--before", "2026-11-23T12:00:20Z", "kind:decision", "-reason:x",
    )  # fmt: skip
    events = [json.loads(line) for line in said.splitlines()]
    assert list(range(10, 20)) == [event["metadata"]["sequence"] for event in events]
    assert [] == [fault for event in events for fault in faults(event)]
    (record,) = _exported(shell)
    assert ("exported", "rita", "cli") == (record["reason"], record["by"], record["origin"])
    assert record["stated_reason"] == (
        "ocsf: kind:decision -reason:x after:2026-11-23T12:00:10Z before:2026-11-23T12:00:20Z"
    )


@pytest.mark.parametrize("form", ["jsonl", "csv", "ecs", "cef"])
def test_a_file_is_its_owners_and_whole(shell, form):
    """One line a record, and the header of a table."""
    out = shell.directory / "out"
    out.write_text("old")
    out.chmod(0o644)
    shell.here("audit", "export", "--format", form, "-o", str(out), "origin:gateway", "kind:decision")
    assert (60 + (form == "csv"), 0o600) == (len(out.read_bytes().splitlines()), stat.S_IMODE(out.stat().st_mode))
    assert not out.with_name("out.new").exists()


def test_nothing_leaves_that_is_not_on_the_record(shell):
    """Without a journal to write to nothing is written, not even a file; the exit code is 1."""
    journal = shell.directory / "data" / "journal"
    shell.here("audit", "export", "kind:client")
    for path in journal.glob("cli*"):
        path.unlink()
    (journal / "cli.lock").mkdir()
    out = shell.directory / "out"
    said = shell.here("audit", "export", "-o", str(out), code=1)
    assert '"seq"' not in said
    assert not out.exists()


def test_what_cannot_be_finished_leaves_no_file(shell):
    """And what stood there before is left as it was."""
    directory = shell.directory / "out"
    directory.mkdir()
    (directory / "x").touch()
    said = shell.here("audit", "export", "-o", str(directory / "x" / "y"), code=1)
    assert "the export is not finished" in said
    assert 1 == len(_exported(shell))


def test_a_query_that_cannot_be_read_takes_nothing(shell):
    """It is the caller's: exit code 2, and nothing is recorded as taken."""
    for words in (["actr:dana"], ["--after", "yesterday-ish"], ["--format", "xml"]):
        shell.here("audit", "export", *words, code=2)
    assert [] == _exported(shell)


@pytest.mark.parametrize(
    "words", [["-kind:decision"], ["--format", "jsonl", "--", "-kind:decision"], ["kind:decision", "--", "-gateway"]]
)
def test_a_term_with_a_hyphen_is_no_option(shell, words):
    """Letter by letter `-reason:x` would be `-o n:x`, and write a file of that name."""
    shell.here("audit", "export", *words, "-o", "out") if "--" not in words else shell.here(
        "audit", "export", "-o", "out", *words
    )
    kinds = {json.loads(line)["kind"] for line in (shell.directory / "out").read_text().splitlines()}
    assert "decision" not in kinds
    assert {"config.toml", "data", "out"} == {path.name for path in shell.directory.iterdir()}


async def test_whoever_stops_reading_ends_it(shell):
    """As with `head`: no traceback, exit code 1."""
    write_records(shell.directory / "data" / "journal", 20_000, origin="more")
    process = await shell.start("audit", "export")
    await process.stdout.readline()
    process.stdout._transport.close()  # nothing else closes our end
    error = await process.stderr.read()
    assert (1, b"") == (await process.wait(), error)


def test_a_log_of_any_size_takes_little_memory(shell):
    """Records are read as they are written."""
    import resource  # noqa: PLC0415 - for this alone

    write_records(shell.directory / "data" / "journal", 30_000, origin="more", user_agent="x" * 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shell.here("audit", "export", "-o", str(shell.directory / "out"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000

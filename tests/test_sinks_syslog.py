"""Sinks over syslog (RFC 5424 over TCP and TLS), to a file and to the standard output."""

import errno
import json
import os
import re
import stat

import pytest

from gateway.audit.sinks.files import FileOutlet, StdoutOutlet
from gateway.audit.sinks.outlet import Encoded, Unreachable
from gateway.audit.sinks.syslog import framed, to_message
from tests.certificates import Authority
from tests.format_examples import ENTRIES, HOSTILE
from tests.patience import PATIENCE_SECONDS
from tests.sink_world import SyslogReceiver, firsts, in_order, line_of, sinking, syslog_outlet, write_records

# RFC 5424 section 6, as far as we use it.
MESSAGE = re.compile(
    r"<(\d{1,3})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([\x21-\x7e]{1,255}) locum ([\x21-\x7e]{1,128})"
    r' ([\x21-\x7e]{1,32}) \[origin software="locum" swVersion="[^"\]\\]+"\]\[meta( sequenceId="\d+")?\] (.*)',
    re.DOTALL,
)


def test_every_message_is_of_the_standard(tmp_path):
    """Framed by its length, facility 13, the origin as the process and the kind as the message's name."""
    write_records(tmp_path / "journal", 20)
    with SyslogReceiver() as receiver:
        with sinking(tmp_path, syslog_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 20)
        assert list(range(20)) == firsts(receiver.got(), "node")
    for seq, message in enumerate(receiver.messages):
        found = MESSAGE.fullmatch(message)
        assert ("110", "node", "decision", f' sequenceId="{seq + 1}"') == found.group(1, 4, 5, 6)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_makes_a_second_message(name):
    """Also where an origin or a kind has been changed in the files: a header's fields hold no space."""
    entry = {**ENTRIES["allowed"], "origin": HOSTILE[name], "kind": HOSTILE[name], "at": HOSTILE[name]}
    message = to_message(entry, json.dumps(entry).encode(), node="n").decode()
    found = MESSAGE.fullmatch(message)
    assert entry == json.loads(found[7])
    assert framed(b"abc") == b"3 abc"


@pytest.mark.parametrize("script", [[0], [1, 0, 3], [7, 7, 7], [19, 1], [0] * 5])
def test_a_receiver_that_breaks_off_loses_nothing(tmp_path, script):
    """A reset after so many messages, with others on their way, all of them come, in order; if it is heard of in time."""
    write_records(tmp_path / "journal", 60)
    with (
        SyslogReceiver(script) as receiver,
        sinking(tmp_path, syslog_outlet(receiver, settling=PATIENCE_SECONDS), most=10) as sink,
    ):
        receiver.until(lambda: len(set(receiver.got())) == 60)
    assert in_order(receiver.got(), "node")
    assert 0 < sink.status.failures


def test_nothing_counts_as_arrived_before_it_has_settled(tmp_path):
    """A process that is killed sends again what the receiver may not have read."""
    write_records(tmp_path / "journal", 5)
    with SyslogReceiver() as receiver:
        with sinking(tmp_path, syslog_outlet(receiver, settling=3600.0)) as sink:
            receiver.until(lambda: len(receiver.got()) == 5)
            assert not sink.cursor.exists()
        # At an orderly end both sides have said that there is no more.
        assert 4 == json.loads(sink.cursor.read_text())["origins"]["node"]["seq"]


def test_over_tls_with_a_certificate_of_ours(tmp_path):
    """The receiver is checked, and checks us; without either nothing is sent (RFC 5425 section 4.2)."""
    write_records(tmp_path / "journal", 30)
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "a stranger")
    server, client = authority.issue("localhost"), authority.issue("client.example")
    with SyslogReceiver(tls=server.as_server(clients=authority.file)) as receiver:
        for wrong in (stranger.trusting(asks=client), authority.trusting()):
            with sinking(tmp_path, syslog_outlet(receiver, tls=wrong, settling=3600.0)) as sink:
                receiver.until(lambda: sink.status.failures >= 2)
            assert [] == receiver.got()
        with sinking(tmp_path, syslog_outlet(receiver, tls=authority.trusting(asks=client)), most=10):
            receiver.until(lambda: len(receiver.got()) == 30)
    assert list(range(30)) == firsts(receiver.got(), "node")


@pytest.mark.parametrize("script", [[3, 0], [12]])
def test_over_tls_a_reset_loses_nothing(tmp_path, script):
    """As without."""
    write_records(tmp_path / "journal", 30)
    authority = Authority(tmp_path)
    with SyslogReceiver(script, tls=authority.issue("localhost").as_server()) as receiver:
        outlet = syslog_outlet(receiver, tls=authority.trusting(), settling=PATIENCE_SECONDS)
        with sinking(tmp_path, outlet, most=5):
            receiver.until(lambda: len(set(receiver.got())) == 30)
    assert in_order(receiver.got(), "node")


# --- files ---


def _seqs(path):
    return [json.loads(line)["seq"] for line in path.read_bytes().splitlines()]


def _until(sink, holds):
    with SyslogReceiver() as clock:
        clock.until(holds)


def test_a_file_that_is_renamed_is_begun_anew(tmp_path):
    """As logrotate does it: nothing is lost between the two, and only our user may read them."""
    journal, path, old = tmp_path / "journal", tmp_path / "out.jsonl", tmp_path / "out.jsonl.1"
    write_records(journal, 5)
    with sinking(tmp_path, FileOutlet(path, header=b"")) as sink:
        _until(sink, lambda: sink.status.sent == 5)
        path.rename(old)
        write_records(journal, 5, first=5)
        _until(sink, lambda: sink.status.sent == 10)
        path.unlink()
        write_records(journal, 1, first=10)
        _until(sink, lambda: sink.status.sent == 11)
    assert (list(range(5)), [10]) == (_seqs(old), _seqs(path))
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_each_new_file_begins_with_the_header(tmp_path):
    """And one that was begun before does not get it again."""
    journal, path = tmp_path / "journal", tmp_path / "out.csv"
    for first in (0, 2):
        write_records(journal, 2, first=first)
        with sinking(tmp_path, FileOutlet(path, header=b"head\r"), form="csv") as sink:
            _until(sink, lambda: sink.status.sent == 2)
    lines = path.read_bytes().split(b"\r\n")
    assert (b"head", 6, b"") == (lines[0], len(lines), lines[-1])
    assert 1 == path.read_bytes().count(b"head")


def test_a_torn_line_spoils_no_other(tmp_path):
    """A process that was killed in the middle of a line leaves it; the next one is a line of its own."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(line_of("node", 0)[:50])
    write_records(tmp_path / "journal", 3)
    with sinking(tmp_path, FileOutlet(path, header=b"")) as sink:
        _until(sink, lambda: sink.status.sent == 3)
    assert [0, 1, 2] == [json.loads(line)["seq"] for line in path.read_bytes().splitlines()[1:]]


def test_a_disk_that_fails_tears_nothing(tmp_path):
    """After an fsync that failed the batch is taken back and written again; a full device is not a place to write to."""
    faults = [OSError(5, "Input/output error")] * 3

    def fsync(file):
        if faults:
            raise faults.pop()
        os.fsync(file)

    path = tmp_path / "out.jsonl"
    write_records(tmp_path / "journal", 3)
    with sinking(tmp_path, FileOutlet(path, header=b"", fsync=fsync)) as sink:
        _until(sink, lambda: sink.status.sent == 3)
    assert [0, 1, 2] == _seqs(path)
    with sinking(tmp_path, FileOutlet("/dev/full", header=b""), name="full") as sink:  # type: ignore[arg-type]
        _until(sink, lambda: sink.status.failures >= 3)
    assert 0 == sink.status.sent


def test_a_disk_that_became_read_only_has_taken_nothing(tmp_path):
    """As file systems do after an error of their disk: it is no device that knows no fsync."""

    def fsync(_file):
        raise OSError(errno.EROFS, "Read-only file system")

    outlet = FileOutlet(tmp_path / "out.jsonl", header=b"", fsync=fsync)
    with pytest.raises(Unreachable):
        outlet.send([Encoded(entry={}, id="one", line=b"{}")])
    assert 0 == outlet.settled()


def test_the_standard_output_gets_whole_lines(tmp_path):
    """In pieces that a pipe takes whole; a reader that is slow holds up this sink alone."""
    write_records(tmp_path / "journal", 300, user_agent="x" * 300)
    reading, writing = os.pipe()
    outlet = StdoutOutlet(writing)
    with os.fdopen(reading, "rb") as stream:
        with sinking(tmp_path, outlet) as sink:
            seqs = [json.loads(stream.readline())["seq"] for _ in range(300)]
            _until(sink, lambda: sink.status.sent == 300)
        os.close(writing)
        assert b"" == stream.read()
    assert list(range(300)) == seqs

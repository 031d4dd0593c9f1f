"""Sinks over HTTP: at least once, in order per origin, whatever the receiver does."""

import contextlib
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.sinks.runner import TRIES_OF_ONE
from tests.certificates import Authority
from tests.sink_world import (
    CANARY,
    Receiver,
    firsts,
    gone_line,
    http_outlet,
    in_order,
    line_of,
    listening,
    sinking,
    write_records,
)


def _everything(origin, count):
    return [(origin, seq) for seq in range(count)]


def test_every_record_arrives_once_and_in_order(tmp_path):
    """With a receiver that takes all of it: of two origins, over several files and batches."""
    write_records(tmp_path / "journal", 250)
    write_records(tmp_path / "journal", 30, first=250)
    write_records(tmp_path / "journal", 5, origin="cli")
    with Receiver() as receiver, sinking(tmp_path, http_outlet(receiver)):
        receiver.until(lambda: len(receiver.got()) == 285)
    got = receiver.got()
    assert [one for one in got if one[0] == "node"] == _everything("node", 280)
    assert [one for one in got if one[0] == "cli"] == _everything("cli", 5)
    assert 1 == receiver.connections


def test_what_is_written_while_it_runs_follows(tmp_path):
    """Also in a new file; a line without its end waits until it has one."""
    path = write_records(tmp_path / "journal", 1)
    with Receiver() as receiver, sinking(tmp_path, http_outlet(receiver)):
        receiver.until(lambda: len(receiver.got()) == 1)
        line = line_of("node", 1)
        with path.open("ab") as file:
            file.write(line[:40])
            file.flush()
            write_records(tmp_path / "journal", 1, origin="other")
            receiver.until(lambda: ("other", 0) in receiver.got())
            file.write(line[40:])
        receiver.until(lambda: ("node", 1) in receiver.got())
        with path.open("ab") as file:
            file.write(line_of("node", 2)[:30])
        write_records(tmp_path / "journal", 2, first=2)
        receiver.until(lambda: ("node", 3) in receiver.got())
    assert [0, 1, 2, 3] == firsts(receiver.got(), "node")


def test_it_goes_on_where_it_was(tmp_path):
    """A restart sends nothing twice that had arrived, and nothing is passed over that came meanwhile."""
    write_records(tmp_path / "journal", 10)
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 10)
        write_records(tmp_path / "journal", 10, first=10)
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: ("node", 19) in receiver.got())
        assert _everything("node", 20) == receiver.got()


FAULTS = (500, 503, 429, 401, 404, 301, "reset", "unanswered", "crash")


@settings(max_examples=15, deadline=None)
@given(script=st.lists(st.sampled_from([*FAULTS, 200, 200]), max_size=12), most=st.sampled_from([1, 7, 50]))
def test_no_fault_and_no_crash_loses_a_record(tmp_path_factory, script, most):
    """Whatever becomes of each batch, and wherever the process is killed: duplicates, never a loss, always in order.

    A crash is the place on the disk as it was while a batch was being taken, and a new process that reads it.
    """
    directory = tmp_path_factory.mktemp("sink")
    write_records(directory / "journal", 60)
    write_records(directory / "journal", 20, origin="cli")
    cursor, crashed = directory / "sinks" / "siem.json", directory / "crashed"

    def crash(_body):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(cursor, crashed)
        crashes.append(True)
        return 200, b""

    crashes = []
    steps = [crash if step == "crash" else step for step in script]
    with Receiver(steps) as receiver:
        while True:
            seen = len(crashes)
            with sinking(directory, http_outlet(receiver), most=most):
                receiver.until(lambda: len(crashes) > seen or len(set(receiver.got())) == 80)  # noqa: B023 - called here
            if len(crashes) == seen:
                break
            cursor.unlink(missing_ok=True)
            if crashed.exists():
                crashed.rename(cursor)
    assert 80 == len(set(receiver.got()))
    assert in_order(receiver.got(), "node")
    assert in_order(receiver.got(), "cli")


@pytest.mark.parametrize("status", [301, 302, 401, 403, 404, 405, 415, 500, 502])
def test_an_answer_that_may_be_the_configurations_fault_drops_nothing(tmp_path, status):
    """All of it waits, however often it is said, and no redirect is followed."""
    write_records(tmp_path / "journal", 5)
    with Receiver() as receiver:
        receiver.otherwise = status
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: receiver.asked >= TRIES_OF_ONE + 5)
            assert ("failing", 0, 0) == (sink.status.state, sink.status.sent, sink.status.refused)
            assert sink.status.waiting_since is not None
            assert 0 < sink.status.bytes_behind or not sink.cursor.exists()
            receiver.otherwise = 200
            receiver.until(lambda: len(receiver.got()) == 5)
    assert _everything("node", 5) == receiver.got()


def _refusing(*seqs, status=400):
    """A receiver that takes no body with one of these records in it."""

    def answer(body):
        held = {one["seq"] for one in map(json.loads, body.splitlines()) if one["kind"] != "sink"}
        return (status, b"") if held & set(seqs) else (200, b"")

    return answer


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("seqs", [(0,), (7,), (0, 1, 2, 3, 4), (19,), tuple(range(20))])
def test_records_that_are_refused_block_nothing(tmp_path, status, seqs):
    """They are given up one by one, counted, logged and told of in their place; all others arrive, in order."""
    write_records(tmp_path / "journal", 20)
    with listening() as lines, Receiver() as receiver:
        receiver.otherwise = _refusing(*seqs, status=status)
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: len({one["seq"] for one in receiver.records()}) == 20)
    assert [seq for seq in range(20) if seq not in seqs] == firsts(receiver.got(), "node")
    told = [one for one in receiver.records() if one["kind"] == "sink"]
    assert sorted(seqs) == [one["seq"] for one in told]
    assert {("refused", "node", "siem")} == {(one["reason"], one["origin"], one["segment"]) for one in told}
    assert (len(seqs), 20 - len(seqs)) == (sink.status.refused, sink.status.sent)
    assert any("gives up record" in line for line in lines)


def test_a_receiver_that_refuses_everything_is_sent_all_of_it_later(tmp_path):
    """A wrong index or format answers 400 to every record, and to our own notice: nothing is given up."""
    write_records(tmp_path / "journal", 20)
    with Receiver() as receiver:
        receiver.otherwise = 400
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: receiver.asked >= 40)
            assert 0 == sink.status.refused
            receiver.otherwise = 200
            receiver.until(lambda: len(receiver.got()) == 20)
    assert _everything("node", 20) == receiver.got()


@pytest.mark.parametrize("fault", [500, "reset"])
def test_a_record_that_breaks_the_receiver_hides_nothing_behind_it(tmp_path, fault):
    """Somebody who finds out what their SIEM stumbles over could blind it: only that record is given up."""
    write_records(tmp_path / "journal", 12)

    def answer(body):
        return (fault, b"") if b'"seq":3}' in body and b'"kind":"decision"' in body else (200, b"")

    with Receiver() as receiver:
        receiver.otherwise = answer
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: ("node", 11) in receiver.got())
    assert [seq for seq in range(12) if seq != 3] == firsts(receiver.got(), "node")
    assert 1 == sink.status.refused


def test_an_answer_that_drips_is_not_waited_for(tmp_path):
    """The time limit is for the whole exchange, however often a byte comes."""
    write_records(tmp_path / "journal", 3)
    with Receiver(["drip"]) as receiver, sinking(tmp_path, http_outlet(receiver, seconds=0.2)):
        receiver.until(lambda: len(set(receiver.got())) == 3)
    # On a machine that stalls, the next answer may be late as well.
    assert 2 <= receiver.connections


def test_one_process_sends_and_another_takes_over(tmp_path):
    """Of several workers the one that has the lock sends; when it ends, the next one goes on behind it."""
    write_records(tmp_path / "journal", 10)
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)) as one:
            receiver.until(lambda: len(receiver.got()) == 10)
            with sinking(tmp_path, http_outlet(receiver)) as other:
                receiver.until(lambda: other.status.state != "starting")
                assert ("elsewhere", True, False) == (other.status.state, one.status.runs, other.status.runs)
                one.stop()
                write_records(tmp_path / "journal", 10, first=10)
                receiver.until(lambda: ("node", 19) in receiver.got())
        assert _everything("node", 20) == receiver.got()


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path):
    """A full disk costs duplicates after a restart, and says so."""
    write_records(tmp_path / "journal", 10)
    (tmp_path / "sinks" / "siem.json.new").mkdir(parents=True)
    with listening() as lines, Receiver() as receiver:
        for _ in range(2):
            with sinking(tmp_path, http_outlet(receiver)) as sink:
                receiver.until(lambda: ("node", 9) in receiver.got())
                receiver.until(lambda: sink.status.failures > 0)
        assert _everything("node", 10) == list(dict.fromkeys(receiver.got()))
    assert any("cannot be written, so more may be sent twice" in line for line in lines)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"origins":{"node":5}}', b"\xff" * 100])
def test_a_place_that_cannot_be_read_sends_all_again(tmp_path, content):
    """A damaged file never skips a record."""
    write_records(tmp_path / "journal", 5)
    (tmp_path / "sinks").mkdir()
    (tmp_path / "sinks" / "siem.json").write_bytes(content)
    with Receiver() as receiver, sinking(tmp_path, http_outlet(receiver)):
        receiver.until(lambda: len(receiver.got()) == 5)


def test_only_what_the_filter_wants_is_sent(tmp_path):
    """And the place moves on behind what it does not."""
    write_records(tmp_path / "journal", 50)
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver), wants=lambda entry: entry["seq"] % 10 == 0):
            receiver.until(lambda: len(receiver.got()) == 5)
        with sinking(tmp_path, http_outlet(receiver)):
            write_records(tmp_path / "journal", 1, first=50)
            receiver.until(lambda: ("node", 50) in receiver.got())
        assert [0, 10, 20, 30, 40, 50] == [seq for _, seq in receiver.got()]


def test_no_credential_is_logged_or_kept(tmp_path):
    """Whatever the answers are, also where they repeat it, at every level; and neither is the URL."""
    write_records(tmp_path / "journal", 5)
    script = [401, 500, "reset", 301, 400, lambda _body: (403, CANARY.encode())]
    with listening() as lines, Receiver(script) as receiver, sinking(tmp_path, http_outlet(receiver)) as sink:
        receiver.until(lambda: len(receiver.got()) == 5)
        assert all(CANARY in head for head in receiver.heads)
        for text in (*lines, repr(sink.status), sink.cursor.read_text() if sink.cursor.exists() else ""):
            assert CANARY not in text
            assert "/in?x=1" not in text
    assert lines


def test_over_tls_the_receiver_must_be_the_one_that_is_meant(tmp_path):
    """Its certificate must be of our authority and for its name, and ours is shown; nothing is sent to anybody else."""
    write_records(tmp_path / "journal", 5)
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "a stranger")
    server, client = authority.issue("localhost"), authority.issue("client.example")
    asks = server.as_server(clients=authority.file)
    with Receiver(tls=asks) as receiver:
        for wrong in (stranger.trusting(asks=client), authority.trusting()):
            with sinking(tmp_path, http_outlet(receiver, tls=wrong)) as sink:
                receiver.until(lambda: sink.status.failures >= 2)
            assert [] == receiver.got()
        with sinking(tmp_path, http_outlet(receiver, tls=authority.trusting(asks=client))):
            receiver.until(lambda: len(receiver.got()) == 5)
    other = authority.issue("other.example")
    with Receiver(tls=other.as_server()) as receiver:
        with sinking(tmp_path, http_outlet(receiver, tls=authority.trusting()), name="other") as sink:
            receiver.until(lambda: sink.status.failures >= 2)
        assert [] == receiver.got()


def test_what_is_gone_is_said(tmp_path):
    """Of what retention took before it was sent there is one notice for each run, in its place; damaged lines likewise."""
    path = write_records(tmp_path / "journal", 10)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2:5] = [gone_line(lines[seq], seq) for seq in (2, 3, 4)]
    lines[7] = b"damaged\n"
    path.write_bytes(b"".join(lines))
    write_records(tmp_path / "journal", 2, first=15)
    with Receiver() as receiver, sinking(tmp_path, http_outlet(receiver)) as sink:
        receiver.until(lambda: ("node", 16) in receiver.got())
    assert [0, 1, 5, 6, 8, 9, 15, 16] == firsts(receiver.got(), "node")
    gaps = [(one["seq"], one["through"], one["why"]) for one in receiver.records() if one["kind"] == "sink"]
    assert [(2, 4, "gone"), (7, 7, "unreadable"), (10, 14, "missing")] == gaps
    assert 9 == sink.status.gaps


@pytest.mark.parametrize("sent", [0, 1, 4, 9, 10])
def test_a_file_that_was_written_anew_is_gone_on_with_behind_the_same_record(tmp_path, sent):
    """Erasure and retention replace a file by a shorter one: nothing is sent twice, and nothing passed over."""
    journal = tmp_path / "journal"
    full = write_records(journal, 10, user_agent="x" * 50).read_bytes().splitlines(keepends=True)
    path = journal / "node-000000000000.jsonl"
    path.write_bytes(b"".join(full[:sent]))
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == sent)
        anew = journal / "new"
        less = [line.replace(b"x" * 50, b"") for line in full]
        anew.write_bytes(b"".join([gone_line(full[0], 0), *less[1:]]))
        anew.replace(path)
        write_records(journal, 3, first=10)
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: ("node", 12) in receiver.got())
        assert list(range(0 if sent else 1, 13)) == [seq for _, seq in receiver.got()]


def test_numbers_that_a_loss_of_power_freed_are_not_taken_for_sent(tmp_path):
    """What the journal forgot was sent; what it then wrote under the same numbers is sent as well."""
    journal = tmp_path / "journal"
    path = write_records(journal, 10, path="/lost")
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 10)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
        write_records(journal, 6, first=4, path="/new")
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 16)
        assert [*range(10), *range(4, 10)] == [seq for _, seq in receiver.got()]
        assert {"/new"} == {one["path"] for one in receiver.records()[10:]}

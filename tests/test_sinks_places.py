"""A sink whose place is in another journal than the one that is there, and receivers that answer before they listen."""

import json
import logging
import socket
import threading

import pytest

from gateway.audit.sinks.outlet import Encoded, Unreachable
from gateway.audit.sinks.reading import Position, behind, read_on
from gateway.audit.sinks.runner import TRIES_OF_ONE
from tests.sink_world import Receiver, firsts, http_outlet, sinking, write_records


def _gaps(receiver):
    return [(one["seq"], one["through"], one["why"]) for one in receiver.records() if one["kind"] == "sink"]


@pytest.mark.parametrize("count", [5, 20, 30])
def test_a_journal_that_was_begun_anew_is_sent_from_its_beginning(tmp_path, caplog, count):
    """Its files are called as before, and it has fewer records, as many or more: none of them is taken for sent."""
    journal = tmp_path / "journal"
    path = write_records(journal, 20, path="/old")
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 20)
        # In its place: the inode is the same.
        path.write_bytes(write_records(tmp_path / "new", count, path="/new").read_bytes())
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: len(receiver.got()) == 20 + count)
        assert list(range(count)) == [one["seq"] for one in receiver.records() if one.get("path") == "/new"]
        assert [(20, 20, "replaced")] == _gaps(receiver)
        assert (1, 0) == (sink.status.gaps, sink.status.bytes_behind)
        assert 1 == sum("is not the one that the sink" in one.getMessage() for one in caplog.records)
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            write_records(journal, 1, first=count)
            receiver.until(lambda: ("node", count) in receiver.got()[20 + count :])
        assert 21 + count == len(receiver.got())


def test_a_place_behind_all_files_is_of_another_journal(tmp_path):
    """A backup was put back: what it has written since is not passed over because its numbers are low."""
    journal = tmp_path / "journal"
    write_records(journal, 5)
    later = write_records(journal, 5, first=5, path="/lost")
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 10)
        later.unlink()
        write_records(journal, 2, first=3, path="/new")
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: len(receiver.got()) == 17)
        assert [(10, 10, "replaced")] == _gaps(receiver)
        assert 2 == sum(one.get("path") == "/new" for one in receiver.records())
        assert 0 == sink.status.bytes_behind


def test_a_file_of_the_same_name_after_a_backup_was_put_back_is_read(tmp_path):
    """What stood in the older files is the same, and the newest begins differently."""
    journal = tmp_path / "journal"
    write_records(journal, 5)
    write_records(journal, 5, first=5, path="/lost")
    with Receiver() as receiver:
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 10)
        write_records(journal, 2, first=5, path="/new")
        with sinking(tmp_path, http_outlet(receiver)):
            receiver.until(lambda: len(receiver.got()) == 17)
        assert [5, 6] == [one["seq"] for one in receiver.records() if one.get("path") == "/new"]


def test_a_record_that_was_exchanged_under_the_place_is_another_journal(tmp_path):
    """The file begins as it did and has more in front of our record, which is another's now."""
    path = write_records(tmp_path, 10)
    piece = read_on("node", [path], None, most=100, pace=_Unhurried())
    old = path.read_bytes().splitlines(keepends=True)
    new = write_records(tmp_path / "other", 12, path="/a-longer-one").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([old[0], *new[1:]]))
    [item] = read_on("node", [path], piece.at, most=100, pace=_Unhurried()).items
    assert "replaced" == item.what.why


def test_a_place_of_an_older_version_sends_rather_twice_than_never(tmp_path):
    """It knows no line: what has its numbers in that file is passed over, as ever, and nothing else."""
    path = write_records(tmp_path, 10)
    at = Position(path.name, path.stat().st_size // 2, 4)
    assert list(range(5, 10)) == [
        one.what["seq"] for one in read_on("node", [path], at, most=9, pace=_Unhurried()).items
    ]
    assert 0 < behind([path], at) < path.stat().st_size


class _Unhurried:
    def step(self) -> None:
        """Take no rest."""


def test_a_receiver_that_agrees_before_it_has_heard_all_has_taken_nothing():
    """Its answer is 200 and its connection breaks while the body is on its way: the batch is sent again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

        thread = threading.Thread(target=answer)
        thread.start()
        outlet = http_outlet(_At(listener.getsockname()[1]))
        try:
            with pytest.raises(Unreachable, match="broke off"):
                outlet.send([Encoded(entry={}, id=str(n), line=b"x" * 10_000) for n in range(3000)])
        finally:
            outlet.close()
            thread.join()


class _At:
    def __init__(self, port: int) -> None:
        self.port = port


def test_records_that_a_firewall_dislikes_cost_little_once_one_was_given_up(tmp_path, caplog):
    """The first is tried often, and those behind it twice: a burst of them does not hold up the rest for hours."""
    caplog.set_level(logging.ERROR)
    journal = tmp_path / "journal"
    write_records(journal, 20)
    write_records(journal, 10, first=20, path="/${jndi:ldap}")
    write_records(journal, 20, first=30)

    def judge(body):
        return (403 if b"jndi" in body else 200), b""

    with Receiver() as receiver:
        receiver.otherwise = judge
        receiver.script = iter(lambda: judge, None)
        with sinking(tmp_path, http_outlet(receiver)) as sink:
            receiver.until(lambda: ("node", 49) in receiver.got())
        assert [*range(20), *range(30, 50)] == firsts(receiver.got(), "node")
        assert 10 == sink.status.refused
        # Halving down to one, the tries of the first, and for each of the others its own and that of its batch.
        assert sink.status.failures <= 7 + TRIES_OF_ONE + 3 * 10
        assert 10 == sum(
            json.loads(line).get("reason") == "refused" for body in receiver.bodies for line in body.splitlines()
        )

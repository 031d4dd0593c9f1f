"""Personal data goes from every file of the journal, nothing else does, and the journal says that and not whose it was."""

import errno
import shutil
from datetime import timedelta

import msgspec
import pytest
from msgspec import structs

from gateway.audit.hand import Hand
from gateway.audit.record import Record, name_actor, seal
from gateway.audit.removal.erasure import of_actor, of_agent, of_assumption, of_giver, of_words
from gateway.audit.removal.rotating import keep_rotating
from gateway.audit.sealed import reveal
from gateway.audit.search import read
from gateway.audit.segment import build_line, list_segments, parse_line
from gateway.tasks import Tasks
from policy.model import ActorId
from tests.journals import NOON, SecondHand, check, open_journal
from tests.kept_journal import EACH, ISSUER, Office, a_decision, write_days
from tests.test_retention import FailingDisk, Killed

DANA = of_actor(ISSUER, "dana.k")


def _everything(directory) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def _decisions(directory) -> list[dict]:
    return [entry for entry in read(directory) if entry["kind"] == "decision"]


async def test_a_staff_member_is_erased_from_every_file(tmp_path):
    """Name, subject, address and browser of theirs; of their colleague nothing, and of the customer nothing."""
    await write_days(tmp_path, range(3))
    await write_days(tmp_path, [3], origin="gateway-1")
    async with Office(tmp_path) as office:
        done = await office.erase(DANA)
        assert (True, 16, 4) == (done.is_complete, done.lines, done.commitments)
        check(tmp_path)
    assert b"dana.k" not in _everything(tmp_path).lower()
    for entry in _decisions(tmp_path):
        if entry["account"] == "acme":
            assert ["actor"] == entry["erased"]
            assert not {"actor", "client_ip"} & set(entry)
            assert ("maria-of-acme", "cannot reproduce") == (entry["subject"], entry["stated_reason"])
        else:
            assert ("eve", "192.0.2.7") == (entry["actor"]["subject"], entry["client_ip"])


async def test_the_record_says_by_whom_and_why_and_not_whose(tmp_path):
    """By commitments, which tell nothing once their openings are gone."""
    await write_days(tmp_path, [0])
    async with Office(tmp_path) as office:
        await office.erase(of_agent("acme", "maria-of-acme"), account="acme")
    (record,) = [entry for entry in read(tmp_path) if entry["kind"] == "erasure"]
    assert ("pat", "asked for", "acme", 1) == (
        record["by"],
        record["stated_reason"],
        record["account"],
        len(record["commitments"]),
    )
    assert b"maria-of-acme" not in _everything(tmp_path)
    assert 4 == _everything(tmp_path).count(b'"subject":"maria-of-beta"')


async def test_an_assumption_is_erased_with_the_words_that_were_given_for_it(tmp_path):
    """All groups of its records; the next day's of the same people stay."""
    await write_days(tmp_path, range(2))
    async with Office(tmp_path) as office:
        await office.erase(of_assumption("as_0_1"))
    erased = [entry for entry in _decisions(tmp_path) if "erased" in entry]
    assert [["actor", "agent", "giver", "words"]] * 4 == [entry["erased"] for entry in erased]
    assert {"as_0_1"} == {entry["assumption"] for entry in erased}
    check(tmp_path)


async def test_more_commitments_than_a_record_takes_are_in_several(tmp_path):
    """None of them is cut off."""
    journal = await open_journal(tmp_path, origin="gateway")
    for day in range(150):
        await journal.append(a_decision(0, day=day))
    await journal.close()
    async with Office(tmp_path) as office:
        assert 150 == (await office.erase(DANA)).commitments
    records = [entry for entry in read(tmp_path) if entry["kind"] == "erasure"]
    assert [64, 64, 22] == [len(entry["commitments"]) for entry in records]
    check(tmp_path)


async def test_what_a_running_gateway_has_just_written_is_erased_too(tmp_path):
    """It goes on in a new file, within the command's time, and what it writes from then on is new data."""
    journal = await open_journal(tmp_path, origin="gateway")
    for number in range(EACH):
        await journal.append(a_decision(number))
    hand = Hand("test")
    tasks = Tasks()
    tasks.start(keep_rotating(tmp_path, journal, hand, origin="gateway"), name="rotating")
    async with Office(tmp_path) as office:
        done = await office.erase(DANA, seconds=20)
        assert (True, 4) == (done.is_complete, done.lines)
        assert b"dana.k" not in _everything(tmp_path).lower()
        await journal.append(a_decision(0))
        check(tmp_path)
    await tasks.close()
    hand.stop()
    await journal.close()
    check(tmp_path)
    assert [None] == [
        entry.get("erased") for entry in _decisions(tmp_path) if entry.get("actor", {}).get("subject") == "dana.k"
    ]


async def test_a_gateway_that_does_not_answer_is_named_and_nothing_is_called_complete(tmp_path):
    """What can be erased is; the rest is a command away."""
    await write_days(tmp_path, [0])
    journal = await open_journal(tmp_path, origin="gateway", clock=SecondHand(NOON + timedelta(days=1)))
    await journal.append(a_decision(0, day=1))
    async with Office(tmp_path) as office:
        done = await office.erase(DANA)
        assert (False, {f"gateway-{EACH:012d}.jsonl"}, 4) == (done.is_complete, done.open, done.lines)
        check(tmp_path)
        await journal.close()
        assert (await office.erase(DANA)).is_complete
    assert b"dana.k" not in _everything(tmp_path).lower()
    check(tmp_path)


async def test_nothing_is_erased_of_an_account_under_hold(tmp_path):
    """And that is said; in other accounts it goes on."""
    await write_days(tmp_path, [0])
    async with Office(tmp_path) as office:
        office.held = {"acme"}
        done = await office.erase(DANA)
        assert (False, {"acme"}, 0) == (done.is_complete, done.held, done.lines)
        assert [] == [entry for entry in read(tmp_path) if entry["kind"] == "erasure"]
        office.held = {"beta"}
        assert (await office.erase(DANA)).is_complete
        check(tmp_path)


async def test_a_hold_placed_while_it_is_erased_counts(tmp_path):
    """After the record of the erasure was signed: of that account nothing goes, and that is said."""
    await write_days(tmp_path, [0])

    class Placing(Office):
        asked = 0

        async def _held(self):
            self.asked += 1
            return frozenset({"acme"} if self.asked > 1 else ())

    async with Placing(tmp_path) as office:
        done = await office.erase(DANA)
        assert (False, {"acme"}, 0) == (done.is_complete, done.held, done.lines)
    assert 4 == sum(entry.get("actor", {}).get("subject") == "dana.k" for entry in _decisions(tmp_path))
    check(tmp_path)


async def test_commitments_that_two_accounts_share_do_not_open_the_one_under_hold(tmp_path):
    """However it came that they do: its lines stay as they are."""
    journal = await open_journal(tmp_path, origin="gateway")
    sealed = a_decision(0)
    seal(sealed)
    for account in ("acme", "beta"):
        await journal.append(structs.replace(sealed, account=account))
    await journal.close()
    async with Office(tmp_path) as office:
        office.held = {"acme"}
        done = await office.erase(DANA)
        assert (False, {"acme"}, 1) == (done.is_complete, done.held, done.lines)
    assert ["dana.k", None] == [entry.get("actor", {}).get("subject") for entry in _decisions(tmp_path)]
    check(tmp_path)


async def test_a_line_that_somebody_has_altered_keeps_nobody_from_being_erased(tmp_path):
    """Whatever stands there in the place of an account."""
    await write_days(tmp_path, [0])
    (path,) = list_segments(tmp_path)["gateway"]
    path.write_bytes(path.read_bytes().replace(b'"account":"acme"', b'"account":[1]', 1))
    async with Office(tmp_path) as office:
        office.held = {"beta"}
        assert (True, 4) == ((done := await office.erase(DANA)).is_complete, done.lines)
    assert b"dana.k" not in _everything(tmp_path).lower()


async def test_a_staff_member_is_erased_where_they_ended_something(tmp_path):
    """There `by` is their subject; an operator's or a customer's word that is like it is left alone."""
    journal = await open_journal(tmp_path, origin="gateway")
    dana, eve = (name_actor(ActorId(issuer=ISSUER, subject=each), None) for each in ("dana.k", "eve"))
    await journal.append(Record(kind="staff", reason="signed_out", actor=dana, by="dana.k", client_ip="192.0.2.7"))
    await journal.append(Record(kind="assumption", reason="ended", actor=eve, by="dana.k"))
    await journal.append(Record(kind="grant", reason="given", account="acme", by="dana.k"))
    await journal.close()
    async with Office(tmp_path) as office:
        assert (await office.erase(DANA)).is_complete
    left = [(entry.get("actor", {}).get("subject"), entry.get("by")) for entry in read(tmp_path)]
    assert [(None, None), ("eve", None), (None, "dana.k")] == left[:3]
    check(tmp_path)


async def test_an_administrator_of_a_customer_is_erased(tmp_path):
    """Wherever a grant of theirs is named, with the address from which they gave it; staff's is not theirs."""
    await write_days(tmp_path, [0])
    journal = await open_journal(tmp_path, origin="gateway-1")
    owner = "owner@acme.example"
    await journal.append(Record(kind="grant", reason="given", account="acme", by=owner, client_ip="198.51.100.1"))
    await journal.close()
    async with Office(tmp_path) as office:
        assert (True, 5) == ((done := await office.erase(of_giver(owner))).is_complete, done.lines)
    assert b"owner@acme" not in _everything(tmp_path)
    assert b"198.51.100.1" not in _everything(tmp_path)
    assert 8 == sum("client_ip" in entry for entry in _decisions(tmp_path))
    check(tmp_path)


async def test_words_in_which_somebody_is_named_are_listed_and_can_be_erased(tmp_path):
    """They may be anybody's words about anybody, so nothing is guessed: the records are named, and taken one by one."""
    journal = await open_journal(tmp_path, origin="gateway")
    await journal.append(Record(kind="audit", reason="exported", by="pat", stated_reason="csv: actor:dana.k"))
    await journal.append(Record(kind="audit", reason="exported", by="pat", stated_reason="csv: actor:eve"))
    await journal.close()
    async with Office(tmp_path) as office:
        done = await office.erase(DANA, looks_for="dana.k")
        assert (True, ["gateway:0"]) == (done.is_complete, done.named)
        assert (True, 1) == ((done := await office.erase(of_words("gateway", 0))).is_complete, done.lines)
        assert [] == (await office.erase(DANA, looks_for="dana.k")).named
    assert b"dana.k" not in _everything(tmp_path)
    assert b"csv: actor:eve" in _everything(tmp_path)
    check(tmp_path)


async def test_a_record_of_an_older_version_is_counted_and_stays(tmp_path):
    """It holds the person itself, so only the whole of it can go; it still verifies."""
    await write_days(tmp_path, [0])
    await write_days(tmp_path, [0], origin="old")
    (path,) = list_segments(tmp_path)["old"]

    plain = []
    for line in path.read_bytes().splitlines(keepends=True):
        parts = parse_line(line)
        record = reveal(msgspec.json.decode(parts.record), parts.openings)
        plain.append(build_line(msgspec.json.encode(record, order="sorted"))[1])
    path.write_bytes(b"".join(plain))
    for unneeded in tmp_path.glob("old.*"):
        unneeded.unlink()
    async with Office(tmp_path) as office:
        done = await office.erase(DANA)
    assert (False, 4, 4) == (done.is_complete, done.plain, done.lines)


async def test_nothing_found_is_nothing_recorded(tmp_path):
    """Nobody learns from the journal whom somebody looked for."""
    await write_days(tmp_path, [0])
    async with Office(tmp_path) as office:
        done = await office.erase(of_actor(ISSUER, "nobody"))
    assert (True, 0) == (done.is_complete, done.commitments)
    assert [] == [entry for entry in read(tmp_path) if entry["kind"] == "erasure"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "i/o"), Killed()], ids=repr)
async def test_whichever_call_fails_the_journal_verifies_and_the_next_one_does_it(tmp_path, error):
    """Each write, fsync and rename of two files, in turn."""
    original = tmp_path / "original"
    await write_days(original, range(2))
    steps = 0
    while True:
        steps += 1
        journal = tmp_path / f"{steps}"
        shutil.copytree(original, journal)
        failing = FailingDisk(steps, error)
        try:
            async with Office(journal, disk=failing.disk()) as office:
                await office.erase(DANA)
        except (OSError, Killed):
            pass
        check(journal)
        if failing.calls < steps:
            break
        async with Office(journal, day=101) as office:
            assert (await office.erase(DANA)).is_complete
        assert b"dana.k" not in _everything(journal).lower()
        check(journal)
    assert 9 == steps

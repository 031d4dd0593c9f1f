"""`locum audit retain`, `hold`, `release`, `holds` and `erase`, alone and beside a gateway that runs."""

import asyncio
import json
import re
import threading
from datetime import timedelta

import pytest

from gateway.audit.removal.keeping import held_accounts, read_retention
from gateway.audit.removal.retention import Keeping, Terms
from gateway.audit.removal.rewriting import Disk, removing
from gateway.audit.removal.upkeep import Upkeep
from gateway.audit.segment import list_segments, parse_line
from gateway.config.audit import AccountRetention, RetentionSection
from gateway.stores.holding import Hold
from gateway.tasks import Tasks
from policy.model import AccountId
from tests.journals import NOON, check, open_journal
from tests.kept_journal import a_decision, write_days
from tests.memory_store import MemoryStore
from tests.process_world import open_process_world, until
from tests.test_cli import CONFIG, Shell

OLD = """
[audit.retention]
days = 30
[[audit.retention.accounts]]
account = "beta"
days = 0
"""


@pytest.fixture
def locum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    shell.config(CONFIG % "http://127.0.0.1:9" + OLD)
    return shell


def _decisions(shell) -> list[dict]:
    told = shell.here("audit", "search", "--json", "kind:decision")
    return [json.loads(line) for line in told.splitlines() if line.startswith("{")]


def _journal(shell):
    return next(shell.directory.rglob("journal"))


def test_what_is_due_goes_and_what_is_held_stays(locum):
    """A dry run says the same and does nothing; a hold is put and released once, by whom and why is on the record."""
    locum.here("account", "add", "acme")
    journal = _journal(locum)
    asyncio.run(write_days(journal, [-60]))  # long ago; signed by another key, so it is not verified here
    assert 8 == len(_decisions(locum))

    assert "acme: under hold" in locum.here("audit", "hold", "acme", "--reason", "case 7", "--as", "law")
    assert "under hold already" in locum.here("audit", "hold", "acme", "--reason", "again", code=1)
    assert "by law: case 7" in locum.here("audit", "holds")
    assert "0 records, 0.0 MiB would go" in locum.here("audit", "retain", "--dry-run")
    assert "0 records" in locum.here("audit", "retain")

    assert "acme: released" in locum.here("audit", "release", "acme", "--reason", "closed")
    assert "not under hold" in locum.here("audit", "release", "acme", "--reason", "closed", code=1)
    dry = locum.here("audit", "retain", "--dry-run")
    assert "acme: 4 records" in dry
    assert 8 == len(_decisions(locum))
    done = locum.here("audit", "retain")
    assert dry.splitlines()[0] == done.splitlines()[0]
    assert done.splitlines()[-1].endswith("are gone")
    assert {"beta"} == {entry["account"] for entry in _decisions(locum)}
    told = locum.here("audit", "search", "--json", "kind:retention")
    assert ["held", "released", "age"] == [json.loads(line)["reason"] for line in told.splitlines() if "{" in line]


def test_a_hold_answers_once_nothing_is_being_taken_away(locum):
    """It counts at once; whoever asked for the holds before it may still be rewriting a file, and is waited for."""
    locum.here("account", "add", "acme")
    told: list[str] = []
    holding = threading.Thread(target=lambda: told.append(locum.here("audit", "hold", "acme", "--reason", "case 7")))
    with removing(_journal(locum), disk=Disk()):
        holding.start()
        while "acme" not in locum.here("audit", "holds"):
            assert holding.is_alive()
        assert [] == told
    holding.join(timeout=30)
    assert ["acme: under hold\n"] == told


def test_a_hold_on_an_account_that_nobody_knows_is_said_to_be_one(locum):
    """It may come into being, or be known elsewhere; but mostly it is typed wrong, and the right one is not held."""
    locum.here("account", "add", "acme")
    assert "knows `ACME`: typed right?" in locum.here("audit", "hold", "ACME", "--reason", "case 7")
    asyncio.run(write_days(_journal(locum), [0]))
    assert "beta: under hold\n" == locum.here("audit", "hold", "beta", "--reason", "case 8")


def test_other_people_and_words_are_erased_by_a_command(locum):
    """Words are listed where they hold the name, and erased by the record's place, which has one form."""
    locum.here("account", "add", "acme", "--as", "robin")
    asyncio.run(write_days(_journal(locum), [0]))
    locum.here("audit", "erase", "--sid", "as_0_0", "--reason", "robin asked", "--as", "pat")
    told = locum.here("audit", "erase", "--by", "robin", "--reason", "asked", "--as", "pat")
    assert "erased from 1 records" in told
    place = re.search(r"the words of (cli:\d+) hold that name", told)[1]
    assert "erased from 1 records" in locum.here(
        "audit", "erase", "--record", place, "--reason", "asked", "--as", "pat"
    )
    assert b"robin" not in b"".join(path.read_bytes() for path in _journal(locum).glob("*.jsonl"))
    for wrong in ("cli", "cli:", ":1", "cli:-1", "cli:x"):
        assert "ORIGIN:SEQ" in locum.here("audit", "erase", "--record", wrong, "--reason", "asked", code=2)


def test_somebody_is_erased_by_a_command(locum):
    """It says when it is complete, and fails when it is not; whose it is has to be said, once."""
    locum.here("account", "add", "acme", "--as", "robin")
    asyncio.run(write_days(_journal(locum), [0]))
    dana = ("--actor", "https://idp.vendor.example", "dana.k")
    locum.here("audit", "hold", "acme", "--reason", "case 7")
    assert "under hold" in locum.here("audit", "erase", *dana, "--reason", "asked", code=1)
    locum.here("audit", "release", "acme", "--reason", "closed")
    told = locum.here("audit", "erase", *dana, "--reason", "asked", "--as", "robin")
    assert [
        "erased from 4 records (1 commitments)",
        "complete: nothing of it is left in these fields, in the journal of this machine",
    ] == (told.splitlines())
    assert "say whose" in locum.here("audit", "erase", "--reason", "asked", code=2)
    assert "say whose" in locum.here("audit", "erase", *dana, "--sid", "as_1", "--reason", "asked", code=2)
    assert b"dana.k" not in b"".join(path.read_bytes() for path in _journal(locum).iterdir()).lower()


async def test_a_running_gateway_lets_go_of_what_it_has_just_written(tmp_path):
    """Two workers close their files on demand; what they wrote a moment ago is erased, and the journal verifies."""
    async with open_process_world(tmp_path) as world, world.running(workers=2):
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        async with world.connection() as line:
            assert 200 == (await line.get(token))[0]
        code, told = await world.told("audit", "erase", "--agent", "acme", "maria", "--reason", "asked")
        assert (0, True) == (code, "complete: nothing of it is left" in told), told
        journal = tmp_path / "data" / "journal"
        assert b'"subject":"maria"' not in b"".join(path.read_bytes() for path in journal.glob("*.jsonl"))
        async with world.connection() as line:
            assert 200 == (await line.get(token))[0]
        code, told = await world.told("audit", "verify")
        assert (0, "ok") == (code, told.splitlines()[-1]), told


async def test_what_a_connection_goes_on_with_is_new_data(tmp_path):
    """Its later records share no commitment with what was erased, or anybody could take them away as well."""
    async with open_process_world(tmp_path) as world, world.running():
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        async with world.connection() as line:
            assert 200 == (await line.get(token))[0]
            who = (world.issuer.issuer, "dana")
            code, told = await world.told("audit", "erase", "--actor", *who, "--reason", "asked", "--as", "pat")
            assert (0, True) == (code, "complete" in told), told
            assert 200 == (await line.get(token))[0]
        content = b"".join(path.read_bytes() for path in sorted((tmp_path / "data" / "journal").glob("*.jsonl")))
        records = [json.loads(parse_line(line).record) for line in content.splitlines(keepends=True)]
        (erased,) = [set(record["commitments"]) for record in records if record["kind"] == "erasure"]
        before, after = [record["sealed"]["actor"] for record in records if record["kind"] == "decision"]
        assert (True, False) == (before in erased, after in erased)


async def test_the_task_of_a_gateway_lets_content_go(tmp_path):
    """Of its own open file too, by going on in a new one; one process of several does it."""
    await write_days(tmp_path, [0])
    store = MemoryStore()
    await store.add_hold(Hold(account=AccountId("beta"), by="law", reason="case", at=NOON))
    journals = [await open_journal(tmp_path, origin=f"gateway-{index}") for index in range(2)]
    await journals[0].append(a_decision(0))
    tasks = Tasks()
    for index, journal in enumerate(journals):
        upkeep = Upkeep(
            tmp_path,
            origin=f"gateway-{index}",
            journal=journal,
            terms=Terms(usual=Keeping(days=30)),
            held=lambda: held_accounts(store),
            clock=lambda: NOON + timedelta(days=99),
            every_seconds=0.05,
        )
        tasks.start(upkeep.run(), name=f"upkeep {index}")

    def left() -> list[bytes]:
        lines = [line for path in tmp_path.glob("*.jsonl") for line in path.read_bytes().splitlines()]
        return [line for line in lines if b'"decision"' in line]

    await until(lambda: len(left()) == 4)
    await tasks.close()
    for journal in journals:
        await journal.close()
    assert all(b'"account":"beta"' in line for line in left())
    assert 2 <= len(list_segments(tmp_path)["gateway-0"])
    check(tmp_path)


def test_terms_are_read_from_the_configuration():
    """What an account does not say is as for all; 0 is no bound."""
    section = RetentionSection(
        days=30,
        account_mib=2,
        accounts=(AccountRetention(account="a", days=0), AccountRetention(account="b", mib=5)),
    )
    terms = read_retention(section)
    assert Keeping(days=30, bytes=2 << 20) == terms.of("other") == terms.of(None)
    assert Keeping(days=0, bytes=2 << 20) == terms.of("a")
    assert Keeping(days=30, bytes=5 << 20) == terms.of("b")
    assert (False, True) == (terms.is_for_ever, read_retention(RetentionSection()).is_for_ever)

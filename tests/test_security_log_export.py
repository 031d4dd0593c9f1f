"""Exports from the console: on the record first, whole or marked, one person's only, and gone when they should be."""

import asyncio
import csv
import json
from datetime import timedelta

import pytest

from gateway.audit.formats.table import COLUMNS
from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME
from gateway.audit.record import to_json
from gateway.audit.segment import build_line
from gateway.console.security.export_jobs import ExportJobs, ExportTerms, write_apart
from gateway.console.security.export_order import Order
from tests.journals import NOON
from tests.security_log_world import make_entries, open_security_log, progress_of
from tests.upstream_client import eventually

EXPORT = "/console/log/export"
MANY = 1300


@pytest.fixture
async def world(tmp_path):
    async with open_security_log(tmp_path, entries=make_entries(MANY)) as world:
        yield world


async def _export(world, *, visitor="all", form="jsonl", **fields):
    """Begin an export that takes a while, and return its page once it is over."""
    status, _, address = await world.post(EXPORT, visitor=visitor, format=form, **fields)
    assert 303 == status
    return address, await progress_of(world, address.rpartition("/")[2])


def _seqs(text):
    return [json.loads(line)["seq"] for line in text.splitlines()]


async def test_a_few_records_come_at_once(world):
    """In each format, the oldest first, and it is on the record."""
    status, text, _ = await world.post(EXPORT, format="jsonl", q="path:/tickets/7 decision:deny")
    assert (200, [7]) == (status, _seqs(text))
    assert 'filename="locum-log-20261125T120000Z.jsonl"' in world.last.headers["Content-Disposition"]
    _, text, _ = await world.post(EXPORT, format="csv", q="actor:person2 account:globex")
    rows = list(csv.reader(text.splitlines()))
    assert list(COLUMNS) == rows[0]
    assert len(rows) > 2
    assert text.endswith("\r\n")
    _, text, _ = await world.post(EXPORT, format="ocsf", q="path:/tickets/7")
    assert 6003 == json.loads(text)["class_uid"]
    words = [entry["stated_reason"] for entry in world.recorded("exported")]
    assert [
        "jsonl: path:/tickets/7 decision:deny",
        "csv: actor:person2 account:globex",
        "ocsf: path:/tickets/7",
    ] == words


async def test_many_are_written_by_a_process(tmp_path):
    """All that the search finds, once each, in the order of time; the page says how far it is, and leads to it."""
    async with open_security_log(tmp_path, entries=make_entries(MANY), write=write_apart) as world:
        await _many(world)


async def _many(world):
    address, state = await _export(world, q="-decision:deny")
    assert "done" == state
    _, page = await world.get(address)
    wanted = [
        entry["seq"]
        for entry in sorted(make_entries(MANY), key=lambda one: (one["at"], one["seq"]))
        if entry["decision"] == "allow"
    ]
    assert f"{len(wanted)} records" in page
    status, text = await world.get(f"{address}/data")
    assert 200 == status
    assert sorted(wanted) == sorted(_seqs(text))
    times = [json.loads(line)["at"] for line in text.splitlines()]
    assert times == sorted(times)
    assert "attachment" in world.last.headers["Content-Disposition"]
    assert ["exported", "export_fetched"] == [entry["reason"] for entry in world.recorded()]
    assert address in (await world.get(EXPORT))[1]


async def test_what_is_too_long_is_cut_and_says_so(tmp_path):
    """On the page and in its last line, whichever limit it is."""
    for number, terms in enumerate((ExportTerms(most_rows=700), ExportTerms(most_bytes=50_000))):
        directory = tmp_path / str(number)
        directory.mkdir()
        async with open_security_log(directory, entries=make_entries(MANY), terms=terms) as world:
            for form in ("jsonl", "csv"):
                address, state = await _export(world, form=form)
                assert "capped" == state
                assert "not whole" in (await world.get(address))[1]
                lines = (await world.get(f"{address}/data"))[1].splitlines()
                assert "truncated after" in lines[-1]
                assert not [line for line in lines[:-1] if "truncated" in line]


async def test_nothing_leaves_unless_it_is_on_the_record(world):
    """Neither at once nor later, and what is ready is not handed out either."""
    address, _ = await _export(world)
    await world.own.close()
    assert 503 == (await world.get(f"{address}/data"))[0]
    for query in ("", "path:/tickets/7"):
        status, text, _ = await world.post(EXPORT, format="jsonl", q=query)
        assert 503 == status
        assert "tickets/7" not in text
    assert 1 == len(await asyncio.to_thread(lambda: list((world.directory / "exports").glob("*/*/about.json"))))


async def test_an_export_is_its_persons_only(world):
    """Nobody else sees it, fetches it, ends it or deletes it, and cannot tell it from one that is not there."""
    address, _ = await _export(world)
    unknown = f"{EXPORT}/{'0' * 32}"
    for visitor in ("other", "acme"):
        for path in ("", "/data"):
            assert (await world.get(unknown + path, visitor=visitor)) == (
                await world.get(address + path, visitor=visitor)
            )
            assert 404 == world.last.status
        assert 404 == (await world.post(f"{address}/delete", visitor=visitor))[0]
        assert address not in (await world.get(EXPORT, visitor=visitor))[1]
    assert 200 == (await world.get(f"{address}/data"))[0]


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e",
        "../../journal",
        "..%2f..%2fjournal",
        "lock",
        "A" * 32,
        "0" * 31,
        "0" * 33,
        f"{'0' * 32}%00",
        "٣" * 32,
    ],
)
async def test_no_name_of_an_export_is_a_path(world, name):
    """What is not exactly an id of ours finds nothing."""
    await _export(world)
    for path in (f"{EXPORT}/{name}", f"{EXPORT}/{name}/data"):
        status, text = await world.get(path)
        assert 404 == status
        assert "canary" not in text
    assert await world.jobs.find("", name) is None


async def test_a_form_of_elsewhere_begins_nothing(world):
    """Without the token, with another's, from another origin, by a GET, or by somebody who is not signed in."""
    other = {"token": world.cookies["other"]}
    attacks = [
        {"token": ""},
        other,
        {"headers": {"Origin": "http://attacker.example"}},
        {"headers": {"Origin": "null"}},
        {"headers": {"Sec-Fetch-Site": "same-site"}},
    ]
    for attack in attacks:
        status, text, _ = await world.post(EXPORT, format="jsonl", **attack)
        assert 403 == status, attack
        assert "canary" not in text
    assert 403 == (await world.post(EXPORT, visitor="all", format="jsonl", headers={"Cookie": ""}))[0]
    address, _ = await _export(world)
    assert 403 == (await world.post(f"{address}/delete", token=""))[0]
    assert 405 == (await world.get(f"{address}/delete"))[0]
    assert 200 == (await world.get(f"{address}/data"))[0]
    assert 1 == len(world.recorded("exported"))


@pytest.mark.parametrize(
    "fields", [{"format": "exe"}, {}, {"format": "csv", "q": "colour:red"}, {"format": "csv", "from": "x"}]
)
async def test_what_cannot_be_exported_is_said(world, fields):
    """And leaves nothing behind."""
    status, text, _ = await world.post(EXPORT, **fields)
    assert 400 == status
    assert "Nothing was exported" in text
    assert [] == world.recorded()


async def test_a_flood_of_exports_is_refused(tmp_path):
    """No more than some of one person's are kept, and no more than some of all; what is refused is not on the record."""
    terms = ExportTerms(most_of_one=2, most_kept=3)
    async with open_security_log(tmp_path, entries=make_entries(MANY), terms=terms) as world:
        first, _ = await _export(world)
        await _export(world)
        status, text, _ = await world.post(EXPORT, format="csv")
        assert 429 == status
        assert "delete one" in text
        await _export(world, visitor="other")
        assert 429 == (await world.post(EXPORT, visitor="other", format="csv"))[0]
        assert 3 == len(world.recorded("exported"))
        assert 303 == (await world.post(f"{first}/delete"))[0]
        assert 404 == (await world.get(f"{first}/data"))[0]
        await _export(world)


async def test_only_some_are_written_at_a_time(tmp_path):
    """Whoever asks beyond that is told to come again."""
    async with open_security_log(tmp_path, entries=make_entries(MANY), terms=ExportTerms(most_running=0)) as world:
        assert 429 == (await world.post(EXPORT, format="csv"))[0]


async def test_what_was_exported_is_deleted_in_time(tmp_path):
    """After an hour, when whoever made it ends, and when that was killed."""
    async with open_security_log(tmp_path, entries=make_entries(MANY)) as world:
        address, _ = await _export(world)
        dead = tmp_path / "exports" / "0123456789abcdef"
        (dead / ("0" * 32)).mkdir(parents=True)
        (dead / ("0" * 32) / "data").write_text("canary")
        await world.jobs._do(world.jobs._sweep)
        assert not dead.exists()
        assert 200 == (await world.get(f"{address}/data"))[0]
        world.clock.now = world.clock.now.replace(hour=13, minute=0)
        await world.jobs._do(world.jobs._sweep)
        world.clock.now = world.clock.now.replace(hour=12, minute=0)
        assert 404 == (await world.get(f"{address}/data"))[0]
        await _export(world)
        assert [] != list((tmp_path / "exports").glob("*/*/data"))
        modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "exports").rglob("*")}
        assert {0} == modes
        room = world.jobs._room
    await eventually(lambda: not room.exists())


async def test_an_export_under_way_can_be_ended(tmp_path):
    """By whoever began it, from any process of the gateway; nothing of it is left."""
    async with open_security_log(tmp_path, entries=make_entries(MANY), write=write_apart) as world:
        fellow = ExportJobs(tmp_path / "exports", clock=world.clock)
        order = Order(
            folder="", form="jsonl", text="", since=None, until=round(world.clock().timestamp() * 1e6), ends=True,
            account=None, journal=str(tmp_path / "journal"), index=str(tmp_path / "journal-index.sqlite3"),
            most_rows=10**9, most_bytes=10**12,
        )  # fmt: skip
        id_ = await world.jobs.start("me", order)
        job = await fellow.find("me", id_)
        await fellow.cancel(job)
        assert await progress_of(world, id_) in ("cancelled", "done")
        found = await fellow.find("me", id_)
        assert (found.progress.state == "done") is found.data.exists()
        fellow._hand.stop()


async def test_an_export_that_fails_says_so(tmp_path):
    """The index is away when its turn comes."""
    async with open_security_log(tmp_path, entries=make_entries(3)) as world:
        order = Order(
            folder="", form="jsonl", text="", since=None, until=round(NOON.timestamp() * 1e6), ends=True, account=None,
            journal=str(tmp_path / "journal"), index=str(tmp_path / "nowhere.sqlite3"), most_rows=1, most_bytes=1,
        )  # fmt: skip
        id_ = await world.jobs.start("me", order)
        assert "failed" == await progress_of(world, id_)
        job = await world.jobs.find("me", id_)
        assert "there is no index" in job.progress.said
        assert not job.data.exists()


async def test_an_account_exports_its_own_only(world):
    """Many or few, and whatever the search says."""
    for query in ("", "account:globex", "-account:nobody", "canary*"):
        status, text, _ = await world.post(EXPORT, visitor="acme", format="jsonl", q=query)
        assert 200 == status
        assert {"acme"} >= {json.loads(line)["account"] for line in text.splitlines()}
    order = Order(
        folder="", form="jsonl", text="-account:nobody", since=None, until=round(world.clock().timestamp() * 1e6),
        ends=True, account="acme", journal=str(world.directory / "journal"),
        index=str(world.directory / "journal-index.sqlite3"), most_rows=10**6, most_bytes=10**9,
    )  # fmt: skip
    id_ = await world.jobs.start("me", order)
    assert "done" == await progress_of(world, id_)
    lines = (await world.jobs.find("me", id_)).data.read_text().splitlines()
    assert {"acme"} == {json.loads(line)["account"] for line in lines}
    assert sum(entry.get("account") == "acme" for entry in make_entries(MANY)) == len(lines)


def _late(world):
    """Another node's file, of which the index has read nothing; returns its one record's number."""
    entry = {**next(make_entries(1)), "origin": "late", "seq": 777_777, "request_id": "req_late"}
    line = build_line(to_json({**entry, "at": (NOON - timedelta(hours=1)).isoformat(timespec="microseconds")}))[1]
    (world.directory / "journal" / "late-000000000000.jsonl").write_bytes(line)
    return entry["seq"]


async def test_an_export_is_not_said_to_be_whole_while_the_index_lacks_something(tmp_path):
    """One file that the index has not read, and it is shown as cut, from when on, and in its last line."""
    async with open_security_log(tmp_path, entries=make_entries(MANY), terms=ExportTerms(settle_seconds=0)) as world:
        _late(world)
        address, state = await _export(world, range="all")
        assert "capped" == state
        page = (await world.get(address))[1]
        assert "not whole" in page
        assert "not all in the index yet" in page
        assert "not all in the index yet" in (await world.get(f"{address}/data"))[1].splitlines()[-1]


async def test_an_export_waits_for_what_the_index_has_to_read(tmp_path):
    """What comes into the index meanwhile is in it, and then it is whole."""
    async with open_security_log(tmp_path, entries=make_entries(MANY)) as world:
        seq = _late(world)
        _, _, address = await world.post(EXPORT, format="jsonl", range="all")
        await eventually(lambda: "data" in {path.name for path in (world.directory / "exports").glob("*/*/*")})
        with Builder(world.directory / "journal", world.directory / NAME) as builder:
            builder.catch_up()
        assert "done" == await progress_of(world, address.rpartition("/")[2])
        seqs = _seqs((await world.get(f"{address}/data"))[1])
        assert seq in seqs
        assert MANY + 1 == len(seqs)

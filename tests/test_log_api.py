"""The log's API: who may ask, what of it they get, and that they get nothing of another account whatever they send."""

import base64
import itertools
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.audit.api.log import LogApi
from gateway.audit.index.asking import FileIndex
from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME
from gateway.audit.record import to_json
from gateway.audit.search import read
from gateway.audit.search.timeline import build_timeline
from gateway.audit.segment import build_line
from gateway.clients import ClientAuthenticator, digest_of
from gateway.stores.store import Client
from policy.model import AccountId, ClientId
from tests.journals import NOON, Ticks, open_journal
from tests.memory_store import MemoryStore

PASSWORD = "a secret"
CLIENTS = {"all": None, "acme": "acme", "ACME": "ACME", "nobody": "nobody"}
ACCOUNTS = ("acme", "ACME", "globex", "acm", "acme ", None)


def _entries():
    """Records of several accounts, some of which differ from `acme` by little; each has a canary of its account."""
    for number in range(60):
        account = ACCOUNTS[number % len(ACCOUNTS)]
        entry = {
            "kind": "decision",
            "decision": "deny" if number % 7 == 0 else "allow",
            "at": (NOON + timedelta(minutes=number)).isoformat(),
            "origin": "node",
            "seq": number,
            "actor": {"issuer": "https://login.example", "name": f"person{number % 4}", "subject": f"s-{number % 4}"},
            "assumption": f"as-{account}",
            "stated_reason": f"canary-of-{account!r} refund",
            "method": "GET",
            "path": f"/tickets/{number}",
            "request_id": f"req_{number}",
        }
        yield entry if account is None else entry | {"account": account}


class CountingIndex(FileIndex):
    """Knows how often it was asked to count, and by what a question says is hidden."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.counted = []

    async def stats(self, query, *, account, less=None):
        self.counted.append((account, less is not None))
        return await super().stats(query, account=account, less=less)


class World:
    def __init__(self, http, directory, ticks, index):
        self.index = index
        self.http = http
        self.directory = directory
        self.ticks = ticks

    async def get(self, path, *, client="all", password=PASSWORD, **params):
        authorization = "Basic " + base64.b64encode(f"{client}:{password}".encode()).decode()
        async with self.http.get(f"/.locum/log/{path}", params=params, headers={"Authorization": authorization}) as got:
            assert "no-store" == got.headers["Cache-Control"]
            return got.status, json.loads(await got.text())

    def recorded(self):
        return [entry for entry in read(self.directory / "own") if entry["kind"] == "audit"]


@asynccontextmanager
async def open_log_world(directory, *, index=True, **options):
    journal = directory / "journal"
    journal.mkdir()
    (journal / "node-000000000000.jsonl").write_bytes(b"".join(build_line(to_json(one))[1] for one in _entries()))
    with Builder(journal, directory / NAME) as builder:
        builder.catch_up()
    store, own, ticks = MemoryStore(), await open_journal(directory / "own", **options), Ticks()
    for name, account in CLIENTS.items():
        roles = frozenset({"audit"} if name != "nobody" else {"grants", "kill_switch", "token", "introspect"})
        limited = None if account is None else AccountId(account)
        await store.add_client(
            Client(id=ClientId(name), secret_digest=digest_of(PASSWORD), roles=roles, account=limited)
        )
    asked = CountingIndex(journal, directory / NAME, clock=lambda: NOON + timedelta(days=2)) if index else None
    application = web.Application()
    application.add_routes(LogApi(asked, ClientAuthenticator(store), own, ticks=ticks).routes())
    async with TestClient(TestServer(application)) as http:
        yield World(http, directory, ticks, asked)
    await own.close()


@pytest.fixture
async def world(tmp_path):
    async with open_log_world(tmp_path) as world:
        yield world


async def test_an_auditor_searches_page_by_page(world):
    """The newest first, each record once, and the end is told."""
    seqs, cursor = [], {}
    for _ in range(9):
        status, page = await world.get("records", q="method:GET -decision:deny", limit="20", **cursor)
        assert 200 == status
        seqs += [one["record"]["seq"] for one in page["records"]]
        if page["next"] is None:
            break
        cursor = {"before": page["next"]}
    assert [number for number in reversed(range(60)) if number % 7] == seqs
    assert {"bytes": 0, "files": 0, "unread_lines": 0, "unread_files": 0} == page["behind"]


async def test_a_client_of_one_account_hears_nothing_of_others_volume(world):
    """That the index is behind, or that something cannot be read, and neither how much nor in how many files."""
    hears = []
    for damage in (b"", build_line(to_json({"account": "globex", "path": "/" + "x" * 5000}))[1], b"nothing\n" * 7):
        with (world.directory / "journal" / "node-000000000000.jsonl").open("ab") as file:
            file.write(damage)
        for path in ("records", "stats", "assumptions/as-acme"):
            _, answer = await world.get(path, client="acme")
            hears.append(answer["behind"])
        with Builder(world.directory / "journal", world.directory / NAME) as builder:
            builder.catch_up()
    _, answer = await world.get("records", client="acme")
    nothing, behind = {"behind": False, "unread": False}, {"behind": True, "unread": False}
    assert [nothing] * 3 + [behind] * 6 == hears
    assert {"behind": False, "unread": True} == answer["behind"]


async def test_an_auditor_follows_what_comes(world):
    """With `after` the oldest come first, and there is always a cursor to go on with."""
    _, newest = await world.get("records", limit="1")
    assert 59 == newest["records"][0]["record"]["seq"]
    cursor = newest["records"][0]["cursor"]
    _, nothing = await world.get("records", after=cursor)
    assert ([], cursor) == (nothing["records"], nothing["next"])
    line = build_line(to_json({"kind": "grant", "at": (NOON + timedelta(days=1)).isoformat(), "seq": 60}))[1]
    with (world.directory / "journal" / "node-000000000000.jsonl").open("ab") as file:
        file.write(line)
    _, behind = await world.get("records", after=cursor)
    assert ([], len(line), 1) == (behind["records"], behind["behind"]["bytes"], behind["behind"]["files"])
    with Builder(world.directory / "journal", world.directory / NAME) as builder:
        builder.catch_up()
    _, page = await world.get("records", after=cursor)
    assert ([60], page["records"][0]["cursor"]) == ([one["record"]["seq"] for one in page["records"]], page["next"])


# Everything that a query could be made of so that it says more than its account.
ATTACKS = [
    "",
    "account:globex",
    "-account:acme",
    "account:ACME",
    "-account:nobody",
    "canary*",
    "globex",
    "\"canary-of-'globex'\"",
    "-refund",
    "-nothinglikethis",
    "sid:as-globex",
    "request:req_2",
    "path:/",
    "kind:decision",
    "-kind:grant",
    "after:1999-01-01",
    "-before:1999-01-01",
    "-after:2999-01-01",
    '") OR ("',
    '.any" OR "refund',
    "refund OR globex",
    "refund NOT acme",
    "NEAR(refund globex)",
    "text:refund OR x",
    "marks MATCH 'globex'",
    "'; SELECT * FROM records; --'",
    "refund* OR *",
    "{text} : refund",
    "^refund",
    "' UNION SELECT 1'",
]


@pytest.mark.parametrize("client", ["acme", "ACME"])
async def test_a_client_of_one_account_gets_nothing_of_another(world, client):
    """Not by any query, cursor, assumption or count; also not of one whose name differs in case, or by a space."""
    own = {entry["seq"] for entry in _entries() if entry.get("account") == client}
    for query in ATTACKS:
        for cursor in ({}, {"before": str(2**62)}, {"after": str(-(2**62))}, {"after": "0"}):
            status, page = await world.get("records", client=client, q=query, limit="1000", **cursor)
            assert status in (200, 400), (query, page)
            records = [one["record"] for one in page.get("records", [])]
            assert {one["seq"] for one in records} <= own, query
            assert {client} >= {one["account"] for one in records}, query
        status, counts = await world.get("stats", client=client, q=query)
        assert status in (200, 400)
        assert counts.get("total", 0) <= len(own), query
        assert {client} >= set(counts.get("account", {})), query
    assert len(own) == (await world.get("stats", client=client))[1]["total"]
    for account in ACCOUNTS:
        status, document = await world.get(f"assumptions/as-{account}", client=client)
        assert (200 if account == client else 404) == status, document
    # What is not theirs cannot be told from what is not there.
    unknown = await world.get("assumptions/as-nowhere", client=client)
    assert unknown == await world.get("assumptions/as-globex", client=client)


def _elsewhere(number, **more):
    """A record of acme's token at another account's host, as the proxy writes it."""
    return {
        "kind": "decision",
        "decision": "deny",
        "reason": "wrong_account",
        "at": (NOON + timedelta(hours=2, minutes=number)).isoformat(),
        "origin": "node",
        "seq": 100 + number,
        "account": "acme",
        "asked_account": "globex",
        "assumption": "as-acme",
        "ticket": "SUP-9",
        "host": "globex.helpdesk.example",
        "method": "PATCH",
        "path": "/tickets/815",
        "query_names": ["hush"],
        "query_values": ["hush=4711"],
        "rule": "secret-route",
        "upstream": "http://globex.internal",
        **more,
    }


async def test_where_its_token_was_tried_is_hidden_from_an_accounts_client(world):
    """That it was is its own record; the other account, its host and what was asked there are not, by no query."""
    journal = world.directory / "journal" / "node-000000000000.jsonl"
    with journal.open("ab") as file:
        file.write(b"".join(build_line(to_json(_elsewhere(number)))[1] for number in range(3)))
    with Builder(world.directory / "journal", world.directory / NAME) as builder:
        builder.catch_up()
    hidden = ("globex", "815", "hush", "4711", "secret-route", "PATCH")
    status, page = await world.get("records", client="acme", q="ticket:SUP-9")
    assert (200, 3) == (status, len(page["records"]))
    _, story = await world.get("assumptions/as-acme", client="acme")
    assert 3 == sum(step["record"].get("ticket") == "SUP-9" for step in story["records"])
    _, counts = await world.get("stats", client="acme", q="ticket:SUP-9")
    assert (3, {"wrong_account": 3}) == (counts["total"], counts["reason"])
    for answer in (page, story, counts):
        assert not [word for word in hidden if word in json.dumps(answer)]
    inside = ("globex", "-globex", "815", "-815", "path:/tickets/815", "-path:/x", "method:PATCH", "-method:GET")
    for query in (*inside, "route:secret-route", "-route:x", "hush*", '"globex helpdesk"'):
        _, page = await world.get("records", client="acme", q=f"ticket:SUP-9 {query}")
        _, counts = await world.get("stats", client="acme", q=f"ticket:SUP-9 {query}")
        assert ([], 0) == (page["records"], counts["total"]), query
    # Whoever may see every account sees all of it.
    _, page = await world.get("records", q="ticket:SUP-9 globex")
    assert ["globex"] * 3 == [one["record"]["asked_account"] for one in page["records"]]
    assert {"PATCH": 3} == (await world.get("stats", q="ticket:SUP-9"))[1]["method"]
    # What is counted beside them is counted as before.
    _, counts = await world.get("stats", client="acme")
    assert ({"GET": 10}, 13) == (counts["method"], counts["total"])
    # And the record says what was asked for, and nothing that was added to it.
    assert {("ticket",), ("ticket", "text"), ("ticket", "route")} <= {
        tuple(one.get("query_names", ())) for one in world.recorded()
    }


@pytest.mark.parametrize(
    ("client", "by", "hides"), [("acme", "method,reason", True), ("acme", "reason", False), ("all", "method", False)]
)
async def test_whoever_has_records_counted_takes_one_turn(world, client, by, hides):
    """Of one account too, whatever is hidden of it: both counts are of one moment, and nobody waits for two."""
    assert 200 == (await world.get("stats", client=client, by=by))[0]
    assert [(None if client == "all" else client, hides)] == world.index.counted


async def test_cursors_are_no_way_into_another_account(world):
    """A cursor that was given for another account's record leads to one's own only."""
    _, everything = await world.get("records", limit="1000")
    for one, name in itertools.product(everything["records"], ("before", "after")):
        _, page = await world.get("records", client="acme", **{name: one["cursor"]})
        assert {"acme"} >= {found["record"]["account"] for found in page["records"]}


async def test_only_auditors_may_ask(world):
    """No other role, no wrong secret, and nobody who says nothing."""
    for path in ("records", "stats", "assumptions/as-acme"):
        assert 401 == (await world.get(path, client="nobody"))[0]
        assert 401 == (await world.get(path, password="another"))[0]
        async with world.http.get(f"/.locum/log/{path}") as got:
            assert (401, 'Basic realm="locum"') == (got.status, got.headers["WWW-Authenticate"])
    assert [] == world.recorded()


async def test_one_assumption_is_told_from_its_beginning(world):
    """Who, whom, why, and each request in the order of time."""
    status, document = await world.get("assumptions/as-acme", client="acme")
    seqs = [one["record"]["seq"] for one in document["records"]]
    assert (200, sorted(seqs), True, "acme") == (status, seqs, document["complete"], document["account"])
    assert (10, document["denied"]) == (len(seqs), sum(seq % 7 == 0 for seq in seqs))
    assert all(one["silent_seconds"] for one in document["records"][1:])


def test_who_has_looked_at_an_assumption_is_no_part_of_it():
    """Or each look would change what the next one sees."""
    did = {"kind": "decision", "decision": "allow", "at": "2026-11-01T00:00:00Z", "assumption": "as", "seq": 0}
    looked = {"kind": "audit", "reason": "shown", "at": "2026-11-20T00:00:00Z", "assumption": "as", "seq": 1}
    assert build_timeline([did], "as") == build_timeline([did, looked], "as")
    assert build_timeline([looked], "as") is None


async def test_counts_are_by_what_was_asked_for(world):
    """Of all accounts for whoever may see all."""
    status, counts = await world.get("stats", by="account,decision", q="-decision:deny")
    assert (200, {"total", "account", "decision", "behind"}, {"allow": 51}) == (status, set(counts), counts["decision"])
    assert 5 == len(counts["account"])


MALFORMED = [
    ("records", {"q": "acount:acme"}),
    ("records", {"q": '"open'}),
    ("records", {"q": "x" * 5000}),
    ("records", {"q": " ".join(["a"] * 40)}),
    ("records", {"limit": "0"}),
    ("records", {"limit": "1001"}),
    ("records", {"limit": "ten"}),
    ("records", {"before": "1; DROP TABLE records"}),
    ("records", {"before": str(2**63)}),
    ("records", {"before": "1", "after": "1"}),
    ("records", {"account": "acme"}),
    ("stats", {"by": "path"}),
    ("stats", {"limit": "1"}),
    ("assumptions/as-acme", {"q": ""}),
]


@pytest.mark.parametrize(("path", "params"), MALFORMED)
async def test_what_cannot_be_meant_is_refused(world, path, params):
    """With what to write instead, and nothing is on the record of it."""
    status, document = await world.get(path, **params)
    assert (400, "malformed") == (status, document["reason"])
    assert [] == world.recorded()


async def test_a_parameter_is_there_once(world):
    """Of two that differ nobody knows which one was meant."""
    async with world.http.get(
        "/.locum/log/records?q=a&q=b",
        headers={"Authorization": "Basic " + base64.b64encode(f"all:{PASSWORD}".encode()).decode()},
    ) as got:
        assert 400 == got.status


async def test_who_has_asked_for_what_is_on_the_record(world):
    """Once for all pages of one question; of the query only what is nobody's."""
    for cursor in ({}, {"before": str(2**61)}, {"after": "0"}):
        await world.get("records", client="acme", q="actor:person1 decision:deny -refund account:acme", **cursor)
    await world.get("assumptions/as-acme", client="acme")
    await world.get("stats")
    searched, shown, counted = world.recorded()
    assert ("searched", "acme", "acme") == tuple(searched[name] for name in ("reason", "client_id", "account"))
    assert ["actor", "decision", "-text", "account"] == searched["query_names"]
    assert ["decision=deny", "account=acme"] == searched["query_values"]
    assert ("shown", "as-acme") == (shown["reason"], shown["assumption"])
    assert ("counted", "all") == (counted["reason"], counted["client_id"])
    assert "account" not in counted
    world.ticks.now += 601
    await world.get("stats")
    assert 4 == len(world.recorded())


async def test_what_cannot_be_recorded_is_not_shown(tmp_path):
    """A disk that is full shows the log to nobody."""

    def full(_handle, _data):
        raise OSError(28, "No space left on device")

    async with open_log_world(tmp_path, write=full) as world:
        status, document = await world.get("records")
        assert (503, "journal_unavailable") == (status, document["reason"])


async def test_without_an_index_nobody_waits_for_a_scan(tmp_path):
    """It is said what is missing, and the gateway reads no files for it."""
    async with open_log_world(tmp_path, index=False) as world:
        status, document = await world.get("records")
        assert (503, "no_index") == (status, document["reason"])


async def test_files_that_cannot_be_read_are_no_fault_of_the_caller(world):
    """An answer that says so, as for an index that cannot be read."""
    (world.directory / "journal").rename(world.directory / "elsewhere")
    status, document = await world.get("records")
    assert (503, "index_unavailable") == (status, document["reason"])


async def test_an_index_that_is_being_made_is_no_fault_of_the_caller(world):
    """It may have been deleted a moment ago."""
    (world.directory / NAME).unlink()
    status, document = await world.get("records")
    assert (503, "index_unavailable") == (status, document["reason"])

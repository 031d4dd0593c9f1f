"""How fast the journal is found in: `python -m bench.search [--records N] [--directory DIR] [--postgres URL]`.

Fills a real journal, builds its index, and asks every kind of question; prints milliseconds. With `--postgres`, the
index is an empty database as nodes share one, and each question has a connection of its own, as the gateway's have.
With `--lag`, how far the index is behind while records are written at a steady rate.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME, TooCostly
from gateway.audit.index.finding import Finder, Page, Tally
from gateway.audit.index.overview import HOUR, Overview
from gateway.audit.record import Record, name_actor
from gateway.audit.search import Query
from gateway.audit.writing.journal import Journal
from gateway.clock import utc_now
from gateway.stores.postgres.terms import StoreTerms
from policy.model import AccountId, ActorId, AgentId, AssumptionId, ClientId

T = TypeVar("T")
_START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_ISSUER = "https://login.vendor.example"
_PEOPLE = [name_actor(ActorId(issuer=_ISSUER, subject=f"s-{n}"), f"person{n}") for n in range(40)]
_WORDS = ["attachments", "do", "not", "open", "after", "update", "refund", "invoice", "missing", "wrong", "address"]
_ROUTES = [
    ("GET", "/api/v2/tickets/{n}.json", "tickets.read"),
    ("GET", "/api/v2/users/{n}.json", "users.read"),
    ("POST", "/api/v2/tickets/{n}/comments", "tickets.reply"),
    ("GET", "/agent/tickets/{n}", "agent.pages"),
]
_AT_ONCE = 2000
_ROUNDS = 15
_PATIENCE_SECONDS = 60.0
_QUESTIONS = {
    "everything": "",
    "account": "account:acc7",
    "actor": "actor:person7",
    "actor and account": "actor:person7 account:acc7",
    "denied": "decision:deny",
    "denied, not the most frequent reason": "decision:deny -reason:insufficient_scope",
    "negation of nearly all": "-decision:allow -decision:deny",
    "two that exclude each other nearly": "reason:grant_expired method:POST",
    "two that exclude each other": "decision:allow reason:grant_expired",
    "one assumption": "sid:as-77",
    "ticket": "ticket:SUP-123",
    "address": "ip:192.0.2.7",
    "network": "ip:192.0.2.0/24 decision:deny",
    "path": "path:/api/v2/tickets/77.json",
    "below a path": "path:/api/v2/users",
    "one day": "after:2026-01-05 before:2026-01-06 account:acc9",
    "an hour of one person, denied": "after:2026-01-05T09:00 before:2026-01-05T10:00 actor:person3 decision:deny",
    "a word": "refund",
    "a beginning": "attach*",
    "a phrase": '"do not open"',
    "words of an account, not of a person": "refund invoice account:acc3 -actor:person1",
    "no such word": "nothinglikethis",
    "request": "request:req_00000000000001f4",
}


def main() -> None:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--directory", type=Path, help="Keep the journal here, and use it again.")
    options.add_argument("--lag", type=int, metavar="PER_SECOND", help="Measure how far the index is behind instead.")
    options.add_argument("--postgres", metavar="URL", help="Bring the journal into this database, and ask that.")
    chosen = options.parse_args()
    if chosen.lag and chosen.postgres:
        options.error("--lag is of the index beside the journal's files: leave --postgres out")
    directory = chosen.directory or Path(tempfile.mkdtemp(prefix="locum-bench-"))
    try:
        if chosen.lag:
            asyncio.run(_measure_lag(directory, chosen.lag))
        else:
            _measure(directory, chosen.records, chosen.postgres)
    finally:
        if chosen.directory is None:
            shutil.rmtree(directory)


def _measure(directory: Path, count: int, postgres: str | None) -> None:
    journal, index = directory / "journal", directory / NAME
    if not journal.exists():
        seconds = asyncio.run(_fill(journal, count))
        print(f"{count} records written in {seconds:.0f} s")
    print(f"journal {sum(path.stat().st_size for path in journal.glob('*.jsonl')) / 2**20:.0f} MiB")
    with asyncio.Runner() as runner:
        log = _Files(journal, index) if postgres is None else _Database(journal, postgres, runner)
        began = time.perf_counter()
        lines, size = log.build()
        seconds = time.perf_counter() - began
        if lines:
            print(f"{lines} lines indexed in {seconds:.1f} s, {lines / seconds:.0f} a second")
        print(f"index {size / 2**20:.0f} MiB")
        _ask_everything(log)
    if postgres is None:
        _give_up(journal, index)


class _Log(Protocol):
    def build(self) -> tuple[int, int]:
        """Take in what the journal holds; return how many lines that were, and the index's size in bytes."""

    def search(self, query: Query) -> Page:
        """Find the newest hundred."""

    def stats(self, query: Query) -> Tally:
        """Count by everything."""

    def overview(self, query: Query) -> Overview:
        """Count by the hour."""


class _Files(_Log):
    """The index beside the journal's files."""

    def __init__(self, journal: Path, index: Path) -> None:
        self._open = partial(Finder, journal, index, seconds=_PATIENCE_SECONDS)
        self._journal, self._index = journal, index

    def build(self) -> tuple[int, int]:
        with Builder(self._journal, self._index) as builder:
            return builder.catch_up(), self._index.stat().st_size

    def search(self, query: Query) -> Page:
        with self._open() as finder:
            return finder.search(query, limit=100)

    def stats(self, query: Query) -> Tally:
        with self._open() as finder:
            return finder.stats(query)

    def overview(self, query: Query) -> Overview:
        with self._open() as finder:
            return finder.overview(query, step=HOUR)


class _Database(_Log):
    """The journal in a database that nodes share."""

    def __init__(self, journal: Path, url: str, runner: asyncio.Runner) -> None:
        # Only now, because it imports asyncpg.
        from gateway.stores.postgres.address import parse_url  # noqa: PLC0415
        from gateway.stores.postgres.journal_index import DatabaseIndex  # noqa: PLC0415

        self._journal, self._address, self._runner = journal, parse_url(url), runner
        self._log = DatabaseIndex(self._address, StoreTerms(), seconds=_PATIENCE_SECONDS)

    def build(self) -> tuple[int, int]:
        return self._runner.run(self._build())

    async def _build(self) -> tuple[int, int]:
        from gateway.stores.postgres.connect import Connector  # noqa: PLC0415
        from gateway.stores.postgres.journal_lines import Shipper  # noqa: PLC0415
        from gateway.stores.postgres.store import open_postgres  # noqa: PLC0415

        # A store brings the database to its shape.
        await (await open_postgres(self._address, StoreTerms())).close()
        async with Connector(self._address, StoreTerms()).apart(_PATIENCE_SECONDS) as connection:
            lines = await Shipper(self._journal, "bench", connection).catch_up()
            await connection.execute("ANALYZE locum.journal_lines")
            return lines, await connection.fetchval("SELECT pg_total_relation_size('locum.journal_lines')")

    def search(self, query: Query) -> Page:
        return self._runner.run(self._log.search(query, limit=100, before=None, after=None, account=None))[0]

    def stats(self, query: Query) -> Tally:
        return self._runner.run(self._log.stats(query, account=None))[0]

    def overview(self, query: Query) -> Overview:
        return self._runner.run(self._log.overview(query, step=HOUR, account=None))[0]


def _ask_everything(log: _Log) -> None:
    print(f"{'question':40} {'p50':>8} {'p95':>8} {'max':>8}   found", flush=True)
    for name, text in _QUESTIONS.items():
        _time(name, partial(log.search, Query.parse(text)), _said_of_page, rounds=_ROUNDS)
    for text in ("", "account:acc7", "decision:deny", "refund"):
        _time(f"stats of `{text}`", partial(log.stats, Query.parse(text)), _said_of_count, rounds=3)
        _time(f"counts by the hour of `{text}`", partial(log.overview, Query.parse(text)), _said_of_count, rounds=3)


def _said_of_page(page: Page) -> str:
    return f"{len(page.found)}{'+' if page.more else ''}"


def _said_of_count(count: Tally | Overview) -> str:
    return str(count.total)


def _time(name: str, ask: Callable[[], T], say: Callable[[T], str], *, rounds: int) -> None:
    """Ask so often, and print how many milliseconds each took."""
    said, took = "", list[float]()
    for _ in range(rounds):
        began = time.perf_counter()
        try:
            said = say(ask())
        except TooCostly:
            print(f"{name:40} given up after {_PATIENCE_SECONDS:.0f} s")
            return
        took.append(1000 * (time.perf_counter() - began))
    _print(name, took, said)


def _give_up(journal: Path, index: Path) -> None:
    began = time.perf_counter()
    try:
        with Finder(journal, index, seconds=0.2) as finder:
            finder.stats(Query.parse('-"do not open"'))
    except TooCostly:
        print(f"what may take 0.2 s is given up after {1000 * (time.perf_counter() - began):.0f} ms")


def _print(name: str, took: list[float], found: str) -> None:
    ordered = sorted(took)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    print(f"{name:40} {statistics.median(ordered):8.1f} {p95:8.1f} {ordered[-1]:8.1f}   {found}", flush=True)


async def _fill(directory: Path, count: int) -> float:
    began = time.perf_counter()
    now = _START

    def clock() -> datetime:
        nonlocal now
        now += timedelta(milliseconds=250)
        return now

    journal = await Journal.open(directory, origin="bench", clock=clock, signer=None, patience_seconds=60)
    records = _records()
    try:
        for start in range(0, count, _AT_ONCE):
            some = [next(records) for _ in range(min(_AT_ONCE, count - start))]
            await asyncio.gather(*(journal.append(record) for record in some))
    finally:
        await journal.close()
    return time.perf_counter() - began


def _records() -> Iterator[Record]:
    """Yield decisions as a busy support team makes them: many of one assumption, few people, some refused."""
    dice = random.Random(7)
    number = 0
    while True:
        number += 1
        assumption = number // 50
        person = _PEOPLE[assumption * 7 % 40]
        account = AccountId(f"acc{assumption * 13 % 500}")
        method, path, rule = dice.choice(_ROUTES)
        denied = dice.random() < 0.03
        start = assumption * 5 % len(_WORDS)
        yield Record(
            kind="decision",
            decision="deny" if denied else "allow",
            reason=("grant_expired" if method == "GET" else "insufficient_scope") if denied else None,
            rule=None if denied else rule,
            actor=person,
            subject=AgentId(f"agent{assumption % 2000}"),
            account=account,
            grant_id=None,
            ticket=f"SUP-{assumption}",
            stated_reason=" ".join((_WORDS * 2)[start : start + 6]),
            host=f"{account}.helpdesk.example",
            client_ip=f"192.0.{assumption % 4}.{assumption % 200}",
            client_id=ClientId("support-tool"),
            user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            assumption=AssumptionId(f"as-{assumption}"),
            method=method,
            path=path.format(n=dice.randrange(100_000)),
            request_id=f"req_{number:016x}",
            scopes=("tickets:read",),
        )


async def _measure_lag(directory: Path, rate: int, seconds: int = 20) -> None:
    """Write records at a steady rate with the indexer as a process of its own, and look how old the newest found is."""
    from gateway.audit.index.process import Indexer  # noqa: PLC0415

    journal_directory, index = directory / "journal", directory / NAME
    journal = await Journal.open(journal_directory, origin="bench", clock=utc_now, signer=None, patience_seconds=60)
    indexer = Indexer(journal_directory, index)
    records, lags = _records(), []
    keeping = asyncio.ensure_future(indexer.keep(first_after=0))
    try:
        loop = asyncio.get_running_loop()
        began, written = loop.time(), 0
        while (past := loop.time() - began) < seconds:
            due = int(past * rate) - written
            await asyncio.gather(*(journal.append(next(records)) for _ in range(due)))
            written += due
            await asyncio.sleep(0.02)
            if past > 2 and index.exists():
                lags.append(await asyncio.to_thread(_lag, journal_directory, index))
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await journal.close()
    print(f"{written / seconds:.0f} records a second for {seconds} s; the index is behind by, in seconds:")
    _print("", lags, "")


def _lag(journal: Path, index: Path) -> float:
    now = utc_now().timestamp()
    with Finder(journal, index) as finder:
        page = finder.search(Query.parse(""), limit=1)
    newest = datetime.fromisoformat(page.found[0].entry["at"]).timestamp() if page.found else 0.0
    return now - newest


if __name__ == "__main__":
    main()

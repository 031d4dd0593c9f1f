"""How fast the journal is found in: `python -m bench.search [--records N] [--directory DIR]`.

Fills a real journal, builds its index, and asks every kind of question; prints milliseconds. With `--lag`, how far the
index is behind while records are written at a steady rate.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME, TooCostly
from gateway.audit.index.finding import Finder
from gateway.audit.index.overview import HOUR
from gateway.audit.record import Record, name_actor
from gateway.audit.search import Query
from gateway.audit.writing.journal import Journal
from gateway.clock import utc_now
from policy.model import AccountId, ActorId, AgentId, AssumptionId, ClientId

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
    chosen = options.parse_args()
    directory = chosen.directory or Path(tempfile.mkdtemp(prefix="locum-bench-"))
    try:
        if chosen.lag:
            asyncio.run(_measure_lag(directory, chosen.lag))
        else:
            _measure(directory, chosen.records)
    finally:
        if chosen.directory is None:
            shutil.rmtree(directory)


def _measure(directory: Path, count: int) -> None:
    journal, index = directory / "journal", directory / NAME
    if not journal.exists():
        seconds = asyncio.run(_fill(journal, count))
        print(f"{count} records written in {seconds:.0f} s")
    began = time.perf_counter()
    with Builder(journal, index) as builder:
        lines = builder.catch_up()
    seconds = time.perf_counter() - began
    if lines:
        print(f"{lines} lines indexed in {seconds:.1f} s, {lines / seconds:.0f} a second")
    size = sum(path.stat().st_size for path in journal.glob("*.jsonl"))
    print(f"journal {size / 2**20:.0f} MiB, index {index.stat().st_size / 2**20:.0f} MiB")
    print(f"{'question':40} {'p50':>8} {'p95':>8} {'max':>8}   found")
    for name, text in _QUESTIONS.items():
        query = Query.parse(text)
        took, found = [], ""
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            with Finder(journal, index, seconds=60) as finder:
                page = finder.search(query, limit=100)
            took.append(1000 * (time.perf_counter() - began))
            found = f"{len(page.found)}{'+' if page.more else ''}"
        _print(name, took, found)
    for text in ("", "account:acc7", "decision:deny", "refund"):
        for name, tally in (("stats", Finder.stats), ("counts by the hour", partial(Finder.overview, step=HOUR))):
            took, total = [], 0
            for _ in range(3):
                began = time.perf_counter()
                with Finder(journal, index, seconds=60) as finder:
                    total = tally(finder, Query.parse(text)).total
                took.append(1000 * (time.perf_counter() - began))
            _print(f"{name} of `{text}`", took, str(total))
    try:
        began = time.perf_counter()
        with Finder(journal, index, seconds=0.2) as finder:
            finder.stats(Query.parse('-"do not open"'))
    except TooCostly:
        print(f"what may take 0.2 s is given up after {1000 * (time.perf_counter() - began):.0f} ms")


def _print(name: str, took: list[float], found: str) -> None:
    ordered = sorted(took)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    print(f"{name:40} {statistics.median(ordered):8.1f} {p95:8.1f} {ordered[-1]:8.1f}   {found}")


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

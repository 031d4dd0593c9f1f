"""What a request costs in the journal, and how long a start over many records takes. `python -m bench.journal`.

In process, without a gateway. A request has two records: that of its decision, which it waits for, and that of its
completion, which nobody waits for. So many requests are under way at a time.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from gateway.audit.completion import Completion
from gateway.audit.evidence.checkpoint import NoteSigner
from gateway.audit.evidence.verify import verify
from gateway.audit.record import Record, name_actor, seal
from gateway.audit.writing.journal import Journal
from gateway.clock import SteadyClock
from gateway.workers.collector import spare
from policy.model import AccountId, ActorId, AgentId, AssumptionId, ClientId, GrantId, TokenId

_ORIGIN = "gateway-0"
_AT_A_TIME = (1, 8, 32)
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_SCORE = 100_000
"""Records that are appended at a time for the start, so that they fit into the journal's room."""


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=10, show_default=True, help="The best one is printed.")
@click.option("--requests", type=click.IntRange(1000, 100_000), default=8000, show_default=True, help="Of each round.")
@click.option("--durable", is_flag=True, help="Each decision on the disk before its request goes on.")
@click.option("--start", type=click.IntRange(0, 10_000_000), default=0, help="Measure a start over so many instead.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="On the disk to measure; by default a temporary one."
)
def main(*, rounds: int, requests: int, durable: bool, start: int, directory: Path | None) -> None:
    """Print what a request costs: processor time, records a second, and how long it waits for its decision's."""
    spare()  # as in a worker
    with _room(directory) as room:
        uvloop.run(_starts(room, start) if start else _costs(room, rounds, requests, durable=durable))


async def _costs(room: Path, rounds: int, requests: int, *, durable: bool) -> None:
    journal = await _open(room)
    click.echo("at a time   CPU µs a request   records a second   µs that each waits")
    for at_a_time in _AT_A_TIME:
        each = requests // at_a_time
        cpu, wall = float("inf"), float("inf")
        for _ in range(rounds):
            before, started = time.process_time(), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(at_a_time):
                    group.create_task(_append(journal, each, durable=durable))
            cpu = min(cpu, (time.process_time() - before) / (each * at_a_time) * 1e6)
            wall = min(wall, (time.perf_counter() - started) / (each * at_a_time) * 1e6)
        click.echo(f"{at_a_time:9} {cpu:18.1f} {2e6 / wall:18,.0f} {wall * at_a_time:20.0f}")
    await journal.close()


async def _starts(room: Path, count: int) -> None:
    journal = await _open(room)
    started = time.perf_counter()
    for done in range(0, count, _SCORE):
        many = min(_SCORE, count - done)
        async with asyncio.TaskGroup() as group:
            for number in range(32):
                group.create_task(_append(journal, (many // 2 + 31 - number) // 32, durable=False))
    click.echo(f"{journal.size:,} records written in {time.perf_counter() - started:.1f} s")
    await journal.close()
    await _time_start(room, "start behind the newest checkpoint")
    (room / f"{_ORIGIN}.place").unlink()
    await _time_start(room, "start that reads them all")
    started = time.perf_counter()
    report = verify(room, public_key=_KEY.public_key())
    click.echo(
        f"verifying them all: {time.perf_counter() - started:.2f} s, {'nothing' if report.ok else 'faults'} found"
    )


async def _time_start(room: Path, what: str) -> None:
    started = time.perf_counter()
    journal = await _open(room)
    click.echo(f"{what}: {time.perf_counter() - started:.4f} s")
    await journal.close()


async def _append(journal: Journal, count: int, *, durable: bool) -> None:
    for _ in range(count):
        # What differs from one request of somebody to the next; the rest is remembered.
        record = structs.replace(
            _RECORD,
            method="GET",
            path="/tickets/1",
            request_id="req_0123456789abcdef",
            rule="ticket-show",
            upstream="http://127.0.0.1:3000",
        )
        seq = await journal.append(record, durable=durable)
        journal.note(
            Completion(
                kind="completion",
                account=_ACCOUNT,
                assumption=_ASSUMPTION,
                completes=seq,
                request_id="req_0123456789abcdef",
                duration_us=1234,
                ended="complete",
                status=200,
                bytes_received=0,
                bytes_sent=1024,
            )
        )


async def _open(room: Path) -> Journal:
    return await Journal.open(room, origin=_ORIGIN, clock=SteadyClock().now, signer=NoteSigner(_KEY, name=_ORIGIN))


@contextmanager
def _room(directory: Path | None) -> Iterator[Path]:
    room = Path(tempfile.mkdtemp(prefix="journal-", dir=directory))
    try:
        yield room / "journal"
    finally:
        shutil.rmtree(room)


_ACCOUNT = AccountId("acme")
_ASSUMPTION = AssumptionId("as_0123456789abcdef0123")
_RECORD = Record(
    kind="decision",
    decision="allow",
    actor=name_actor(ActorId(issuer="https://idp.vendor.example", subject="dana"), "Dana", frozenset({"support"})),
    subject=AgentId("maria"),
    account=_ACCOUNT,
    grant_id=GrantId("grant_0123456789abcdef"),
    grant_epoch=3,
    granted_by="owner@acme.example",
    ticket="SUP-1",
    stated_reason="cannot reproduce",
    host="acme.helpdesk.example",
    client_ip="192.0.2.1",
    user_agent="Mozilla/5.0 (X11; Linux x86_64) bench",
    token_id=TokenId("abcdefghijklmnopqrstuv"),
    client_id=ClientId("desk"),
    assumption=_ASSUMPTION,
    scopes=("tickets:read",),
)
seal(_RECORD)  # as for the requests of one connection

if __name__ == "__main__":
    main()

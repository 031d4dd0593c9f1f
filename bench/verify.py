"""How long it takes to judge a journal, and to make and check a receipt from it. `python -m bench.verify`.

In process, on one core: the journal is written first, as requests of many assumptions leave it, and read back from the
system's cache.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.completion import Completion
from gateway.audit.evidence.bundle import EvidenceFile, write_evidence
from gateway.audit.evidence.checkpoint import NoteSigner, read_history, split_notes
from gateway.audit.evidence.proofs import find_source, prove_consistency
from gateway.audit.evidence.receipt_check import check_receipt
from gateway.audit.evidence.receipts import build_receipt
from gateway.audit.evidence.sources import JournalFiles
from gateway.audit.evidence.verify import Report, verify
from gateway.audit.record import Record, name_actor
from gateway.audit.writing.journal import Journal
from gateway.clock import SteadyClock
from policy.model import AccountId, ActorId, AgentId, AssumptionId, ClientId, GrantId, TokenId

T = TypeVar("T")

_ORIGIN = "gateway-0"
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_AT_A_TIME = 32
_EACH = 200
"""Requests of one assumption; each has two records."""


@click.command()
@click.option("--records", type=click.IntRange(1000, 50_000_000), default=1_000_000, show_default=True)
@click.option("--directory", type=click.Path(path_type=Path), help="Where to write it; by default a temporary one.")
def main(*, records: int, directory: Path | None) -> None:
    """Print the seconds of processor time that each takes."""
    with _room(directory) as room:
        uvloop.run(_write(room, records))
        size = sum(path.stat().st_size for path in room.glob("*.jsonl"))
        checkpoints = len(split_notes(read_history(room, origin=_ORIGIN)))
        click.echo(f"{records:,} records, {size / 1e6:,.0f} MB, {checkpoints} checkpoints")
        public = _KEY.public_key()
        _judge("verify the directory", lambda: verify(room, public_key=public))
        file = room.parent / "evidence"
        with file.open("wb") as out:
            _time("put it into one file", lambda: write_evidence(room, out))
        click.echo(f"{'':28}{file.stat().st_size / 1e6:,.0f} MB")
        _judge("verify that file", lambda: verify(EvidenceFile(file), public_key=public))
        journal = JournalFiles(room)
        receipt, _ = _time("make a receipt", lambda: build_receipt(journal, "as_000000", key=public))
        _, findings = _time("check it", lambda: check_receipt(receipt.encode(), key=public))
        click.echo(f"{'':28}{len(receipt.encode()) / 1e3:,.0f} kB, {findings or 'holds'}")
        old, new = records // 3, records // 3 * 2
        _time("prove consistency", lambda: prove_consistency(find_source(journal, _ORIGIN), old, new))


def _judge(what: str, work: Callable[[], Report]) -> None:
    report = _time(what, work)
    click.echo(f"{'':28}{'nothing' if report.ok else f'{len(report.findings)} faults'} found")


def _time(what: str, work: Callable[[], T]) -> T:
    before = time.process_time()
    done = work()
    click.echo(f"{what:28}{time.process_time() - before:.2f} s")
    return done


async def _write(room: Path, count: int) -> None:
    journal = await Journal.open(room, origin=_ORIGIN, clock=SteadyClock().now, signer=NoteSigner(_KEY, name=_ORIGIN))
    requests = iter(range(count // 2))

    async def ask() -> None:
        for number in requests:
            record, completion = _records(number)
            completion.completes = await journal.append(record)
            journal.note(completion)

    await asyncio.gather(*(ask() for _ in range(_AT_A_TIME)))
    await journal.close()


def _records(number: int) -> tuple[Record, Completion]:
    person, request = number // _EACH, f"req_{number:016x}"
    account, assumption = AccountId(f"account-{person % 500}"), AssumptionId(f"as_{person:06d}")
    record = Record(
        kind="decision",
        decision="allow",
        actor=name_actor(ActorId(issuer="https://idp.vendor.example", subject=f"staff-{person % 40}"), "Dana"),
        subject=AgentId("maria"),
        account=account,
        assumption=assumption,
        grant_id=GrantId("grant_0123456789abcdef"),
        grant_epoch=3,
        granted_by="owner@acme.example",
        ticket=f"SUP-{person}",
        stated_reason="cannot reproduce",
        host="acme.helpdesk.example",
        client_ip="192.0.2.1",
        user_agent="Mozilla/5.0 (X11; Linux x86_64) bench",
        token_id=TokenId("abcdefghijklmnopqrstuv"),
        client_id=ClientId("desk"),
        scopes=("tickets:read",),
        method="GET",
        path=f"/tickets/{number}",
        request_id=request,
        rule="ticket-show",
        upstream="http://127.0.0.1:3000",
    )
    completion = Completion(
        kind="completion",
        account=account,
        assumption=assumption,
        completes=0,
        request_id=request,
        duration_us=1234,
        ended="complete",
        status=200,
        bytes_received=0,
        bytes_sent=1024,
    )
    return record, completion


@contextmanager
def _room(directory: Path | None) -> Iterator[Path]:
    room = Path(tempfile.mkdtemp(prefix="verify-", dir=directory))
    try:
        yield room / "journal"
    finally:
        shutil.rmtree(room)


if __name__ == "__main__":
    main()

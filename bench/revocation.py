"""How fast a revoke works, and what following changes costs others. `python -m bench.revocation`.

One machine with the embedded store, or several nodes at one PostgreSQL, each in a process of its own and all under
ordinary load. What is measured is `locum selftest revocation`, as an operator runs it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import click
import uvloop

from bench.cpu import choose_cores
from bench.load import Load, drive, write_requests
from bench.locum import AUDIENCE_OF, render
from bench.processes import Fault, free_port, run, serving
from gateway.stores.local import channel_of, tell

_HOST = "127.0.0.1"
_PAGE = "/tickets/1"
_READY = b"for everybody"
_ISSUER = "https://id.vendor.example"
_NOBODY = [(AUDIENCE_OF.format(account="acme"), "")]
_SECONDS_A_ROUND = 3.0
_IN_A_BATCH = 500


@click.group()
def main() -> None:
    """Measure what a revoke promises."""


@main.command()
@click.option("--nodes", type=click.IntRange(1, 5), default=1, show_default=True, help="More than one: see --postgres.")
@click.option("--workers", type=click.IntRange(1, 8), default=2, show_default=True, help="Of each node.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=200, show_default=True, help="Revocations.")
@click.option("--postgres", default="", metavar="URL", help="An empty database for the nodes to share.")
@click.option("--bound", type=float, default=1.0, show_default=True, help="Seconds that are allowed.")
@click.option("--deaf", is_flag=True, help="With the channel of changes taken away: what is left is the age of facts.")
def revoke(*, nodes: int, workers: int, rounds: int, postgres: str, bound: float, deaf: bool) -> None:
    """Print how long each node goes on letting staff in, while customers use it."""
    if (nodes > 1) != bool(postgres):
        raise click.UsageError("several nodes, and only they, share a database: give --postgres")
    if deaf and postgres:
        raise click.UsageError("only the embedded store's channel can be taken away")
    with _faults():
        uvloop.run(_revoke(nodes, workers, rounds, postgres, bound, deaf=deaf))


@main.command()
@click.option("--changes", type=click.IntRange(1, 20_000), default=10_000, show_default=True, help="A second.")
@click.option("--rounds", type=click.IntRange(1, 20), default=5, show_default=True, help="With and without.")
def flood(*, changes: int, rounds: int) -> None:
    """Print what customers notice of so many changes of other accounts."""
    with _faults():
        uvloop.run(_flood(changes, rounds))


async def _revoke(nodes: int, workers: int, rounds: int, postgres: str, bound: float, *, deaf: bool) -> None:
    async with _stage(nodes, workers, postgres) as (directory, ports):
        if deaf:
            _deafen(channel_of(directory / "node0" / "data" / "locum.sqlite3"))
        busy = asyncio.ensure_future(_keep_busy(directory, ports))
        words = [word for port in ports for word in ("--node", f"http://{_HOST}:{port}")]
        command = [sys.executable, "-m", "gateway", "--config", "config.toml", "selftest", "revocation", "--json"]
        room = directory / "node0"
        try:
            options = ["--rounds", str(rounds), "--bound", str(bound)]
            said = await run([*command, *options, *words], directory=room, seconds=_SECONDS_A_ROUND * rounds + 30)
        finally:
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
        click.echo(said.rstrip())


def _deafen(channel: Path) -> None:
    """Put a file in the place of the directory that listeners need."""
    shutil.rmtree(channel)
    channel.touch()


async def _flood(changes: int, rounds: int) -> None:
    async with _stage(1, 1, "") as (directory, [port]):
        database = directory / "node0" / "data" / "locum.sqlite3"
        calm, flooded, reached = [], [], []
        for _ in range(rounds):
            calm.append((await drive(_load(directory, port, seconds=2))).p99_us)
            stop = asyncio.Event()
            writing = asyncio.ensure_future(asyncio.to_thread(_write, database, changes, stop.is_set))
            flooded.append((await drive(_load(directory, port, seconds=2))).p99_us)
            stop.set()
            reached.append(await writing)
        document = {
            "changes_per_second": round(median(reached)),
            "p99_us": median(calm),
            "p99_us_flooded": median(flooded),
            "ratio": round(median(flooded) / median(calm), 2),
        }
        click.echo(json.dumps(document))


def _write(database: Path, changes: int, is_over: Callable[[], bool]) -> float:
    """Change other accounts, so many times a second, in batches that are told of; return how many it were."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=5)
    with contextlib.closing(connection):
        rows = [(f"other{number}",) for number in range(1000)]
        connection.executemany(
            "INSERT OR IGNORE INTO accounts (id, type, suspended, epoch) VALUES (?, 'paid', 0, 0)", rows
        )
        began, done = time.monotonic(), 0
        while not is_over():
            connection.execute("BEGIN IMMEDIATE")
            batch = [rows[(done + number) % len(rows)] for number in range(_IN_A_BATCH)]
            connection.executemany("UPDATE accounts SET epoch = epoch + 1 WHERE id = ?", batch)
            connection.execute("COMMIT")
            tell(channel_of(database))
            done += _IN_A_BATCH
            time.sleep(max(0.0, began + done / changes - time.monotonic()))
        return done / (time.monotonic() - began)


@asynccontextmanager
async def _stage(nodes: int, workers: int, postgres: str) -> AsyncIterator[tuple[Path, Sequence[int]]]:
    cores = choose_cores()
    os.sched_setaffinity(0, cores.rest)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="locum-bench-")))
        backend = free_port()
        command = [sys.executable, str(Path(__file__).with_name("backend.py")), str(backend)]
        await stack.enter_async_context(serving(command, port=backend, cores=cores.rest, directory=directory))
        write_requests(directory / "requests", _PAGE, hosts_and_tokens=_NOBODY)
        ports = []
        for number in range(nodes):
            room = directory / f"node{number}"
            room.mkdir()
            port = free_port()
            text = render(port, free_port(), backend=backend, staff_issuer=_ISSUER, workers=workers)
            store = f'[store]\nurl = "{postgres}"\n' if postgres else ""
            (room / "config.toml").write_text(text + store, encoding="utf-8")
            command = [sys.executable, "-m", "gateway", "--config", "config.toml", "run"]
            server = serving(command, port=port, cores=cores.two, directory=room, said=_READY)
            await stack.enter_async_context(server)
            ports.append(port)
        yield directory, ports


def _load(directory: Path, port: int, *, seconds: int) -> Load:
    return Load(host=_HOST, port=port, requests=directory / "requests", connections=8, seconds=seconds)


async def _keep_busy(directory: Path, ports: Sequence[int]) -> None:
    while True:
        await asyncio.gather(*(drive(_load(directory, port, seconds=2)) for port in ports))


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        raise click.ClickException(str(fault)) from fault


if __name__ == "__main__":
    main(prog_name="bench.revocation")

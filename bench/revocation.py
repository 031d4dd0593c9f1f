"""How fast a revoke works, and what following changes costs others. `python -m bench.revocation`.

One machine with the embedded store, or several nodes at one PostgreSQL, each in a process of its own and all under
ordinary load. What is measured is `locum selftest revocation`, as an operator runs it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import click
import uvloop

from bench.cpu import choose_cores
from bench.flood import flood as flooding
from bench.load import Load, drive, write_requests
from bench.locum import AUDIENCE_OF, render
from bench.processes import Fault, free_port, run, serving
from bench.reads import reads as counting
from gateway.stores.local import channel_of

_HOST = "127.0.0.1"
_PAGE = "/tickets/1"
_READY = b"for everybody"
_ISSUER = "https://id.vendor.example"
_NOBODY = [(AUDIENCE_OF.format(account="acme"), "")]
_SECONDS_A_ROUND = 3.0
_LOAD_SECONDS = 2


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
@click.option("--rounds", type=click.IntRange(1, 20), default=7, show_default=True, help="With and without.")
def flood(*, changes: int, rounds: int) -> None:
    """Print what customers notice of so many changes of other accounts: least, median and most of each."""
    with _faults():
        uvloop.run(_flood(changes, rounds))


@main.command()
@click.option("--rate", type=click.IntRange(1, 200), default=50, show_default=True, help="Requests a second, at first.")
@click.option("--seconds", type=click.IntRange(2, 60), default=10, show_default=True, help="Of each rate in a round.")
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="Of both rates.")
def reads(*, rate: int, seconds: int, rounds: int) -> None:
    """Print how often the store is asked for facts at a rate and at ten times that: least, median and most."""
    with _faults():
        uvloop.run(_reads(rate, seconds, rounds))


async def _revoke(nodes: int, workers: int, rounds: int, postgres: str, bound: float, *, deaf: bool) -> None:
    async with _stage(nodes, workers, postgres) as (directory, found):
        ports = [node.port for node in found]
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
    async with _stage(1, 1, "") as (directory, [node]):
        database = directory / "node0" / "data" / "locum.sqlite3"
        load = _load(directory, node.port, seconds=_LOAD_SECONDS)
        said = await flooding(node.pid, database, changes=changes, rounds=rounds, drive=lambda: drive(load))
        click.echo(json.dumps(said))


async def _reads(rate: int, seconds: int, rounds: int) -> None:
    cores = choose_cores()
    os.sched_setaffinity(0, cores.rest)
    with tempfile.TemporaryDirectory(prefix="locum-bench-") as directory:
        click.echo(json.dumps(await counting(Path(directory), cores, rate=rate, seconds=seconds, rounds=rounds)))


class _Node(NamedTuple):
    port: int
    pid: int


@asynccontextmanager
async def _stage(nodes: int, workers: int, postgres: str) -> AsyncIterator[tuple[Path, Sequence[_Node]]]:
    cores = choose_cores()
    os.sched_setaffinity(0, cores.rest)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="locum-bench-")))
        backend = free_port()
        command = [sys.executable, str(Path(__file__).with_name("backend.py")), str(backend)]
        await stack.enter_async_context(serving(command, port=backend, cores=cores.rest, directory=directory))
        write_requests(directory / "requests", _PAGE, hosts_and_tokens=_NOBODY)
        started = []
        for number in range(nodes):
            room = directory / f"node{number}"
            room.mkdir()
            port = free_port()
            text = render(port, free_port(), backend=backend, staff_issuer=_ISSUER, workers=workers)
            store = f'[store]\nurl = "{postgres}"\n' if postgres else ""
            (room / "config.toml").write_text(text + store, encoding="utf-8")
            command = [sys.executable, "-m", "gateway", "--config", "config.toml", "run"]
            server = serving(command, port=port, cores=cores.two, directory=room, said=_READY)
            started.append(_Node(port=port, pid=await stack.enter_async_context(server)))
        yield directory, started


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

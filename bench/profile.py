"""Where a request's time goes: Locum under load with a sampler inside. `python -m bench.profile ROW`."""

import json
import os
import signal
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import uvloop

from bench.cpu import choose_cores
from bench.load import drive
from bench.processes import Fault
from bench.rows import ROWS, Row
from bench.stage import open_stage

_SAMPLER = Path(__file__).with_name("sampled.py")
_OURS = ("gateway.", "policy.")
# The sampler is in the process that we start, which does not serve if there are several.
_CHOICES = [row.name for row in ROWS if row.loaded and row.workers == 1]


@click.command()
@click.argument("row", type=click.Choice(_CHOICES), default="ordinary")
@click.option("--seconds", type=click.IntRange(1, 30), default=5, show_default=True, help="Of load.")
@click.option("--lines", type=click.IntRange(1, 200), default=25, show_default=True, help="Of each table.")
def main(*, row: str, seconds: int, lines: int) -> None:
    """Print which functions the time of ROW is spent in, and below which of ours."""
    chosen = next(each for each in ROWS if each.name == row)
    try:
        stacks = uvloop.run(_sample(chosen, seconds))
    except Fault as fault:
        raise click.ClickException(str(fault)) from fault
    total = sum(entry["seen"] for entry in stacks)
    click.echo(f"{chosen.title}: {total} samples")
    below = Counter({name: seen for name, seen in _inclusive(stacks).items() if seen < total})
    _show("in it or in what it calls, ours only", below, total, lines)
    _show("in it alone", _alone(stacks), total, lines)


async def _sample(row: Row, seconds: int) -> list[dict[str, Any]]:
    cores = choose_cores()
    os.sched_setaffinity(0, cores.rest)
    with tempfile.TemporaryDirectory(prefix="locum-bench-") as directory:
        out = Path(directory) / "stacks.json"
        async with AsyncExitStack() as stack:
            stage = await stack.enter_async_context(
                open_stage([row], cores, peers=False, under=(str(_SAMPLER), str(out)))
            )
            [locum] = stage.contenders[row.name]
            os.kill(locum.pid, signal.SIGUSR2)
            await drive(stage.load(row, locum, seconds=seconds))
        stacks: list[dict[str, Any]] = json.loads(out.read_bytes())
        return stacks


def _inclusive(stacks: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in stacks:
        for name in {name for name in entry["stack"] if name.startswith(_OURS)}:
            found[name] += entry["seen"]
    return found


def _alone(stacks: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in stacks:
        found[entry["stack"][0]] += entry["seen"]
    return found


def _show(title: str, counted: Counter[str], total: int, lines: int) -> None:
    click.echo(f"\n{title}")
    for name, seen in counted.most_common(lines):
        click.echo(f"{100 * seen / total:6.1f} %  {name}")


if __name__ == "__main__":
    main(prog_name="bench.profile")

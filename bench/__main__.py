"""The benchmark's command line. `python -m bench`, or `./dev bench`."""

import asyncio
import json
import os
import platform
import signal
from collections.abc import Iterable, Sequence
from typing import Any

import click
import uvloop

from bench import figures
from bench.check import check
from bench.cpu import Cores, choose_cores
from bench.load import generator
from bench.measure import measure
from bench.processes import Fault
from bench.rows import LOCUM, ROWS, Row, claimable
from bench.stage import Stage, open_stage

# A token lives for a quarter of an hour, and none is renewed during a run.
_LONGEST_SECONDS = 720


@click.command(epilog=f"Rows: {', '.join(row.name for row in ROWS)}.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of tables.")
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="How often each is measured.")
@click.option("--seconds", type=click.IntRange(1, 30), default=2, show_default=True, help="Of load, each time.")
@click.option("--only", metavar="ROW,...", help="These rows only.")
@click.option("--alone", is_flag=True, help="Locum only, without the other proxies.")
def main(*, as_json: bool, rounds: int, seconds: int, only: str | None, alone: bool) -> None:
    """Measure Locum beside the proxies people know: same machine, same backend, same load."""
    rows = _choose(only)
    planned = sum(rounds * seconds * (1 if alone else 1 + len(row.peers)) for row in rows if row.loaded)
    if planned > _LONGEST_SECONDS:
        raise click.UsageError(f"{planned} seconds of load are more than {_LONGEST_SECONDS}: ask for less")
    try:
        uvloop.run(_run(rows, alone=alone, rounds=rounds, seconds=seconds, as_json=as_json))
    except Fault as fault:
        raise click.ClickException(str(fault)) from fault
    except asyncio.CancelledError:
        raise click.Abort from None


def _choose(only: str | None) -> list[Row]:
    names = only.split(",") if only else [row.name for row in ROWS]
    unknown = sorted(set(names) - {row.name for row in ROWS})
    if unknown:
        raise click.UsageError(f"there is no row `{unknown[0]}`: see --help")
    return [row for row in ROWS if row.name in names]


async def _run(rows: Sequence[Row], *, alone: bool, rounds: int, seconds: int, as_json: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    cores = choose_cores()
    rows, unclaimed = claimable(rows, cores.count)
    # We and the load that we start stay off the measured core.
    os.sched_setaffinity(0, cores.rest)
    async with open_stage(rows, cores, peers=not alone) as stage:
        await check(stage, rows, _report)
        stage.skipped.update(unclaimed)
        machine = _machine(stage, cores, rounds=rounds, seconds=seconds)
        samples = await measure(stage, rows, rounds=rounds, seconds=seconds, report=_report)
    if as_json:
        for line in [machine, *figures.as_objects(rows, samples)]:
            click.echo(json.dumps(line, ensure_ascii=False))
        return
    for key, value in machine.items():
        click.echo(f"{key}: {value}")
    click.echo("")
    click.echo(figures.as_table(rows, samples))


def _machine(stage: Stage, cores: Cores, *, rounds: int, seconds: int) -> dict[str, Any]:
    """Return what the figures depend on."""
    running = [contender for each in stage.contenders.values() for contender in each]
    versions = {contender.name: contender.version for contender in running}
    return {
        "kind": "machine",
        "cores": os.cpu_count(),
        "pinned": f"proxy on {_list(cores.one)}, one with two workers on {_list(cores.two)}, "
        f"load and backend on {_list(cores.rest)}" + ("" if cores.apart else ": one core only, so all share it"),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "generator": generator(),
        "rounds": rounds,
        "seconds": seconds,
        "versions": {LOCUM: versions.pop(LOCUM, ""), **versions},
        "skipped": stage.skipped,
    }


def _list(cores: Iterable[int]) -> str:
    return "+".join(str(core) for core in sorted(cores))


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a file of the kernel, read line by line
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")


def _report(line: str) -> None:
    click.echo(f"bench: {line}", err=True)


if __name__ == "__main__":
    main(prog_name="bench")

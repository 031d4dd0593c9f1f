"""The run: rounds of load on every contender in turn."""

from collections.abc import Sequence

from bench.check import Report
from bench.cpu import used_microseconds
from bench.decision import decision_microseconds
from bench.figures import Sample
from bench.load import Load, drive
from bench.peers import Contender
from bench.processes import Fault
from bench.rows import LOCUM, Row
from bench.stage import Stage


async def measure(stage: Stage, rows: Sequence[Row], *, rounds: int, seconds: int, report: Report) -> list[Sample]:
    """Return a sample per round, row and contender; the order within a row moves on with each round."""
    samples = []
    for number in range(rounds):
        for row in rows:
            report(f"round {number + 1} of {rounds}: {row.name}")
            if not row.loaded:
                samples.append(_decision(row, number))
                continue
            contenders = stage.contenders[row.name]
            shift = number % len(contenders)
            for contender in [*contenders[shift:], *contenders[:shift]]:
                load = stage.load(row, contender, seconds=seconds)
                samples.append(await _sample(contender, row, number, load))
    return samples


async def _sample(contender: Contender, row: Row, number: int, load: Load) -> Sample:
    before = used_microseconds(contender.pid)
    answered = await drive(load)
    used = used_microseconds(contender.pid) - before
    if not answered.requests:
        raise Fault(f"{contender.name} answered nothing in row {row.name}")
    if answered.statuses != (answered.requests if row.status >= 400 else 0):
        raise Fault(f"{contender.name} gave {answered.statuses} of {answered.requests} answers wrong in row {row.name}")
    return Sample(
        row=row.name,
        contender=contender.name,
        round=number,
        requests=answered.requests,
        cpu_us=used / answered.requests,
        rps=answered.requests / answered.seconds,
        p50_us=answered.p50_us,
        p99_us=answered.p99_us,
        errors=answered.errors,
    )


def _decision(row: Row, number: int) -> Sample:
    taken = decision_microseconds()
    return Sample(
        row=row.name,
        contender=LOCUM,
        round=number,
        requests=1,
        cpu_us=taken,
        rps=1e6 / taken,
        p50_us=taken,
        p99_us=taken,
    )

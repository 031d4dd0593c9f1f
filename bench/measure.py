"""The run: every contender answers rightly once, then rounds of load in turn."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import httptools

from bench.cpu import used_microseconds
from bench.decision import decision_microseconds
from bench.figures import Sample
from bench.load import Load, drive
from bench.peers import Contender
from bench.processes import Fault
from bench.rows import LOCUM, Kind, Row
from bench.stage import HOST, Stage

_CHECK_SECONDS = 10.0

Report = Callable[[str], None]


async def check(stage: Stage, rows: Sequence[Row], report: Report) -> None:
    """Ask each contender once; who answers wrongly is left out, and if it is Locum that is a Fault."""
    for row in rows:
        if row.kind is not Kind.HTTP:
            continue
        right = []
        for contender in stage.contenders[row.name]:
            fault = await _fault(contender, row, stage.requests[row.name])
            if fault and contender.name == LOCUM:
                raise Fault(f"locum in row {row.name}: {fault}")
            if fault:
                report(f"{contender.name} is left out of row {row.name}: {fault}")
            else:
                right.append(contender)
        stage.contenders[row.name][:] = right


async def measure(stage: Stage, rows: Sequence[Row], *, rounds: int, seconds: int, report: Report) -> list[Sample]:
    """Return a sample per round, row and contender; the order within a row moves on with each round."""
    samples = []
    for number in range(rounds):
        for row in rows:
            report(f"round {number + 1} of {rounds}: {row.name}")
            if row.kind is Kind.DECISION:
                samples.append(_decision(row, number))
                continue
            contenders = stage.contenders[row.name]
            shift = number % len(contenders)
            for contender in [*contenders[shift:], *contenders[:shift]]:
                load = Load(
                    host=HOST,
                    port=contender.port,
                    requests=stage.requests[row.name],
                    connections=row.connections,
                    seconds=seconds,
                )
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


async def _fault(contender: Contender, row: Row, requests: Path) -> str:
    """Return what is wrong with the answer to the first request of the row; nothing if it is right."""
    with requests.open("rb") as file:
        first = file.read(16_384).partition(b"\0")[0]
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            answer = await _ask(contender.port, first)
    except (OSError, TimeoutError, httptools.HttpParserError) as exc:
        return f"no answer: {exc!r}"
    if answer.status != row.status:
        return f"status {answer.status} instead of {row.status}"
    if row.status == 200 and answer.size != row.size:
        return f"{answer.size} bytes instead of {row.size}"
    if contender.name == LOCUM and row.tokens and row.status == 200 and b"x-locum-session" not in answer.names:
        return "it passed as ordinary traffic"
    return ""


class _Answer:
    """One response as it is read."""

    def __init__(self) -> None:
        self.status = 0
        self.size = 0
        self.names: set[bytes] = set()
        self.whole = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, _value: bytes) -> None:
        self.names.add(name.lower())

    def on_body(self, body: bytes) -> None:
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.whole = True


async def _ask(port: int, raw: bytes) -> _Answer:
    answer = _Answer()
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(raw)
        while not answer.whole and (data := await reader.read(65_536)):
            answer.parser.feed_data(data)
    finally:
        writer.close()
        await writer.wait_closed()
    return answer

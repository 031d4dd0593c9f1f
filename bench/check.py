"""Before the run: every contender answers rightly once."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import httptools

from bench.messages import Refused, converse
from bench.peers import Contender
from bench.processes import Fault
from bench.rows import LOCUM, Kind, Row
from bench.stage import HOST, Stage

_CHECK_SECONDS = 10.0

Report = Callable[[str], None]


async def check(stage: Stage, rows: Sequence[Row], report: Report) -> None:
    """Ask each contender once; who answers wrongly is left out, and if it is Locum that is a Fault."""
    for row in rows:
        if not row.loaded:
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


async def _fault(contender: Contender, row: Row, requests: Path) -> str:
    """Return what is wrong with the answer to the first request of the row; nothing if it is right."""
    with requests.open("rb") as file:
        first = file.read(16_384 + row.sent).partition(b"\0")[0]
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            if row.kind is Kind.WEBSOCKET:
                await converse(HOST, contender.port, first)
                return ""
            answer = await _ask(contender.port, first)
    except Refused as exc:
        return str(exc)
    except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as exc:
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

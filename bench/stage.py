"""Everything that a run needs, started for the rows that were chosen and ended with the block."""

import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cpu import Cores
from bench.load import Load, write_requests
from bench.locum import AUDIENCE_OF, RunningLocum, start_locum
from bench.messages import HANDSHAKE
from bench.peers import Contender, Missing, start_authoriser, start_peer
from bench.processes import Fault, free_port, serving
from bench.rows import Kind, Row, State
from gateway.demo.issuer import DemoIssuer

HOST = "127.0.0.1"
_NOBODY = [(AUDIENCE_OF.format(account="acme"), "")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The running contenders by row, and the file of requests of each row."""

    contenders: dict[str, list[Contender]]
    requests: dict[str, Path]
    skipped: dict[str, str]
    """Why a contender is not there."""

    def load(self, row: Row, contender: Contender, *, seconds: int) -> Load:
        """Return what is sent to a contender in a row."""
        return Load(
            host=HOST,
            port=contender.port,
            requests=self.requests[row.name],
            connections=row.connections,
            seconds=seconds,
            messages=row.kind is Kind.WEBSOCKET,
        )


@asynccontextmanager
async def open_stage(
    rows: Sequence[Row], cores: Cores, *, peers: bool = True, under: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """Start what the rows need; what is missing is left out with its reason, but without Locum it is a Fault.

    Without `peers` Locum is alone. `under` is put between Python and `-m gateway`.
    """
    rows = [row for row in rows if row.loaded]
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="locum-bench-")))
        backend = await start_backend(stack, directory, cores)
        others, skipped = await _start_peers(stack, rows if peers else (), directory, backend, cores)
        gateways = await _start_gateways(stack, rows, directory, backend, cores, under)
        contenders, requests = {}, {}
        for row in rows:
            gateway = gateways[row.state, row.workers]
            contenders[row.name] = [gateway.contender, *(others[name] for name in row.peers if name in others)]
            callers = gateway.callers[: row.tokens] if row.tokens else _NOBODY
            requests[row.name] = write_requests(
                directory / f"{row.name}.requests",
                row.target,
                hosts_and_tokens=callers,
                values=row.values,
                sent=row.sent,
                more=HANDSHAKE if row.kind is Kind.WEBSOCKET else (),
            )
        yield Stage(contenders=contenders, requests=requests, skipped=skipped)


async def start_backend(stack: AsyncExitStack, directory: Path, cores: Cores) -> int:
    """Start the app with its fixed answers, and return its port."""
    port = free_port()
    # By its path, because the server's directory is a temporary one.
    command = [sys.executable, str(Path(__file__).with_name("backend.py")), str(port)]
    await stack.enter_async_context(serving(command, port=port, cores=cores.rest, directory=directory))
    return port


async def _start_peers(
    stack: AsyncExitStack, rows: Sequence[Row], directory: Path, backend: int, cores: Cores
) -> tuple[dict[str, Contender], dict[str, str]]:
    peers: dict[str, Contender] = {}
    skipped: dict[str, str] = {}
    wanted = list(dict.fromkeys(name for row in rows for name in row.peers))
    authoriser = None
    if any("+" in name for name in wanted):
        try:
            authoriser = await start_authoriser(stack, directory=directory, cores=cores.rest)
        except (Missing, Fault) as exc:
            skipped["authoriser"] = str(exc)
    for name in wanted:
        try:
            peers[name] = await start_peer(
                stack, name, directory=directory, backend=backend, authoriser=authoriser, cores=cores.one
            )
        except (Missing, Fault) as exc:
            skipped[name] = str(exc)
    return peers, skipped


async def _start_gateways(
    stack: AsyncExitStack, rows: Sequence[Row], directory: Path, backend: int, cores: Cores, under: Sequence[str]
) -> dict[tuple[State, int], RunningLocum]:
    issuer = await stack.enter_async_context(DemoIssuer())
    return {
        (state, workers): await start_locum(
            stack,
            state,
            issuer,
            tokens=max(row.tokens for row in rows if (row.state, row.workers) == (state, workers)),
            workers=workers,
            directory=directory,
            backend=backend,
            cores=cores.one if workers == 1 else cores.two,
            under=under,
        )
        for state, workers in dict.fromkeys((row.state, row.workers) for row in rows)
    }

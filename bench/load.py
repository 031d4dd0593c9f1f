"""The load on one contender: `wrk` where it is installed, else a client of our own; towards loopback only.

Messages over WebSockets are always our own client's.
"""

import ipaddress
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Fault, run

_SCRIPT = Path(__file__).with_name("wrk.lua")
_PATIENCE_SECONDS = 30.0
# What a browser says at least, so that every contender has headers to carry.
_LINES = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench",
    "Accept: application/json, text/plain, */*",
    "Accept-Encoding: gzip, br",
)
_COOKIE = "Cookie: theme=dark; helpdesk={}"
_SESSION = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send: over `connections` that are kept alive, the requests of a file in turn, for whole seconds."""

    host: str
    port: int
    requests: Path
    connections: int
    seconds: int
    messages: bool = False
    """The first request opens a WebSocket, over which messages go instead."""

    def __post_init__(self) -> None:
        """Refuse to aim at anything but this machine; raises Fault."""
        if not ipaddress.ip_address(self.host).is_loopback:
            raise Fault(f"`{self.host}` is not a loopback address, and load is sent to nothing else")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int
    """Connections that failed, broke, or stayed silent."""
    statuses: int
    """Answers of 400 and above."""


def generator() -> str:
    """Return the name of what makes the load."""
    return "wrk" if shutil.which("wrk") else "bench.client"


async def drive(load: Load) -> Answered:
    """Send the load, from the cores that this process is on; raises Fault if its generator fails."""
    command = _command(load)
    said = await run(command, directory=_SCRIPT.parent.parent, seconds=load.seconds + _PATIENCE_SECONDS)
    figures = [line.removeprefix("figures ") for line in said.splitlines() if line.startswith("figures ")]
    if not figures:
        raise Fault(f"`{command[0]}` printed no figures")
    return Answered(**json.loads(figures[-1]))


def write_requests(
    path: Path,
    target: str,
    *,
    hosts_and_tokens: Iterable[tuple[str, str]],
    values: int = 0,
    sent: int = 0,
    more: Sequence[str] = (),
) -> Path:
    """Write one GET of `target` for each host and token, an empty token meaning none, and return the file.

    With `values` each is written as often, with another cookie of the same length each time. With `sent` it is a POST
    of so many bytes. `more` are header lines.
    """
    method, length = ("POST", [f"Content-Length: {sent}"]) if sent else ("GET", [])
    with path.open("w", encoding="ascii", newline="") as file:
        for host, token in hosts_and_tokens:
            authorization = [f"Authorization: Bearer {token}"] if token else []
            for session in (f"{number:032x}" for number in range(values)) if values else (_SESSION,):
                lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *_LINES, _COOKIE.format(session)]
                file.write("\r\n".join([*lines, *authorization, *length, *more]) + "\r\n\r\n" + "x" * sent + "\0")
    return path


def _command(load: Load) -> list[str]:
    program = shutil.which("wrk")
    if program is not None and not load.messages:
        return [
            *(program, "-t", "1", "-c", str(load.connections), "-d", f"{load.seconds}s", "--timeout", "10s"),
            *("-s", str(_SCRIPT), f"http://{load.host}:{load.port}/", "--", str(load.requests)),
        ]
    module = "bench.messages" if load.messages else "bench.client"
    numbers = (str(load.port), str(load.connections), str(load.seconds))
    return [sys.executable, "-m", module, load.host, *numbers, str(load.requests)]

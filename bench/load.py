"""The load on one contender: `wrk` where it is installed, else a client of our own; towards loopback only."""

import ipaddress
import json
import shutil
import sys
from collections.abc import Iterable
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
    "Cookie: theme=dark; helpdesk=0123456789abcdef0123456789abcdef",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send: over `connections` that are kept alive, the requests of a file in turn, for whole seconds."""

    host: str
    port: int
    requests: Path
    connections: int
    seconds: int

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
    program = shutil.which("wrk")
    if program is not None:
        command = [
            *(program, "-t", "1", "-c", str(load.connections), "-d", f"{load.seconds}s", "--timeout", "10s"),
            *("-s", str(_SCRIPT), f"http://{load.host}:{load.port}/", "--", str(load.requests)),
        ]
    else:
        numbers = (str(load.port), str(load.connections), str(load.seconds))
        command = [sys.executable, "-m", "bench.client", load.host, *numbers, str(load.requests)]
    said = await run(command, directory=_SCRIPT.parent.parent, seconds=load.seconds + _PATIENCE_SECONDS)
    figures = [line.removeprefix("figures ") for line in said.splitlines() if line.startswith("figures ")]
    if not figures:
        raise Fault(f"`{command[0]}` printed no figures")
    return Answered(**json.loads(figures[-1]))


def write_requests(path: Path, target: str, *, hosts_and_tokens: Iterable[tuple[str, str]]) -> Path:
    """Write one GET of `target` for each host and token, an empty token meaning none, and return the file."""
    with path.open("w", encoding="ascii", newline="") as file:
        for host, token in hosts_and_tokens:
            lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *_LINES]
            if token:
                lines.append(f"Authorization: Bearer {token}")
            file.write("\r\n".join(lines) + "\r\n\r\n\0")
    return path

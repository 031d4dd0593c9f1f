"""How often a gateway asks its store for facts at one rate of requests, and at ten times that rate."""

import asyncio
import re
import time
import tomllib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.cpu import Cores
from bench.locum import Caller, start_locum
from bench.processes import Fault
from bench.rows import State
from bench.stage import HOST, start_backend
from gateway.demo.issuer import DemoIssuer

_CONNECTIONS = 8
_TIMES = 10
_PAGE = "/tickets/1"
_SERIES = {
    "requests": re.compile(r'^locum_requests_total\{[^}]*kind="assumed"[^}]*\} (\S+)$', re.MULTILINE),
    "reads": re.compile(r"^locum_fact_fetches_total\{[^}]*\} (\S+)$", re.MULTILINE),
}


async def reads(directory: Path, cores: Cores, *, rate: int, seconds: int, rounds: int) -> dict[str, Any]:
    """Return requests and reads of the store a second, of staff's requests at `rate` and at ten times as many.

    Of one assumption, with facts at their default age; raises Fault if a request is refused.
    """
    async with AsyncExitStack() as stack:
        backend = await start_backend(stack, directory, cores)
        issuer = await stack.enter_async_context(DemoIssuer())
        locum = await start_locum(
            stack, State.ONE, issuer, tokens=1, workers=1, directory=directory, backend=backend, cores=cores.one
        )
        metrics = _metrics(directory)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS + 1), trust_env=False)
        )
        url = f"http://{HOST}:{locum.contender.port}{_PAGE}"
        found: dict[int, list[dict[str, float]]] = {rate: [], rate * _TIMES: []}
        for _ in range(rounds):
            for each, seen in found.items():
                before, began = await _scrape(http, metrics), time.monotonic()
                await _send(http, url, locum.callers[0], each, seconds)
                after, took = await _scrape(http, metrics), time.monotonic() - began
                seen.append({name: (after[name] - before[name]) / took for name in _SERIES})
        return {"rounds": rounds, "seconds": seconds, "at": [_middle(seen) for seen in found.values()]}


def _middle(seen: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Return least, median and most of each."""
    columns = {name: [one[name] for one in seen] for name in _SERIES}
    return {
        f"{name}_per_second": [round(said, 2) for said in (min(values), median(values), max(values))]
        for name, values in columns.items()
    }


def _metrics(directory: Path) -> str:
    [config] = directory.glob("locum-*/config.toml")
    return f"http://{tomllib.loads(config.read_text(encoding='utf-8'))['server']['admin_listen']}/metrics"


async def _scrape(http: aiohttp.ClientSession, url: str) -> dict[str, float]:
    async with http.get(url) as answer:
        text = await answer.text()
    return {name: sum(map(float, pattern.findall(text))) for name, pattern in _SERIES.items()}


async def _send(http: aiohttp.ClientSession, url: str, caller: Caller, rate: int, seconds: int) -> None:
    """Send at an even rate over some connections; whoever is late catches up."""
    host, token = caller
    headers = {"Host": host, "Authorization": f"Bearer {token}"}
    began = time.monotonic()

    async def one(first: int) -> None:
        for number in range(first, rate * seconds, _CONNECTIONS):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            async with http.get(url, headers=headers) as answer:
                if answer.status != 200:
                    raise Fault(f"a request was refused: {answer.status} {await answer.text()}")
                await answer.read()

    await asyncio.gather(*(one(first) for first in range(_CONNECTIONS)))

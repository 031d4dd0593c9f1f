"""A load generator for machines without `wrk`. `python -m bench.client HOST PORT CONNECTIONS SECONDS FILE`."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import cast

import httptools
import uvloop


@dataclass(slots=True)
class Tally:
    """What all connections have seen."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    statuses: int = 0
    over: bool = False


class Client(asyncio.Protocol):
    """One connection: a request, its whole answer, the next request."""

    def __init__(self, requests: "cycle[bytes]", tally: Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Note an answer that is whole, and go on."""
        self._tally.latencies.append(time.perf_counter() - self._asked)
        self._tally.statuses += self._parser.get_status_code() >= 400
        if self._tally.over:
            self._transport.close()
        else:
            self._parser = httptools.HttpResponseParser(self)
            self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        """A connection that ends before the time is up is an error."""
        self._tally.errors += not self._tally.over

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))


async def main(host: str, port: int, connections: int, seconds: float, requests: "cycle[bytes]") -> None:
    """Send for `seconds`, then print the figures."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [await loop.create_connection(lambda: Client(requests, tally), host, port) for _ in range(connections)]
    await asyncio.sleep(seconds)
    tally.over = True
    elapsed = time.perf_counter() - started
    for transport, _ in opened:
        transport.abort()
    print_figures(tally, elapsed)


def print_figures(tally: Tally, elapsed: float) -> None:
    """Print what was seen in `elapsed` seconds as `wrk.lua` does."""
    ordered = sorted(tally.latencies)
    figures = {
        "requests": len(ordered),
        "seconds": elapsed,
        "p50_us": _percentile(ordered, 0.50),
        "p99_us": _percentile(ordered, 0.99),
        "errors": tally.errors,
        "statuses": tally.statuses,
    }
    print("figures", json.dumps(figures))


def _percentile(ordered: list[float], share: float) -> int:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e6) if ordered else 0


if __name__ == "__main__":
    host, *numbers, file = sys.argv[1:]
    port, connections, seconds = (int(number) for number in numbers)
    whole = [raw for raw in Path(file).read_bytes().split(b"\0") if raw]
    uvloop.run(main(host, port, connections, seconds, cycle(whole)))

"""The sinks of one process: a thread for each, begun, renewed and ended together."""

import asyncio
import logging
import ssl
import threading
from pathlib import Path
from typing import Final

from gateway.audit.formats.forms import FORMS
from gateway.audit.search.query import Query
from gateway.audit.sinks.files import FileOutlet, StdoutOutlet
from gateway.audit.sinks.http import Address, HttpOutlet
from gateway.audit.sinks.outlet import Outlet
from gateway.audit.sinks.runner import Runner, Terms, Times
from gateway.audit.sinks.shapes import SHAPES
from gateway.audit.sinks.status import Status
from gateway.audit.sinks.syslog import SyslogOutlet
from gateway.clock import Clock, Ticks
from gateway.config.model import Config, UpstreamTls
from gateway.config.sinks import Sink
from gateway.tls import upstream_context

log = logging.getLogger(__name__)

CLOSING_SECONDS: Final = 2.0
"""So long the end of the process waits for sinks; what they have not sent by then they send after the next start."""


class Running:
    """A sink and its thread, which nothing waits for: whatever it does, the process can end."""

    def __init__(self, name: str, runner: Runner, status: Status) -> None:
        """Do nothing yet."""
        self.name = name
        self.status = status
        self._runner = runner
        self._thread = threading.Thread(target=runner.run, name=f"sink-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Have it end soon."""
        self._runner.stop()

    def join(self, seconds: float) -> bool:
        """Wait for its end, and return whether that came; not for the loop's thread."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


class RunningSinks:
    """All of them."""

    def __init__(self, config: Config, *, clock: Clock, ticks: Ticks, times: Times | None = None) -> None:
        """Make them; raises ConfigError where a certificate cannot be read."""
        directory = Path(config.server.data_directory) / "sinks"
        outlets = [_open(sink, f"audit.sinks[{index}]", ticks) for index, sink in enumerate(config.audit.sinks)]
        self._running = []
        for sink, outlet in zip(config.audit.sinks, outlets, strict=True):
            status = Status(name=sink.name, kind=sink.kind)
            terms = Terms(
                name=sink.name,
                journal=config.journal_directory,
                cursor=directory / f"{sink.name}.json",
                lock=directory / f"{sink.name}.lock",
                form=FORMS[sink.format],
                wants=Query.parse(sink.filter).matches,
                most_records=sink.batch_records,
                times=times or Times(),
            )
            runner = Runner(terms, outlet, status, clock=clock, ticks=ticks)
            self._running.append(Running(sink.name, runner, status))

    @property
    def statuses(self) -> list[Status]:
        """How each fares."""
        return [running.status for running in self._running]

    def start(self) -> None:
        """Begin."""
        for running in self._running:
            running.start()

    async def close(self) -> None:
        """End all of them, and wait a little for it; the loop goes on meanwhile."""
        for running in self._running:
            running.stop()
        until = asyncio.get_running_loop().time() + CLOSING_SECONDS
        for running in self._running:
            left = max(0.0, until - asyncio.get_running_loop().time())
            if not await asyncio.to_thread(running.join, left):
                log.warning("the sink %s is left waiting for its receiver", running.name)


def _open(sink: Sink, where: str, ticks: Ticks) -> Outlet:
    form = FORMS[sink.format]
    if sink.kind == "stdout":
        return StdoutOutlet(header=form.header)
    if sink.kind == "file":
        return FileOutlet(Path(sink.path), header=form.header)
    server_name = sink.tls.server_name if sink.tls is not None else ""
    if sink.kind == "syslog":
        host, _, port = sink.address.rpartition(":")
        return SyslogOutlet(
            host.strip("[]"),
            int(port),
            tls=None if sink.tls is None else _context(sink, where),
            server_name=server_name,
            seconds=sink.timeout_seconds,
            ticks=ticks,
        )
    address = Address(
        url=sink.url,
        headers=sink.headers,
        credential=sink.credential,
        credential_header=sink.credential_header,
        tls=_context(sink, where) if sink.url.startswith("https:") else None,
        server_name=server_name,
    )
    shape = SHAPES["otlp" if sink.kind == "otlp" else sink.shape]
    return HttpOutlet(address, shape, form=sink.format, packed=sink.gzip, seconds=sink.timeout_seconds)


def _context(sink: Sink, where: str) -> ssl.SSLContext:
    tls = sink.tls
    if tls is None:
        return upstream_context(UpstreamTls(), f"{where}.tls")
    return upstream_context(UpstreamTls(ca=tls.ca, certificate=tls.certificate, key=tls.key), f"{where}.tls")

"""Makes the access log's pages of the security team's console, for one configuration."""

from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from gateway.audit.api.asked import AskedLog
from gateway.audit.index.database import beside
from gateway.config.model import Config
from gateway.console.security.export_jobs import FOLDER, ExportJobs
from gateway.console.security.export_page import ExportPages
from gateway.console.security.frame import Frame
from gateway.console.security.log_asking import LogReader
from gateway.console.security.log_page import LogPages
from gateway.console.security.tail import Tail
from gateway.state import State


async def open_log_pages(
    stack: AsyncExitStack, config: Config, state: State, *, frame: Frame
) -> list[web.AbstractRouteDef]:
    """Return the routes of the admin listener; what is exported is deleted when the stack ends."""
    reader = LogReader(state.log_index, AskedLog(state.journal, ticks=state.ticks))
    jobs = ExportJobs(Path(config.server.data_directory) / FOLDER, clock=state.clock)
    if config.console.security is not None:
        await jobs.open(stack)
    else:
        await jobs.clear()
    journal, address = config.journal_directory, config.store.address
    where = {
        "journal": str(journal),
        "index": str(beside(journal)),
        "database": "" if address is None else address.url,
    }
    return [
        *LogPages(frame, reader, clock=state.clock).routes(),
        *Tail(frame, reader, clock=state.clock, leaving=state.leaving).routes(),
        *ExportPages(frame, reader, jobs, where=where, clock=state.clock).routes(),
    ]

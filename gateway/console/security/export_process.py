"""The process that writes one export, and ends with whoever started it: `… -m gateway.console.security.export_process`.

A process and no thread, because a million records would take the interpreter from the requests; and one that stands
behind all others when the processor is short.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from gateway.audit.formats.forms import FORMS, Form
from gateway.audit.formats.text import to_line
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.index.finding import Finder, Page, their_page
from gateway.audit.index.places import HIGHEST, id_at, time_at
from gateway.audit.search.account_part import of_theirs
from gateway.audit.search.query import Query
from gateway.audit.times import write_time
from gateway.console.security.export_order import CANCEL, DATA, PROGRESS, Order, Progress, State, write_whole
from gateway.console.security.log_terms import build_query
from gateway.stores.store import StoreError

_STDIN: Final = 0
_NICE: Final = 10
_AT_ONCE: Final = 1000
_PAGE_SECONDS: Final = 120.0
_TELL_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.5
_TOO_LONG: Final = "narrow the search, or export it in parts"
_Search = Callable[[Query, int], Awaitable[Page]]
_Settled = Callable[[], Awaitable[int]]


def main() -> None:
    """Follow the order that comes in; what came of it stands in its folder."""
    os.nice(_NICE)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    Writer(order).run()


class Writer:
    """Writes one export."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._folder = Path(order.folder)
        self._form = FORMS[order.form]
        self._rows = 0
        self._bytes = 0
        self._told_at = 0.0
        self._cut = ""
        """Why it is not whole."""

    def run(self) -> None:
        """Write it, and say how it ended; raises OSError if not even that can be said."""
        try:
            self._tell("running")
            state = asyncio.run(self._write())
        except (TooCostly, IndexUnusable, StoreError, OSError) as exc:
            (self._folder / DATA).unlink(missing_ok=True)
            self._tell("failed", _say(exc))
            return
        if state == "cancelled":
            (self._folder / DATA).unlink(missing_ok=True)
        self._tell(state, self._cut)

    async def _write(self) -> State:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._folder / DATA, flags, 0o600), "wb") as file:
            if self._form.header:
                self._put(file, self._form.header)
            async for page in self._pages():
                if (self._folder / CANCEL).exists():
                    return "cancelled"
                for one in page.found:
                    if self._rows >= self._order.most_rows or self._bytes >= self._order.most_bytes:
                        self._cut = _TOO_LONG
                        break
                    self._put(file, self._form.line(one.entry))
                    self._rows += 1
                if self._cut:
                    self._put(file, cut_line(self._form, self._rows, self._cut))
                    return "capped"
                if time.monotonic() - self._told_at >= _TELL_SECONDS:
                    self._tell("running")
        return "done"

    def _put(self, file: BinaryIO, line: bytes) -> None:
        self._bytes += file.write(line + b"\n")

    async def _pages(self) -> AsyncIterator[Page]:
        """Yield what is found, the oldest first, and wait for what is not in the index yet; `_cut` says if in vain."""
        order = self._order
        query = build_query(order.text, since=order.since, until=order.until, ends=order.ends)
        if order.account is not None:
            query = of_theirs(query)
        cursor, whole, deadline = -HIGHEST, id_at(order.until), math.inf
        async with self._asking() as (search, settled):
            while True:
                # Before the page, so that nothing comes between.
                through = await settled()
                page = await search(query, cursor)
                late = not page.more and through < whole
                deadline = min(deadline, time.monotonic() + order.settle_seconds) if late else math.inf
                if time.monotonic() >= deadline:
                    self._cut = f"what happened from {_moment(through)} on is not all in the index yet: try again later"
                yield page if order.account is None else their_page(page)
                if not late and not page.more:
                    return
                if page.found:
                    cursor = page.found[-1].id
                if late:
                    await asyncio.sleep(_LOOK_SECONDS)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[tuple[_Search, _Settled]]:
        """Yield how a page is asked for, and up to where all is there; each is a question, so none keeps the index."""
        order, account = self._order, self._order.account
        # As if all of that time were over for long: it is up to the time at which somebody asked for this.
        late = datetime.fromtimestamp(order.until / 1e6, UTC) + timedelta(minutes=1)
        if not order.database:
            with Finder(Path(order.journal), Path(order.index), seconds=_PAGE_SECONDS, clock=lambda: late) as finder:

                async def search(query: Query, after: int) -> Page:
                    return finder.search(query, limit=_AT_ONCE, after=after, account=account)

                async def settled() -> int:
                    return finder.settled()

                yield search, settled
            return
        # Only now, because asyncpg is there only where somebody wants it.
        from gateway.stores.postgres.address import parse_url  # noqa: PLC0415
        from gateway.stores.postgres.journal_index import DatabaseIndex  # noqa: PLC0415
        from gateway.stores.postgres.terms import StoreTerms  # noqa: PLC0415

        database = DatabaseIndex(parse_url(order.database), StoreTerms(), seconds=_PAGE_SECONDS, clock=lambda: late)

        async def search_all(query: Query, after: int) -> Page:
            return (await database.search(query, limit=_AT_ONCE, before=None, after=after, account=account))[0]

        yield search_all, database.settled

    def _tell(self, state: State, said: str = "") -> None:
        self._told_at = time.monotonic()
        progress = Progress(state=state, rows=self._rows, bytes=self._bytes, total=self._order.total, said=said)
        write_whole(self._folder / PROGRESS, progress)


def cut_line(form: Form, rows: int, why: str) -> bytes:
    """Return the last line of an export that is not whole: no record, and it says so."""
    said = f"truncated after {rows} records: {why}"
    if form.document is not None:
        return to_line({"truncated": True, "records": rows, "said": said})
    return f'"{said}"\r'.encode()


def _moment(id_: int) -> str:
    return f"{write_time(time_at(id_) or 0)[:19]}Z"


def _say(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"it cannot be written: {error.strerror or 'the disk says no'}"
    return "the log cannot be read for it now" if isinstance(error, StoreError) else str(error)


def _end_with_parent(end: Callable[[int], None] = os._exit) -> None:
    while os.read(_STDIN, 4096):
        pass
    end(0)


if __name__ == "__main__":
    main()

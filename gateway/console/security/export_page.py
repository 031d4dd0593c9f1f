"""Exports of the log from the console: a form that begins one, a page that says how far it is, and what came of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from aiohttp import web

from gateway.audit.formats.forms import FORMS
from gateway.audit.formats.text import printable
from gateway.audit.search.query import Query
from gateway.audit.segment import Entry
from gateway.clock import Clock
from gateway.console.security.admission import lead
from gateway.console.security.export_jobs import ExportJobs, Job, TooManyExports
from gateway.console.security.export_order import Order
from gateway.console.security.frame import Answer, Frame
from gateway.console.security.log_asking import FAULTS, LogReader, say
from gateway.console.security.log_page import FORMATS, HERE
from gateway.console.security.log_query import LOG, Asked, AskedWrongly, read_asked
from gateway.console.security.visit import Visit
from gateway.pages.render import SAFE_HEADERS

EXPORT: Final = f"{LOG}/export"
_JOB: Final = f"{EXPORT}/{{id:[0-9a-f]+}}"
_MOST_FORM_BYTES: Final = 16_384
_SMALL: Final = 500
"""So many records are answered with at once."""
_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "csv": ("text/csv; charset=utf-8", "csv"),
    "jsonl": ("application/x-ndjson", "jsonl"),
    "ocsf": ("application/x-ndjson", "ocsf.jsonl"),
}
_STATES: Final[Mapping[str, str]] = {
    "running": "It is being written.",
    "done": "It is ready.",
    "capped": "It is ready, but not whole, and its last line says so.",
    "failed": "It could not be written.",
    "cancelled": "It was cancelled.",
}


class ExportPages:
    """Lets auditors take with them what a search finds; that they do is on the record before anything leaves."""

    def __init__(
        self, frame: Frame, reader: LogReader, jobs: ExportJobs, *, where: Mapping[str, str], clock: Clock
    ) -> None:
        """Have long ones written from `where`: the `journal`, the `index` beside it, and maybe a `database`."""
        self._frame = frame
        self._reader = reader
        self._jobs = jobs
        self._where = where
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [
            web.post(EXPORT, self._guarded(self.begin)),
            web.get(EXPORT, self._guarded(self.show_all), allow_head=False),
            web.get(_JOB, self._guarded(self.show), allow_head=False),
            web.get(f"{_JOB}/data", self._guarded(self.fetch), allow_head=False),
            web.post(f"{_JOB}/delete", self._guarded(self.delete)),
        ]

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Answer with a few records at once, or have many written."""
        sent = await self._frame.read_form(request, most=_MOST_FORM_BYTES)
        if isinstance(sent, web.Response):
            return sent
        visit, fields = sent
        try:
            return await self._begin(visit, dict(fields))
        except AskedWrongly as exc:
            return self._message(visit, f"Nothing was exported: {exc}.", status=400)
        except FAULTS as exc:
            return self._message(visit, say(exc), status=503)
        except TooManyExports as exc:
            return self._message(visit, f"Nothing was exported: {exc}.", status=429)

    async def _begin(self, visit: Visit, given: Mapping[str, str]) -> web.StreamResponse:
        now, form = round(self._clock().timestamp() * 1e6), given.get("format", "")
        if form not in FORMATS:
            raise AskedWrongly("format", f"the format is one of {', '.join(FORMATS)}")
        asked = read_asked(given, now)
        # Up to this moment, which is part of it: what comes meanwhile is not.
        until = now + 1 if asked.until is None else min(asked.until, now + 1)
        asked = replace(asked, range="", until=until)
        query, total = asked.query, await self._count(visit, asked, now)
        if total is not None and total <= _SMALL:
            found = await self._read(visit, query)
            await self._record(visit, query, form, asked.text)
            return self._file(form, found)
        await self._jobs.check(_owner(visit))
        await self._record(visit, query, form, asked.text)
        order = Order(
            folder="",
            form=form,
            text=asked.text,
            since=asked.since,
            until=until,
            ends=asked.ends,
            account=visit.account,
            total=total or 0,
            most_rows=self._jobs.terms.most_rows,
            most_bytes=self._jobs.terms.most_bytes,
            settle_seconds=self._jobs.terms.settle_seconds,
            **self._where,
        )
        return lead(f"{EXPORT}/{await self._jobs.start(_owner(visit), order, link=asked.link())}")

    async def show_all(self, request: web.Request) -> web.StreamResponse:
        """Show what they have exported and not deleted yet."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        jobs = await self._jobs.list_of(_owner(visit))
        return self._frame.page(
            visit, "security_log_exports.html", here=HERE, log=LOG, jobs=[self._values(job) for job in jobs]
        )

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show how far one is."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        job = await self._jobs.find(_owner(visit), request.match_info["id"])
        if job is None:
            return self._missing(visit)
        return self._frame.page(
            visit, "security_log_export.html", here=HERE, log=LOG, all=EXPORT, job=self._values(job)
        )

    async def fetch(self, request: web.Request) -> web.StreamResponse:
        """Send what came of one."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        job = await self._jobs.find(_owner(visit), request.match_info["id"])
        if job is None or job.progress.state not in ("done", "capped"):
            return self._missing(visit)
        await self._reader.record_each(visit, "export_fetched", Query(()))
        return await self._send(request, visit, job)

    async def _send(self, request: web.Request, visit: Visit, job: Job) -> web.StreamResponse:
        """Send it piece by piece, for as long as they are signed in; what breaks off is shorter than it says."""
        response = web.StreamResponse(headers=self._headers(job.about.form))
        async with self._jobs.reading(job) as (length, read):
            response.content_length = length
            await response.prepare(request)
            while piece := await read():
                if not await self._frame.may_still(visit, now=self._clock()):
                    if request.transport is not None:
                        request.transport.abort()
                    break
                await response.write(piece)
        return response

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """End one that is being written, or throw away what came of it."""
        sent = await self._frame.read_form(request, most=_MOST_FORM_BYTES)
        if isinstance(sent, web.Response):
            return sent
        visit = sent.visit
        job = await self._jobs.find(_owner(visit), request.match_info["id"])
        if job is None:
            return self._missing(visit)
        await self._jobs.cancel(job)
        return lead(EXPORT if job.progress.state != "running" else f"{EXPORT}/{job.id}")

    async def _count(self, visit: Visit, asked: Asked, now: int) -> int | None:
        """Return how many there are, None if that cannot be told soon."""
        try:
            return (await self._reader.overview(visit, asked.query, step=asked.step(now))).total
        except FAULTS[:1]:
            return None

    async def _read(self, visit: Visit, query: Query) -> list[Entry]:
        """Return a few records, the oldest first."""
        page, _ = await self._reader.search(visit, query, limit=2 * _SMALL)
        return [one.entry for one in reversed(page.found)]

    async def _record(self, visit: Visit, query: Query, form: str, text: str) -> None:
        # What was typed can name somebody, so it stands among the words that can be erased.
        await self._reader.record_each(visit, "exported", query, stated_reason=f"{form}: {text or 'everything'}")

    def _file(self, form: str, found: list[Entry]) -> web.Response:
        chosen = FORMS[form]
        lines = ([chosen.header] if chosen.header else []) + [chosen.line(entry) for entry in found]
        return web.Response(body=b"".join(line + b"\n" for line in lines), headers=self._headers(form))

    def _headers(self, form: str) -> dict[str, str]:
        kind, ending = _TYPES[form]
        name = f"locum-log-{self._clock().astimezone(UTC):%Y%m%dT%H%M%SZ}.{ending}"
        return {
            **SAFE_HEADERS,
            "Content-Type": kind,
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }

    def _values(self, job: Job) -> dict[str, Any]:
        about, progress = job.about, job.progress
        return {
            "id": job.id,
            "address": f"{EXPORT}/{job.id}",
            "text": printable(about.text),
            "link": about.link,
            "format": FORMATS[about.form],
            "made_at": datetime.fromtimestamp(about.made_at, UTC),
            "gone_at": datetime.fromtimestamp(about.made_at + self._jobs.terms.kept_seconds, UTC),
            "running": progress.state == "running",
            "ready": progress.state in ("done", "capped"),
            "said": _STATES[progress.state] + (f" Why: {progress.said}." if progress.said else ""),
            "rows": progress.rows,
            "bytes": progress.bytes,
            "total": progress.total,
            "percent": progress.percent,
        }

    def _guarded(self, answer: Answer) -> Answer:
        async def answered(request: web.Request) -> web.StreamResponse:
            try:
                return await answer(request)
            except OSError:
                said = "The disk cannot be read or written now, so nothing was exported."
                return self._frame.pages.message("Try again later", said, status=503, again=LOG)

        return self._frame.guarded(answered, again=EXPORT)

    def _missing(self, visit: Visit) -> web.Response:
        return self._message(visit, "There is no such export of yours, or not any more.", status=404)

    def _message(self, visit: Visit, said: str, *, status: int) -> web.Response:
        return self._frame.page(visit, "security_log_message.html", here=HERE, status=status, said=said, log=LOG)


def _owner(visit: Visit) -> str:
    """Return by what an export knows whose it is: somebody who may see less by now is somebody else."""
    said = "\0".join((visit.how, visit.id, "" if visit.account is None else f"={visit.account}"))
    return sha256(said.encode()).hexdigest()

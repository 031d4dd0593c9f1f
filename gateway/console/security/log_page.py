"""The access log for people: `GET /console/log`, one record of it, and one assumption from beginning to end."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.audit.hand import Hand
from gateway.audit.index.finding import Page
from gateway.audit.index.overview import Overview
from gateway.audit.index.places import HIGHEST
from gateway.audit.search.query import Is, Query, Term
from gateway.audit.search.timeline import Step, build_timeline
from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry
from gateway.clock import Clock
from gateway.console.security.chart import draw
from gateway.console.security.frame import Frame
from gateway.console.security.log_asking import FAULTS, LogReader, say
from gateway.console.security.log_query import LOG, RANGES, Asked, AskedWrongly, read_asked, write_moment
from gateway.console.security.log_view import (
    ASSUMPTION,
    RECORD,
    link_to_assumption,
    long,
    show_end,
    show_facets,
    show_fields,
    show_json,
    show_rows,
    show_top,
    show_what,
    show_word,
    statuses_of,
)
from gateway.console.security.visit import Visit
from policy.model import AssumptionId

HERE: Final = "log"
FORMATS: Final = {"csv": "CSV, for spreadsheets", "jsonl": "JSON Lines", "ocsf": "OCSF, for a SIEM"}
"""What can be exported, and what people read."""
ROWS: Final = 50
_ID: Final = "{id:-?[0-9]+}"
_SID: Final = "{sid:[A-Za-z0-9_-]+}"
_MOST_STEPS: Final = 2000
_LONGEST_TEXT: Final = 1000
_LONGEST_ID, _LONGEST_SID = 20, 128
_NO_ASSUMPTION: Final = "There is no record of this assumption that you may see."
_EVERYTHING: Final = Asked(range="all")
"""Where a name leads from a single record: to all that there is of it."""


class LogPages:
    """Shows the log to auditors: everything, or what one account has."""

    def __init__(self, frame: Frame, reader: LogReader, *, clock: Clock) -> None:
        self._frame = frame
        self._reader = reader
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        guarded = self._frame.guarded
        return [
            web.get(LOG, guarded(self.show, again=LOG), allow_head=False),
            web.get(f"{RECORD}/{_ID}", guarded(self.show_record, again=LOG), allow_head=False),
            web.get(f"{ASSUMPTION}/{_SID}", guarded(self.show_assumption, again=LOG), allow_head=False),
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show what a search finds, and what it looks like."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        now = round(self._clock().timestamp() * 1e6)
        given = dict(request.query)
        try:
            asked = read_asked(given, now)
            query = asked.query
        except AskedWrongly as exc:
            return self._page(visit, given, status=400, wrong=str(exc), wrong_field=exc.field)
        await self._reader.record(visit, "searched", query, asked.link())
        try:
            page, lag = await self._reader.search(visit, query, limit=ROWS, before=asked.before, after=asked.after)
            listed = await self._listed(visit, asked, page)
        except FAULTS as exc:
            return self._page(visit, given, asked=asked, status=503, fault=say(exc))
        behind = lag is not None and lag.bytes > 0
        return self._page(visit, given, asked=asked, behind=behind, **listed, **await self._picture(visit, asked, now))

    async def show_record(self, request: web.Request) -> web.StreamResponse:
        """Show everything that one record says, and how that exchange ended."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        said = request.match_info["id"]
        id_ = int(said) if len(said) <= _LONGEST_ID else HIGHEST
        try:
            entries = await self._reader.find(visit, id_) if abs(id_) < HIGHEST else []
        except FAULTS as exc:
            return self._unavailable(visit, exc)
        if not entries:
            return self._missing(visit, "There is no such record that you may see.")
        for entry in entries:
            sid = entry.get("assumption")
            more = {"assumption": AssumptionId(sid)} if isinstance(sid, str) else {}
            await self._reader.record(visit, "shown", _about(entry), str(id_), **more)
        try:
            ends = [await self._end_of(visit, entry) for entry in entries]
        except FAULTS:
            ends = [None for _ in entries]
        shown = [_show(entry, end) for entry, end in zip(entries, ends, strict=True)]
        return self._frame.page(visit, "security_log_record.html", here=HERE, records=shown, log=LOG)

    async def show_assumption(self, request: web.Request) -> web.StreamResponse:
        """Show who stood in for whom, why, until when, and each thing that they did."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        sid = request.match_info["sid"]
        if len(sid) > _LONGEST_SID:
            return self._missing(visit, _NO_ASSUMPTION)
        query = Query.of_assumption(sid)
        await self._reader.record(visit, "shown", query, sid, assumption=AssumptionId(sid))
        try:
            page, _ = await self._reader.search(visit, query, limit=_MOST_STEPS)
        except FAULTS as exc:
            return self._unavailable(visit, exc)
        # Thousands of steps take long to write down, so it is not done on the loop.
        hand = Hand("log-timeline")
        try:
            return await hand.run(partial(self._timeline, visit, sid, page))
        finally:
            hand.stop()

    def _timeline(self, visit: Visit, sid: str, page: Page) -> web.Response:
        timeline = build_timeline([one.entry for one in reversed(page.found)], sid)
        if timeline is None:
            return self._missing(visit, _NO_ASSUMPTION)
        ids, told = {id(one.entry): one.id for one in page.found}, (step.entry for step in timeline.steps)
        return self._frame.page(
            visit,
            "security_log_assumption.html",
            here=HERE,
            sid=sid,
            about=_about_assumption(timeline.about, next((one for one in map(actor_of, told) if one), [])),
            allowed=timeline.about["allowed"],
            denied=timeline.about["denied"],
            cut=timeline.about["cut"],
            steps=[_show_step(step, ids[id(step.entry)]) for step in timeline.steps],
            complete=not page.more,
            most=_MOST_STEPS,
            all_of_it=_EVERYTHING.narrowed("sid", sid),
            log=LOG,
        )

    async def _listed(self, visit: Visit, asked: Asked, page: Page) -> dict[str, Any]:
        found = page.found if asked.after is None else page.found[::-1]
        try:
            ends = await self._reader.ends_of(visit, found)
        except FAULTS:
            ends = []
        has_older = bool(found) and (page.more or asked.after is not None)
        has_newer = bool(found) and (page.more if asked.after is not None else asked.before is not None)
        return {
            "rows": show_rows(found, statuses_of(ends), asked),
            "older": asked.page(before=found[-1].id) if has_older else None,
            "newer": asked.page(after=found[0].id) if has_newer else None,
            "newest": asked.link() if asked.before is not None or asked.after is not None else None,
        }

    async def _picture(self, visit: Visit, asked: Asked, now: int) -> dict[str, Any]:
        """Return the counts, or why there are none: the list stands without them."""
        step = asked.step(now)
        try:
            overview = await self._reader.overview(visit, asked.query, step=step)
        except FAULTS as exc:
            return {"uncounted": say(exc)}
        until = now if asked.until is None else min(asked.until, now)
        return {
            "total": overview.total,
            "chart": draw(overview.over_time, step=step, since=asked.since, until=until, link=asked.between),
            "facets": show_facets(overview, asked),
            **_tops(overview, asked),
        }

    async def _end_of(self, visit: Visit, entry: Entry) -> str | None:
        request = entry.get("request_id")
        if entry.get("decision") != "allow" or not isinstance(request, str):
            return None
        terms = (Term(Is("request", request.casefold()), negated=False), Term(Is("kind", "completion"), negated=False))
        page, _ = await self._reader.search(visit, Query(terms), limit=10)
        fitting = (one.entry for one in page.found if one.entry.get("completes") == entry.get("seq"))
        return next((show_end(end) for end in fitting if end.get("origin") == entry.get("origin")), None)

    def _page(
        self, visit: Visit, given: Mapping[str, str], *, asked: Asked | None = None, status: int = 200, **more: Any
    ) -> web.Response:
        known = asked or Asked(text=given.get("q", "")[:_LONGEST_TEXT], ends=given.get("ends") == "1")
        ranges = [(label, known.with_range(name), name == known.range) for name, (label, _) in RANGES.items()]
        times = (None, None) if known.range else (known.since, known.until)
        moment_from, moment_to = ("" if time is None else write_moment(time) for time in times)
        values = {
            "asked": known,
            "log": LOG,
            "ranges": ranges,
            "moment_from": moment_from,
            "moment_to": moment_to,
            "tail": known.link(f"{LOG}/tail"),
            "export": f"{LOG}/export",
            "formats": FORMATS,
            **dict.fromkeys(("wrong", "wrong_field", "fault", "uncounted", "older", "newer", "newest", "chart")),
            **dict.fromkeys(("rows", "facets", "refused_rules", "active_staff"), ()),
            "total": None,
            "behind": False,
            **more,
        }
        return self._frame.page(visit, "security_log.html", here=HERE, status=status, **values)

    def _unavailable(self, visit: Visit, fault: Exception) -> web.Response:
        return self._frame.page(visit, "security_log_message.html", here=HERE, status=503, said=say(fault), log=LOG)

    def _missing(self, visit: Visit, said: str) -> web.Response:
        return self._frame.page(visit, "security_log_message.html", here=HERE, status=404, said=said, log=LOG)


def _tops(overview: Overview, asked: Asked) -> dict[str, Any]:
    return {
        "refused_rules": show_top(overview.refused_by_rule, "route", asked),
        "active_staff": show_top(overview.by["actor"], "actor", asked) if "actor" in overview.by else [],
    }


def _about(entry: Entry) -> Query:
    """Return a query that says which record it is, of those values that are nobody's."""
    names = (("request_id", "request"), ("origin", "origin"))
    terms = [Term(Is(named, str(entry[name])), negated=False) for name, named in names if name in entry]
    return Query(tuple(terms[:1]))


def _show(entry: Entry, end: str | None) -> dict[str, Any]:
    return {
        "at": long(entry.get("at", "")),
        "word": show_word(entry),
        "what": show_what(entry),
        "end": end,
        "fields": show_fields(entry, _EVERYTHING),
        "json": show_json(entry),
        "assumption": link_to_assumption(entry.get("assumption")),
    }


def _about_assumption(about: Mapping[str, Any], actor: list[str]) -> list[tuple[str, str, str | None]]:
    """Return what is known of an assumption: a label, the value, and where it leads."""
    labels = {
        "subject": ("Stood in for", "agent"),
        "account": ("Account", "account"),
        "ticket": ("Ticket", "ticket"),
        "stated_reason": ("Why", None),
        "granted_by": ("Allowed by", None),
        "began_at": ("Began", None),
        "expires_at": ("Would have ended", None),
        "ended": ("Ended", None),
        "last_record_at": ("Last record", None),
    }
    names = zip(("Staff", "Known as"), actor, strict=False)
    staff = [(label, long(name), _EVERYTHING.narrowed("actor", name)) for label, name in names]
    return staff + [
        (label, long(about[name]), _EVERYTHING.narrowed(qualifier, str(about[name])) if qualifier else None)
        for name, (label, qualifier) in labels.items()
        if about.get(name) is not None
    ]


def _show_step(step: Step, id_: int) -> dict[str, Any]:
    entry = step.entry
    return {
        "href": f"{RECORD}/{id_}",
        "at": long(entry.get("at", ""))[:19].replace("T", " "),
        "word": show_word(entry),
        "decision": entry.get("decision"),
        "what": show_what(entry),
        "reason": long(entry["reason"]) if "reason" in entry else "",
        "end": None if step.completion is None else show_end(step.completion),
        "silent": step.silent_seconds // 60,
    }

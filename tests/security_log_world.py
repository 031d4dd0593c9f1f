"""The access log's pages over real sockets: a journal of several accounts, its index, and visitors who are signed in."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from urllib.parse import urlencode

from aiohttp import ClientSession, web

from gateway import cookie_names
from gateway.audit.api.asked import AskedLog
from gateway.audit.index.asking import FileIndex
from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME
from gateway.audit.record import to_json
from gateway.audit.search import read
from gateway.audit.segment import build_line
from gateway.clients import digest_of
from gateway.console.security.admission import Admission
from gateway.console.security.export_jobs import ExportJobs
from gateway.console.security.export_page import ExportPages
from gateway.console.security.export_process import Writer
from gateway.console.security.frame import Frame
from gateway.console.security.log_asking import LogReader
from gateway.console.security.log_page import LogPages
from gateway.console.security.people import People, proof_of
from gateway.console.security.place import Place
from gateway.console.security.sessions import Sessions, form_token_of
from gateway.console.security.tail import Tail, TailTerms
from gateway.pages import static_files
from gateway.pages.render import Pages
from gateway.stores.store import Client
from policy.model import AccountId, ClientId
from tests.journals import NOON, Ticks, open_journal
from tests.memory_store import MemoryStore

VISITORS = {"all": None, "acme": "acme", "other": None}
ACCOUNTS = ("acme", "ACME", "globex", "acm", "acme ", None)
SEGMENT = "node-000000000000.jsonl"


class Clock:
    """A wall clock that moves when it is told to."""

    def __init__(self):
        self.now = NOON + timedelta(days=2)

    def __call__(self):
        return self.now


def make_entries(count=60):
    """Records of several accounts, some of which differ from `acme` by little; each has a canary of its account."""
    for number in range(count):
        account = ACCOUNTS[number % len(ACCOUNTS)]
        entry = {
            "kind": "decision",
            "decision": "deny" if number % 7 == 0 else "allow",
            "reason": "grant_expired" if number % 7 == 0 else None,
            "at": (NOON + timedelta(minutes=number % 600)).isoformat(timespec="microseconds"),
            "origin": "node",
            "seq": number,
            "actor": {"issuer": "https://login.example", "name": f"person{number % 4}", "subject": f"s-{number % 4}"},
            "assumption": f"as_{str(account).strip()}",
            "stated_reason": f"canary-of-{account!r}",
            "subject": f"agent-{account}",
            "method": "GET",
            "path": f"/tickets/{number}",
            "request_id": f"req_{number}",
            "rule": "tickets.read",
        }
        entry = {name: value for name, value in entry.items() if value is not None}
        yield entry if account is None else entry | {"account": account}


class World:
    def __init__(self, port, directory, *, store, clock, ticks, own, jobs, people, tail):
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self.directory = directory
        self.store = store
        self.clock = clock
        self.ticks = ticks
        self.own = own
        self.jobs = jobs
        self.people = people
        self.tail = tail
        self.cookies = {}

    def headers(self, visitor, **more):
        name = cookie_names.named(cookie_names.SECURITY, secure=False)
        cookie = {} if visitor is None else {"Cookie": f"{name}={self.cookies[visitor]}"}
        return {**cookie, **more}

    async def get(self, path, *, visitor="all", headers=None, **params):
        """Return the status and the text of what a page load is answered."""
        address = f"{path}?{urlencode(params)}" if params else path
        given = self.headers(visitor, **(headers or {}))
        async with (
            ClientSession() as http,
            http.get(self.origin + address, headers=given, allow_redirects=False) as got,
        ):
            self.last = got
            return got.status, await got.text()

    async def post(self, path, *, visitor="all", token=None, headers=None, **fields):
        """Send a form as the page does; returns the status, the text and where it leads."""
        form = {"form_token": form_token_of(self.cookies[visitor]) if token is None else token, **fields}
        given = self.headers(visitor, **{"Origin": self.origin, **(headers or {})})
        async with (
            ClientSession() as http,
            http.post(self.origin + path, data=form, headers=given, allow_redirects=False) as got,
        ):
            self.last = got
            return got.status, await got.text(), got.headers.get("Location", "")

    async def sign_in(self, visitor):
        client = await self.store.find_client(ClientId(visitor))
        self.cookies[visitor] = await self.people.begin(
            visitor, "client", signed_in_at=self.clock(), proof=proof_of(client)
        )

    def add(self, *entries):
        """Write records, and bring the index to them."""
        journal = self.directory / "journal"
        with (journal / SEGMENT).open("ab") as file:
            file.writelines(build_line(to_json(entry))[1] for entry in entries)
        with Builder(journal, self.directory / NAME) as builder:
            builder.catch_up()

    def recorded(self, reason=None):
        """Return who asked for what."""
        entries = [entry for entry in read(self.directory / "own") if entry["kind"] == "audit"]
        return [entry for entry in entries if reason in (None, entry["reason"])]


async def write_here(order):
    """Write an export as its process does, without the second that it takes to start one."""
    await asyncio.to_thread(Writer(order).run)


@asynccontextmanager
async def open_security_log(
    directory, *, entries=None, index=True, terms=None, tail=None, clock=None, write=write_here, **options
):
    """Serve the pages over a journal with these records."""
    journal = directory / "journal"
    journal.mkdir()
    lines = [build_line(to_json(one))[1] for one in (make_entries() if entries is None else entries)]
    (journal / SEGMENT).write_bytes(b"".join(lines))
    with Builder(journal, directory / NAME) as builder:
        builder.catch_up()
    clock, store, ticks = clock or Clock(), MemoryStore(), Ticks()
    own = await open_journal(directory / "own", **options)
    sessions = Sessions(store, clock, idle=timedelta(minutes=30), absolute=timedelta(hours=8))
    people = People(None, issuer="https://login.example", store=store, clock=clock)
    pages = Pages()
    frame = Frame(Admission(Place(""), sessions=sessions, people=people, journal=own, pages=pages), pages)
    asked = FileIndex(journal, directory / NAME, clock=clock) if index else None
    reader = LogReader(asked, AskedLog(own, ticks=ticks))
    jobs = ExportJobs(directory / "exports", clock=clock, terms=terms, write=write)
    where = {"journal": str(journal), "index": str(directory / NAME)}
    terms = tail or TailTerms(look_seconds=0.02)
    following = Tail(frame, reader, clock=clock, leaving=asyncio.Event(), terms=terms)
    application = web.Application()
    application.add_routes(
        [
            *LogPages(frame, reader, clock=clock).routes(),
            *following.routes(),
            *ExportPages(frame, reader, jobs, where=where, clock=clock).routes(),
            *static_files.routes(),
        ]
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(own.close)
        await jobs.open(stack)
        # As the gateway runs it: what answers somebody who has gone is not cancelled for that.
        runner = web.AppRunner(application, access_log=None, auto_decompress=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world = World(
            runner.addresses[0][1],
            directory,
            store=store,
            clock=clock,
            ticks=ticks,
            own=own,
            jobs=jobs,
            people=sessions,
            tail=following,
        )
        for visitor, account in VISITORS.items():
            limited = None if account is None else AccountId(account)
            await store.add_client(
                Client(
                    id=ClientId(visitor), secret_digest=digest_of(visitor), roles=frozenset({"audit"}), account=limited
                )
            )
            await world.sign_in(visitor)
        yield world


async def progress_of(world, owner_job):
    """Return an export's state once it is over."""
    async with asyncio.timeout(30):
        while True:
            jobs = [job for job in world.jobs._all() if job.id == owner_job]
            if not jobs or jobs[0].progress.state != "running":
                return jobs[0].progress.state if jobs else "gone"
            await asyncio.sleep(0.02)

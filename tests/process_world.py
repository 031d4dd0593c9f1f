"""A gateway as an operator runs it, one process or several, before a recording upstream; told things by signals."""

import asyncio
import contextlib
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import aiohttp

from gateway.clients import digest_of, new_secret
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Client
from policy.model import Account, AccountId, AccountType, ClientId
from tests import started
from tests.empty_store import put_empty_store
from tests.gateway_world import AUDIENCE, HOST, ISSUER, TestClock, World, parse
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream, response
from tests.world_issuer import WorldIssuer

SHIPPED = resources.files("policy").joinpath("profiles", "demo-helpdesk.toml").read_text(encoding="utf-8")
CONFIG = """
[server]
issuer = "{issuer}"
listen = "{listen}"
admin_listen = "127.0.0.1:0"
shutdown_seconds = {shutdown}
workers = {workers}
{server}
[accounts]
host = "{{account}}.helpdesk.example"
[upstream]
url = "{upstream}"
profile = "demo-helpdesk.toml"
[staff]
issuer = "{idp}"
audience = "{audience}"
[[staff.rules]]
group = "support"
permissions = ["read", "test_tickets", "write"]
[audit]
patience_seconds = {patience}
{more}
"""


@dataclass
class Addresses:
    """What the world asks of a gateway, for one in another process."""

    public_url: str = ""
    admin_url: str = ""


class Running:
    """A `locum run` process with its log."""

    def __init__(self, process, addresses):
        self.process = process
        self.addresses = addresses
        self.lines = []
        self._news = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    @property
    def pid(self):
        return self.process.pid

    def workers(self):
        """The process ids of the workers, by the parent's own list."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def send(self, number=signal.SIGHUP):
        self.process.send_signal(number)

    async def says(self, *words, times=1):
        """Wait until the log has a line with all of `words`, so many times."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found = [line for line in self.lines if all(word in line for word in words)]
                if len(found) >= times:
                    return found[-1]
                assert not self._reading.done(), self.lines
                self._news.clear()
                await self._news.wait()

    async def ends(self):
        """Wait for its end; return its exit code."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reading
            await self.process.communicate()
        return self.process.returncode

    async def _read(self):
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode().rstrip())
            if ": http" in line.decode() and "for everybody" in line.decode():
                words = line.decode().replace(",", "").split()
                self.addresses.public_url, self.addresses.admin_url = (w for w in words if w.startswith("http"))
            self._news.set()
        self._news.set()


class ProcessWorld(World):
    """Everything around one gateway in processes of its own."""

    def configure(self, *, workers=1, shutdown=5, listen="127.0.0.1:0", server="", more="", profile=SHIPPED):
        """Write the configuration and its profile."""
        text = CONFIG.format(
            issuer=ISSUER,
            listen=listen,
            workers=workers,
            shutdown=shutdown,
            server=server,
            upstream=self.upstream.url,
            idp=self.issuer.issuer,
            audience=AUDIENCE,
            patience=PATIENCE_SECONDS,
            more=more,
        )
        (self.directory / "config.toml").write_text(text)
        self.write_profile(profile)

    def write_profile(self, text):
        (self.directory / "demo-helpdesk.toml").write_text(
            text.replace('agent_probe = "/whoami"', "agent_probe = false")
        )

    @asynccontextmanager
    async def running(self, *, environment=None, **settings):
        """Run it with these settings until the block ends."""
        self.configure(**settings)
        process = await self.locum("run", **(environment or {}))
        running = Running(process, self.gateway)
        try:
            await running.says("for everybody")
            yield running
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.sleep(0)
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            await running.ends()

    async def locum(self, *words, **environment):
        """Start the command line."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *words,
            cwd=self.directory,
            env=started.environment(**environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def told(self, *words, **environment):
        """Run a command to its end; return its exit code and all that it said."""
        process = await self.locum(*words, **environment)
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate()
        return process.returncode, (out + err).decode()

    def records(self, **wanted):
        self_directory, self.directory = self.directory, self.directory / "data"
        try:
            return super().records(**wanted)
        finally:
            self.directory = self_directory

    def origin_of(self, request_id):
        """Which process put the permit of a request on record."""
        [record] = self.records(request_id=request_id, decision="allow")
        return record["origin"]

    @asynccontextmanager
    async def connection(self):
        """One connection of a client, for one request after another."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Line:
    """A connection that stays open between requests."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, token=None, target="/tickets/1", *, method="GET"):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def head(self):
        """Read the head of the next response; return status and headers."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return parse(await self.reader.readuntil(b"\r\n\r\n"))[:2]

    async def get(self, token=None, target="/tickets/1"):
        """Send a request and read the whole response, which has a length; return status, headers and body."""
        self.send(token, target)
        status, headers = await self.head()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self):
        """Read to the end, which must come; a reset is one."""
        rest = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    rest += piece
        self.writer.close()  # or the other side waits a while for it
        return rest


async def until(condition):
    """Wait for what another process does and nothing tells us of."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


@asynccontextmanager
async def open_process_world(directory, *, script=None, issuer_class=WorldIssuer):
    """Prepare everything but the gateway: an app, an issuer, an account that may be assumed, and a client."""
    clock = TestClock()
    async with (
        RecordingUpstream(script if script is not None else lambda _request: response()) as upstream,
        issuer_class() as issuer,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        secret = new_secret()
        (directory / "data").mkdir(mode=0o700)
        await put_empty_store(directory / "data" / "locum.sqlite3")
        store = await open_sqlite(directory / "data" / "locum.sqlite3")
        await store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
        roles = frozenset({"token", "grants"})
        await store.add_client(Client(id=ClientId("app"), secret_digest=digest_of(secret), roles=roles))
        await store.close()
        yield ProcessWorld(
            gateway=Addresses(),
            upstream=upstream,
            issuer=issuer,
            clock=clock,
            directory=directory,
            secret=secret,
            http=http,
        )

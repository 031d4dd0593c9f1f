"""A whole gateway between a raw client and a recording upstream, with a vendor's issuer beside it."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import urlencode

import aiohttp

from gateway.app import Gateway, open_gateway
from gateway.audit.search import read
from gateway.clients import digest_of, new_secret
from gateway.clock import utc_now
from gateway.config.load import build
from gateway.demo.issuer import DemoIssuer
from gateway.stores.store import Client
from policy.model import Account, AccountId, AccountType, ClientId
from tests.empty_store import put_empty_store
from tests.oracle import parse_requests
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream, exchange, response
from tests.world_issuer import WorldIssuer

ISSUER = "https://assume.vendor.example"
AUDIENCE = "locum"
HOST = "acme.helpdesk.example"
AGENT_TYPE = "urn:locum:params:oauth:token-type:agent-id"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class TestClock:
    """The time of the gateway, in the test's hands; both clocks go together."""

    __test__ = False

    def __init__(self):
        self.now = utc_now().replace(microsecond=0)
        self.start = self.now

    def utc(self):
        return self.now

    def ticks(self):
        return (self.now - self.start).total_seconds() + 1000

    def forward(self, **delta):
        self.now += timedelta(**delta)


@dataclass
class World:
    """Everything around one gateway."""

    gateway: Gateway
    upstream: RecordingUpstream
    issuer: DemoIssuer
    clock: TestClock
    directory: Path
    secret: str
    http: aiohttp.ClientSession
    tokens: list = field(default_factory=list)
    sent: Counter = field(default_factory=Counter)
    """The requests that were sent, by method and target."""

    @property
    def port(self):
        return int(self.gateway.public_url.rpartition(":")[2])

    def basic(self):
        return "Basic " + base64.b64encode(f"app:{self.secret}".encode()).decode()

    async def raw(self, raw: bytes | Sequence[bytes], *, then: bytes = b"", **options):
        """Send raw bytes to the public listener and return what comes back."""
        await self.note_sent(raw if isinstance(raw, bytes) else b"".join(raw))
        if then:
            await self.note_sent(then)
        return await exchange("127.0.0.1", self.port, raw, then=then, **options)

    async def note_sent(self, raw: bytes):
        """Count the requests in some bytes, as the oracle reads them; for whoever sends by other means than `raw`."""
        for one in await parse_requests(raw):
            self.sent[one.method, one.target] += 1

    @property
    def strangers(self):
        """The requests that the upstream has heard and that nobody has sent, by the oracle's count.

        Beside the gateway's own question whether an agent exists.
        """
        heard = Counter((one.method, one.target) for one in self.upstream.requests if not _is_probe(one))
        return list((heard - self.sent).elements())

    async def get(self, token: str | None = None, target: str = "/tickets/1", *, method="GET", headers=(), body=b""):
        """Send one request, with a token if given, and return (status, headers, body) as text and bytes."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: close"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        raw = await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return parse(raw)

    async def add_account(self, account="acme", kind=AccountType.PAID, **more):
        await self.gateway.store.add_account(Account(id=AccountId(account), type=kind, **more))

    async def choose(self, duration="day", permissions=("read",), *, account="acme", roles=None, **who):
        """Let an administrator choose through the grants API; return (status, document)."""
        wish = {
            "assumption_duration": duration,
            "permissions": list(permissions),
            "administrator": {"id": "owner", "roles": {"support": "admin"} if roles is None else roles, **who},
        }
        url = f"{self.gateway.admin_url}/api/v1/accounts/{account}/assumption"
        async with self.http.put(url, json=wish, headers={"Authorization": self.basic()}) as answer:
            return answer.status, await answer.json(content_type=None)

    def actor_token(self, subject="dana", *, now=None, **changes):
        changes.setdefault("groups", ("support",))
        issued = int((now or self.clock.now).timestamp())
        changes.setdefault("iat", issued)
        changes.setdefault("exp", issued + 300)
        changes.setdefault("audience", AUDIENCE)
        return self.issuer.token(subject, **changes)

    async def ask(self, *, authorization=None, extra=(), url=None, **changes):
        """Ask for an assumption token; return (status, document). `changes` replace or, if None, drop parameters."""
        account = changes.pop("account", "acme")
        detail = {"type": "account_assumption", "account": account, "ticket": "SUP-1", "reason": "cannot reproduce"}
        form = {
            "grant_type": EXCHANGE,
            "subject_token": "maria",
            "subject_token_type": AGENT_TYPE,
            "actor_token": self.actor_token() if "actor_token" not in changes else "",
            "actor_token_type": ID_TOKEN,
            "audience": f"{account}.helpdesk.example",
            "authorization_details": json.dumps([detail | changes.pop("detail", {})]),
        } | changes
        fields = [(name, value) for name, value in form.items() if value is not None] + list(extra)
        headers = {
            "Authorization": self.basic() if authorization is None else authorization,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        address = url or f"{self.gateway.public_url}/.locum/oauth/token"
        async with self.http.post(address, data=urlencode(fields), headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def token(self, scope="tickets:read", **changes):
        """Return an assumption token for maria of acme."""
        status, document = await self.ask(scope=scope, **changes)
        assert 200 == status, document
        return document["access_token"]

    def records(self, **wanted):
        """Return the journal's records that have all of `wanted`."""
        every = list(read(self.directory / "journal"))
        return [record for record in every if all(record.get(key) == value for key, value in wanted.items())]

    def ends(self, **wanted):
        """Return the completions that have all of `wanted`, each put over what the decision's record says."""
        decided = {(record["origin"], record["seq"]): record for record in self.records(kind="decision")}
        ends = [decided[end["origin"], end["completes"]] | end for end in self.records(kind="completion")]
        return [end for end in ends if all(end.get(key) == value for key, value in wanted.items())]


def parse(raw: bytes):
    """Split a raw response into status, headers (lower-case names) and body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not lines[0]:
        return 0, {}, b""
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        headers.setdefault(name.strip().lower().decode(), value.strip().decode("latin-1"))
    return int(lines[0].split(b" ")[1]), headers, body


def _is_probe(seen):
    return seen.target == b"/whoami" and len(seen.values(b"x-locum-assertion")) == 1


def document(directory: Path, *, upstream: str, issuer: str):
    """Return a configuration as its TOML would decode."""
    return {
        "server": {
            "issuer": ISSUER,
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "data_directory": str(directory),
            "shutdown_seconds": 0.2,
        },
        "accounts": {"host": "{account}.helpdesk.example"},
        "upstream": {"url": upstream, "profile": str(quiet_profile(directory)), "forwarded_for": "keep"},
        "staff": {
            "issuer": issuer,
            "audience": AUDIENCE,
            "rules": [{"group": "support", "permissions": ["read", "test_tickets", "write"]}],
            "max_assumptions": 10_000,
        },
        "audit": {"patience_seconds": PATIENCE_SECONDS},
        # An answer is lost to a client that is still sending when its connection is closed.
        "limits": {"linger_timeout_seconds": PATIENCE_SECONDS / 2},
    }


def quiet_profile(directory: Path):
    """Return the demo's profile without its probe, so that the upstream hears nothing but what a test sends."""
    path = directory / "demo-helpdesk.toml"
    shipped = resources.files("policy").joinpath("profiles", "demo-helpdesk.toml").read_text()
    path.write_text(shipped.replace('agent_probe = "/whoami"', "agent_probe = false"))
    return path


def profile_with_roles(directory: Path):
    """Return the demo's profile for an app whose answer to the probe tells the agent's role."""
    path = directory / "with-roles.toml"
    shipped = resources.files("policy").joinpath("profiles", "demo-helpdesk.toml").read_text()
    named = shipped.replace('name = "demo-helpdesk"', 'name = "with-roles"')
    path.write_text(f'agent_role = "/role"\n{named}')
    return path


@asynccontextmanager
async def open_world(
    directory: Path,
    *,
    script=None,
    answer_at_head=False,
    change=lambda _document: None,
    account="acme",
    issuer_class=WorldIssuer,
    finish=lambda config: config,
    patience_seconds=PATIENCE_SECONDS,
):
    """Run a gateway before a recording upstream; `change` may edit the configuration first, `finish` what comes of it.

    Staff wait for facts and records as long as the tests do; in production half a second is all that they get.
    """
    clock = TestClock()
    async with (
        RecordingUpstream(script or (lambda _request: response()), answer_at_head=answer_at_head) as upstream,
        issuer_class(clock=clock.utc) as issuer,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        wanted = document(directory, upstream=upstream.url, issuer=issuer.issuer)
        change(wanted)
        config = finish(build(wanted, {}, base=directory))
        if config.store.address is None:
            await put_empty_store(config.store_path)
        async with open_gateway(
            config, clock=clock.utc, ticks=clock.ticks, patience_seconds=patience_seconds
        ) as gateway:
            secret = new_secret()
            client = Client(id=ClientId("app"), secret_digest=digest_of(secret), roles=frozenset({"token", "grants"}))
            await gateway.store.add_client(client)
            world = World(
                gateway=gateway,
                upstream=upstream,
                issuer=issuer,
                clock=clock,
                directory=directory,
                secret=secret,
                http=http,
            )
            if account:
                await world.add_account(account)
            yield world
        if upstream.reading.is_set():
            await upstream.until(lambda: all(connection.ended.is_set() for connection in upstream.connections))

"""Sets the stage: the issuer, the helpdesk, the gateway before it with its configuration, and who may call it."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import aiohttp

from gateway.app import Gateway, open_gateway
from gateway.cli.assume import CLIENT
from gateway.clients import DEVICE_ROLE, digest_of, new_secret
from gateway.config.load import load
from gateway.demo.django_helpdesk.runner import DjangoHelpdesk
from gateway.demo.helpdesk import DemoHelpdesk
from gateway.demo.issuer import DemoIssuer
from gateway.demo.story.clock import StoryClock
from gateway.demo.story.desk_acts import Backstage
from gateway.demo.story.folder import write_secret
from gateway.demo.story.inbox import Inbox
from gateway.demo.story.scene import (
    HELPDESK,
    SECURITY_CLIENT,
    SECURITY_GROUP,
    STAFF_AUDIENCE,
    STAFF_GROUP,
    SUPPORT_TOOL,
    Scene,
)
from gateway.stores.store import Client
from gateway.tasks import Tasks
from policy.model import Account, AccountId, AccountType, ClientId

A = TypeVar("A")

CONFIG = "config.toml"
WEBHOOKS_SECRET = "webhooks.secret"
_DOMAIN = "helpdesk.localhost"
_AUDIENCE = "helpdesk"
# A day for a grant to run out in, and an hour for what else the clock is moved by.
_BEHIND = timedelta(hours=25)
_TICK_SECONDS = 0.05
_REQUEST_SECONDS = 30
# The story is not about a store or a disk that is slow, and a newcomer's machine may be busy with other things.
_PATIENCE_SECONDS = 5.0
_ACCOUNTS = {"acme": AccountType.PAID, "globex": AccountType.PAID, "initech": AccountType.TRIAL}
_CONFIG = """\
# Written by `locum demo`, and made anew by the next one.

[server]
issuer = "http://127.0.0.1:{port}"
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
data_directory = "gateway"
shutdown_seconds = 0.5

[accounts]
host = "{{account}}.{domain}"

[upstream]
url = "{url}"
profile = "{profile}"
audience = "{audience}"

[staff]
issuer = "{issuer}"
audience = "{staff_audience}"

[staff.sign_in]
client_id = "{staff_audience}"

[[staff.rules]]
group = "{staff_group}"
permissions = ["read", "test_tickets", "write"]

[browser.banner]
enabled = true

[console.security]
origin = "http://127.0.0.1:{admin_port}"

[console.security.sign_in]
client_id = "{security_client}"
operators = ["{security_group}"]

[audit]
patience_seconds = {patience}
checkpoint_seconds = 0.25
verify_hours = 0.005

[[audit.witnesses]]
name = "elsewhere"
kind = "file"
path = "witness.checkpoints"
every_seconds = 0.25
"""
# What only the demo helpdesk answers: who is signed in.
_CONSOLE = """
[console.account]
who_am_i = "/me"

[console.account.fields]
user = "/user/id"
name = "/user/name"
account = "/account"
roles = "/user/roles"
acting = "/act"
"""
# Whoever is told receives it on this machine, where no other customer's webhook may be.
_NOTICES = f"""
[notices.webhooks]
secret_file = "{WEBHOOKS_SECRET}"
private_networks = ["127.0.0.0/8"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the gateway is to listen on 127.0.0.1."""

    public: int
    admin: int


def free_port(wanted: int, *, taken: int = 0) -> int:
    """Return the wanted port, or a free one if somebody else has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            if found != taken:
                return found
    raise OSError("there is no free port on 127.0.0.1")


@asynccontextmanager
async def open_helpdesk(folder: Path, ports: Ports) -> AsyncIterator[Scene[Backstage]]:
    """Run the demo helpdesk behind a gateway, with a clock that starts 25 hours ago."""
    clock, tasks = StoryClock(behind=_BEHIND), Tasks()
    async with AsyncExitStack() as stack:
        desk = DemoHelpdesk(clock=clock.utc, ticks=clock.ticks, tick_seconds=_TICK_SECONDS)
        started = perf_counter()
        await stack.enter_async_context(desk)
        public = f"http://127.0.0.1:{ports.public}"
        desk.trust(jwks_url=f"{public}/.locum/jwks.json", issuer=public, audience=_AUDIENCE)
        inbox = await stack.enter_async_context(Inbox(clock=clock.utc))
        backstage = Backstage(desk=desk, tasks=tasks, inbox=inbox)
        write_secret(folder / WEBHOOKS_SECRET, new_secret())
        scene = await _open_scene(
            stack,
            backstage,
            folder=folder,
            ports=ports,
            clock=clock,
            profile="demo-helpdesk",
            more=_CONSOLE + _NOTICES,
            url=desk.url,
            seconds=perf_counter() - started,
            reached=lambda: len(backstage.assumed()),
        )
        stack.push_async_callback(tasks.close)
        yield scene


@asynccontextmanager
async def open_django_helpdesk(folder: Path, ports: Ports) -> AsyncIterator[Scene[DjangoHelpdesk]]:
    """Run django-helpdesk behind a gateway; raises HelpdeskError if it cannot be had."""
    public = f"http://127.0.0.1:{ports.public}"
    hosts = ("127.0.0.1", "localhost", f"acme.{_DOMAIN}")
    jwks = f"{public}/.locum/jwks.json"
    app = DjangoHelpdesk(data=folder / "helpdesk", jwks_url=jwks, issuer=public, audience=_AUDIENCE, hosts=hosts)
    async with AsyncExitStack() as stack:
        started = perf_counter()
        await stack.enter_async_context(app)
        yield await _open_scene(
            stack,
            app,
            folder=folder,
            ports=ports,
            clock=StoryClock(),
            profile="django-helpdesk",
            url=app.url,
            seconds=perf_counter() - started,
            reached=lambda: 0,
        )


async def _open_scene(
    stack: AsyncExitStack,
    app: A,
    *,
    folder: Path,
    ports: Ports,
    clock: StoryClock,
    profile: str,
    url: str,
    seconds: float,
    reached: Callable[[], int],
    more: str = "",
) -> Scene[A]:
    issuer = await stack.enter_async_context(DemoIssuer(clock=clock.utc, with_sign_in=True))
    text = _CONFIG.format(
        port=ports.public,
        admin_port=ports.admin,
        domain=_DOMAIN,
        url=url,
        profile=profile,
        audience=_AUDIENCE,
        issuer=issuer.issuer,
        staff_audience=STAFF_AUDIENCE,
        staff_group=STAFF_GROUP,
        security_client=SECURITY_CLIENT,
        security_group=SECURITY_GROUP,
        patience=_PATIENCE_SECONDS,
    )
    (folder / CONFIG).write_text(text + more, encoding="utf-8")
    config = load(folder / CONFIG)
    gateway = await stack.enter_async_context(
        open_gateway(config, clock=clock.utc, ticks=clock.ticks, patience_seconds=_PATIENCE_SECONDS)
    )
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    gateway.keep_index(tasks)
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
    await stack.enter_async_context(http)
    return Scene(
        app=app,
        app_url=url,
        app_seconds=seconds,
        config=config,
        gateway=gateway,
        issuer=issuer,
        clock=clock,
        folder=folder,
        secrets=await _admit(gateway, folder),
        http=http,
        reached=reached,
    )


async def _admit(gateway: Gateway, folder: Path) -> dict[str, str]:
    """Add the accounts and the API clients; return the clients' secrets, which are kept in the folder as well."""
    for name, kind in _ACCOUNTS.items():
        await gateway.store.add_account(Account(id=AccountId(name), type=kind))
    secrets = {}
    for name, role in ((HELPDESK, "grants"), (SUPPORT_TOOL, "token")):
        secrets[name] = new_secret()
        client = Client(id=ClientId(name), secret_digest=digest_of(secrets[name]), roles=frozenset({role}))
        await gateway.store.add_client(client)
        write_secret(folder / f"{name}.secret", secrets[name])
    # Of `locum assume`: no secret would stay one on everybody's machine.
    await gateway.store.add_client(Client(id=ClientId(CLIENT), secret_digest=b"", roles=frozenset({DEVICE_ROLE})))
    return secrets

"""Locum as a contender: a process of its own, run and fed the way an operator and a support tool do it."""

import json
import sys
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode

import aiohttp

from bench.peers import Contender
from bench.processes import Fault, free_port, run, serving
from bench.rows import GRANTS, LIVE, LOCUM, State
from gateway.demo.issuer import DemoIssuer

ISSUER = "https://assume.vendor.example"
AUDIENCE_OF = "{account}.helpdesk.example"
STAFF = "dana"
CLIENT = "bench"
CALLERS = "callers"
_ACCOUNT = "acme"
_STAFF_AUDIENCE = "locum"
_FILL_SECONDS = 120.0
_COMMAND_SECONDS = 20.0
_READY = b"for everybody"

Caller = tuple[str, str]
"""A host and an assumption token that is good there for a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningLocum:
    """A gateway, and who may come to it as staff."""

    contender: Contender
    callers: Sequence[Caller]


async def start_locum(
    stack: AsyncExitStack,
    state: State,
    issuer: DemoIssuer,
    *,
    tokens: int,
    workers: int,
    directory: Path,
    backend: int,
    cores: Collection[int],
    under: Sequence[str] = (),
) -> RunningLocum:
    """Run a gateway with `state` in its store and get `tokens`; raises Fault. `under`: more words before `-m gateway`.

    With one grant all goes the operator's way: the command line, then the token endpoint; without tokens neither is
    needed. More grants are filled in.
    """
    room = directory / f"locum-{state}-{workers}"
    room.mkdir()
    port = free_port()
    config = room / "config.toml"
    text = render(port, free_port(), backend=backend, staff_issuer=issuer.issuer, workers=workers)
    config.write_text(text, encoding="utf-8")
    secret = await _set_up(room) if state is State.ONE and tokens else ""
    if state is not State.ONE:
        numbers = (str(GRANTS[state]), str(LIVE[state]), str(tokens))
        fill = [sys.executable, "-m", "bench.fill", str(config), issuer.issuer, *numbers]
        await run(fill, directory=Path(__file__).parent.parent, seconds=_FILL_SECONDS)
    command = [sys.executable, *under, "-m", "gateway", "--config", config.name, "run"]
    # The port accepts when the first worker does, but only when all serve is it said.
    server = serving(command, port=port, cores=cores, directory=room, said=_READY)
    pid = await stack.enter_async_context(server)
    if state is not State.ONE:
        callers = [_caller(line) for line in (room / CALLERS).read_text(encoding="ascii").splitlines()]
    else:
        callers = [await _exchange(issuer, port, secret)] if tokens else []
    contender = Contender(name=LOCUM, version=version("locum"), port=port, pid=pid)
    return RunningLocum(contender=contender, callers=callers)


def render(port: int, admin_port: int, *, backend: int, staff_issuer: str, workers: int = 1) -> str:
    """Return a configuration with nothing in it but what has no default, `workers` if they are several, and no index.

    The index is built by another process, whenever there is time for it, and has a benchmark of its own.
    """
    several = f"workers = {workers}\n" if workers > 1 else ""
    return f"""[server]
issuer = "{ISSUER}"
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
shutdown_seconds = 1.0
{several}[accounts]
host = "{AUDIENCE_OF}"
[upstream]
url = "http://127.0.0.1:{backend}"
profile = "demo-helpdesk"
[staff]
max_assumptions = 10000
issuer = "{staff_issuer}"
audience = "{_STAFF_AUDIENCE}"
[[staff.rules]]
group = "support"
permissions = ["read"]
[audit]
index = false
"""


async def _set_up(room: Path) -> str:
    """Add an account that allows it and a client, and return the client's secret."""
    await _command(room, "account", "add", _ACCOUNT)
    await _command(room, "grant", "set", _ACCOUNT, "day", "--as", "owner")
    return (await _command(room, "client", "add", CLIENT, "--role", "token")).strip()


async def _command(room: Path, *words: str) -> str:
    command = [sys.executable, "-m", "gateway", "--config", "config.toml", *words]
    return await run(command, directory=room, seconds=_COMMAND_SECONDS)


async def _exchange(issuer: DemoIssuer, port: int, secret: str) -> Caller:
    """Ask the token endpoint as a support tool would (RFC 8693 section 2.1)."""
    host = AUDIENCE_OF.format(account=_ACCOUNT)
    detail = {"type": "account_assumption", "account": _ACCOUNT, "ticket": "SUP-1", "reason": "cannot reproduce"}
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "maria",
        "subject_token_type": "urn:locum:params:oauth:token-type:agent-id",
        "actor_token": issuer.token(STAFF, audience=_STAFF_AUDIENCE, groups=("support",)),
        "actor_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "audience": host,
        "scope": "tickets:read",
        "authorization_details": json.dumps([detail]),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"http://127.0.0.1:{port}/.locum/oauth/token"
    async with (
        aiohttp.ClientSession(auth=aiohttp.BasicAuth(CLIENT, secret), trust_env=False) as http,
        http.post(url, data=urlencode(form), headers=headers) as answer,
    ):
        document = await answer.json(content_type=None)
    if answer.status != 200:
        raise Fault(f"no token was issued: {document}")
    return host, document["access_token"]


def _caller(line: str) -> Caller:
    host, _, token = line.partition(" ")
    return host, token

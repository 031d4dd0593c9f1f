"""The composition root: builds every object, opens every listener, and takes all of it down again."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from gateway.audit.checkpoint import NoteSigner
from gateway.audit.journal import Journal
from gateway.audit.log import AuditLog, JournalError
from gateway.clients import ClientAuthenticator
from gateway.clock import Clock, Ticks, boot_seconds, utc_now
from gateway.config.check import parse_address, parse_network
from gateway.config.model import Config, ConfigError
from gateway.files import claim_directory, write_new
from gateway.grants.api import GrantsApi
from gateway.grants.facts import FactCache
from gateway.grants.owed import record_owed
from gateway.grants.service import GrantService
from gateway.grants.watch import watch
from gateway.health import Health
from gateway.profiles import load_profile, read_upstream_url
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.handler import ProxyHandler
from gateway.proxy.identity import Assertions
from gateway.proxy.listener import Listener, ListenerLimits, make_listener
from gateway.proxy.live import Live
from gateway.proxy.names import Names
from gateway.proxy.pool import Pool, PoolLimits, parse_upstream_url
from gateway.proxy.probe import AgentProbe
from gateway.proxy.triage import AccountReader, CatchRules
from gateway.staff.issuer import Issuer
from gateway.staff.verify import StaffVerifier
from gateway.stores.sqlite import SqliteStore, open_sqlite
from gateway.stores.store import AccountRecord, StoreError
from gateway.tasks import Tasks
from gateway.tokens.endpoint import TokenEndpoint
from gateway.tokens.keys import KeyRing, open_keys
from gateway.tokens.signing import TokenVerifier
from policy.exchange import ExchangeTerms
from policy.routes import Profile

log = logging.getLogger(__name__)

JOURNAL_ORIGIN = "gateway"
START_ERRORS = (ConfigError, StoreError, JournalError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running gateway, and what the demo and the tests look at."""

    public_url: str
    admin_url: str
    store: SqliteStore
    journal: AuditLog
    live: Live
    keys: KeyRing


@asynccontextmanager
async def open_gateway(
    config: Config, *, clock: Clock = utc_now, ticks: Ticks = boot_seconds
) -> AsyncIterator[Gateway]:
    """Run a gateway until the block ends; raises one of START_ERRORS if it cannot start."""
    async with AsyncExitStack() as stack:
        profile = load_profile(config.upstream.profile)
        state = await _open_state(stack, config, clock, ticks)
        parts = await _build(stack, config, profile, state)
        listener = make_listener(parts.handler, ListenerLimits())
        stack.push_async_callback(listener.shutdown, config.server.shutdown_seconds)
        public = await _listen(stack, listener, *parse_address(config.server.listen, "server.listen"))
        admin = await _serve(stack, parts.admin, *parse_address(config.server.admin_listen, "server.admin_listen"))
        yield Gateway(
            public_url=public,
            admin_url=admin,
            store=state.store,
            journal=state.journal,
            live=parts.live,
            keys=state.keys,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What must not be lost: the store, the keys in it, the journal; and the time they are kept by."""

    store: SqliteStore
    keys: KeyRing
    journal: Journal
    clock: Clock
    ticks: Ticks


async def _open_state(stack: AsyncExitStack, config: Config, clock: Clock, ticks: Ticks) -> _State:
    claim_directory(Path(config.server.data_directory))
    store = await open_sqlite(config.store_path)
    stack.push_async_callback(store.close)
    keys = await open_keys(store, config.tokens.signing_key, now=clock())
    write_new(config.journal_key, keys.journal.public_pem())
    journal = await Journal.open(
        config.journal_directory,
        origin=JOURNAL_ORIGIN,
        clock=clock,
        ticks=ticks,
        signer=NoteSigner(keys.journal.private, name=JOURNAL_ORIGIN),
        segment_bytes=config.audit.segment_mib * 1024 * 1024,
        checkpoint_seconds=config.audit.checkpoint_seconds,
    )
    stack.push_async_callback(journal.close)
    return _State(store=store, keys=keys, journal=journal, clock=clock, ticks=ticks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What answers: the public handler and the admin application."""

    handler: ProxyHandler
    admin: web.Application
    live: Live


async def _build(stack: AsyncExitStack, config: Config, profile: Profile, state: _State) -> _Parts:
    trusted = tuple(parse_network(text, "server.trusted_proxies") for text in config.server.trusted_proxies)
    accounts = AccountReader(config.accounts, trusted)
    clients = ClientAuthenticator(state.store)
    verifier = TokenVerifier(state.keys.verifying, issuer=config.server.issuer)
    live = Live(profile, state.clock)
    facts = _open_facts(stack, config, state, live)
    identity = config.identity
    known = Names(identity=(identity.header, *identity.plain.values()), strip=identity.strip)
    upstream = _open_upstream(stack, config)
    assertions = Assertions(
        state.keys.signing,
        identity,
        issuer=config.server.issuer,
        audience=config.upstream.audience,
        bind=config.upstream.bind_assertions,
        ticks=state.ticks,
    )
    assumed = AssumedTraffic(
        accounts=accounts,
        verifier=verifier,
        facts=facts,
        profile=profile,
        journal=state.journal,
        assertions=assertions,
        known=known,
        live=live,
        upstream=upstream,
        clock=state.clock,
    )
    control = web.Application()
    probe = AgentProbe(
        accounts=accounts,
        profile=profile,
        upstream=upstream,
        assertions=assertions,
        journal=state.journal,
        issuer=config.server.issuer,
        clock=state.clock,
    )
    endpoint = await _open_endpoint(
        stack, config, profile, state, accounts=accounts, clients=clients, facts=facts, probe=probe
    )
    control.add_routes(endpoint.routes())
    handler = ProxyHandler(
        upstream=upstream,
        control=await _open_control(stack, control),
        assumed=assumed,
        verifier=verifier,
        catch=CatchRules(config.catch),
        known=known,
        default_host=urlsplit(config.upstream.url).netloc or "localhost",
        append_forwarded_for=config.upstream.forwarded_for == "append",
    )
    admin = _make_admin(stack, config, state, clients=clients, facts=facts, live=live)
    return _Parts(handler=handler, admin=admin, live=live)


def _open_facts(stack: AsyncExitStack, config: Config, state: _State, live: Live) -> FactCache:
    """Return the fact cache, with whoever watches the store for changes that other processes make."""
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    facts = FactCache(
        state.store,
        ttl_seconds=config.grants.fact_ttl_seconds,
        absent_ttl_seconds=config.grants.absent_ttl_seconds,
        trial_permissions=frozenset(config.grants.trial_permissions),
        ticks=state.ticks,
        tasks=tasks,
    )

    async def changed_elsewhere() -> None:
        facts.forget_all()
        await live.anything_changed(lambda request: facts.of_request(request.account, request.claims))

    tasks.start(watch(state.store.data_version, changed_elsewhere), name="watch the store")
    return facts


async def _open_endpoint(
    stack: AsyncExitStack,
    config: Config,
    profile: Profile,
    state: _State,
    *,
    accounts: AccountReader,
    clients: ClientAuthenticator,
    facts: FactCache,
    probe: AgentProbe,
) -> TokenEndpoint:
    # No cookie is kept and no proxy of the environment is asked: what the issuer says comes from the issuer.
    http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False))
    issuer = Issuer(config.staff.issuer, http=http, ticks=state.ticks)
    return TokenEndpoint(
        store=state.store,
        keys=state.keys,
        staff=StaffVerifier(issuer, config.staff, state.clock),
        facts=facts,
        host_of=accounts.host_of,
        agents=probe,
        terms=ExchangeTerms(
            issuer=config.server.issuer,
            lifetime=timedelta(seconds=config.tokens.lifetime_seconds),
            known_scopes=frozenset(profile.scopes),
            require_ticket=config.tokens.require_ticket,
            require_reason=config.tokens.require_reason,
        ),
        journal=state.journal,
        clients=clients,
        clock=state.clock,
    )


def _make_admin(
    stack: AsyncExitStack,
    config: Config,
    state: _State,
    *,
    clients: ClientAuthenticator,
    facts: FactCache,
    live: Live,
) -> web.Application:
    def changed(record: AccountRecord) -> int:
        facts.forget_account(record.account.id)
        return live.account_changed(record.account.id, record.account, facts.grant_of(record))

    service = GrantService(
        state.store,
        state.journal,
        accepted_roles=frozenset(config.grants.administrator_roles),
        clock=state.clock,
        changed=changed,
    )
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    tasks.start(record_owed(service), name="record what is owed")
    trial = frozenset(config.grants.trial_permissions)
    admin = web.Application()
    admin.add_routes(GrantsApi(service, clients, trial_permissions=trial, clock=state.clock).routes())
    admin.add_routes(Health(state.store, state.journal).routes())
    return admin


def _open_upstream(stack: AsyncExitStack, config: Config) -> Pool:
    section = config.upstream
    address = read_upstream_url(section.url)
    limits = PoolLimits(
        connect_timeout_seconds=section.connect_timeout_seconds,
        first_byte_timeout_seconds=section.response_timeout_seconds,
        idle_timeout_seconds=section.idle_timeout_seconds,
        max_connections=section.max_connections,
    )
    pool = Pool(address, limits=limits)
    stack.push_async_callback(pool.close)
    return pool


async def _open_control(stack: AsyncExitStack, application: web.Application) -> Pool:
    """Serve the control plane on a socket of our own, and return the way to it: one more upstream of the proxy."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="locum-"))
    path = str(Path(directory) / "control.sock")
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, path).start()
    pool = Pool(parse_upstream_url(f"unix:{path}"), limits=PoolLimits())
    stack.push_async_callback(pool.close)
    return pool


async def _listen(stack: AsyncExitStack, listener: Listener, host: str, port: int) -> str:
    server = await asyncio.get_running_loop().create_server(listener, host, port, backlog=1024)
    stack.callback(server.close)
    return f"http://{host}:{server.sockets[0].getsockname()[1]}"


async def _serve(stack: AsyncExitStack, application: web.Application, host: str, port: int) -> str:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host, port)
    await site.start()
    return f"http://{host}:{runner.addresses[0][1]}"

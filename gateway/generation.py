"""Everything that is made from one configuration, and that a reload replaces as a whole."""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from gateway.audit.log import JournalError
from gateway.clients import ClientAuthenticator
from gateway.config.check import parse_network
from gateway.config.model import Config
from gateway.grants.api import GrantsApi
from gateway.grants.owed import record_owed
from gateway.grants.service import GrantService
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.handler import ProxyHandler
from gateway.proxy.identity import Assertions
from gateway.proxy.names import Names
from gateway.proxy.probe import AgentProbe
from gateway.proxy.triage import AccountReader, CatchRules
from gateway.proxy.wire import Inbound, Upstream
from gateway.routes import Answer, Offer
from gateway.staff.issuer import Issuer
from gateway.staff.verify import StaffVerifier
from gateway.state import State
from gateway.stores.store import AccountRecord
from gateway.tasks import Tasks
from gateway.tokens.endpoint import TokenEndpoint
from gateway.tokens.keys import KeyRing, open_keys
from gateway.tokens.signing import TokenVerifier
from gateway.upstreams import open_upstreams
from policy.exchange import ExchangeTerms
from policy.routes import Profile

_OWED_SECONDS = 1.0


class Generation:
    """What answers under one configuration, until the last of its requests is over."""

    def __init__(
        self,
        config: Config,
        *,
        keys: KeyRing,
        handler: ProxyHandler,
        control: Offer,
        admin: Offer,
        grants: GrantService,
        stack: AsyncExitStack,
    ) -> None:
        """Use `open_generation`."""
        self.config = config
        self.keys = keys
        self.control = [self._counted(route) for route in control]
        """The routes of the control plane, behind the public listener."""
        self.admin = [self._counted(route) for route in admin]
        """The routes of the admin listener."""
        self._handler = handler
        self._grants = grants
        self._stack = stack
        self._under_way = 0
        self._left = asyncio.Event()

    async def answer(self, inbound: Inbound) -> None:
        """Answer one request of the public listener; see `gateway.proxy.wire.Handler`."""
        self._under_way += 1
        try:
            await self._handler(inbound)
        finally:
            self._leave()

    async def retire(self) -> None:
        """Wait until nothing is under way and nothing owed to the journal, then close; if cancelled, close at once."""
        try:
            while self._under_way:
                self._left.clear()
                await self._left.wait()
            while True:
                if await self._settled():
                    break
                await asyncio.sleep(_OWED_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Take everything down, also what is under way; what is owed to the journal is tried once more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_OWED_SECONDS):
                await self._settled()
        await self._stack.aclose()

    async def _settled(self) -> bool:
        try:
            await self._grants.record_owed()
        except JournalError:
            return False
        return True

    def _counted(self, route: web.AbstractRouteDef) -> web.AbstractRouteDef:
        if not isinstance(route, web.RouteDef):
            raise TypeError("only single routes can be counted")
        answer = cast("Answer", route.handler)

        async def counted(request: web.Request) -> web.StreamResponse:
            self._under_way += 1
            try:
                return await answer(request)
            finally:
                self._leave()

        return web.RouteDef(route.method, route.path, counted, route.kwargs)

    def _leave(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._left.set()


async def open_generation(config: Config, profile: Profile, state: State, *, control: Upstream) -> Generation:
    """Make everything from `config`; raises ConfigError, StoreError, OSError, and then leaves nothing behind."""
    async with AsyncExitStack() as stack:
        keys = await open_keys(state.store, config.tokens.signing_key, now=state.clock())
        return await _Builder(stack, config, profile, state, keys).build(control)


class _Builder:
    """Makes the parts of one generation; what is opened goes on the stack."""

    def __init__(self, stack: AsyncExitStack, config: Config, profile: Profile, state: State, keys: KeyRing) -> None:
        self.stack = stack
        self.config = config
        self.profile = profile
        self.state = state
        self.keys = keys
        trusted = tuple(parse_network(text, "server.trusted_proxies") for text in config.server.trusted_proxies)
        self.accounts = AccountReader(config.accounts, trusted)
        self.clients = ClientAuthenticator(state.store)
        self.upstream = open_upstreams(config)
        stack.push_async_callback(self.upstream.close)
        self.assertions = Assertions(
            keys.signing,
            config.identity,
            issuer=config.server.issuer,
            audience=config.upstream.audience,
            bind=config.upstream.bind_assertions,
            ticks=state.ticks,
        )

    async def build(self, control: Upstream) -> Generation:
        endpoint = await self._endpoint()
        grants = self._grants()
        trial = frozenset(self.config.grants.trial_permissions)
        api = GrantsApi(grants, self.clients, trial_permissions=trial, clock=self.state.clock)
        return Generation(
            self.config,
            keys=self.keys,
            handler=self._handler(control),
            control=endpoint.routes(),
            admin=api.routes(),
            grants=grants,
            stack=self.stack.pop_all(),
        )

    def _handler(self, control: Upstream) -> ProxyHandler:
        config, state = self.config, self.state
        identity = config.identity
        known = Names(identity=(identity.header, *identity.plain.values()), strip=identity.strip)
        verifier = TokenVerifier(self.keys.verifying, issuer=config.server.issuer)
        assumed = AssumedTraffic(
            accounts=self.accounts,
            verifier=verifier,
            facts=state.facts,
            profile=self.profile,
            journal=state.journal,
            assertions=self.assertions,
            known=known,
            live=state.live,
            upstream=self.upstream,
            clock=state.clock,
        )
        return ProxyHandler(
            upstream=self.upstream,
            control=control,
            assumed=assumed,
            verifier=verifier,
            catch=CatchRules(config.catch),
            known=known,
            default_host=urlsplit(config.upstream.url).netloc or "localhost",
            append_forwarded_for=config.upstream.forwarded_for == "append",
        )

    async def _endpoint(self) -> TokenEndpoint:
        config, state = self.config, self.state
        # No cookie is kept and no proxy of the environment is asked: what the issuer says comes from the issuer.
        session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        http = await self.stack.enter_async_context(session)
        issuer = Issuer(config.staff.issuer, http=http, ticks=state.ticks)
        return TokenEndpoint(
            store=state.store,
            keys=self.keys,
            staff=StaffVerifier(issuer, config.staff, state.clock),
            facts=state.facts,
            host_of=self.accounts.host_of,
            agents=self._probe(),
            terms=ExchangeTerms(
                issuer=config.server.issuer,
                lifetime=timedelta(seconds=config.tokens.lifetime_seconds),
                known_scopes=frozenset(self.profile.scopes),
                require_ticket=config.tokens.require_ticket,
                require_reason=config.tokens.require_reason,
            ),
            journal=state.journal,
            clients=self.clients,
            clock=state.clock,
        )

    def _probe(self) -> AgentProbe:
        return AgentProbe(
            accounts=self.accounts,
            profile=self.profile,
            upstream=self.upstream,
            assertions=self.assertions,
            journal=self.state.journal,
            issuer=self.config.server.issuer,
            clock=self.state.clock,
        )

    def _grants(self) -> GrantService:
        facts, live = self.state.facts, self.state.live

        def changed(record: AccountRecord) -> int:
            facts.forget_account(record.account.id)
            return live.account_changed(record.account.id, record.account, facts.grant_of(record))

        service = GrantService(
            self.state.store,
            self.state.journal,
            accepted_roles=frozenset(self.config.grants.administrator_roles),
            clock=self.state.clock,
            changed=changed,
        )
        tasks = Tasks()
        self.stack.push_async_callback(tasks.close)
        tasks.start(record_owed(service), name="record what is owed")
        return service

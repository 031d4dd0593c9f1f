"""Everything that is made from one configuration, and that a reload replaces as a whole."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import cast
from urllib.parse import urlsplit

from aiohttp import web

from gateway.audit.log import JournalError
from gateway.audit.owed import PAUSE_SECONDS, Debts
from gateway.clients import ClientAuthenticator
from gateway.config.check import parse_network
from gateway.config.model import Config
from gateway.grants.api import GrantsApi
from gateway.grants.opening import open_grants, open_hook, open_source
from gateway.grants.source import AccountSource
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.control import ControlShares
from gateway.proxy.handler import ProxyHandler
from gateway.proxy.identity import Assertions
from gateway.proxy.names import Names
from gateway.proxy.probe import AgentProbe
from gateway.proxy.triage import AccountReader, CatchRules, trusting
from gateway.proxy.wire import Inbound, Upstream
from gateway.routes import Answer, Offer
from gateway.selftest import door
from gateway.staff.issuer import Issuer
from gateway.staff.opening import notice_routes, open_issuer, open_sign_outs
from gateway.staff.verify import StaffVerifier
from gateway.state import State
from gateway.tasks import run_on
from gateway.tokens.endpoint import TokenEndpoint
from gateway.tokens.keys import KeyRing
from gateway.tokens.signing import TokenVerifier
from gateway.upstreams import Counted, open_upstreams
from policy.exchange import ExchangeTerms
from policy.routes import Profile


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
        debts: Sequence[Debts],
        accounts: AccountSource,
        upstream: Counted,
        stack: AsyncExitStack,
    ) -> None:
        """Use `open_generation`."""
        self.config = config
        self.keys = keys
        self.accounts = accounts
        """Whom the fact cache asks for accounts."""
        self.control = [self._counted(route) for route in control]
        """The routes of the control plane, behind the public listener."""
        self.admin = [self._counted(route) for route in admin]
        """The routes of the admin listener."""
        self._handler = handler
        self._upstream = upstream
        self._debts = debts
        self._stack = stack
        self._under_way = 0
        self._left = asyncio.Event()

    @property
    def upstream_connections(self) -> int:
        """How many connections to the app there are, in use or idle."""
        return self._upstream.open_count

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
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Take everything down, also what is under way; what is owed to the journal is tried once more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._settled()
        await self._stack.aclose()

    async def _settled(self) -> bool:
        try:
            for debts in self._debts:
                await debts.settle()
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
        keys = await state.keys(config)
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
        stack, config, state = self.stack, self.config, self.state
        issuer = await open_issuer(stack, config, state)
        endpoint = self._endpoint(issuer)
        sign_outs = open_sign_outs(stack, state)
        grants = open_grants(stack, config, state)
        accounts = await open_source(stack, config, state, grants=grants)
        hook = open_hook(stack, config, state, accounts=accounts)
        notices = notice_routes(config, state, issuer=issuer, sign_outs=sign_outs)
        api = GrantsApi(
            grants,
            self.clients,
            accounts=accounts,
            kept_by_app=config.grants.kept_by_app,
            trial_permissions=frozenset(config.grants.trial_permissions),
            clock=state.clock,
        )
        cuts = Debts(state.journal)
        run_on(stack, cuts.keep_settling(), name="record what was cut")
        return Generation(
            config,
            keys=self.keys,
            handler=self._handler(control, cuts),
            control=[*endpoint.routes(), *hook.routes(), *notices, *door.routes()],
            admin=api.routes(),
            debts=(grants.debts, sign_outs.debts, cuts),
            accounts=accounts,
            upstream=self.upstream,
            stack=stack.pop_all(),
        )

    def _handler(self, control: Upstream, cuts: Debts) -> ProxyHandler:
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
            owed=cuts,
            assertions=self.assertions,
            known=known,
            live=state.live,
            upstream=self.upstream,
            control=control,
            counts=state.counts,
            clock=state.clock,
        )
        return ProxyHandler(
            upstream=self.upstream,
            control=control,
            shares=ControlShares(trusting(config)),
            assumed=assumed,
            verifier=verifier,
            catch=CatchRules(config.catch),
            known=known,
            counts=state.counts,
            default_host=urlsplit(config.upstream.url).netloc or "localhost",
            append_forwarded_for=config.upstream.forwarded_for == "append",
        )

    def _endpoint(self, issuer: Issuer) -> TokenEndpoint:
        config, state = self.config, self.state
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
            counts=state.counts,
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

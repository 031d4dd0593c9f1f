"""Everything that is made from one configuration, and that a reload replaces as a whole."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
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
from gateway.grants.hooks import GrantHook
from gateway.grants.http_source import AppSetting, HttpSource, open_http
from gateway.grants.owed import Debtor, record_owed
from gateway.grants.service import GrantService
from gateway.grants.source import AccountSource, Freshness
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.handler import ProxyHandler
from gateway.proxy.identity import Assertions
from gateway.proxy.names import Names
from gateway.proxy.probe import AgentProbe
from gateway.proxy.triage import AccountReader, CatchRules, is_account_name
from gateway.proxy.wire import Inbound, Upstream
from gateway.routes import Answer, Offer
from gateway.selftest import door
from gateway.staff.events import EventReceiver
from gateway.staff.issuer import Issuer
from gateway.staff.logout import LogoutEndpoint
from gateway.staff.notices import Notices
from gateway.staff.sign_outs import SignOuts
from gateway.staff.verify import StaffVerifier
from gateway.state import State
from gateway.stores.store import AccountRecord
from gateway.tasks import Tasks
from gateway.tokens.endpoint import TokenEndpoint
from gateway.tokens.keys import KeyRing
from gateway.tokens.signing import TokenVerifier
from gateway.upstreams import Counted, open_upstreams
from policy.events import Terms, read_event, read_logout
from policy.exchange import ExchangeTerms
from policy.model import AccountId, ActorId, Assumption, Deny, DenyReason
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
        debtors: Sequence[Debtor],
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
        self._debtors = debtors
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
            for debtor in self._debtors:
                await debtor.record_owed()
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
        issuer = await self._issuer()
        endpoint = self._endpoint(issuer)
        sign_outs = self._sign_outs()
        grants = self._grants()
        accounts = await self._source(grants)
        hook = self._hook(accounts)
        trial = frozenset(self.config.grants.trial_permissions)
        api = GrantsApi(
            grants,
            self.clients,
            accounts=accounts,
            kept_by_app=self.config.grants.source == "http",
            trial_permissions=trial,
            clock=self.state.clock,
        )
        return Generation(
            self.config,
            keys=self.keys,
            handler=self._handler(control),
            control=[*endpoint.routes(), *hook.routes(), *self._notices(issuer, sign_outs), *door.routes()],
            admin=api.routes(),
            debtors=(grants, sign_outs),
            accounts=accounts,
            upstream=self.upstream,
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
            control=control,
            counts=state.counts,
            clock=state.clock,
        )
        return ProxyHandler(
            upstream=self.upstream,
            control=control,
            assumed=assumed,
            verifier=verifier,
            catch=CatchRules(config.catch),
            known=known,
            counts=state.counts,
            default_host=urlsplit(config.upstream.url).netloc or "localhost",
            append_forwarded_for=config.upstream.forwarded_for == "append",
        )

    async def _issuer(self) -> Issuer:
        # No cookie is kept and no proxy of the environment is asked: what the issuer says comes from the issuer.
        session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        http = await self.stack.enter_async_context(session)
        return Issuer(self.config.staff.issuer, http=http, ticks=self.state.ticks)

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

    def _sign_outs(self) -> SignOuts:
        state = self.state

        def ended(actor: ActorId, assumptions: Sequence[Assumption]) -> None:
            state.facts.forget_staff(actor)
            for assumption in assumptions:
                state.facts.forget_assumption(assumption.id)
                for exchange in state.live.of_assumption(assumption.id):
                    exchange.cut(Deny(reason=DenyReason.ASSUMPTION_ENDED))

        sign_outs = SignOuts(state.store, state.journal, clock=state.clock, ended=ended)
        self._pay(sign_outs)
        return sign_outs

    def _notices(self, issuer: Issuer, sign_outs: SignOuts) -> list[web.AbstractRouteDef]:
        staff, events, state = self.config.staff, self.config.staff.events, self.state
        logout = Terms(issuer=staff.issuer, audience=staff.audience, max_age=timedelta(seconds=events.max_age_seconds))
        pushed = replace(logout, audience=events.audience or staff.audience)
        push_token = None if events.push_token is None else events.push_token.reveal()
        logouts = Notices(issuer, logout, read_logout, clock=state.clock, ticks=state.ticks)
        events_ = Notices(issuer, pushed, read_event, clock=state.clock, ticks=state.ticks)
        receiver = EventReceiver(events_, sign_outs, push_token=push_token)
        return [*LogoutEndpoint(logouts, sign_outs).routes(), *receiver.routes()]

    def _pay(self, debtor: Debtor) -> None:
        tasks = Tasks()
        self.stack.push_async_callback(tasks.close)
        tasks.start(record_owed(debtor), name="record what is owed")

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

    async def _source(self, grants: GrantService) -> AccountSource:
        config, state = self.config.grants.http, self.state
        if config is None:
            return state.store
        facts, live = state.facts, state.live

        def changed(record: AccountRecord) -> None:
            # What is being fetched is what has changed, so nobody has to forget it.
            facts.saw(record)
            live.account_changed(record.account.id, record.account, facts.grant_of(record))

        http = await self.stack.enter_async_context(open_http(config))
        return HttpSource(
            AppSetting(config, http),
            store=state.store,
            grants=grants,
            is_account=self._is_account,
            timeout_seconds=config.timeout_seconds,
            clock=state.clock,
            changed=changed,
        )

    def _hook(self, accounts: AccountSource) -> GrantHook:
        config, state = self.config.grants, self.state
        fresh = Freshness(accounts, store=state.store, facts=state.facts, live=state.live)
        if config.http is not None:
            # A change right behind one answer is in the next, which has come before facts would be too old.
            pause = max(config.fact_ttl_seconds - 2 * config.http.timeout_seconds, config.fact_ttl_seconds / 4)
            tasks = Tasks()
            self.stack.push_async_callback(tasks.close)
            tasks.start(fresh.follow(pause), name="ask the app about what is open")
        return GrantHook(config.webhook, refresh=fresh.refresh, is_account=self._is_account, clock=state.clock)

    def _is_account(self, account: AccountId) -> bool:
        return is_account_name(account) or account == self.config.accounts.fixed != ""

    def _grants(self) -> GrantService:
        facts, live = self.state.facts, self.state.live

        def changed(record: AccountRecord) -> int:
            facts.saw(record)
            facts.forget_account(record.account.id)
            return live.account_changed(record.account.id, record.account, facts.grant_of(record))

        service = GrantService(
            self.state.store,
            self.state.journal,
            accepted_roles=frozenset(self.config.grants.administrator_roles),
            clock=self.state.clock,
            changed=changed,
        )
        self._pay(service)
        return service

"""Makes everything from one configuration: the parts of a generation, and what joins them."""

import logging
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from gateway.assumptions.opening import open_banner, open_browser_service, open_browsers
from gateway.audit.api.checkpoints import open_log_door
from gateway.audit.api.log import LogApi
from gateway.audit.api.receipts import ReceiptApi
from gateway.audit.evidence.opening import open_watch
from gateway.audit.evidence.ordering import ReceiptMaker
from gateway.clients import ClientAuthenticator
from gateway.config.check import parse_network
from gateway.config.model import Config
from gateway.console.account import opening as account_pages
from gateway.console.account.customer_sign_in_opening import open_customer_sign_ins
from gateway.console.security import opening as security_console
from gateway.console.stream_places import StreamPlaces
from gateway.devices.page import DevicePage
from gateway.generation import Generation
from gateway.grants.api import GrantsApi
from gateway.grants.opening import open_grants, open_hook, open_requests, open_source
from gateway.grants.requests_api import RequestsApi
from gateway.grants.switch import Switch
from gateway.grants.switch_api import SwitchApi
from gateway.origin import Origin
from gateway.pages.render import Pages
from gateway.places import Places
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.challenges import Challenges
from gateway.proxy.control import ControlShares
from gateway.proxy.forwarded import Forwarding
from gateway.proxy.handler import ProxyHandler
from gateway.proxy.identity import Assertions
from gateway.proxy.names import Names
from gateway.proxy.probe import AgentProbe
from gateway.proxy.proofs import HeldKeys
from gateway.proxy.triage import AccountReader, CatchRules, name_of, trusting
from gateway.proxy.wire import Upstream
from gateway.selftest import door
from gateway.staff.opening import notice_routes, open_issuer, open_sign_outs
from gateway.staff.rules import read_rules
from gateway.staff.sign_in.opening import open_sign_in
from gateway.staff.sign_in.visitors import Visitors
from gateway.staff.verify import StaffVerifier
from gateway.state import State
from gateway.tasks import run_on
from gateway.telling.contacts import open_book
from gateway.telling.opening import open_notices
from gateway.tokens.dpop import Nonces, Proofs
from gateway.tokens.keys import KeyRing
from gateway.tokens.opening import open_token_service
from gateway.tokens.signing import TokenVerifier
from gateway.upstreams import open_upstreams
from policy.routes import Profile

log = logging.getLogger(__name__)

_ONE_HOST = (
    "staff sign in at `%s`, which is or could be an account's host, too: every script that the app serves there can do"
    " what staff can; give server.issuer a host that no account has"
)


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
        self.pages = Pages()
        self.places = Places(issuer=config.server.issuer, host_of=self.accounts.host_of)
        self.proofs = Proofs(Nonces(keys, state.clock), state.clock)
        self.verifier = TokenVerifier(keys, issuer=config.server.issuer)
        self.browsers = open_browsers(config, profile, state)
        self.upstream = open_upstreams(config, state.counts.upstream_faults)
        # An app may know a connection by who used it before: nobody else's is ever staff's.
        self.staff_upstream = self.upstream.apart()
        stack.push_async_callback(self.upstream.close)
        self.assertions = Assertions(
            keys,
            config.identity,
            issuer=config.server.issuer,
            audience=config.upstream.audience,
            bind=config.upstream.bind_assertions,
            ticks=state.ticks,
        )

    async def build(self, control: Upstream) -> Generation:
        stack, config, state = self.stack, self.config, self.state
        issuer = await open_issuer(stack, config, state)
        staff = StaffVerifier(
            issuer, config.staff, read_rules(config), state.clock, store=state.store, forget=state.facts.forget_staff
        )
        patience = state.facts.patience_seconds
        visitors = Visitors(config, state.store, staff, state.clock, patience_seconds=patience)
        pages = self.pages
        tokens = open_token_service(
            stack,
            config,
            self.profile,
            state,
            keys=self.keys,
            places=self.places,
            verifier=self.verifier,
            proofs=self.proofs,
            staff=staff,
            visitors=visitors,
            accounts=self.accounts,
            agents=self._probe(),
            clients=self.clients,
        )
        sign_outs = open_sign_outs(stack, config, state)
        grants = open_grants(stack, config, state)
        requests = open_requests(stack, config, state, grants=grants)
        accounts = await open_source(stack, config, state, grants=grants)
        hook = open_hook(stack, config, state, accounts=accounts)
        streams = StreamPlaces(config.listener, trusting(config))
        begun = open_browser_service(
            config,
            self.profile,
            state,
            browsers=self.browsers,
            visitors=visitors,
            pages=pages,
            places=self.places,
            ender=tokens.ender,
            agents=self._probe(),
            requests=requests,
            streams=streams,
        )
        run_on(stack, begun.hand_overs.keep_sweeping(), name="end what no browser has come for")
        device_page = DevicePage(
            visitors=visitors,
            desk=tokens.devices,
            starter=tokens.starter,
            requests=requests,
            pages=pages,
            profile=self.profile,
            cookies=self.browsers.cookies,
            store=state.store,
            journal=state.journal,
            clock=state.clock,
        )
        sign_in = await open_sign_in(
            stack,
            config,
            state,
            issuer=issuer,
            staff=staff,
            visitors=visitors,
            pages=pages,
            sign_outs=sign_outs,
            parts=begun.parts,
        )
        sign_ins = await open_customer_sign_ins(stack, config, state, origin_of=self.places.of_account)
        book = (
            None if config.notices is None else open_book(config.notices, state.store, state.journal, clock=state.clock)
        )
        console = account_pages.open_console(
            config,
            state,
            services=account_pages.Services(
                accounts=accounts,
                grants=grants,
                requests=requests,
                ender=tokens.ender,
                book=book,
                sign_ins=sign_ins,
                cookies=self.browsers.cookies,
                app=self.upstream,
                lines_for=self.accounts.lines_for,
                keys=self.keys,
                streams=streams,
            ),
            pages=pages,
        )
        notices = notice_routes(config, state, issuer=issuer, sign_outs=sign_outs)
        api = GrantsApi(
            grants,
            self.clients,
            accounts=accounts,
            kept_by_app=config.grants.kept_by_app,
            trial_permissions=frozenset(config.grants.trial_permissions),
            clock=state.clock,
        )
        told = await open_notices(
            stack, config, state, book=book, clients=self.clients, accounts=accounts, places=self.places
        )
        open_watch(stack, config, state)
        switch = Switch(state.store, state.journal, clock=state.clock)
        run_on(stack, switch.debts.keep_settling(), name="record the kill-switch")
        security = await security_console.open_security_console(
            stack,
            config,
            state,
            services=security_console.Services(
                accounts=accounts,
                grants=grants,
                ender=tokens.ender,
                sign_outs=sign_outs,
                switch=switch,
                clients=self.clients,
                issuer=issuer,
                keys=self.keys,
            ),
            pages=pages,
        )
        return Generation(
            config,
            keys=self.keys,
            handler=self._handler(control),
            control=[
                *tokens.routes,
                *sign_in,
                *begun.routes,
                *device_page.routes(),
                *hook.routes(),
                *console,
                *notices,
                *open_log_door(stack, config, ticks=state.ticks, patience_seconds=patience).routes(),
                *door.routes(),
            ],
            admin=[
                *api.routes(),
                *RequestsApi(requests, grants, self.clients).routes(),
                *told,
                *SwitchApi(switch, self.clients).routes(),
                *self._receipts().routes(),
                *self._log().routes(),
                *security.routes,
            ],
            debts=(grants.debts, requests.debts, sign_outs.debts, tokens.debts, switch.debts, security.debts),
            accounts=accounts,
            upstream=self.upstream,
            stack=stack.pop_all(),
        )

    def _log(self) -> LogApi:
        return LogApi(self.state.log_index, self.clients, self.state.journal, ticks=self.state.ticks)

    def _handler(self, control: Upstream) -> ProxyHandler:
        config, state = self.config, self.state
        identity = config.identity
        trusts = trusting(config)
        known = Names(identity=(identity.header, *identity.plain.values()), strip=identity.strip)
        states = config.upstream.forwarded_for == "append"
        forwarding = Forwarding(states=states, tls=config.server.tls is not None, trusts=trusts)
        assumed = AssumedTraffic(
            accounts=self.accounts,
            verifier=self.verifier,
            facts=state.facts,
            profile=self.profile,
            journal=state.journal,
            assertions=self.assertions,
            challenges=Challenges(
                self.places, acr=config.staff.require_acr, max_age_seconds=config.staff.max_age_seconds
            ),
            held_keys=HeldKeys(self.proofs, self.places, state.proofs_taken),
            browsers=self.browsers,
            known=known,
            forwarding=forwarding,
            trusts=trusts,
            live=state.live,
            upstream=self.staff_upstream,
            control=control,
            counts=state.counts,
            clock=state.clock,
            banner=open_banner(config, self.pages, self.places),
            strangers=state.strangers,
        )
        return ProxyHandler(
            accounts=self.accounts,
            upstream=self.upstream,
            control=control,
            shares=ControlShares(trusts),
            assumed=assumed,
            verifier=self.verifier,
            catch=CatchRules(config.catch),
            known=known,
            cookies=self.browsers.cookies,
            counts=state.counts,
            default_host=urlsplit(config.upstream.url).netloc or "localhost",
            places=self.places,
            own_host=self._own_host(),
            forwarding=forwarding,
            trusts=trusts,
        )

    def _receipts(self) -> ReceiptApi:
        config = self.config
        maker = ReceiptMaker(config.journal_directory, config.journal_key)
        return ReceiptApi(self.clients, self.state.journal, maker, making=self.state.receipt_turns)

    def _own_host(self) -> bytes | None:
        """Return the host where staff sign in, unless it may be an account's, and so the app's, too."""
        if self.config.staff.sign_in is None:
            return None
        host = name_of(Origin.of(self.config.server.issuer).host.encode("ascii"))
        if not self.accounts.has(host):
            return host
        log.warning(_ONE_HOST, host.decode("ascii"))
        return None

    def _probe(self) -> AgentProbe:
        return AgentProbe(
            accounts=self.accounts,
            profile=self.profile,
            upstream=self.staff_upstream,
            assertions=self.assertions,
            journal=self.state.journal,
            issuer=self.config.server.issuer,
            clock=self.state.clock,
            ticks=self.state.ticks,
        )

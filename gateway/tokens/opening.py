"""Makes the token service of one configuration: what is asked and taken back at `/.locum/oauth/`."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from gateway.audit.writing.owed import Debts
from gateway.clients import ClientAuthenticator
from gateway.config.model import Config
from gateway.devices.authorization import DeviceAuthorizationEndpoint
from gateway.devices.desk import DeviceDesk
from gateway.devices.grant import DeviceGrant
from gateway.places import Places
from gateway.proxy.challenges import Challenges
from gateway.proxy.triage import AccountReader
from gateway.staff.sign_in.visitors import Visitors
from gateway.staff.verify import StaffVerifier
from gateway.state import State
from gateway.tasks import run_on
from gateway.tokens.bound import BoundTokens
from gateway.tokens.callers import OAuthCallers
from gateway.tokens.client_keys import ClientKeys
from gateway.tokens.dpop import Proofs
from gateway.tokens.ending import Ender
from gateway.tokens.endpoint import TokenEndpoint
from gateway.tokens.introspect import IntrospectionEndpoint
from gateway.tokens.jwks import JwksEndpoint
from gateway.tokens.keys import KeyRing
from gateway.tokens.metadata import MetadataEndpoint
from gateway.tokens.openapi import OpenApiEndpoint
from gateway.tokens.revoke import RevocationEndpoint
from gateway.tokens.signing import TokenVerifier
from gateway.tokens.starting import AgentCheck, Starter
from policy.exchange import ExchangeTerms
from policy.model import Assumption, Deny, DenyReason
from policy.routes import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenService:
    """What a generation takes of it."""

    routes: Sequence[web.AbstractRouteDef]
    """Of the control plane."""
    starter: Starter
    """For assumptions that begin elsewhere than at the token endpoint."""
    ender: Ender
    """For assumptions that end elsewhere than at the revocation endpoint."""
    devices: DeviceDesk
    """For what devices ask for, where staff answer it."""

    @property
    def debts(self) -> Debts:
        """What was ended and could not be recorded yet."""
        return self.ender.debts


def open_token_service(
    stack: AsyncExitStack,
    config: Config,
    profile: Profile,
    state: State,
    *,
    keys: KeyRing,
    places: Places,
    verifier: TokenVerifier,
    proofs: Proofs,
    staff: StaffVerifier,
    visitors: Visitors,
    accounts: AccountReader,
    agents: AgentCheck,
    clients: ClientAuthenticator,
) -> TokenService:
    """Return the service; what is opened goes on the stack."""
    callers = OAuthCallers(clients, ClientKeys(state.store, state.clock), places)
    starter = Starter(
        store=state.store,
        facts=state.facts,
        host_of=accounts.host_of,
        agents=agents,
        terms=exchange_terms(config, profile),
        journal=state.journal,
        clock=state.clock,
        strangers=state.strangers,
    )
    ender = open_ender(stack, state)
    devices = DeviceDesk(state.store, state.clock)
    endpoints = (
        TokenEndpoint(
            keys=keys,
            bound=BoundTokens(proofs, state.store, places, accounts, state.clock),
            callers=callers,
            verifier=verifier,
            staff=staff,
            starter=starter,
            devices=DeviceGrant(devices, starter, visitors, state.store, state.clock),
            challenges=Challenges(places, acr=config.staff.require_acr, max_age_seconds=config.staff.max_age_seconds),
            counts=state.counts,
        ),
        IntrospectionEndpoint(
            callers=callers, verifier=verifier, facts=state.facts, host_of=accounts.host_of, clock=state.clock
        ),
        RevocationEndpoint(callers=callers, verifier=verifier, ender=ender, devices=devices, journal=state.journal),
        DeviceAuthorizationEndpoint(
            callers=callers,
            desk=devices,
            starter=starter,
            places=places,
            terms=exchange_terms(config, profile),
            store=state.store,
            journal=state.journal,
            clock=state.clock,
            is_on=visitors.is_on,
        ),
        JwksEndpoint(keys, is_lost=lambda: state.follower.is_lost, is_stale=lambda: state.follower.is_stale),
        OpenApiEndpoint(places),
        MetadataEndpoint(places=places, accounts=accounts, scopes=profile.scopes, with_devices=visitors.is_on),
    )
    routes = [route for endpoint in endpoints for route in endpoint.routes()]
    return TokenService(routes=routes, starter=starter, ender=ender, devices=devices)


def exchange_terms(config: Config, profile: Profile) -> ExchangeTerms:
    """Return what this installation asks of an exchange."""
    return ExchangeTerms(
        issuer=config.server.issuer,
        lifetime=timedelta(seconds=config.tokens.lifetime_seconds),
        known_scopes=frozenset(profile.scopes),
        most_assumptions=config.staff.max_assumptions,
        require_ticket=config.tokens.require_ticket,
        require_reason=config.tokens.require_reason,
    )


def open_ender(stack: AsyncExitStack, state: State) -> Ender:
    """Return what ends one assumption, in this process at once."""

    def ended(assumption: Assumption) -> None:
        state.facts.forget_assumption(assumption.id)
        for exchange in state.live.of_assumption(assumption.id):
            exchange.cut(Deny(reason=DenyReason.ASSUMPTION_ENDED))

    ender = Ender(state.store, state.journal, clock=state.clock, ended=ended)
    run_on(stack, ender.debts.keep_settling(), name="record what is owed")
    return ender

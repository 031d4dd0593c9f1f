"""Makes what serves assumptions in the browser, for one configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from aiohttp import web

from gateway.assumptions.asking import AskedRequests, AskEndpoint, AskForm
from gateway.assumptions.begin import BeginEndpoint
from gateway.assumptions.begun import BegunAssumptions, EndBegunEndpoint
from gateway.assumptions.enter import EnterEndpoint
from gateway.assumptions.finding import Finder
from gateway.assumptions.handing import HandOvers
from gateway.assumptions.holder import Holder
from gateway.assumptions.live import LivePart, LiveStaff, StaffMarks
from gateway.assumptions.painting import Painter
from gateway.assumptions.session import SessionEndpoint
from gateway.assumptions.stand_in import StandIn
from gateway.config.model import Config
from gateway.console.stream_places import StreamPlaces
from gateway.grants.asking import GrantRequests
from gateway.pages.render import Pages
from gateway.places import Places
from gateway.proxy.banner import Banner
from gateway.proxy.browsers import Browsers
from gateway.staff.rules import read_rules
from gateway.staff.sign_in.home import HomePart
from gateway.staff.sign_in.visitors import Visitors
from gateway.state import State
from gateway.tokens.ending import Ender
from gateway.tokens.opening import exchange_terms
from gateway.tokens.starting import AgentCheck, Starter
from policy.claims import LONGEST_BROWSER
from policy.routes import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserService:
    """What a generation takes of it."""

    routes: Sequence[web.AbstractRouteDef]
    """Of the control plane."""
    hand_overs: HandOvers
    """What is on its way to a browser, and has to be swept."""
    parts: Sequence[HomePart]
    """Of the home page: where an assumption begins, and what one has begun."""


def open_browsers(config: Config, profile: Profile, state: State) -> Browsers:
    """Return who knows what browsers hold."""
    return Browsers(
        state.store,
        state.facts,
        issuer=config.server.issuer,
        idle=timedelta(seconds=config.browser.idle_seconds),
        script_cookies=profile.script_cookies,
        gives_cookies=config.console.tells_staff,
        clock=state.clock,
        tasks=state.tasks,
    )


def open_banner(config: Config, pages: Pages, places: Places) -> Banner | None:
    """Return what puts a banner over the app's pages, if it is configured."""
    return Banner(Painter(pages, places).draw) if config.browser.banner.enabled else None


def open_browser_service(
    config: Config,
    profile: Profile,
    state: State,
    *,
    browsers: Browsers,
    visitors: Visitors,
    pages: Pages,
    places: Places,
    ender: Ender,
    agents: AgentCheck,
    requests: GrantRequests,
    streams: StreamPlaces,
) -> BrowserService:
    """Return the service."""
    lifetime = timedelta(seconds=config.browser.lifetime_seconds)
    starter = Starter(
        store=state.store,
        facts=state.facts,
        host_of=places.host_of,
        agents=agents,
        terms=replace(exchange_terms(config, profile), lifetime=lifetime, longest=LONGEST_BROWSER),
        journal=state.journal,
        clock=state.clock,
    )
    holder = Holder(browsers, state.facts, ender, clock=state.clock)
    hand_overs = HandOvers(state.store, ender, issuer=config.server.issuer, clock=state.clock, tasks=state.tasks)
    finder = Finder(
        state.store,
        state.facts,
        read_rules(config),
        trial_permissions=frozenset(config.grants.trial_permissions),
        kept_by_app=config.grants.kept_by_app,
        clock=state.clock,
    )
    begun = BegunAssumptions(state.store, pages, places, most=config.staff.max_assumptions, clock=state.clock)
    required = {"ticket": config.tokens.require_ticket, "reason": config.tokens.require_reason}
    asks = not config.grants.kept_by_app
    marks = StaffMarks(state.store, requests, state.clock)
    listed = (LivePart(marks, pages), begun)
    stand_in = StandIn(
        pages=pages,
        finder=finder,
        profile=profile,
        beside=(*listed, AskedRequests(requests, pages, clock=state.clock)) if asks else listed,
        asking=AskForm(requests, pages, required=required, clock=state.clock) if asks else None,
        required=required,
        kept_by_app=config.grants.kept_by_app,
    )
    endpoints = (
        BeginEndpoint(
            visitors=visitors,
            stand_in=stand_in,
            starter=starter,
            hand_overs=hand_overs,
            pages=pages,
            places=places,
            cookies=browsers.cookies,
        ),
        EnterEndpoint(
            hand_overs=hand_overs,
            holder=holder,
            store=state.store,
            journal=state.journal,
            strangers=state.strangers,
            pages=pages,
            staff_origin=visitors.origin,
            clock=state.clock,
        ),
        LiveStaff(
            visitors=visitors,
            marks=marks,
            pages=pages,
            position=lambda: state.follower.position,
            leaving=state.leaving,
            places=streams,
        ),
        EndBegunEndpoint(visitors=visitors, store=state.store, ender=ender, pages=pages, clock=state.clock),
        AskEndpoint(visitors=visitors, stand_in=stand_in, requests=requests, pages=pages, cookies=browsers.cookies),
        SessionEndpoint(holder=holder, pages=pages, staff_origin=visitors.origin, clock=state.clock),
    )
    routes = [route for endpoint in endpoints for route in endpoint.routes()]
    return BrowserService(routes=routes, hand_overs=hand_overs, parts=(stand_in,))

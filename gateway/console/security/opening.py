"""Makes the security team's console, for one configuration; what is opened goes on a stack."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.asking import open_asker
from gateway.audit.evidence.verdict import DIRECTORY, read_kept
from gateway.audit.hand import Hand
from gateway.audit.writing.owed import Debts
from gateway.clients import ClientAuthenticator
from gateway.config.model import Config
from gateway.config.security import ConsoleSecurity, SecuritySignIn
from gateway.console.notes import Notes
from gateway.console.security.admission import Admission
from gateway.console.security.changes import Changes
from gateway.console.security.evidence import EvidencePage
from gateway.console.security.frame import Frame
from gateway.console.security.from_disk import FromDisk
from gateway.console.security.heads import Heads
from gateway.console.security.live import LiveStream
from gateway.console.security.log_opening import open_log_pages
from gateway.console.security.marks import Marks
from gateway.console.security.now import NOTES, NowPage, whose
from gateway.console.security.people import People
from gateway.console.security.place import Place
from gateway.console.security.scene import Scenes
from gateway.console.security.sessions import Sessions
from gateway.console.security.sign_in import CALLBACK, SignInPages
from gateway.console.security.staff_ends import StaffEnds
from gateway.console.security.visit import PATH
from gateway.console.security.whence import address_of
from gateway.devices.guesses import NetworkTries
from gateway.forms import FormTokens
from gateway.grants.service import GrantService
from gateway.grants.source import AccountSource
from gateway.grants.switch import Switch
from gateway.origin import Origin
from gateway.pages import static_files
from gateway.pages.render import Pages
from gateway.proxy.triage import trusting
from gateway.staff.issuer import Issuer
from gateway.staff.sign_in.client_key import read_client_key
from gateway.staff.sign_in.provider import Provider
from gateway.staff.sign_outs import SignOuts
from gateway.state import State
from gateway.stores.opening import open_nodes
from gateway.tasks import run_on
from gateway.tokens.ending import Ender
from gateway.tokens.keys import KeyRing

_MOST_QUESTIONS = 4
TRIES_WITHIN: Final = timedelta(minutes=10)
_CODES: Final = 10
"""So many times as often as a secret: a front of ours may be the network of all who sign in at the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the console asks, and by what it changes anything."""

    accounts: AccountSource
    grants: GrantService
    ender: Ender
    sign_outs: SignOuts
    switch: Switch
    clients: ClientAuthenticator
    issuer: Issuer
    """Of staff."""
    keys: KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConsole:
    """What a generation takes of it."""

    routes: Sequence[web.AbstractRouteDef]
    """Of the admin listener."""
    debts: Debts
    """Who was locked out and could not be recorded yet."""


async def open_security_console(
    stack: AsyncExitStack, config: Config, state: State, *, services: Services, pages: Pages
) -> SecurityConsole:
    """Return the console, with the same routes whether it is on or not; raises ConfigError."""
    section = config.console.security
    terms = section or ConsoleSecurity()
    sign_in = terms.sign_in
    sessions = Sessions(
        state.store,
        state.clock,
        idle=timedelta(seconds=terms.idle_seconds),
        absolute=timedelta(seconds=terms.absolute_seconds),
    )
    name = (sign_in.issuer if sign_in else "") or config.staff.issuer
    people = People(sign_in, issuer=name, store=state.store, clock=state.clock)
    place = None if section is None else Place(section.origin)
    admission = Admission(place, sessions=sessions, people=people, journal=state.journal, pages=pages)
    frame = Frame(admission, pages)
    signing_in = SignInPages(
        admission=admission,
        frame=frame,
        place=place,
        sessions=sessions,
        people=people,
        provider=None if sign_in is None else await _open_provider(stack, terms, sign_in, state, services.issuer),
        clients=services.clients,
        whose=partial(address_of, trusts=trusting(config)),
        roles_claim=sign_in.roles_claim if sign_in else "",
        tries=NetworkTries(
            state.store, state.clock, what="console sign-in", most=terms.sign_in_tries, within=TRIES_WITHIN
        ),
        codes=NetworkTries(
            state.store, state.clock, what="console answer", most=_CODES * terms.sign_in_tries, within=TRIES_WITHIN
        ),
        store=state.store,
        journal=state.journal,
        pages=pages,
        clock=state.clock,
    )
    staff = StaffEnds(
        state.store,
        state.journal,
        state.facts,
        ender=services.ender,
        clock=state.clock,
        issuers=frozenset({name, config.staff.issuer}),
    )
    run_on(stack, staff.debts.keep_settling(), name="record who was locked out")
    hand = Hand("evidence")
    stack.callback(hand.stop)
    patience, witnesses = state.facts.patience_seconds, tuple(state.witnesses.tallies)
    heads = Heads(config.journal_directory, config.journal_key, witnesses, hand=hand, patience_seconds=patience)
    kept = FromDisk(
        partial(read_kept, Path(config.server.data_directory) / DIRECTORY), hand=hand, patience_seconds=patience
    )
    evidence = EvidencePage(frame=frame, config=config, state=state, heads=heads, kept=kept, nodes=open_nodes(config))
    routes = [
        *signing_in.routes(),
        *_open_now(config, state, services, frame, staff),
        *evidence.routes(),
        *await open_log_pages(stack, config, state, frame=frame),
        *static_files.routes(),
    ]
    return SecurityConsole(routes=routes, debts=staff.debts)


def _open_now(
    config: Config, state: State, services: Services, frame: Frame, staff: StaffEnds
) -> list[web.AbstractRouteDef]:
    """Return the routes of the page "Now", and of what is changed there."""
    scenes = Scenes(
        state.store,
        trial_permissions=frozenset(config.grants.trial_permissions),
        position=lambda: state.follower.position,
        clock=state.clock,
        ticks=state.ticks,
    )
    marks = Marks(scenes, position=lambda: state.follower.position, ticks=state.ticks)
    notes = Notes(NOTES, FormTokens(services.keys, state.clock), whose=whose)
    kept_by_app = config.grants.kept_by_app
    page = NowPage(frame=frame, scenes=scenes, marks=marks, notes=notes, kept_by_app=kept_by_app)
    changes = Changes(
        frame=frame,
        scenes=scenes,
        notes=notes,
        grants=services.grants,
        ender=services.ender,
        staff=staff,
        switch=services.switch,
        kept_by_app=kept_by_app,
    )
    live = LiveStream(admission=frame.admission, frame=frame, marks=marks, leaving=state.leaving)
    return [*page.routes(), *changes.routes(), *live.routes()]


async def _open_provider(
    stack: AsyncExitStack, terms: ConsoleSecurity, section: SecuritySignIn, state: State, staffs: Issuer
) -> Provider:
    """Return the provider at which people sign in; the one of staff is asked by `staffs`, which knows it already."""
    issuer = staffs
    if section.issuer not in ("", staffs.issuer):
        http = await stack.enter_async_context(open_asker(most=_MOST_QUESTIONS))
        issuer = Issuer(section.issuer, http=http, ticks=state.ticks)
    return Provider(
        issuer,
        section,
        http=await stack.enter_async_context(open_asker(most=_MOST_QUESTIONS)),
        origin=Origin.of(terms.origin),
        key=read_client_key(section.client_key, section.client_key_id, "console.security.sign_in"),
        acr=section.require_acr,
        max_age_seconds=section.max_age_seconds,
        clock=state.clock,
        callback=CALLBACK,
        back=PATH,
    )

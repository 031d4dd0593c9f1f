"""Makes the pages of an account's administrators, for one configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from gateway.config.model import Config
from gateway.console.account.admission import Admission
from gateway.console.account.answers import WaitingAnswers
from gateway.console.account.changes import AccountChanges
from gateway.console.account.contacts import ContactsPage
from gateway.console.account.customer_sign_in import CustomerSignIns
from gateway.console.account.form_shares import FormShares
from gateway.console.account.live import LiveAccount, Marks
from gateway.console.account.log_opening import open_account_log
from gateway.console.account.page import NOTES, AccountPage, whose
from gateway.console.account.readers import PageReader
from gateway.console.account.sign_in import SignInPages
from gateway.console.account.waiting import Waiting
from gateway.console.account.who import WhoAmI
from gateway.console.notes import Notes
from gateway.console.stream_places import StreamPlaces
from gateway.forms import FormTokens
from gateway.grants.asking import GrantRequests
from gateway.grants.service import GrantService
from gateway.grants.source import AccountSource
from gateway.origin import Origin
from gateway.pages.render import Pages
from gateway.proxy.cookies import OurCookies
from gateway.proxy.wire import Headers, Upstream
from gateway.state import State
from gateway.telling.contacts import ContactBook
from gateway.tokens.ending import Ender
from gateway.tokens.keys import KeyRing
from policy.model import AccountId


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the pages ask, and by what they change anything."""

    accounts: AccountSource
    grants: GrantService
    requests: GrantRequests
    ender: Ender
    book: ContactBook | None
    """None: nobody is told of anything."""
    sign_ins: CustomerSignIns
    cookies: OurCookies
    app: Upstream
    """Knows who its administrators are."""
    lines_for: Callable[[AccountId], Headers]
    """By which the app knows the account of a request."""
    keys: KeyRing
    streams: StreamPlaces


def open_console(config: Config, state: State, *, services: Services, pages: Pages) -> list[web.AbstractRouteDef]:
    """Return the routes of the control plane, the same ones whether there are such pages or not."""
    section = config.console.account
    tokens = FormTokens(services.keys, state.clock)
    who = None
    if section is not None and section.who_am_i:
        who = WhoAmI(
            section,
            upstream=services.app,
            lines_for=services.lines_for,
            says_address=config.upstream.forwarded_for == "append",
            connections=config.upstream.max_connections,
            ticks=state.ticks,
        )
    admission = Admission(
        who,
        sign_ins=services.sign_ins,
        cookies=services.cookies,
        tokens=tokens,
        accepted_roles=frozenset(config.grants.administrator_roles),
        scheme=Origin.of(config.server.issuer).scheme,
        persons=state.persons,
        strangers=state.strangers,
        pages=pages,
    )
    open_reader = partial(PageReader, admission=admission, ends=services.sign_ins.ends, clock=state.clock)
    log = open_account_log(
        config, state, admission=admission, open_reader=open_reader, places=services.streams, pages=pages
    )
    notes = Notes(NOTES, tokens, whose=whose)
    marks = Marks(state.store, state.clock)
    shares = FormShares(state.ticks)
    page = AccountPage(
        admission=admission,
        notes=notes,
        marks=marks,
        waiting=Waiting(services.requests, clock=state.clock),
        last=log.last,
        accounts=services.accounts,
        store=state.store,
        pages=pages,
        trial_permissions=frozenset(config.grants.trial_permissions),
        kept_by_app=config.grants.kept_by_app,
        tells=config.notices is not None,
        clock=state.clock,
    )
    changes = AccountChanges(
        admission=admission,
        notes=notes,
        grants=services.grants,
        ender=services.ender,
        store=state.store,
        pages=pages,
        shares=shares,
        kept_by_app=config.grants.kept_by_app,
        clock=state.clock,
    )
    answers = WaitingAnswers(admission=admission, notes=notes, requests=services.requests, pages=pages, shares=shares)
    live = LiveAccount(
        admission=admission,
        open_reader=open_reader,
        marks=marks,
        pages=pages,
        position=lambda: state.follower.position,
        leaving=state.leaving,
        places=services.streams,
    )
    told = config.notices
    contacts = ContactsPage(
        admission=admission,
        book=services.book,
        pages=pages,
        shares=shares,
        secret=None if told is None else told.webhooks.secret,
        mails=told is not None and told.mail is not None,
    )
    signing_in = SignInPages(
        admission=admission,
        accounts=services.accounts,
        store=state.store,
        journal=state.journal,
        persons=state.persons,
        strangers=state.strangers,
        shares=FormShares(state.ticks),
        pages=pages,
        clock=state.clock,
    )
    parts = (page, contacts, changes, answers, live, signing_in)
    return [*(route for part in parts for route in part.routes()), *log.routes]

"""Makes the pages of an account's administrators, for one configuration."""

from collections.abc import Callable

from aiohttp import web

from gateway.config.model import Config
from gateway.console.account.admission import Admission
from gateway.console.account.answers import WaitingAnswers
from gateway.console.account.changes import AccountChanges
from gateway.console.account.contacts import ContactsPage
from gateway.console.account.form_shares import FormShares
from gateway.console.account.live import STREAM_SECONDS, LiveAccount, Marks
from gateway.console.account.log_opening import open_account_log
from gateway.console.account.page import AccountPage, Notes
from gateway.console.account.waiting import Waiting
from gateway.console.account.who import WhoAmI
from gateway.forms import FormTokens
from gateway.grants.asking import GrantRequests
from gateway.grants.service import GrantService
from gateway.grants.source import AccountSource
from gateway.origin import Origin
from gateway.pages.render import Pages
from gateway.proxy.cookies import OurCookies
from gateway.proxy.wire import Headers, Upstream
from gateway.state import State
from gateway.telling.addressing import Addressing
from gateway.telling.contacts import ContactBook
from gateway.tokens.ending import Ender
from gateway.tokens.keys import KeyRing
from policy.model import AccountId


def open_console(
    config: Config,
    state: State,
    *,
    keys: KeyRing,
    accounts: AccountSource,
    grants: GrantService,
    requests: GrantRequests,
    ender: Ender,
    cookies: OurCookies,
    pages: Pages,
    upstream: Upstream,
    lines_for: Callable[[AccountId], Headers],
) -> list[web.AbstractRouteDef]:
    """Return the routes of the control plane, the same ones whether there are such pages or not."""
    section = config.console.account
    tokens = FormTokens(keys, state.clock)
    who = None
    if section is not None:
        who = WhoAmI(
            section,
            upstream=upstream,
            lines_for=lines_for,
            says_address=config.upstream.forwarded_for == "append",
            connections=config.upstream.max_connections,
            ticks=state.ticks,
        )
    admission = Admission(
        who,
        cookies=cookies,
        tokens=tokens,
        accepted_roles=frozenset(config.grants.administrator_roles),
        scheme=Origin.of(config.server.issuer).scheme,
        persons=state.persons,
        strangers=state.strangers,
        pages=pages,
    )
    log = open_account_log(config, state, admission=admission, pages=pages)
    notes, marks = Notes(tokens), Marks(state.store, state.clock)
    shares = FormShares(state.ticks)
    page = AccountPage(
        admission=admission,
        notes=notes,
        marks=marks,
        waiting=Waiting(requests, clock=state.clock),
        last=log.last,
        accounts=accounts,
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
        grants=grants,
        ender=ender,
        store=state.store,
        pages=pages,
        shares=shares,
        kept_by_app=config.grants.kept_by_app,
        clock=state.clock,
    )
    answers = WaitingAnswers(admission=admission, notes=notes, requests=requests, pages=pages, shares=shares)
    live = LiveAccount(
        admission=admission,
        marks=marks,
        pages=pages,
        position=lambda: state.follower.position,
        seconds=STREAM_SECONDS,
        leaving=state.leaving,
    )
    told = config.notices
    contacts = ContactsPage(
        admission=admission,
        book=None
        if told is None
        else ContactBook(
            state.store,
            state.journal,
            Addressing(told.security),
            signs=told.webhooks.secret is not None,
            clock=state.clock,
        ),
        pages=pages,
        shares=shares,
        secret=None if told is None else told.webhooks.secret,
        mails=told is not None and told.mail is not None,
    )
    return [*page.routes(), *contacts.routes(), *changes.routes(), *answers.routes(), *live.routes(), *log.routes]

"""Makes the pages of an account's administrators, for one configuration."""

from collections.abc import Callable

from aiohttp import web

from gateway.config.model import Config
from gateway.console.account.admission import Admission
from gateway.console.account.changes import AccountChanges
from gateway.console.account.live import STREAM_SECONDS, LiveAccount, Marks
from gateway.console.account.page import AccountPage, Notes
from gateway.console.account.who import WhoAmI
from gateway.forms import FormTokens
from gateway.grants.service import GrantService
from gateway.grants.source import AccountSource
from gateway.origin import Origin
from gateway.pages.render import Pages
from gateway.proxy.cookies import OurCookies
from gateway.proxy.wire import Headers, Upstream
from gateway.state import State
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
        journal=state.journal,
        pages=pages,
    )
    notes, marks = Notes(tokens), Marks(state.store, state.clock)
    page = AccountPage(
        admission=admission,
        notes=notes,
        marks=marks,
        accounts=accounts,
        store=state.store,
        pages=pages,
        trial_permissions=frozenset(config.grants.trial_permissions),
        kept_by_app=config.grants.kept_by_app,
        clock=state.clock,
    )
    changes = AccountChanges(
        admission=admission,
        notes=notes,
        grants=grants,
        ender=ender,
        store=state.store,
        pages=pages,
        kept_by_app=config.grants.kept_by_app,
        clock=state.clock,
    )
    live = LiveAccount(
        admission=admission,
        marks=marks,
        pages=pages,
        position=lambda: state.follower.position,
        seconds=STREAM_SECONDS,
    )
    return [*page.routes(), *changes.routes(), *live.routes()]

"""Makes what lets staff sign in with a browser, for one configuration; what is opened goes on a stack."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from gateway.asking import open_asker
from gateway.config.model import Config
from gateway.origin import Origin
from gateway.pages import static_files
from gateway.pages.render import Pages
from gateway.staff.issuer import Issuer
from gateway.staff.sign_in.client_key import read_client_key
from gateway.staff.sign_in.endpoint import SignInEndpoint
from gateway.staff.sign_in.home import HomePage, HomePart
from gateway.staff.sign_in.leaving import SignOutEndpoint
from gateway.staff.sign_in.provider import Provider
from gateway.staff.sign_in.visitors import Visitors
from gateway.staff.sign_outs import SignOuts
from gateway.staff.verify import StaffVerifier
from gateway.state import State

_MOST_QUESTIONS = 16  # Codes of strangers are asked about, too: the provider is not to be flooded by way of us.


async def open_sign_in(
    stack: AsyncExitStack,
    config: Config,
    state: State,
    *,
    issuer: Issuer,
    staff: StaffVerifier,
    visitors: Visitors,
    pages: Pages,
    sign_outs: SignOuts,
    parts: Sequence[HomePart] = (),
) -> list[web.AbstractRouteDef]:
    """Return the routes of the control plane, the same ones whether staff may sign in or not; raises ConfigError."""
    provider = await _open_provider(stack, config, state, issuer)
    endpoint = SignInEndpoint(
        visitors=visitors,
        pages=pages,
        provider=provider,
        section=config.staff.sign_in,
        staff=staff,
        store=state.store,
        journal=state.journal,
        sign_outs=sign_outs,
        clock=state.clock,
    )
    leaving = SignOutEndpoint(visitors=visitors, pages=pages, provider=provider, store=state.store, sign_outs=sign_outs)
    home = HomePage(visitors, pages, parts)
    return [*home.routes(), *endpoint.routes(), *leaving.routes(), *static_files.routes()]


async def _open_provider(stack: AsyncExitStack, config: Config, state: State, issuer: Issuer) -> Provider | None:
    section = config.staff.sign_in
    if section is None:
        return None
    return Provider(
        issuer,
        section,
        http=await stack.enter_async_context(open_asker(most=_MOST_QUESTIONS)),
        origin=Origin.of(config.server.issuer),
        key=read_client_key(section.client_key, section.client_key_id, "staff.sign_in"),
        acr=config.staff.require_acr,
        max_age_seconds=config.staff.max_age_seconds,
        clock=state.clock,
    )

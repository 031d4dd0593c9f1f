"""Makes what knows the issuer and hears from it, for one configuration; what is opened goes on a stack."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

from aiohttp import web

from gateway.asking import open_asker
from gateway.config.model import Config
from gateway.staff.events import EventReceiver
from gateway.staff.issuer import Issuer
from gateway.staff.logout import LogoutEndpoint
from gateway.staff.notices import Notices
from gateway.staff.sign_outs import SignOuts
from gateway.state import State
from gateway.tasks import run_on
from policy.events import NoticeTerms, read_event, read_logout
from policy.model import ActorId, Assumption, Deny, DenyReason

_MOST_QUESTIONS = 4  # It is asked one after the other, but a lookup that hangs goes on after its question.


async def open_issuer(stack: AsyncExitStack, config: Config, state: State) -> Issuer:
    """Return whom to ask for the keys of staff's tokens; nobody is asked yet."""
    http = await stack.enter_async_context(open_asker(most=_MOST_QUESTIONS))
    return Issuer(config.staff.issuer, http=http, ticks=state.ticks)


def open_sign_outs(stack: AsyncExitStack, config: Config, state: State) -> SignOuts:
    """Return what ends assumptions when the issuer says so, in this process at once."""

    def ended(actor: ActorId, assumptions: Sequence[Assumption]) -> None:
        state.facts.forget_staff(actor)
        for assumption in assumptions:
            state.facts.forget_assumption(assumption.id)
            for exchange in state.live.of_assumption(assumption.id):
                exchange.cut(Deny(reason=DenyReason.ASSUMPTION_ENDED))

    sign_outs = SignOuts(state.store, state.journal, issuer=config.staff.issuer, clock=state.clock, ended=ended)
    run_on(stack, sign_outs.debts.keep_settling(), name="record what is owed")
    return sign_outs


def notice_routes(config: Config, state: State, *, issuer: Issuer, sign_outs: SignOuts) -> list[web.AbstractRouteDef]:
    """Return the routes of the control plane at which the issuer tells of its people."""
    staff, events = config.staff, config.staff.events
    max_age = timedelta(seconds=events.max_age_seconds)
    logout = NoticeTerms(issuer=staff.issuer, audience=staff.audience, max_age=max_age)
    logout = replace(logout, also=_clients(config))
    pushed = replace(logout, audience=events.audience or staff.audience)
    push_token = None if events.push_token is None else events.push_token.reveal()
    logouts = Notices(issuer, logout, read_logout, clock=state.clock, ticks=state.ticks)
    events_ = Notices(issuer, pushed, read_event, clock=state.clock, ticks=state.ticks)
    receiver = EventReceiver(events_, sign_outs, push_token=push_token)
    return [*LogoutEndpoint(logouts, sign_outs).routes(), *receiver.routes()]


def _clients(config: Config) -> frozenset[str]:
    """Return as which clients our pages ask the issuer who somebody is, whose sign-outs are theirs, too."""
    staffs, security = config.staff.sign_in, config.console.security
    found: set[str] = set() if staffs is None else {staffs.client_id}
    if security is not None and security.sign_in is not None and security.sign_in.issuer in ("", config.staff.issuer):
        found.add(security.sign_in.client_id)
    return frozenset(found)

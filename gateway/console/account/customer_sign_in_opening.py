"""Makes what knows the providers of customers' own, for one configuration; what is opened goes on a stack."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from hashlib import sha256
from typing import Final

from gateway.allowance import Allowance
from gateway.asking import open_asker
from gateway.clock import Clock
from gateway.config.account_sign_in import AccountSignIn
from gateway.config.model import Config
from gateway.console.account.admission import CONSOLE
from gateway.console.account.customer_sign_in import CustomerProvider, CustomerSignIns
from gateway.console.account.form_shares import FormShares
from gateway.devices.guesses import NetworkTries
from gateway.session_ends import SessionEnds
from gateway.staff.issuer import Issuer
from gateway.staff.notices import Notices
from gateway.staff.sign_in.client_key import read_client_key
from gateway.state import State
from gateway.stores.counting import Counting
from policy.events import NoticeTerms, read_logout
from policy.model import AccountId

_MOST_QUESTIONS: Final = 4
"""To each provider at a time, so that one that hangs is asked by nobody but its own people."""
_CODES: Final = 200
_CODES_WITHIN: Final = timedelta(minutes=10)
_NOTICE_MAX_AGE: Final = timedelta(hours=1)
SIGN_OUTS_AT_ONCE: Final = 1000
"""So many of each provider's are kept one by one in each process: more than sign out together of any customer's."""
_SIGN_OUTS_A_SECOND: Final = 0.5


async def open_customer_sign_ins(
    stack: AsyncExitStack, config: Config, state: State, *, origin_of: Callable[[AccountId], str]
) -> CustomerSignIns:
    """Return which accounts have a sign-in of their own; no provider is asked yet. Raises ConfigError.

    `origin_of` an account is where its people are led back to.
    """
    section = config.console.account
    tables = () if section is None else section.sign_in
    # Whom a provider calls an administrator has a role that counts; which one makes no difference.
    role = next(iter(config.grants.administrator_roles), "")
    return CustomerSignIns(
        [await _open(stack, table, state, f"console.account.sign_in[{index}]") for index, table in enumerate(tables)],
        origin_of=origin_of,
        role=role,
        client=CONSOLE,
        store=state.store,
        ends=SessionEnds(state.store, state.clock, of="account"),
        journal=state.journal,
        may_record=FormShares(state.ticks).take_of,
        clock=state.clock,
        patience_seconds=state.facts.patience_seconds,
    )


async def _open(stack: AsyncExitStack, table: AccountSignIn, state: State, where: str) -> CustomerProvider:
    asker = await stack.enter_async_context(open_asker(most=_MOST_QUESTIONS))
    issuer = Issuer(table.issuer, http=asker, ticks=state.ticks)
    kept = Allowance(_SIGN_OUTS_A_SECOND, SIGN_OUTS_AT_ONCE)
    terms = NoticeTerms(issuer=table.issuer, audience=table.client_id, max_age=_NOTICE_MAX_AGE)
    return CustomerProvider(
        section=table,
        issuer=issuer,
        http=await stack.enter_async_context(open_asker(most=_MOST_QUESTIONS)),
        key=read_client_key(table.client_key, table.client_key_id, where),
        codes=count_codes(table, state.store, state.clock),
        notices=Notices(issuer, terms, read_logout, clock=state.clock, ticks=state.ticks),
        may_keep=lambda: kept.take(state.ticks()),
    )


def count_codes(table: AccountSignIn, store: Counting, clock: Clock) -> NetworkTries:
    """Return how many codes a network may try at this provider, counted in the store apart from all others'."""
    mark = sha256(f"{table.issuer}\0{table.client_id}".encode()).hexdigest()
    return NetworkTries(store, clock, what=f"account answer {mark}", most=_CODES, within=_CODES_WITHIN)

"""Makes what changes grants and what asks for accounts, for one configuration; what is opened goes on a stack."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from gateway.config.model import Config
from gateway.grants.asking import GrantRequests
from gateway.grants.hooks import GrantHook
from gateway.grants.http_source import AppSetting, HttpSource, open_http
from gateway.grants.service import GrantService
from gateway.grants.source import AccountSource, Freshness
from gateway.proxy.triage import is_account_name
from gateway.staff.rules import read_rules
from gateway.state import State
from gateway.stores.store import AccountRecord
from gateway.tasks import run_on
from policy.asking import AskingTerms
from policy.model import AccountId


def open_grants(stack: AsyncExitStack, config: Config, state: State) -> GrantService:
    """Return the service whose changes bite in this process at once."""
    facts, live = state.facts, state.live

    def changed(record: AccountRecord) -> int:
        facts.saw(record)
        facts.forget_account(record.account.id)
        return live.account_changed(record.account.id, record.account, facts.grant_of(record))

    service = GrantService(
        state.store,
        state.journal,
        accepted_roles=frozenset(config.grants.administrator_roles),
        clock=state.clock,
        changed=changed,
    )
    run_on(stack, service.debts.keep_settling(), name="record what is owed")
    return service


def open_requests(stack: AsyncExitStack, config: Config, state: State, *, grants: GrantService) -> GrantRequests:
    """Return the service by which staff ask accounts, whose approvals `grants` makes."""
    service = GrantRequests(
        state.store,
        state.journal,
        grants=grants,
        rules=read_rules(config),
        terms=AskingTerms(
            kept_by_app=config.grants.kept_by_app,
            require_ticket=config.tokens.require_ticket,
            require_reason=config.tokens.require_reason,
        ),
        room=config.grants.requests.room,
        accepted_roles=frozenset(config.grants.administrator_roles),
        clock=state.clock,
        persons=state.persons,
    )
    run_on(stack, service.debts.keep_settling(), name="record what is owed of requests")
    return service


async def open_source(stack: AsyncExitStack, config: Config, state: State, *, grants: GrantService) -> AccountSource:
    """Return whom to ask for an account: the store, or the app, whose changes `grants` makes."""
    http_config = config.grants.http
    if http_config is None:
        return state.store
    facts, live = state.facts, state.live

    def changed(record: AccountRecord) -> None:
        # What is being fetched is what has changed, so nobody has to forget it.
        facts.saw(record)
        live.account_changed(record.account.id, record.account, facts.grant_of(record))

    http = await stack.enter_async_context(open_http(http_config))
    return HttpSource(
        AppSetting(http_config, http),
        store=state.store,
        grants=grants,
        is_account=_is_account(config),
        timeout_seconds=http_config.timeout_seconds,
        clock=state.clock,
        changed=changed,
    )


def open_hook(stack: AsyncExitStack, config: Config, state: State, *, accounts: AccountSource) -> GrantHook:
    """Return where the app tells of changes; if it is the app that keeps them, it is also asked about what is open."""
    grants = config.grants
    fresh = Freshness(accounts, store=state.store, facts=state.facts, live=state.live)
    if grants.http is not None:
        # A change right behind one answer is in the next, which has come before facts would be too old.
        pause = max(grants.fact_ttl_seconds - 2 * grants.http.timeout_seconds, grants.fact_ttl_seconds / 4)
        run_on(stack, fresh.follow(pause), name="ask the app about what is open")
    return GrantHook(grants.webhook, refresh=fresh.refresh, is_account=_is_account(config), clock=state.clock)


def _is_account(config: Config) -> Callable[[AccountId], bool]:
    fixed = config.accounts.fixed
    return lambda account: is_account_name(account) or account == fixed != ""

"""Makes the account's part of the log, for one configuration."""

from dataclasses import dataclass

from aiohttp import web

from gateway.config.model import Config
from gateway.console.account.admission import Admission
from gateway.console.account.log import AccountLog
from gateway.console.account.log_asking import OwnLog, Readings
from gateway.console.account.log_live import LastDeeds, LiveLog
from gateway.console.account.log_receipt import AccountReceipts
from gateway.console.account.log_receipts import ReceiptDesk
from gateway.console.account.log_turns import Turns
from gateway.pages.render import Pages
from gateway.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLog:
    """What the account's page has of the log."""

    last: LastDeeds
    routes: list[web.AbstractRouteDef]


def open_account_log(config: Config, state: State, *, admission: Admission, pages: Pages) -> OpenedLog:
    """Return the account's part of the log, whether there is an index or not."""
    turns = Turns(state.ticks)
    own = None if state.log_index is None else OwnLog(state.log_index, turns)
    last = LastDeeds(own, state.ticks, patience_seconds=state.facts.patience_seconds)
    readings = Readings(state.journal, turns, state.ticks)
    log = AccountLog(
        admission=admission,
        own=own,
        readings=readings,
        store=state.store,
        pages=pages,
        clock=state.clock,
    )
    desk = ReceiptDesk(config.journal_directory, config.journal_key, tasks=state.tasks, turns=turns, ticks=state.ticks)
    receipts = AccountReceipts(
        admission=admission, own=own, readings=readings, store=state.store, desk=desk, pages=pages
    )
    live = LiveLog(
        admission=admission,
        own=own,
        last=last,
        store=state.store,
        pages=pages,
        clock=state.clock,
        leaving=state.leaving,
    )
    return OpenedLog(last=last, routes=[*log.routes(), *receipts.routes(), *live.routes()])

"""Makes the account's part of the log, for one configuration."""

from dataclasses import dataclass

from aiohttp import web

from gateway.audit.evidence.ordering import ReceiptMaker
from gateway.config.model import Config
from gateway.console.account.admission import Admission
from gateway.console.account.log import AccountLog
from gateway.console.account.log_asking import AccountIndex, Readings
from gateway.console.account.log_live import LastDeeds, LiveLog
from gateway.console.account.log_receipt import AccountReceipts
from gateway.console.account.log_receipts import ReceiptDesk, pauses_of
from gateway.console.account.log_turns import Turns
from gateway.console.account.readers import OpenReader
from gateway.console.stream_places import StreamPlaces
from gateway.pages.render import Pages
from gateway.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLog:
    """What the account's page has of the log."""

    last: LastDeeds
    routes: list[web.AbstractRouteDef]


def open_account_log(
    config: Config, state: State, *, admission: Admission, open_reader: OpenReader, places: StreamPlaces, pages: Pages
) -> OpenedLog:
    """Return the account's part of the log, whether there is an index or not."""
    turns = Turns(state.ticks)
    index = None if state.log_index is None else AccountIndex(state.log_index, turns)
    last = LastDeeds(index, state.ticks, patience_seconds=state.facts.patience_seconds)
    readings = Readings(state.journal, turns, state.ticks)
    log = AccountLog(
        admission=admission,
        index=index,
        readings=readings,
        store=state.store,
        pages=pages,
        clock=state.clock,
    )
    desk = ReceiptDesk(
        ReceiptMaker(config.journal_directory, config.journal_key),
        tasks=state.tasks,
        making=state.receipt_turns,
        turns=turns,
        ticks=state.ticks,
        until_signed=pauses_of(config.audit.checkpoint_seconds),
    )
    receipts = AccountReceipts(
        admission=admission, index=index, readings=readings, store=state.store, desk=desk, pages=pages
    )
    live = LiveLog(
        admission=admission,
        open_reader=open_reader,
        index=index,
        last=last,
        store=state.store,
        pages=pages,
        clock=state.clock,
        leaving=state.leaving,
        places=places,
    )
    return OpenedLog(last=last, routes=[*log.routes(), *receipts.routes(), *live.routes()])

"""Has people told of what happens, as long as a generation lasts; what is opened goes on a stack."""

import asyncio
import ipaddress
import logging
import os
import threading
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from gateway.audit.evidence.alarm import raise_alarm
from gateway.audit.evidence.verdict import DIRECTORY as VERIFIED
from gateway.audit.formats.forms import FORMS
from gateway.audit.sinks.runner import Runner, Terms
from gateway.audit.sinks.status import Status
from gateway.config.model import Config, UpstreamTls
from gateway.config.notices import Notices
from gateway.console.account.door import PATH
from gateway.files import write_new
from gateway.pages.render import Texts
from gateway.places import Places
from gateway.proxy.triage import is_account_name
from gateway.state import State
from gateway.stores.outbox import Target
from gateway.tasks import run_on
from gateway.telling.addressing import Addressing
from gateway.telling.courier import Courier
from gateway.telling.ends import Ends
from gateway.telling.mail import MailCourier
from gateway.telling.reading import Enqueuer, wants
from gateway.telling.sending import Sender
from gateway.telling.spreading import Spreader
from gateway.telling.text import clean
from gateway.telling.webhook import WebhookCourier
from gateway.telling.wording import Wording
from gateway.tls import upstream_context
from policy.model import AccountId

log = logging.getLogger(__name__)

_NAME: Final = "notices"
_BATCH: Final = 200
_CLOSING_SECONDS: Final = 2.0
_CLOCKS_SECONDS: Final = 60.0
"""Workers that start together, and clocks that are put right, are not further apart."""


async def tell(
    stack: AsyncExitStack, config: Config, section: Notices, state: State, places: Places, *, addressing: Addressing
) -> None:
    """Read the journal from now on, and send what it holds for somebody until `stack` ends; raises ConfigError."""
    sender = Sender(
        state.store,
        state.journal,
        _couriers(config, section, places, state),
        give_up=timedelta(hours=section.give_up_hours),
        clock=state.clock,
        counts=state.counts.notices,
        spreader=Spreader(state.store, kept_by_app=config.grants.kept_by_app, clock=state.clock),
        own=[target.address for target in addressing.targets],
    )
    directory, verified = (Path(config.server.data_directory) / name for name in (_NAME, VERIFIED))
    now = state.clock().timestamp()
    outlet = Enqueuer(
        state.store,
        addressing,
        since=await asyncio.to_thread(partial(begin, directory / "since", now)),
        most_age=timedelta(hours=section.give_up_hours),
        clock=state.clock,
        enqueued=sender.wake,
        unread=lambda: raise_alarm(verified, "reading", at=state.clock()),
    )
    terms = Terms(
        name=_NAME,
        journal=config.journal_directory,
        cursor=directory / "cursor.json",
        lock=directory / "lock",
        form=FORMS["jsonl"],
        wants=wants,
        most_records=_BATCH,
        # The store that is away takes what is nobody's news without being asked.
        gives_up=False,
    )
    state.counts.notices.reading = status = Status(name=_NAME, kind=_NAME)
    runner = Runner(terms, outlet, status, clock=state.clock, ticks=state.ticks)
    _run_thread(stack, runner)
    run_on(stack, sender.run(), name="send notices")
    run_on(stack, Ends(state.store, state.journal, clock=state.clock).run(), name="record what time has ended")


def _couriers(config: Config, section: Notices, places: Places, state: State) -> dict[str, Courier]:
    def link(account: str) -> str:
        is_one = is_account_name(account) or account == config.accounts.fixed
        return f"{places.of_account(AccountId(account))}{PATH}" if is_one and config.console.account is not None else ""

    wording = Wording(Texts(clean, Path(section.templates) if section.templates else None), link)
    hooks, security = section.webhooks, section.security
    couriers: dict[str, Courier] = {
        "webhook": WebhookCourier(
            wording,
            own=Target("webhook", security.webhook) if security.webhook else None,
            own_secret=security.webhook_secret,
            secret=hooks.secret,
            networks=[ipaddress.ip_network(text) for text in hooks.private_networks],
            tls=upstream_context(UpstreamTls(ca=hooks.ca), "notices.webhooks"),
            seconds=hooks.timeout_seconds,
            clock=state.clock,
        )
    }
    if section.mail is not None:
        couriers["mail"] = MailCourier(section.mail, wording, pause_seconds=section.digest_seconds, clock=state.clock)
    return couriers


def _run_thread(stack: AsyncExitStack, runner: Runner) -> None:
    thread = threading.Thread(target=runner.run, name="notices", daemon=True)

    async def end() -> None:
        runner.stop()
        # It asks this loop to put into the store what it has read, so nobody may hold the loop up meanwhile.
        await asyncio.to_thread(thread.join, _CLOSING_SECONDS)

    stack.push_async_callback(end)
    thread.start()


def begin(path: Path, now: float) -> float:
    """Return since when people are told, in seconds since 1970: since the first of all starts here.

    What is on the record from before is nobody's news. Where that cannot be read, all is told that is not too old. One
    that is yet to come was written by a clock that was ahead, and is written anew.
    """
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}-{os.getpid()}")
        write_new(draft, f"{now:.6f}\n".encode(), mode=0o600, fsync=os.fsync)
        # Of several workers that start together the first one's time stays.
        with suppress(FileExistsError):
            os.link(draft, path)
        if (kept := _read_since(path)) is not None and not kept <= now + _CLOCKS_SECONDS:
            log.warning("`%s` says a time that is yet to come, and now says this one: a clock was ahead", path)
            draft.replace(path)
        draft.unlink(missing_ok=True)
    kept = _read_since(path)
    if kept is None:
        log.warning("`%s` cannot be read, so what is on record is told as far as it is not too old", path)
    return min(kept or 0.0, now)


def _read_since(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None

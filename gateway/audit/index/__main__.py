"""The process that keeps the index, and ends with whoever started it. `python -m gateway.audit.index`.

A process and no thread, because a thread would take the interpreter from the requests; and one that stands behind all
others when the processor is short.
"""

import logging
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path

import msgspec

from gateway.audit.index.building import Builder, IndexBusy, claim_index
from gateway.audit.index.database import LOCK
from gateway.audit.index.order import Order, Told
from gateway.audit.stepping import Unread

_NICE = 5
_PAUSE_SECONDS = 0.5
_TELL_SECONDS = 1.0
_AGAIN_SECONDS = 5.0
_STDIN, _STDOUT = 0, 1

log = logging.getLogger("gateway.audit.index")


def main() -> None:
    """Follow the order that comes in until the pipe ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(name)s %(message)s")
    os.nice(_NICE)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if order.database:
        _ship(order)
    while True:
        try:
            with Builder(Path(order.journal), Path(order.index)) as builder:
                _keep(builder)
        except IndexBusy:
            return
        except (OSError, sqlite3.Error) as error:
            log.warning("the index cannot be kept up: %s", error)
            time.sleep(_AGAIN_SECONDS)
        except Exception:
            # Whatever it is, the next start would meet it again at once.
            log.exception("the index cannot be kept up")
            time.sleep(_AGAIN_SECONDS)


def _ship(order: Order) -> None:
    # Only now, because asyncpg is there only where somebody wants it, and one gateway alone needs no loop here.
    import asyncio  # noqa: PLC0415

    from gateway.stores.postgres.address import parse_url  # noqa: PLC0415
    from gateway.stores.postgres.journal_keeping import keep_shipping  # noqa: PLC0415

    told_at = 0.0

    def told(behind: int, seconds: float, unread: Unread) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_SECONDS:
            told_at = time.monotonic()
            _tell(behind, seconds, unread)

    try:
        lock = claim_index(Path(order.index).with_name(LOCK))
    except IndexBusy:
        return
    try:
        asyncio.run(keep_shipping(Path(order.journal), order.node, parse_url(order.database), told))
    finally:
        os.close(lock)


def _keep(builder: Builder) -> None:
    """Keep it up until somebody deletes it."""
    told_at = 0.0
    while builder.is_there:
        began = time.monotonic()
        builder.catch_up()
        now = time.monotonic()
        if now - told_at >= _TELL_SECONDS:
            told_at = now
            _tell(builder.behind(), now - began, builder.unread)
        time.sleep(_PAUSE_SECONDS)


def _tell(behind: int, seconds: float, unread: Unread) -> None:
    told = Told(behind_bytes=behind, behind_seconds=seconds, unread_lines=unread.lines, unread_files=unread.files)
    try:
        os.write(_STDOUT, msgspec.json.encode(told) + b"\n")
    except BrokenPipeError:
        os._exit(0)


def _end_with_parent() -> None:
    # What is half done is done again by the next one: the file is whole after every kill.
    while os.read(_STDIN, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()

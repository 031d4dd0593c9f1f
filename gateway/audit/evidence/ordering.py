"""Has receipts made by processes of their own: `gateway.audit.evidence.making`."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.evidence.making import Ending, Order

_MAKING_SECONDS: Final = 120.0
_COMMAND: Final = ("-P", "-m", "gateway.audit.evidence.making")
Make = Callable[[Order], Awaitable[tuple[int, bytes]]]
"""As `order_receipt`."""


class ReceiptMaker:
    """Makes receipts from one journal; how many at a time, and for whom first, is whose they are made for to say."""

    def __init__(self, directory: Path, key: Path, *, make: Make | None = None) -> None:
        """`directory` is the journal's, `key` the file of its public key; `make` is for tests."""
        self._directory = directory
        self._key = key
        self._make = make or order_receipt

    async def make(self, assumption: str, account: str | None) -> tuple[int, bytes]:
        """Return how it ended (see `Ending`), and the receipt if it was made.

        With `account` another account's assumption is as good as none. Raises OSError, and TimeoutError after two
        minutes.
        """
        order = Order(journal=str(self._directory), key=str(self._key), assumption=assumption, account=account)
        async with asyncio.timeout(_MAKING_SECONDS):
            return await self._make(order)


async def order_receipt(order: Order) -> tuple[int, bytes]:
    """Return how the process ended (see `Ending`), and the receipt if it was made; raises OSError.

    Whoever waits no longer ends the process.
    """
    # Not among its arguments, which others can read.
    process = await asyncio.create_subprocess_exec(sys.executable, *_COMMAND, stdin=PIPE, stdout=PIPE)
    try:
        output, _ = await process.communicate(msgspec.json.encode(order) + b"\n")
        # Never taken for made while that is not known.
        return Ending.FAILED if process.returncode is None else process.returncode, output
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

"""Has a receipt made by a process of its own: `gateway.audit.evidence.making`."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Final

import msgspec

from gateway.audit.evidence.making import Ending, Order

MAKING_SECONDS: Final = 120.0
"""As long as anybody waits for one."""
_COMMAND: Final = ("-P", "-m", "gateway.audit.evidence.making")


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

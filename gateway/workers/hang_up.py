"""SIGHUP: held back from the first line of the entry point on, so that none is lost or ends a process that begins."""

import signal
from collections.abc import Callable


def hear(call: Callable[[], object]) -> None:
    """Call `call` in the running event loop at each SIGHUP, and at once for one that was held back."""
    # Whoever has a loop has imported it; the commands that have none let signals through, too.
    import asyncio  # noqa: PLC0415

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, call)
    let_through()


def let_through() -> None:
    """Hold none back any more; where nobody hears it, it ends the process, as it does when a terminal closes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

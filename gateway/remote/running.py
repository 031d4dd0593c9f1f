"""Running a command with a token in its environment."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gateway.remote.signals import Signals

NOT_FOUND, NOT_RUNNABLE, BY_SIGNAL = 127, 126, 128
"""As shells have it (POSIX, 2.8.2 of the shell's language)."""


def run(command: Sequence[str], more: Mapping[str, str], signals: Signals) -> int:
    """Return the command's exit code, 128 and the number for a signal; `more` is in its environment.

    What ends us is passed on to it, and then it is waited for. Raises OSError if it cannot be started.
    """
    if signals.came:
        return BY_SIGNAL + signals.came[0]
    with subprocess.Popen(list(command), env={**os.environ, **more}) as process:  # noqa: S603 - what the user has typed

        def forward(number: int) -> None:
            # A terminal sends Ctrl-C and Ctrl-\ to the command by itself.
            if number not in (signal.SIGINT, signal.SIGQUIT):
                with suppress(ProcessLookupError):
                    process.send_signal(number)

        signals.forward = forward
        try:
            for number in signals.came:
                # While it was started.
                process.send_signal(number)
            code = process.wait()
        finally:
            signals.forward = None
    return code if code >= 0 else BY_SIGNAL - code

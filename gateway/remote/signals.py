"""Signals that mean the end: noticed while waiting; a question that is under way is heard out, but not for long."""

import os
import select
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Signals:
    """Takes them from the entry on; what a test or a caller did with them before comes back at the exit.

    One that is ignored at the entry, as `nohup` wants it, stays ignored.
    """

    def __init__(self) -> None:
        """Take none yet."""
        self.forward: Callable[[int], None] | None = None
        """Called with each."""
        self.came: list[int] = []
        """Those that have come."""
        self._former: dict[int, signal._HANDLER] = {}
        # A pipe, because whatever else one could wait for may be held by the very code that a handler interrupts.
        self._read, self._write = -1, -1

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until one comes; tell whether one has."""
        if not self.came:
            select.select([self._read], [], [], seconds)
        return bool(self.came)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.came.append(number)
        os.write(self._write, b"!")
        if self.forward is not None:
            self.forward(number)

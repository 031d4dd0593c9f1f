"""An event loop whose time is the test's: it passes as soon as there is nothing left to do before the next timer."""

import asyncio
import selectors


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping takes no time; `jump` makes all of it stand still, as a stopped process does."""

    def __init__(self):
        self.now = 1000.0
        super().__init__(_Hurried(self))

    def time(self):
        return self.now

    def jump(self, seconds):
        self.now += seconds


class _Hurried(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        # Without a timer somebody in another thread is waited for, and that takes as long as it takes.
        if timeout is not None and timeout > 0:
            self._loop.now += timeout
            timeout = 0
        return super().select(timeout)

"""Whether a client still takes what was written to it: whoever is slow is waited for, whoever has stalled is not."""

import asyncio

from gateway.proxy.limits import ClientLimits


class Taking:
    """Looks now and then at how much is not taken yet, since nobody tells when the kernel delivers some of it."""

    __slots__ = ("_limits", "_loop", "_since", "_unsent")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: ClientLimits) -> None:
        """Nothing was looked at yet."""
        self._loop = loop
        self._limits = limits
        self._unsent = 0
        self._since = 0.0

    def forget(self) -> None:
        """Begin anew with the next look."""
        self._unsent = 0

    def goes_on(self, unsent: int) -> bool:
        """Tell by the bytes that are not taken now, at least one, whether to wait for more of them to be.

        So it is until nothing was taken for `write_stall_timeout_seconds`, or less than `min_bytes_per_second`.
        """
        now = self._loop.time()
        stall = now - self._since
        taken = self._unsent - unsent
        # More than before, although nothing was written: TLS had some that is not counted, and there was room for it.
        if not self._unsent or taken < 0 or taken > stall * self._limits.min_bytes_per_second:
            self._unsent, self._since = unsent, now
            return True
        return stall < self._limits.write_stall_timeout_seconds

"""The demo's clock: it runs as every clock does, and can be moved ahead."""

from datetime import datetime, timedelta

from gateway.clock import boot_seconds, utc_now


class StoryClock:
    """The time of the gateway, the helpdesk and the issuer of one demo; it never goes back.

    It starts behind the real time, so that it can be moved ahead without ever being in the future: what the command
    line does beside the demo is then in step with it.
    """

    def __init__(self, *, behind: timedelta = timedelta()) -> None:
        self._behind = behind
        self._moved = timedelta()

    def utc(self) -> datetime:
        """Return the time of the demo."""
        return utc_now() - self._behind + self._moved

    def ticks(self) -> float:
        """Return seconds that run together with `utc`."""
        return boot_seconds() + self._moved.total_seconds()

    def forward(self, delta: timedelta) -> None:
        """Move ahead, at most to the real time."""
        self._moved = min(self._moved + max(delta, timedelta()), self._behind)

    def forward_to(self, moment: datetime) -> None:
        """Move ahead to `moment`, if it is still to come and not after the real time."""
        self.forward(moment - self.utc())

    def catch_up(self) -> None:
        """Be the real time from now on."""
        self._moved = self._behind

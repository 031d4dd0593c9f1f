"""The sinks in force of one gateway, which a reload puts others in the place of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.clock import Clock, Ticks
from gateway.config.model import Config
from gateway.tasks import Tasks

if TYPE_CHECKING:
    from gateway.audit.sinks.service import RunningSinks
    from gateway.audit.sinks.status import Status


class Sinks:
    """None until there are some; only then is what they are made of imported."""

    def __init__(self, clock: Clock, ticks: Ticks) -> None:
        """Hold none."""
        self._clock = clock
        self._ticks = ticks
        self._running: RunningSinks | None = None
        self._retiring = Tasks()

    @property
    def statuses(self) -> list[Status]:
        """How each fares, in the order of the configuration."""
        return [] if self._running is None else self._running.statuses

    def prepare(self, config: Config) -> RunningSinks | None:
        """Return the sinks of a configuration, which do nothing yet; raises ConfigError."""
        if not config.audit.sinks:
            return None
        from gateway.audit.sinks.service import RunningSinks  # noqa: PLC0415 - see the class

        return RunningSinks(config, clock=self._clock, ticks=self._ticks)

    def renew(self, prepared: RunningSinks | None) -> None:
        """Put these in force; each goes on where the one of its name has got to, once that one has ended."""
        old, self._running = self._running, prepared
        if old is not None:
            self._retiring.start(old.close(), name="retire the old sinks")
        if prepared is not None:
            prepared.start()

    async def close(self) -> None:
        """End them; see `RunningSinks.close`."""
        await self._retiring.wait()
        if self._running is not None:
            await self._running.close()

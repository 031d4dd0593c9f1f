"""Hears of commits by whichever node: LISTEN on a connection of its own, asked now and then whether it still lives."""

import asyncio

from gateway.stores.postgres.connect import Connection, translated
from gateway.stores.store import Push, StoreError

CHANNEL = "locum_changes"
"""What the database's own triggers notify; what a notice says besides is not read, because anybody may send one."""


class PostgresPush(Push):
    """A connection that listens. A silent one is found out within `quiet_seconds` and `answer_seconds` of waiting."""

    def __init__(self, connection: Connection, *, quiet_seconds: float, answer_seconds: float) -> None:
        """Take over a connection, which `open` makes listen; whoever made it ends it."""
        self._connection = connection
        self._quiet = quiet_seconds
        self._answer = answer_seconds
        self._heard = asyncio.Event()
        self._lost: str | None = None

    async def open(self) -> None:
        """Listen from now on; raises StoreError."""
        self._connection.add_termination_listener(self._ended)
        with translated():
            async with asyncio.timeout(self._answer):
                await self._connection.add_listener(CHANNEL, self._hear)

    async def wait(self) -> None:
        while self._lost is None and not self._heard.is_set():
            try:
                async with asyncio.timeout(self._quiet):
                    await self._heard.wait()
            except TimeoutError:
                await self._ask()
        if self._lost is not None:
            raise StoreError(f"{self._lost}: listen again")
        self._heard.clear()

    def lose(self, why: str) -> None:
        """End the channel: every wait raises StoreError from now on."""
        if self._lost is None:
            self._lost = why
        self._heard.set()
        self._connection.terminate()

    async def _ask(self) -> None:
        # Hanging up ends the wait at once, where a timeout would first ask a silent server to stop.
        alarm = asyncio.get_running_loop().call_later(
            self._answer, self.lose, "the database does not answer on the channel"
        )
        try:
            with translated():
                await self._connection.execute("SELECT 1")
        except StoreError as exc:
            self.lose(str(exc))
        except asyncio.CancelledError:
            # The answer may still come, so the connection cannot be asked anything else.
            self.lose("the channel was left in the middle of a question")
            raise
        finally:
            alarm.cancel()

    def _hear(self, *_notice: object) -> None:
        self._heard.set()

    def _ended(self, _connection: object) -> None:
        self.lose("the database has ended the connection that listens")

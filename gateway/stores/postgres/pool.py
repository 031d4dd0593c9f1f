"""The connections of one process: few, each for one thing at a time, none used again on which anything went wrong."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.stores.postgres.address import Host
from gateway.stores.postgres.connect import Connection, Connector, part, translated
from gateway.stores.store import StoreConflict, StoreError
from gateway.tasks import Tasks

T = TypeVar("T")

_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_CLOSED = "the store is closed: open it again"


class Seat:
    """One connection of the pool."""

    __slots__ = ("age", "connection", "late")

    def __init__(self, connection: Connection, age: int) -> None:
        self.connection = connection
        self.age = age
        self.late = False
        """It was hung up on, because it did not answer in time."""

    def hang_up(self) -> None:
        """End the connection and with it whatever waits for it, without a word that nobody might hear."""
        self.late = True
        self.connection.terminate()


class Pool:
    """Runs work on connections that it opens as needed and keeps for the next.

    Work that fails or is cancelled, or that the server does not answer in time, takes its connection with it: the
    server undoes what was not committed, and what comes next begins on another. When one was lost, or another host
    has taken over, none that was opened before is used again. While the database cannot be reached, work fails at
    once but for one attempt now and then.
    """

    def __init__(self, connector: Connector, *, least: int, most: int, connect_seconds: float) -> None:
        """Hold between `least` and `most` connections; `fill` opens the first."""
        self._connector = connector
        self._least = least
        self._connect_seconds = connect_seconds
        self._places = asyncio.Semaphore(most)
        """Taken by each connection that is in use or being opened."""
        self._idle: list[Seat] = []
        self._busy: set[Seat] = set()
        self._age = 0
        """Raised when what was opened before is not to be used again."""
        self._host: Host | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._closed = False
        self._missing = asyncio.Event()
        self._tasks = Tasks()

    async def fill(self) -> None:
        """Open the first connections, and from then on replace what is lost; raises StoreError."""
        await self._refill()
        self._tasks.start(self._keep(), name="keep connections to the database")

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, seconds: float) -> T:
        """Return what `work` returns; raises StoreError, at the latest after `seconds`, and StoreConflict as it is."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + seconds
        seat = await self._take(give_up)
        # Hanging up ends the wait at once, where a timeout would first ask a silent server to stop.
        alarm = loop.call_at(give_up, seat.hang_up)
        whole = False
        try:
            with translated():
                result = await work(seat.connection)
            whole = True
        except StoreConflict:
            whole = True
            raise
        except StoreError as exc:
            if seat.late:
                raise StoreError("the database does not answer in time") from exc
            raise
        finally:
            alarm.cancel()
            self._give_back(seat, whole=whole)
        return result

    async def close(self) -> None:
        """End all connections, those in use as well; every later call raises StoreError."""
        self._closed = True
        await self._tasks.close()
        for seat in self._busy:
            seat.connection.terminate()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(part(seat.connection) for seat in idle))

    async def _take(self, give_up: float) -> Seat:
        """Return a connection for the caller alone, which holds a place until it is given back."""
        if self._closed:
            raise StoreError(_CLOSED)
        try:
            async with asyncio.timeout_at(give_up):
                await self._places.acquire()
        except TimeoutError as exc:
            raise StoreError("all connections to the database are in use: raise store.max_connections") from exc
        try:
            seat = self._pick() or await self._open(give_up)
        except BaseException:
            self._places.release()
            raise
        self._busy.add(seat)
        return seat

    def _pick(self) -> Seat | None:
        while self._idle:
            seat = self._idle.pop()
            if seat.age == self._age and not seat.connection.is_closed():
                return seat
            seat.connection.terminate()
        return None

    def _give_back(self, seat: Seat, *, whole: bool) -> None:
        self._busy.discard(seat)
        self._places.release()
        if seat.connection.is_closed():
            self._age += 1
        if whole and seat.age == self._age and not self._closed:
            self._idle.append(seat)
            return
        seat.connection.terminate()
        self._missing.set()

    async def _open(self, give_up: float) -> Seat:
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            raise StoreError("the database could not be reached a moment ago, and is tried again in a moment")
        try:
            async with asyncio.timeout_at(give_up):
                connection, host = await self._connector.connect()
        except (TimeoutError, StoreError) as exc:
            self._pause = min(max(2 * self._pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            # Spread, so that nodes that lost the same server do not come back in step.
            self._not_before = loop.time() + self._pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
            if isinstance(exc, StoreError):
                raise
            raise StoreError("the database cannot be connected to in time") from exc
        if self._closed:
            connection.terminate()
            raise StoreError(_CLOSED)
        self._pause = self._not_before = 0.0
        if host != self._host:
            self._host = host
            self._age += 1
        return Seat(connection, self._age)

    async def _keep(self) -> None:
        while True:
            await self._missing.wait()
            self._missing.clear()
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(0.0, self._not_before - loop.time()))
            try:
                await self._refill()
            except StoreError:
                # Whoever asked meanwhile was told; a log of each attempt would say no more.
                self._missing.set()

    async def _refill(self) -> None:
        while len(self._busy) + len(self._idle) < self._least:
            async with self._places:
                self._idle.append(await self._open(asyncio.get_running_loop().time() + self._connect_seconds))

"""One connection: made to whichever of the hosts may be written to, and set up so that nothing in it lasts for ever."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg

from gateway.stores.postgres.address import Address, Host
from gateway.stores.postgres.greeting import greet
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError

Connection: TypeAlias = asyncpg.Connection

_OLDEST = 14
# So long the next host waits for the one before it, so that of two that could be written to the first is taken.
_STAGGER_SECONDS = 0.1
LONG_SECONDS = 30.0
"""For what nobody waits for at a door: lists, migrations, another node's turn."""
LONGEST_SECONDS = LONG_SECONDS + 2.0
"""So long a server may take to say itself that this was too long."""
_PATIENT = {"statement_timeout": "0", "lock_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}
_GOODBYE_SECONDS = 0.5
_LASTING = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""


class Connector:
    """Makes connections; raises StoreError."""

    def __init__(self, address: Address, terms: StoreTerms) -> None:
        self._address = address
        self._settings = {
            "application_name": "locum",
            "default_transaction_isolation": "read committed",
            # What a client leaves behind that is gone or stands still: nobody waits longer for it than this.
            "statement_timeout": _milliseconds(LONG_SECONDS),
            "lock_timeout": _milliseconds(terms.write_seconds),
            "idle_in_transaction_session_timeout": _milliseconds(terms.write_seconds),
        }

    async def connect(self, *, patient: bool = False, first: bool = False) -> tuple[Connection, Host]:
        """Return a connection to a server that may be written to, and which that is; the caller ends it.

        All hosts are asked, one a little after the other, and the first that may be written to is taken: one that
        does not answer holds nobody up. `patient` is for work of any length: the server does not end it. `first`: see
        `apart`.
        """
        settings = self._settings | _PATIENT if patient else self._settings
        attempts = [
            asyncio.ensure_future(self._try(host, index * _STAGGER_SECONDS, settings, first=first))
            for index, host in enumerate(self._address.hosts)
        ]
        running, faults, taken = set(attempts), [], None
        try:
            while running and taken is None:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                taken = next((attempt for attempt in attempts if attempt in done and not attempt.exception()), None)
                faults += [str(attempt.exception()) for attempt in done if attempt.exception()]
        finally:
            for attempt in attempts:
                if attempt is not taken:
                    attempt.cancel()
                    attempt.add_done_callback(_drop)
        if taken is None:
            raise StoreError("; ".join(faults))
        return taken.result()

    @asynccontextmanager
    async def apart(self, seconds: float, *, first: bool = False) -> AsyncIterator[Connection]:
        """Connect within `seconds` for work of any length; the connection ends with the block.

        `first` is for whoever does not know yet whether it is a PostgreSQL that listens there.
        """
        try:
            async with asyncio.timeout(seconds):
                connection, _ = await self.connect(patient=True, first=first)
        except TimeoutError as exc:
            raise StoreError(f"{self._address!r} does not answer in time: check the way there, and store.url") from exc
        try:
            yield connection
        finally:
            connection.terminate()

    async def _try(self, host: Host, wait: float, settings: dict[str, str], *, first: bool) -> tuple[Connection, Host]:
        await asyncio.sleep(wait)
        with translated(f"{host[0]}:{host[1]}"):
            if first:
                await greet(self._address, host)
            connection = await asyncpg.connect(
                self._address.url,
                host=host[0],
                port=host[1],
                target_session_attrs="read-write",
                server_settings=settings,
                timeout=None,
            )
        try:
            with translated(f"{host[0]}:{host[1]}"):
                await _check(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection, host


@contextmanager
def bounded(connection: Connection, seconds: float) -> Iterator[None]:
    """End the connection if the block takes longer than that; what it waits for then raises StoreError."""
    late = False

    def hang_up() -> None:
        nonlocal late
        late = True
        connection.terminate()

    # Hanging up ends the wait at once, where a timeout would first ask a silent server to stop.
    alarm = asyncio.get_running_loop().call_later(seconds, hang_up)
    try:
        yield
    except StoreError as exc:
        if late:
            raise StoreError(f"the database does not answer within {seconds:g} s") from exc
        raise
    finally:
        alarm.cancel()


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


async def _check(connection: Connection) -> None:
    if connection.get_server_version().major < _OLDEST:
        raise StoreError(f"the server is older than PostgreSQL {_OLDEST}: upgrade it")
    if connection.get_settings().server_encoding != "UTF8":
        raise StoreError("the database cannot hold every text: create it with ENCODING 'UTF8'")
    # What was acknowledged is on the server's disk, whatever its configuration says.
    await connection.execute(_LASTING)


def _drop(attempt: "asyncio.Future[tuple[Connection, Host]]") -> None:
    """End a connection that came when nobody wanted it any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].terminate()


async def part(connection: Connection) -> None:
    """Say goodbye, or hang up on a server that does not listen."""
    try:
        await connection.close(timeout=_GOODBYE_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        connection.terminate()


@contextmanager
def translated(where: str = "the database") -> Iterator[None]:
    """Turn whatever is wrong with the database or the way to it into StoreError."""
    try:
        yield
    except TimeoutError as exc:
        raise StoreError(f"{where} does not answer in time") from exc
    except asyncpg.ClientConfigurationError as exc:
        # Its text may hold a part of the URL.
        raise StoreError(f"{where}: the connection is not well configured: check store.url") from exc
    except asyncpg.PostgresError as exc:
        raise StoreError(f"{where} refuses: {_said(exc)}") from exc
    except (OSError, EOFError, BufferError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise StoreError(f"{where} cannot be used: {_said(exc)}: check that it runs and can be reached") from exc
    except (ValueError, OverflowError) as exc:
        raise StoreError(f"a value has no exact form in this version's database: {exc}") from exc


def _said(exc: BaseException) -> str:
    return str(exc).partition("\n")[0] or type(exc).__name__

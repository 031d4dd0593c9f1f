"""Names of hosts that Locum itself asks, looked up where a DNS that hangs holds up nobody else."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_Info: TypeAlias = tuple[Any, ...]  # as `socket.getaddrinfo` returns them


class OwnThreads(AbstractResolver):
    """Asks the system's resolver on threads of its own, never on those that the event loop has for all its lookups.

    A lookup cannot be broken off, so one that hangs keeps its thread. Such threads end with the process.
    """

    def __init__(self, most: int) -> None:
        """Have `most` threads at the most."""
        self._free = threading.Semaphore(most)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises OSError, at once if every thread is at work."""
        if not self._free.acquire(blocking=False):
            raise OSError("every lookup that may be under way waits for the DNS")
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[_Info]] = loop.create_future()

        def work() -> None:
            result: Sequence[_Info] = ()
            error = None
            try:
                result = socket.getaddrinfo(
                    host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
            except (OSError, ValueError) as exc:
                error = exc
            finally:
                self._free.release()
            # Whoever asked may have gone meanwhile, with the loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, found, result, error)

        try:
            threading.Thread(target=work, name="look up", daemon=True).start()
        except RuntimeError as exc:
            self._free.release()
            raise OSError("no thread can be started for a lookup") from exc
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=kind, proto=proto, flags=_NUMERIC)
            for kind, _, proto, _, address in await found
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing that could be let go of."""


def _tell(found: "asyncio.Future[Sequence[_Info]]", result: Sequence[_Info], error: Exception | None) -> None:
    if found.done():
        return
    if error is None:
        found.set_result(result)
    else:
        found.set_exception(error)

"""How often somebody has tried something, counted in the store, so for all processes and nodes together."""

import ipaddress
from datetime import timedelta
from hashlib import sha256

from gateway.clock import Clock
from gateway.stores.counting import Counting


class Tries:
    """Lets each key try so many times in a time that begins with the first."""

    def __init__(self, store: Counting, clock: Clock, *, what: str, most: int, within: timedelta) -> None:
        """Count `what` apart from all else that is counted."""
        self._store = store
        self._clock = clock
        self._what = what
        self._most = most
        self._within = within

    async def take(self, key: str) -> bool:
        """Count one more; False, and nothing is counted, if there were as many as may be. Raises StoreError."""
        now = self._clock()
        return await self._store.count(self._digest(key), most=self._most, expires_at=now + self._within, now=now)

    async def forgive(self, key: str) -> None:
        """Count one less, because it was a good one; raises StoreError."""
        await self._store.discount(self._digest(key), now=self._clock())

    def _digest(self, key: str) -> bytes:
        return sha256(f"tries\0{self._what}\0{key}".encode("utf-8", "surrogatepass")).digest()


def network_of(address: str | None) -> str:
    """Return what one customer of a provider has for sure: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)

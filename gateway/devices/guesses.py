"""How often somebody has tried something, counted in the store, so for all processes and nodes together."""

import ipaddress
from datetime import timedelta
from hashlib import sha256
from typing import Final

from gateway.clock import Clock
from gateway.stores.counting import Counting

_NETWORKS_OF_SITE: Final = 8
"""So many networks' shares a /48 has: less than what there is for all, by far, and more than an office needs."""


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


class NetworkTries:
    """Lets each network try so often; of IPv6 each /48 as often as some networks do, for whoever has one has 65,536."""

    def __init__(self, store: Counting, clock: Clock, *, what: str, most: int, within: timedelta) -> None:
        """Count `what` apart from all else that is counted."""
        self._of_one = Tries(store, clock, what=what, most=most, within=within)
        self._of_site = Tries(store, clock, what=f"{what}, /48", most=most * _NETWORKS_OF_SITE, within=within)

    async def take(self, address: str | None) -> bool:
        """Count one more; False, and nothing is counted, if there were as many as may be. Raises StoreError."""
        network, site = network_of(address), site_of(address)
        if not await self._of_one.take(network):
            return False
        if site == network or await self._of_site.take(site):
            return True
        await self._of_one.forgive(network)
        return False

    async def forgive(self, address: str | None) -> None:
        """Count one less, because it was a good one; raises StoreError."""
        network, site = network_of(address), site_of(address)
        await self._of_one.forgive(network)
        if site != network:
            await self._of_site.forgive(site)


def network_of(address: str | None) -> str:
    """Return what one customer of a provider has for sure: an IPv4 address, or the /64 of an IPv6 one."""
    return _within(address, 64)


def site_of(address: str | None) -> str:
    """Return what one customer of a provider may have at the most: an IPv4 address, or the /48 of an IPv6 one."""
    return _within(address, 48)


def _within(address: str | None, bits: int) -> str:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, bits), strict=False))
    return str(found)

"""How many event streams may be open behind the public listener: from one address, and in the whole process."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from gateway.proxy.limits import ListenerLimits
from gateway.proxy.peers import Trusts, network_of
from gateway.shares import Shares

PART: Final = 4
"""One in so many of the requests under way may be a stream: each lasts, and what an office has open of our pages must
leave it the app."""


class StreamPlaces:
    """A page that gets no place here asks by itself now and then instead."""

    def __init__(self, limits: ListenerLimits, trusts: Trusts) -> None:
        """Give a quarter of `in_flight_per_peer` to each client's address, of `max_in_flight` to all.

        What comes by way of a proxy that is trusted is the client's whom that names. Where it names nobody, or by a
        Unix socket, it may be anybody, and only the bound of all counts.
        """
        self._trusts = trusts
        self._places = Shares(limits.in_flight_per_peer // PART, of_all=limits.max_in_flight // PART)

    @contextmanager
    def place(self, address: str | None) -> Iterator[bool]:
        """Take one for a client's address until the block ends; yields whether there was one."""
        # Whoever may be anybody is counted with nobody else.
        whose: Hashable = network_of(address) if address and not self._trusts(address) else object()
        with self._places.place(whose) as is_free:
            yield is_free

    @property
    def count(self) -> int:
        """How many are taken."""
        return self._places.count

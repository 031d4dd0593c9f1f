"""Who is connected, by address: what each takes at a time, so that nobody takes it all from the others."""

import ipaddress
import sys
from collections.abc import Callable

from gateway.proxy.limits import PeerLimits
from gateway.proxy.turns import Turns

Trusts = Callable[[str], bool]
"""Tells whether an address is that of a proxy in front, which speaks for many."""

_NETWORK_BYTES = 8
"""Of an IPv6 address: its /64."""


class Peer:
    """One address, or a network that counts as one, for as long as it has a connection."""

    __slots__ = ("alone", "connections", "handshakes", "key", "requests", "warned", "websockets")

    def __init__(self, key: str, *, alone: bool, trusted: bool, limits: PeerLimits) -> None:
        self.key = key
        self.alone = alone
        """Whether `key` is its address."""
        self.connections = 0
        """From the moment that each is accepted."""
        self.warned = False
        """Whether the log says already that it wants more than it may."""
        self.requests = Turns(_most(limits.in_flight_per_peer, trusted=trusted))
        self.websockets = Turns(_most(limits.websockets_per_peer, trusted=trusted))
        self.handshakes = Turns(_most(limits.tls_handshakes_per_peer, trusted=trusted))

    def renew(self, *, trusted: bool, limits: PeerLimits) -> None:
        """Go by other limits; who has more than those gives back first."""
        self.requests.resize(_most(limits.in_flight_per_peer, trusted=trusted))
        self.websockets.resize(_most(limits.websockets_per_peer, trusted=trusted))
        self.handshakes.resize(_most(limits.tls_handshakes_per_peer, trusted=trusted))


class Peers:
    """Every address that has a connection."""

    def __init__(self, limits: PeerLimits, trusts: Trusts) -> None:
        self._limits = limits
        self._trusts = trusts
        self._known: dict[str, Peer] = {}
        self.connections = 0
        """Of all of them."""

    def enter(self, address: str) -> Peer:
        """Count one more connection from there."""
        peer = self._known.get(address)
        if peer is None:
            trusted = self._trusts(address)
            # A proxy has the limits of none, and its neighbours have not.
            key = address if trusted else network_of(address)
            peer = self._known.get(key)
            if peer is None:
                peer = self._known[key] = Peer(key, alone=key == address, trusted=trusted, limits=self._limits)
        peer.connections += 1
        self.connections += 1
        return peer

    def leave(self, peer: Peer) -> None:
        """Count one less."""
        peer.connections -= 1
        self.connections -= 1
        if not peer.connections:
            del self._known[peer.key]

    def renew(self, limits: PeerLimits, trusts: Trusts) -> None:
        """Go by other limits from now on, also for who is here."""
        self._limits = limits
        self._trusts = trusts
        for peer in self._known.values():
            peer.renew(trusted=peer.alone and trusts(peer.key), limits=limits)


def network_of(address: str) -> str:
    """Return what an address is counted with: in IPv6 all of its /64, for whoever has one address of that has every.

    On a link the neighbours share theirs, so each of them counts alone.
    """
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return address if parsed.is_link_local else parsed.packed[:_NETWORK_BYTES].hex()


def _most(limit: int, *, trusted: bool) -> int:
    return sys.maxsize if trusted else limit

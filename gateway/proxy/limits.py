"""What clients may take of us, and how long the app may take; here, so that the configuration imports no server."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What one connection may take, in size and in time."""

    header_bytes: int = 32 * 1024
    """Of a head, from its first byte to its empty line. Cookies and tokens of 16 KiB occur."""
    header_lines: int = 256
    header_timeout_seconds: float = 10
    """From the first byte of a head to its last, however the bytes trickle in."""
    idle_timeout_seconds: float = 75
    """Between two requests, and before the first. Above the 60 of most proxies, or they find the door closed."""
    body_idle_timeout_seconds: float = 30
    """Between two pieces of a request body, while somebody waits for them."""
    min_bytes_per_second: float = 100
    """Of a body, on average over the time that is waited for it to come, or to be taken, beyond the timeouts here: or
    whoever sends a byte now and then would hold a connection to the app for as long as they like."""
    write_stall_timeout_seconds: float = 60
    """While the client takes nothing of what waits for it."""
    linger_timeout_seconds: float = 2
    """Behind the last response, for the client to read it before the connection is gone. Whoever still takes what was
    sent is given the time that this takes, here as on an idle connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLimits(ClientLimits):
    """What one address may take of what there is for all; a proxy in front that is trusted may take all of it."""

    in_flight_per_peer: int = 128
    """Requests being answered at a time; WebSockets count apart. Below the connections that there are to the app."""
    websockets_per_peer: int = 512
    tls_handshakes_per_peer: int = 64
    """Under way at a time; each holds some 70 KiB, and whoever connects and says nothing is in one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits(PeerLimits):
    """What all clients may take together."""

    connections_per_peer: int = 4096
    """From one address; a proxy in front is one. Connections through a Unix socket are not counted."""
    max_connections: int = 10_000
    """Of all addresses together, Unix sockets' among them. For one more, those that have waited longest for a request
    are closed; if none waits, the newcomer is, at once."""
    max_in_flight: int = 4096
    """Requests being answered at a time."""
    queue_timeout_seconds: float = 5
    """For a request to wait until others of its address are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How long each phase of a connection may take."""

    header_bytes: int = 64 * 1024
    """Of the head of a response, from its status line to its empty line, and of each interim one."""
    request_stall_timeout_seconds: float = 60
    """While the upstream takes nothing of the request body that waits for it."""
    response_timeout_seconds: float = 60
    """From the last byte of the request to the last byte of the response head."""
    idle_timeout_seconds: float = 60
    """Between two pieces of a response body, while there is room for them."""
    max_idle_age_seconds: float = 30
    """Between two exchanges. Below the keep-alive time of the app, or it closes under our hands."""
    websocket_idle_timeout_seconds: float = math.inf
    """Without a byte either way after a switch of protocols; many apps leave a WebSocket silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits(ConnectionLimits):
    """How many connections, and how long each step may take."""

    connect_timeout_seconds: float = 5
    """For name resolution, TCP and TLS together."""
    queue_timeout_seconds: float = 5
    """For a free connection when `max_connections` are busy."""
    unreachable_pause_seconds: float = 0.2
    """How long after a failed attempt to connect, and during the next, other requests fail without an attempt."""
    max_connections: int = 256
    """Without those that switched protocols, which last too long to queue behind."""
    max_websockets: int = 1024
    """No more upgrades are asked for while there are so many; what is being asked then may still come on top."""
    max_idle: int = 64
    max_age_seconds: float = 3600
    """From a connection's beginning: after the exchange in which it reaches that it is not used again, so that where
    a name's addresses or a balancer's servers change, all connections have followed by then."""

"""What must hold before a connection stops being HTTP: the opening handshake of RFC 6455, from a proxy's side."""

import base64
import binascii
import hashlib

from gateway.proxy.headers import nominated, values
from gateway.proxy.wire import RequestHead, ResponseHead

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def is_handshake(head: RequestHead) -> bool:
    """Whether a request asks for a WebSocket, as RFC 6455 section 4.1 says."""
    keys = values(head.headers, b"sec-websocket-key")
    return (
        head.method == b"GET"
        and head.version == (1, 1)
        and _names_websocket(head)
        and values(head.headers, b"sec-websocket-version") == [b"13"]
        and len(keys) == 1
        and _is_nonce(keys[0])
    )


def expected_accept(head: RequestHead) -> bytes | None:
    """The `Sec-WebSocket-Accept` that answers this handshake; None for what is no handshake (RFC 6455 section 4.1)."""
    keys = values(head.headers, b"sec-websocket-key")
    if not is_handshake(head):
        return None
    return base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())


def is_accepted(head: ResponseHead, accept: bytes) -> bool:
    """Whether this 101 agrees to the handshake that expects `accept` (RFC 6455 section 4.2.2).

    One that announces a body does not: that body would be read as frames.
    """
    return (
        head.version == (1, 1)
        and _names_websocket(head)
        and values(head.headers, b"sec-websocket-accept") == [accept]
        and not values(head.headers, b"transfer-encoding")
        and values(head.headers, b"content-length") in ([], [b"0"])
    )


def _names_websocket(head: RequestHead | ResponseHead) -> bool:
    upgrades = values(head.headers, b"upgrade")
    return len(upgrades) == 1 and upgrades[0].lower() == b"websocket" and b"upgrade" in nominated(head.headers)


def _is_nonce(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False

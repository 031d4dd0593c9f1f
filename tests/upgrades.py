"""A WebSocket handshake to the upstream, and the answer that switches protocols."""

import base64
import hashlib

from tests.upstream_client import request

KEY = base64.b64encode(bytes(range(16)))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - RFC 6455


def handshake(**changes):
    lines = {
        "Connection": b"keep-alive, Upgrade",
        "Upgrade": b"websocket",
        "Sec_WebSocket_Version": b"13",
        "Sec_WebSocket_Key": KEY,
    }
    return request(**{name: value for name, value in (lines | changes).items() if value is not None})


def switching(*lines: bytes, version: bytes = b"1.1", **changes) -> bytes:
    """A 101, right unless changed: `accept=None` leaves the line out, further lines come behind."""
    right = {
        "upgrade": b"Upgrade: websocket",
        "connection": b"Connection: Upgrade",
        "accept": b"Sec-WebSocket-Accept: " + ACCEPT,
    }
    kept = [line for line in (right | changes).values() if line is not None]
    return b"\r\n".join([b"HTTP/" + version + b" 101 Switching Protocols", *kept, *lines]) + b"\r\n\r\n"

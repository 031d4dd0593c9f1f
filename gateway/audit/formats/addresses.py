"""Whether a text is an address, for formats whose readers refuse a whole record over one that is none."""

import ipaddress
from functools import lru_cache
from typing import Any


def is_address(value: Any) -> bool:
    """Tell whether it is an IPv4 or IPv6 address, without a zone."""
    return isinstance(value, str) and _is_address(value)


@lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def host_name(value: Any) -> str | None:
    """Return the name in a `Host` header without its port."""
    if not isinstance(value, str) or not value:
        return None
    name, _, port = value.rpartition(":")
    return name if name and port.isascii() and port.isdigit() else value

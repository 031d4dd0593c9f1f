"""Whose address a request comes from: its peer's, or what trusted proxies in front say of whom they speak for."""

import ipaddress
import re

from gateway.proxy.headers import values
from gateway.proxy.peers import Trusts
from gateway.proxy.wire import Headers

# As proxies write them: IPv4 and IPv6 bare, IPv4 with a port, IPv6 in brackets with or without one. No zone: that is
# free text.
_HOP = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


def client_address(headers: Headers, peer: str, trusts: Trusts) -> str:
    """Return the client's address, for the record and for limits; never what decides about access.

    It is the peer's, unless that is a trusted proxy: then it is the rightmost hop in `X-Forwarded-For` that is none,
    its lines taken together as one list (RFC 9110 section 5.3). What stands left of that hop is hearsay. A hop that is
    no plain IP address ends the reading, and the one to its right counts, in the end the peer.
    """
    address = peer
    if not trusts(peer):
        return address
    for hop in reversed(b",".join(values(headers, b"x-forwarded-for")).split(b",")):
        said = _read(hop.strip(b" \t"))
        if said is None:
            break
        address = said
        if not trusts(address):
            break
    return address


def _read(hop: bytes) -> str | None:
    found = _HOP.fullmatch(hop)
    if found is None:
        return None
    in_brackets, *others = found.groups()
    try:
        if in_brackets is not None:
            return _name(ipaddress.IPv6Address(in_brackets.decode("ascii")))
        [bare] = filter(None, others)
        return _name(ipaddress.ip_address(bare.decode("ascii")))
    except ValueError:
        return None


def _name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address in its one spelling."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)

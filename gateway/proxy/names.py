"""What the name of a header means here: which lines decide, which stay behind, which only Locum may set.

Apps fold header names: CGI, WSGI, Rack and PHP cannot tell `X_Locum-Assertion` from `X-Locum-Assertion`. So what is
reserved, or decides, is compared on the folded name.
"""

import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Final

from gateway.proxy.remembered import Remembered
from gateway.proxy.wire import Headers

RESERVED_PREFIX = b"x-locum-"

# Bits, so that one pass over the names of a head says which checks it needs: for most heads, none.
HOP: Final = 1
"""Describes one connection: stays behind, either way."""
CONNECTION: Final = 1 << 1
"""`Connection`, which may nominate others; also a HOP."""
RESERVED: Final = 1 << 2
"""Would be taken for one that only Locum may set, or that the operator keeps from the app."""
IDENTITY: Final = 1 << 3
"""Would be taken for one by which Locum tells who is there; also RESERVED."""
AUTHORIZATION: Final = 1 << 4
"""`Authorization`, in any spelling."""
UPGRADE: Final = 1 << 5
"""`Upgrade`, in any spelling."""
ODD: Final = 1 << 6
"""Has another character than letters, digits and hyphens: taken for another header by some app or server."""
OVERRIDE: Final = 1 << 7
"""Asks the app to take another method or path than the request line's."""
HEARSAY: Final = 1 << 8
"""What a proxy says of the client: where it is, or who."""
COOKIE: Final = 1 << 9
EXPECT: Final = 1 << 10
TRAILER: Final = 1 << 11
"""`Trailer`, which announces trailers."""
CACHE_CONTROL: Final = 1 << 12
SET_COOKIE: Final = 1 << 13
CODING: Final = 1 << 14
"""`Transfer-Encoding`."""
CLEAR_SITE_DATA: Final = 1 << 15

_FOLD = bytes(
    c if 0x30 <= c <= 0x39 or 0x61 <= c <= 0x7A else c + 32 if 0x41 <= c <= 0x5A else 0x2D for c in range(256)
)

_BY_NAME = {
    # RFC 9110 section 7.6.1 and what older clients nominate without saying so.
    b"connection": HOP | CONNECTION, b"keep-alive": HOP, b"proxy-connection": HOP, b"te": HOP, b"upgrade": HOP,
    b"transfer-encoding": CODING,
    b"cookie": COOKIE, b"expect": EXPECT, b"trailer": TRAILER,
    b"cache-control": CACHE_CONTROL, b"surrogate-control": CACHE_CONTROL, b"x-accel-expires": CACHE_CONTROL,
    b"edge-control": CACHE_CONTROL, b"expires": CACHE_CONTROL,
    b"set-cookie": SET_COOKIE, b"clear-site-data": CLEAR_SITE_DATA,
}  # fmt: skip
# What proxies say of the client: about staff the app hears from us alone, and the customer's allow-list of
# addresses does not decide about them.
_FORWARDING = frozenset(
    {
        b"dpop", b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip", b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-proto",
        b"x-forwarded-server", b"x-forwarded-ssl", b"x-forwarded-uri", b"x-forwarded-method", b"x-original-url",
        b"x-original-uri", b"x-original-method", b"x-original-host", b"x-rewrite-url",
    }
)  # fmt: skip
# Under these, proxies of other makes tell an app who is there.
_IDENTITY_PREFIXES = (
    b"x-forwarded-user", b"x-forwarded-email", b"x-forwarded-groups", b"x-forwarded-preferred-username",
    b"x-forwarded-access-token", b"remote-", b"x-remote-", b"x-auth-request-", b"x-authentik-", b"x-pomerium-",
    b"cf-access-", b"x-goog-", b"impersonate-", b"x-webauth-",
)  # fmt: skip
_OVERRIDES = frozenset(
    {
        b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url",
        b"x-forwarded-path", b"x-script-name", b"script-name", b"path-info",
    }
)  # fmt: skip
# gunicorn takes these from a peer on loopback, which we are, and moves the path that the app sees. From a client that
# comes through us they are never meant.
_CGI = frozenset({b"script-name", b"path-info"})
_PLAIN = re.compile(rb"[A-Za-z0-9-]+")

LONGEST_REMEMBERED: Final = 64
"""The longest header name whose meaning is remembered; the longest in use are half of it."""


def fold(name: bytes) -> bytes:
    """Return what apps may take a header's name for: lower case, and `-` for all that is no letter or digit."""
    return name.translate(_FOLD)


class Names(Remembered[int]):
    """The kinds of each header name, as bits."""

    def __init__(self, *, identity: Iterable[str] = (), strip: Iterable[str] = ()) -> None:
        """Reserve configured names on top of the prefix: `identity` says who is there, `strip` is only kept back."""
        super().__init__(self._kinds_of, longest=LONGEST_REMEMBERED)
        self._identity = frozenset(fold(name.encode("ascii")) for name in identity)
        self._reserved = self._identity.union(_CGI, (fold(name.encode("ascii")) for name in strip))

    def among(self, headers: Headers) -> int:
        """Return the kinds of all names together."""
        kinds = 0
        for name, _ in headers:
            kinds |= self[name]
        return kinds

    def _kinds_of(self, name: bytes) -> int:
        folded = fold(name)
        identity = folded in self._identity or folded.startswith(RESERVED_PREFIX)
        kinds = (
            _BY_NAME.get(name.lower(), 0),
            # RFC 9213: caches in front of us heed one of their own before ours.
            folded.endswith(b"-cache-control") and CACHE_CONTROL,
            identity and IDENTITY,
            (identity or folded in self._reserved) and RESERVED,
            folded == b"authorization" and AUTHORIZATION,
            folded == b"upgrade" and UPGRADE,
            _PLAIN.fullmatch(name) is None and ODD,
            folded in _OVERRIDES and OVERRIDE,
            (folded in _FORWARDING or folded.startswith(_IDENTITY_PREFIXES)) and HEARSAY,
        )
        return reduce(or_, kinds)

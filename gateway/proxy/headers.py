"""Header lines on their way through: what is dropped, what is kept as it is, what is set.

Apps fold header names: CGI, WSGI, Rack and PHP cannot tell `X_Locum-Assertion` from `X-Locum-Assertion`. So what is
reserved is compared on the folded name, and everything else passes in its own order, case and repetition.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from gateway.proxy.wire import Headers, RequestHead

RESERVED_PREFIX = b"x-locum-"

_FOLD = bytes(
    c if 0x30 <= c <= 0x39 or 0x61 <= c <= 0x7A else c + 32 if 0x41 <= c <= 0x5A else 0x2D for c in range(256)
)

# RFC 9110 section 7.6.1 and what older clients nominate without saying so.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
# These are never taken out because a `Connection` header says so: the message would turn into another one.
_NEVER_NOMINATED = frozenset({b"host", b"content-length", b"content-type", b"authorization", b"cookie", b"expect"})
# A client that stands in may nominate no header but these; any other would change what is judged.
_PLAIN_OPTIONS = frozenset({b"close", b"keep-alive", b"te", b"trailer", b"trailers", b"upgrade", b"http2-settings"})
# What proxies say of the client: about staff the app hears from us alone, and the customer's allow-list of
# addresses does not decide about them.
_FORWARDING = frozenset(
    {
        b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip", b"x-client-ip",
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
# A name of other characters is taken for another header by some app or server.
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9-]+")
# RFC 9112 section 3.2: an invalid Host is refused. Sub-delimiters and escapes, which the grammar of a registered name
# allows, are left out: no name in use has them, and `,` `;` `%` are where readers differ.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@lru_cache(maxsize=4096)
def fold(name: bytes) -> bytes:
    """Return what apps may take a header's name for: lower case, and `-` for all that is no letter or digit."""
    return name.translate(_FOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The header names that only Locum may set, folded."""

    names: frozenset[bytes]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Reserved":
        """Reserve configured names on top of the prefix."""
        return cls(names=_CGI.union(fold(name.encode("ascii")) for name in names))

    def has(self, name: bytes) -> bool:
        """Tell whether a header of this name would be taken for one of ours."""
        folded = fold(name)
        return folded in self.names or folded.startswith(RESERVED_PREFIX)


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of a header by its exact, lower-case name."""
    return [value for key, value in headers if key.lower() == name]


def nominated(headers: Headers) -> frozenset[bytes]:
    """Return the lower-case names that `Connection` headers nominate (RFC 9110 section 7.6.1)."""
    found = values(headers, b"connection")
    if not found:
        return frozenset()
    return frozenset(token.strip(b" \t").lower() for value in found for token in value.split(b",")) - {b""}


def is_odd_nomination(headers: Headers) -> bool:
    """Tell whether `Connection` names a header that says something about the request."""
    return not nominated(headers) <= _PLAIN_OPTIONS


def is_odd_name(headers: Headers) -> bool:
    """Tell whether a header's name has another character than letters, digits and hyphens."""
    return any(_PLAIN_NAME.fullmatch(name) is None for name, _ in headers)


def is_override(headers: Headers) -> bool:
    """Tell whether a header asks the app to take another method or path than the request line's."""
    return any(fold(name) in _OVERRIDES for name, _ in headers)


def framing_fault(head: RequestHead) -> str | None:
    """Say what makes the message's end or its host uncertain, or None; such a message is refused for everybody.

    aiohttp's parser has refused most of it already; these are what it lets pass.
    """
    lengths, codings = values(head.headers, b"content-length"), values(head.headers, b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        return "the length of the body is given twice"
    if lengths and not (lengths[0].isdigit() and lengths[0] == b"%d" % int(lengths[0]) and len(lengths[0]) <= 18):
        return "the Content-Length is not a plain number"
    if codings and (codings[0].lower() != b"chunked" or head.version < (1, 1)):
        return "the Transfer-Encoding is not plain `chunked`"
    if any(fold(name) in _FRAMING and name.lower() not in _FRAMING for name, _ in head.headers):
        return "a header is a look-alike of Content-Length or Transfer-Encoding"
    return _host_fault(head)


def _host_fault(head: RequestHead) -> str | None:
    hosts = values(head.headers, b"host")
    if len(hosts) > 1 or (not hosts and head.version >= (1, 1)):
        return "there must be exactly one Host header"
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        return "the Host header is not a host with or without a port"
    return None


def for_upstream(
    headers: Headers, reserved: Reserved, *, drop: frozenset[bytes] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """Return the lines that go on, in order and as they were; `drop` holds lower-case names to leave out as well.

    What describes this connection, what `Connection` nominates and what is reserved stays here. The framing is
    the client's own: its `Content-Length`, or `Transfer-Encoding: chunked` in its old place.
    """
    leave = (nominated(headers) - _NEVER_NOMINATED) | drop
    kept = []
    for name, value in headers:
        lower = name.lower()
        if lower == b"transfer-encoding":
            kept.append((name, value))
        elif lower in _HOP_BY_HOP or lower in leave or lower == b"expect" or reserved.has(name):
            continue
        else:
            kept.append((name, value))
    return kept


def without_hearsay(lines: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the lines without what a proxy might have said: where the client is, or who."""
    return [
        (name, value)
        for name, value in lines
        if (folded := fold(name)) not in _FORWARDING and not folded.startswith(_IDENTITY_PREFIXES)
    ]


def with_forwarded_for(lines: list[tuple[bytes, bytes]], peer: str) -> list[tuple[bytes, bytes]]:
    """Return the lines with `peer` put behind the last `X-Forwarded-For`, or in a line of its own at the end."""
    address = peer.encode("ascii")
    for index in range(len(lines) - 1, -1, -1):
        name, value = lines[index]
        if name.lower() == b"x-forwarded-for":
            lines[index] = (name, value + b", " + address)
            return lines
    lines.append((b"X-Forwarded-For", address))
    return lines


def without_cookies(lines: Iterable[tuple[bytes, bytes]], withheld: frozenset[str]) -> list[tuple[bytes, bytes]]:
    """Return the lines with the withheld cookies taken out; the others keep their bytes and order.

    Servers differ in what separates cookies and what may stand around a name (commas, quotes, odd white space), so a
    pair goes as soon as a withheld name stands anywhere in it as a word before `=`.
    """
    kept = []
    for name, value in lines:
        if name.lower() != b"cookie" or not withheld:
            kept.append((name, value))
            continue
        pairs = [pair for pair in value.split(b";") if not _names_any(withheld).search(pair)]
        if pairs:
            kept.append((name, b";".join(pairs).lstrip(b" ")))
    return kept


def for_client(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the lines of a response that go on to the client, without what describes the upstream connection."""
    leave = _HOP_BY_HOP | (nominated(headers) - _NEVER_NOMINATED)
    return [(name, value) for name, value in headers if name.lower() not in leave]


def for_staff(lines: Iterable[tuple[bytes, bytes]], withheld: frozenset[str]) -> list[tuple[bytes, bytes]]:
    """Return the response lines that staff may get: no withheld cookie, no claim to be ours, no caching."""
    kept = []
    for name, value in lines:
        lower = name.lower()
        if lower == b"cache-control" or fold(name).startswith(RESERVED_PREFIX):
            continue
        if lower == b"set-cookie" and withheld and _names_any(withheld).search(value.partition(b";")[0]):
            continue
        kept.append((name, value))
    kept.append((b"Cache-Control", b"no-store"))
    return kept


@lru_cache(maxsize=16)
def _names_any(names: frozenset[str]) -> re.Pattern[bytes]:
    alternatives = b"|".join(re.escape(name.encode("latin-1")) for name in sorted(names))
    return re.compile(rb"(?<![A-Za-z0-9_-])(?:" + alternatives + rb")[^A-Za-z0-9_=-]*=")

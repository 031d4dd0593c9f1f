"""Header lines on their way through: what is dropped, what is kept as it is, what is set.

What `names` gives a meaning is treated accordingly; everything else passes in its own order, case and repetition.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from gateway.proxy import names
from gateway.proxy.names import Names, fold
from gateway.proxy.remembered import Remembered
from gateway.proxy.wire import Headers

Lines = list[tuple[bytes, bytes]]

# These are never taken out because a `Connection` header says so: the message would turn into another one.
_NEVER_NOMINATED = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"authorization", b"cookie", b"expect"}
)
# A client that stands in may nominate no header but these; any other would change what is judged.
_PLAIN_OPTIONS = frozenset({b"close", b"keep-alive", b"te", b"trailer", b"trailers", b"upgrade", b"http2-settings"})
_FOR_CUSTOMERS = names.HOP | names.EXPECT | names.RESERVED
_FOR_STAFF = _FOR_CUSTOMERS | names.AUTHORIZATION | names.HEARSAY | names.TRAILER
_FOR_CLIENT = names.HOP | names.CODING
_ANSWER_FOR_STAFF = _FOR_CLIENT | names.CACHE_CONTROL | names.IDENTITY
_HELD = names.SET_COOKIE | names.CLEAR_SITE_DATA
_NOT_BEHIND = _FOR_STAFF | names.OVERRIDE | names.COOKIE | names.SET_COOKIE

# RFC 9110 section 6.5.1: what frames, routes, authenticates or controls has been acted on when the trailers come.
# A digest of the content is made for the end of it (RFC 9530 section 2).
_NO_TRAILER = re.compile(
    rb"(?!content-digest$)(?:access-control|content|if|sec)-.*"
    rb"|connection|expect|host|keep-alive|max-forwards|range|te|trailer|transfer-encoding|upgrade|via"
    rb"|authentication-info|authorization|cookie|proxy-(?:auth.*|connection)|set-cookie|www-authenticate"
    rb"|age|cache-control|date|expires|location|pragma|retry-after|vary"
)


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of a header by its exact, lower-case name."""
    return [value for key, value in headers if _lower[key] == name]


# Apps and browsers use the same few names over and over.
_lower = Remembered(bytes.lower, longest=names.LONGEST_REMEMBERED)


def nominated(headers: Headers) -> frozenset[bytes]:
    """Return the lower-case names that `Connection` headers nominate (RFC 9110 section 7.6.1)."""
    found = values(headers, b"connection")
    if not found:
        return frozenset()
    return frozenset(token.strip(b" \t").lower() for value in found for token in value.split(b",")) - {b""}


def is_odd_nomination(headers: Headers) -> bool:
    """Tell whether `Connection` names a header that says something about the request."""
    return not nominated(headers) <= _PLAIN_OPTIONS


def may_trail(name: bytes) -> bool:
    """Tell whether a header may stand behind a body at all, whatever an app takes its name for."""
    return _NO_TRAILER.fullmatch(fold(name)) is None


def for_upstream(headers: Headers, known: Names, kinds: int) -> Lines:
    """Return the lines of a customer's request that go on, in order and as they were; `kinds` are those in it.

    What describes this connection, what `Connection` nominates and what is reserved stays here. The framing is
    the client's own: its `Content-Length`, or `Transfer-Encoding: chunked` in its old place.
    """
    return _without(headers, known, kinds, _FOR_CUSTOMERS)


def for_upstream_of_staff(headers: Headers, known: Names, kinds: int, withheld: frozenset[str], *, held: bool) -> Lines:
    """Return the lines of a staff member's request that go on.

    Besides what stays here for customers: our credential, what a proxy might have said of the client, and the
    `withheld` cookies. With `held` no cookie at all: those of the assumption are held by the gateway, and any other in
    that browser is somebody else's.
    """
    lines = _without(headers, known, kinds, _FOR_STAFF | (names.COOKIE if held else 0))
    return _without_cookies(lines, withheld) if kinds & names.COOKIE and withheld else lines


def for_client(headers: Headers, known: Names, kinds: int) -> Headers:
    """Return the lines of a response that go on to a customer, without what describes the upstream connection."""
    return tuple(_without(headers, known, kinds, _FOR_CLIENT)) if kinds & _FOR_CLIENT else headers


def without_set(headers: Headers, is_ours: Callable[[bytes], bool]) -> Headers:
    """Return the lines of a response without those `Set-Cookie` lines whose value is one of ours."""
    return tuple([line for line in headers if not (line[0].lower() == b"set-cookie" and is_ours(line[1]))])


def for_staff(
    headers: Headers, known: Names, withheld: frozenset[str], *, is_ours: Callable[[bytes], bool], held: bool
) -> Headers | Lines:
    """Return the response lines that staff may get: no withheld cookie, no claim to be ours, no word on caching.

    `is_ours` tells of a `Set-Cookie` line whether it would set a cookie of ours. With `held` no cookie at all, since
    the gateway holds them all for the assumption, and no word of the app's on what that browser clears: our cookie.
    """
    kinds = known.among(headers)
    if not kinds & (_ANSWER_FOR_STAFF | _HELD):
        return headers
    lines = _without(headers, known, kinds, _ANSWER_FOR_STAFF | (_HELD if held else 0))
    if kinds & names.SET_COOKIE and not held:
        lines = [
            (name, value)
            for name, value in lines
            if not (known[name] & names.SET_COOKIE and (is_ours(value) or _is_withheld(value, withheld)))
        ]
    return lines


def _is_withheld(value: bytes, withheld: frozenset[str]) -> bool:
    return bool(withheld) and _names_any(withheld).search(value.partition(b";")[0]) is not None


def behind(trailers: Headers, known: Names) -> Headers:
    """Return the trailers that go on: those that say nothing which should have been known before the body."""
    return tuple([line for line in trailers if not known[line[0]] & _NOT_BEHIND and may_trail(line[0])])


def _without(headers: Headers, known: Names, kinds: int, drop: int) -> Lines:
    if not kinds & drop:
        return list(headers)
    leave = nominated(headers) - _NEVER_NOMINATED if kinds & names.CONNECTION else frozenset()
    if not leave:
        return [line for line in headers if not known[line[0]] & drop]
    return [line for line in headers if not known[line[0]] & drop and line[0].lower() not in leave]


def _without_cookies(lines: Lines, withheld: frozenset[str]) -> Lines:
    """Return the lines with the withheld cookies taken out; the others keep their bytes and order.

    Servers differ in what separates cookies and what may stand around a name (commas, quotes, odd white space), so a
    pair goes as soon as a withheld name stands anywhere in it as a word before `=`.
    """
    kept = []
    pattern = _names_any(withheld)
    for name, value in lines:
        if name.lower() != b"cookie" or not pattern.search(value):
            kept.append((name, value))
            continue
        pairs = [pair for pair in value.split(b";") if not pattern.search(pair)]
        if pairs:
            kept.append((name, b";".join(pairs).lstrip(b" ")))
    return kept


@lru_cache(maxsize=16)
def _names_any(withheld: frozenset[str]) -> re.Pattern[bytes]:
    alternatives = b"|".join(re.escape(name.encode("latin-1")) for name in sorted(withheld))
    return re.compile(rb"(?<![A-Za-z0-9_-])(?:" + alternatives + rb")[^A-Za-z0-9_=-]*=")

"""The app's own cookies, held for one assumption as a browser would hold them, so that the real browser never does.

RFC 6265 sections 5.2 to 5.4, for one host: the account's. A `Domain` would make no difference, since nobody else ever
gets them, and they go to that host's app only.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from gateway.proxy.wire import Headers

MOST_COOKIES: Final = 50
MOST_BYTES: Final = 32 * 1024
"""Of names, values and paths, all together; browsers allow one cookie some 4 KiB."""
_LONGEST: Final = 4096
_SPACE = b" \t"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 6265 section 5.1.1, the spelling that every framework sends (RFC 9110 section 5.6.7) and its older one.
_DATE = re.compile(rb"(?:[A-Za-z]+, )?([0-9]{2})[ -]([A-Za-z]{3})[ -]([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")


class Cookie(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One of the app's; bytes stand for the characters of ISO 8859-1."""

    name: str
    value: str
    path: str
    ends_at: datetime | None
    """None: with the assumption."""

    def fits(self, path: str) -> bool:
        """Tell whether it goes with a request for a path (RFC 6265 section 5.1.4)."""
        return path == self.path or path.startswith(self.path if self.path.endswith("/") else self.path + "/")


class Jar:
    """The cookies of one assumption, oldest first."""

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._cookies = {(cookie.name, cookie.path): cookie for cookie in cookies}

    @classmethod
    def read(cls, text: str) -> "Jar":
        """Return the jar that `write` has written; raises ValueError."""
        return cls(msgspec.json.decode(text, type=list[Cookie]))

    def write(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(list(self._cookies.values())).decode()

    def line(self, target: bytes, *, now: datetime) -> bytes:
        """Return the value of the `Cookie` line for a request, empty for none (RFC 6265 section 5.4)."""
        path = _path_of(target)
        fitting = [cookie for cookie in self._cookies.values() if cookie.fits(path) and not is_over(cookie, now)]
        fitting.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in fitting).encode("latin-1")

    def take(self, lines: Iterable[bytes], target: bytes, *, now: datetime) -> "Jar":
        """Return the jar as `Set-Cookie` lines of an answer to `target` leave it; the oldest go when it is full."""
        taken = Jar(self._cookies.values())
        for line in lines:
            cookie = parse_set(line, target, now=now)
            if cookie is not None:
                taken._put(cookie, now=now)
        return taken

    def _put(self, cookie: Cookie, *, now: datetime) -> None:
        key = (cookie.name, cookie.path)
        if is_over(cookie, now):
            self._cookies.pop(key, None)
            return
        # One that is set anew keeps its place among those that go with a request (RFC 6265 section 5.3).
        self._cookies[key] = cookie
        for old in [key for key, kept in self._cookies.items() if is_over(kept, now)]:
            del self._cookies[old]
        while len(self._cookies) > MOST_COOKIES or sum(map(_size, self._cookies.values())) > MOST_BYTES:
            del self._cookies[next(iter(self._cookies))]


def is_over(cookie: Cookie, now: datetime) -> bool:
    """Tell whether its time has come, as that of one that the app takes back."""
    return cookie.ends_at is not None and cookie.ends_at <= now


def set_lines(headers: Headers) -> list[bytes]:
    """Return the values of the `Set-Cookie` lines of an answer."""
    return [value for name, value in headers if len(name) == 10 and name.lower() == b"set-cookie"]


def parse_set(line: bytes, target: bytes, *, now: datetime) -> Cookie | None:
    """Return the cookie of a `Set-Cookie` line, None for one that browsers refuse (RFC 6265 section 5.2)."""
    if _CONTROL.search(line):
        return None
    pair, *attributes = line.split(b";")
    name, equals, value = pair.partition(b"=")
    name, value = name.strip(_SPACE), value.strip(_SPACE)
    if not equals or not name or len(name) + len(value) > _LONGEST:
        return None
    path, ends_at, has_age = _default_path(target), None, False
    for attribute in attributes:
        key, _, text = attribute.partition(b"=")
        key, text = key.strip(_SPACE).lower(), text.strip(_SPACE)
        if key == b"path":
            path = text.decode("latin-1") if text.startswith(b"/") and len(text) <= 1024 else _default_path(target)
        elif key == b"max-age" and re.fullmatch(rb"-?[0-9]{1,18}", text):
            # A year is more than any assumption has.
            ends_at, has_age = now + timedelta(seconds=max(-1, min(int(text), 31_536_000))), True
            ends_at = ends_at if int(text) > 0 else now
        elif key == b"expires" and not has_age:
            ends_at = _read_date(text)
    return Cookie(name=name.decode("latin-1"), value=value.decode("latin-1"), path=path, ends_at=ends_at)


def _read_date(text: bytes) -> datetime | None:
    found = _DATE.fullmatch(text)
    if found is None or found[2].lower() not in _MONTHS:
        return None
    day, _, year, hour, minute, second = found.groups()
    month = _MONTHS.index(found[2].lower()) + 1
    try:
        return datetime(int(year), month, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None


def _path_of(target: bytes) -> str:
    return target.partition(b"?")[0].decode("latin-1")


def _default_path(target: bytes) -> str:
    """RFC 6265 section 5.1.4."""
    path = _path_of(target)
    return path[: path.rfind("/")] or "/"


def _size(cookie: Cookie) -> int:
    return len(cookie.name) + len(cookie.value) + len(cookie.path)

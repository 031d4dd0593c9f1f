"""Our own cookies in other people's requests: read byte by byte, taken out, and never passed on either way.

No cookie grammar is applied here, because apps have many: a request's line is cut at its semicolons, as browsers join
it, and only what stands there exactly as we have set it is ours. Whatever an app might still read as ours is doubtful.
Lines are searched for our names and cut around what is found, so that a line costs no more for having many pieces.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from gateway import cookie_names
from gateway.proxy.wire import Headers
from policy.model import DenyReason

_MARK: Final = b"locum-"
"""Stands in each of our names, so that one search tells that a line has none of them."""
_SPACE = b" \t"
_VALUE = re.compile(rb"[A-Za-z0-9_-]{43}")
"""256 bits in base64url, as all our cookies have them."""
_WORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_ODD = bytes(range(256)).translate(None, _WORD)
# A pair begins behind these to some parser: RFC 2109 had commas, Python's splits at white space, others know Unicode's.
_NOT_BETWEEN = bytes(set(_ODD) - {*range(0x21), 0x7F, *range(0x80, 0x100), *b";,"})
_EQUALS = re.compile(rb"[^A-Za-z0-9_=;,-]*=")
# RFC 2109's attributes are cookies to some parsers and belong to the cookie before to others.
_ATTRIBUTE = re.compile(rb"(?:^|;)[ \t]*\$")


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieCredential:
    """A browser's claim to an assumption, unverified."""

    digest: bytes
    """SHA-256 of the cookie's value, by which the store knows it."""
    value: bytes = field(repr=False)
    """Kept nowhere; what is held for the browser is sealed with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a request's lines hold of ours."""

    assumption: CookieCredential | DenyReason | None
    """Why nobody is let in by it: it cannot be told which one counts, or it is none that we make."""
    headers: Headers
    """The lines without any of ours; the others keep their bytes and order."""


def digest_of(value: bytes) -> bytes | None:
    """Return by what a cookie's value is known in the store, or None for what we never make."""
    return sha256(value).digest() if _VALUE.fullmatch(value) else None


def read_one(lines: Iterable[bytes], name: bytes) -> bytes | None:
    """Return the value of the one cookie of this name in the `Cookie` lines; None if there is none, or more."""
    exactly = re.compile(rb"(?:^|;)[ \t]*" + re.escape(name) + rb"=([^;]*)")
    found = [value for line in lines if name in line for value in exactly.findall(line)]
    return found[0] if len(found) == 1 else None


class _Mention(NamedTuple):
    """One of our names in a line, as a word of its own, in whatever letter case."""

    line: bytes
    start: int
    end: int
    is_pair: bool
    """Whether some parser would read a cookie of this name there."""
    is_first: bool
    """Whether it begins a piece as browsers send it."""

    @property
    def name(self) -> bytes:
        return self.line[self.start : self.end]

    def is_exactly(self, name: bytes) -> bool:
        return self.is_first and self.name == name and self.line[self.end : self.end + 1] == b"="

    def value(self) -> bytes:
        return self.line[self.end + 1 : self._piece_end()]

    def piece(self) -> tuple[int, int]:
        return self.line.rfind(b";", 0, self.start) + 1, self._piece_end()

    def _piece_end(self) -> int:
        end = self.line.find(b";", self.end)
        return len(self.line) if end < 0 else end


class OurCookies:
    """Finds our cookies under the names that one configuration gives them."""

    def __init__(self, *, secure: bool) -> None:
        """With `secure` they have the prefix by which browsers keep other hosts and plain HTTP from setting them."""
        every = [cookie_names.named(name, secure=secure).encode("ascii") for name in cookie_names.EVERY]
        self._assumption = cookie_names.named(cookie_names.ASSUMPTION, secure=secure).encode("ascii")
        self._folded = self._assumption.lower()
        # In lower case, and with nothing in front, so that the literal beginning of all of them is searched for.
        self._names = re.compile(rb"(?:" + b"|".join(re.escape(name.lower()) for name in every) + rb")(?![a-z0-9_-])")
        # What stands before a name in `Set-Cookie` is passed over by some browser, or was by an older one.
        self._set = re.compile(rb"[^A-Za-z0-9_-]*" + self._names.pattern, re.IGNORECASE)

    def find(self, headers: Headers) -> Found | None:
        """Return what there is of ours in the `Cookie` lines; None, after one search in each, if there is nothing.

        A name of ours that no app could read as a cookie's is nothing: it may stand in anybody's address or text.
        """
        lines = [value for name, value in headers if len(name) == 6 and name.lower() == b"cookie"]
        if not any(_MARK in line for line in lines):
            return None
        mentions = {line: list(self._mentions(line)) for line in lines}
        if not any(mentions.values()):
            return None
        assumption = self._read(lines, [mention for line in lines for mention in mentions[line]])
        without = tuple(self._without(headers, mentions))
        return None if assumption is None and without == headers else Found(assumption=assumption, headers=without)

    def is_set(self, value: bytes) -> bool:
        """Tell whether a `Set-Cookie` line of the app's would set one of ours."""
        return _MARK in value.lower() and self._set.match(value.partition(b";")[0]) is not None

    def _mentions(self, line: bytes) -> Iterator[_Mention]:
        behind = 0
        for hit in self._names.finditer(line.lower()):
            start, end = hit.span()
            before = line[behind:start]
            at_once = before.rstrip(_ODD)
            if at_once == before and start:
                behind = start
                continue  # the end of a longer word
            odd, from_start = before[len(at_once) :], behind == 0 and not at_once
            pieces = before.rstrip(_SPACE)
            yield _Mention(
                line=line,
                start=start,
                end=end,
                is_pair=(from_start or bool(odd.translate(None, _NOT_BETWEEN))) and bool(_EQUALS.match(line, end)),
                is_first=pieces.endswith(b";") or (behind == 0 and not pieces),
            )
            behind = end

    def _read(self, lines: list[bytes], mentions: list[_Mention]) -> CookieCredential | DenyReason | None:
        ours = [mention for mention in mentions if mention.name.lower() == self._folded]
        found = [mention for mention in ours if mention.is_exactly(self._assumption)]
        if not found:
            # In another letter case it is another name, which no browser has from us.
            doubtful = any(mention.is_pair and mention.name == self._assumption for mention in ours)
            return DenyReason.AMBIGUOUS_HEADER if doubtful else None
        if len(ours) != 1 or any(_ATTRIBUTE.search(line) for line in lines):
            return DenyReason.AMBIGUOUS_HEADER
        value = found[0].value()
        digest = digest_of(value)
        # What we never made is nobody's; said as such, so that the browser is told to drop it.
        return DenyReason.COOKIE_UNKNOWN if digest is None else CookieCredential(digest=digest, value=value)

    def _without(self, headers: Headers, mentions: dict[bytes, list[_Mention]]) -> Iterator[tuple[bytes, bytes]]:
        for name, value in headers:
            is_cookie = len(name) == 6 and name.lower() == b"cookie"
            ours = [mention for mention in mentions[value] if self._goes(mention)] if is_cookie else []
            if not ours:
                yield name, value
            elif (left := _cut(value, ours)).strip(_SPACE + b";"):
                yield name, left.lstrip(_SPACE)

    def _goes(self, mention: _Mention) -> bool:
        if mention.name.lower() == self._folded:
            return mention.is_exactly(self._assumption)
        return mention.is_pair


def _cut(line: bytes, mentions: Iterable[_Mention]) -> bytes:
    """Return the line without the pieces in which the mentions stand, in their order."""
    kept, at = [], 0
    for mention in mentions:
        if mention.start < at:
            continue  # in a piece that is gone already
        start, end = mention.piece()
        if start > at:
            kept.append(line[at : start - 1])
        at = end + 1
    if at <= len(line):
        kept.append(line[at:])
    return b";".join(kept)

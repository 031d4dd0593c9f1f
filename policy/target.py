"""The request target of assumed traffic: exactly one reading of it, or none.

Proxies were talked past because they and the app read the same bytes differently. So nothing is normalised here:
a target that any common server would rewrite (dot segments, doubled or encoded slashes, path parameters, double
encoding, non-canonical UTF-8) is refused, and what is accepted is sent on byte for byte.
"""

import re
import unicodedata
from functools import lru_cache

from policy.model import Target

MOST_BYTES = 8192
_LONGEST_REMEMBERED = 512

# Origin-form only (RFC 9112 section 3.2.1), visible ASCII; `#` never belongs into a target, `\` is a slash to some.
_ORIGIN_FORM = re.compile(rb"/[!$-\[\]-_a-z|~]*(?:\?[!$-~]*)?")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What would still mean something to a server that decodes once more, or that splits at other marks.
_STRUCTURAL = frozenset("/\\;?#")
# What Windows writes for these where a code page lacks them; NFKC leaves them alone.
_BEST_FIT = str.maketrans({"\u2044": "/", "\u2215": "/", "\u2216": "\\", "\u00a5": "\\", "\u20a9": "\\"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINES = re.compile(r"[\t\r\n]")  # what people type into a search box of several lines
_DECODED_TWICE = re.compile(r"%[0-9A-Fa-f]{2}|%u[0-9A-Fa-f]{4}")


class TargetError(ValueError):
    """The target has no reading, or more than one."""


def parse_target(raw: bytes) -> Target:
    """Return the target's only reading, or raise TargetError with what was wrong."""
    if len(raw) <= _LONGEST_REMEMBERED:
        return _parse_remembered(raw)
    if len(raw) > MOST_BYTES:
        raise TargetError(f"the target is longer than {MOST_BYTES} bytes")
    return _parse(raw)


def _parse(raw: bytes) -> Target:
    if _ORIGIN_FORM.fullmatch(raw) is None:
        raise TargetError("the target is not a plain origin-form path of visible ASCII")
    if _BAD_ESCAPE.search(raw):
        raise TargetError("a percent sign is not followed by two hexadecimal digits")
    path, mark, query = raw.partition(b"?")
    return Target(
        raw=raw,
        segments=tuple(_segments(path)),
        query=tuple(_fields(query)) if mark else (),
    )


# People look at the same pages again and again.
_parse_remembered = lru_cache(maxsize=4096)(_parse)


def _segments(path: bytes) -> list[str]:
    segments = [_decode(part) for part in path[1:].split(b"/")]
    for index, segment in enumerate(segments):
        if not segment and index < len(segments) - 1:
            raise TargetError("the path has an empty segment")
        plain = unicodedata.normalize("NFKC", segment).translate(_BEST_FIT)
        if plain.endswith((".", " ")):
            raise TargetError("the path has a dot segment, or one that ends in a dot or blank, which Windows takes off")
        if _STRUCTURAL.intersection(plain) or _DECODED_TWICE.search(plain):
            raise TargetError("a segment holds a character that splits paths elsewhere, plain or encoded")
    return segments


def _fields(query: bytes) -> list[tuple[str, str]]:
    # `;` separates fields for some frameworks and not for others, so it has two readings.
    if b";" in query:
        raise TargetError("the query holds a semicolon, which separates fields for some apps: send it as %3B")
    fields = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if part:
            fields.append((_decode(name.replace(b"+", b" ")), _decode(value.replace(b"+", b" "), text=True)))
    return fields


def _decode(part: bytes, *, text: bool = False) -> str:
    if b"%" not in part:
        return part.decode("ascii")
    pieces = part.split(b"%")
    octets = pieces[0] + b"".join(bytes((int(piece[:2], 16),)) + piece[2:] for piece in pieces[1:])
    try:
        # Strict UTF-8 refuses overlong forms and surrogates, which others fold into `.` and `/`.
        decoded = octets.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise TargetError("an escape is not UTF-8") from exc
    if _CONTROL.search(_LINES.sub("", decoded) if text else decoded):
        raise TargetError("an escape is a control character")
    return decoded

"""How servers of several makes read one path: small models, each with the habits that its kind is known for.

Each takes the raw path and returns what it would route on, or None where it refuses. They share nothing but the
undoing of percent signs, so that one mistake here does not hide another.
"""

import re

import yarl

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_WIDE_ESCAPE = re.compile(r"%u([0-9A-Fa-f]{4})")
# What Windows puts in the place of characters that a code page lacks, as far as it makes a difference to a path.
_BEST_FIT = str.maketrans(
    {
        "\uff0e": ".", "\u2024": ".", "\ufe52": ".", "\u2025": "..", "\uff0f": "/", "\u2215": "/", "\u2044": "/",
        "\uff3c": "\\", "\u2216": "\\", "\ufe68": "\\", "\u00a5": "\\", "\u20a9": "\\", "\uff05": "%", "\uff1b": ";",
        "\uff1f": "?", "\u00a0": " ", "\u3000": " ",
    }
)  # fmt: skip


def nginx(raw: bytes) -> str | None:
    """Decodes once, then merges slashes and resolves dot segments in what it got."""
    if _BAD_ESCAPE.search(raw) or b"%00" in raw:
        return None
    path = re.sub(rb"/+", b"/", _unescape(raw.partition(b"#")[0]))
    resolved = _resolve(path.decode("latin-1"))
    return None if resolved is None else _as_utf8(resolved.encode("latin-1"))


def tomcat(raw: bytes) -> str | None:
    """Takes the parameters off each segment first, then decodes; a backslash is a slash."""
    if _BAD_ESCAPE.search(raw):
        return None
    bare = re.sub(rb";[^/]*", b"", raw)
    return _resolve(re.sub(r"/+", "/", _as_utf8(_unescape(bare)).replace("\\", "/")))


def wsgi(raw: bytes) -> str | None:
    """Decodes leniently, replaces what is no UTF-8, merges slashes; leaves dots alone."""
    return re.sub(r"/+", "/", _unescape(raw).decode("utf-8", "replace"))


def rack(raw: bytes) -> str | None:
    """Decodes, and for files drops empty segments and resolves dots one by one, with either slash."""
    text = _as_utf8(_unescape(raw))
    kept: list[str] = []
    for part in re.split(r"[/\\]", text):
        if part == "..":
            kept[-1:] = []
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if text.endswith("/") and kept else "")


def php(raw: bytes) -> str | None:
    """Decodes leniently; the C library below it ends at a zero byte, and the file system resolves the rest."""
    text = _as_utf8(_unescape(raw).partition(b"\0")[0])
    return _resolve(re.sub(r"/+", "/", text)) or "/"


def iis(raw: bytes) -> str | None:
    """Decodes `%u` too, and twice; best-fits; turns backslashes; takes dots and blanks off the ends of segments."""
    text = _as_utf8(_unescape(raw))
    for _ in range(2):
        text = _WIDE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text).translate(_BEST_FIT)
        text = _as_utf8(_unescape(text.encode("utf-8", "surrogateescape")))
    resolved = _resolve(re.sub(r"/+", "/", text.replace("\\", "/").split("::$")[0]))
    return None if resolved is None else re.sub(r"(?<=[^/])[. ]+(?=/|\Z)", "", resolved)


def twice(raw: bytes) -> str | None:
    """Decodes at the front and again behind it, and reads overlong forms."""
    once = _unescape(raw)
    again = _unescape(once).replace(b"\xc0\xae", b".").replace(b"\xc0\xaf", b"/").replace(b"\xe0\x80\xae", b".")
    return _resolve(_as_utf8(again))


def aiohttp(raw: bytes) -> str | None:
    """Is the real thing: every string URL is quoted anew and normalised."""
    try:
        return yarl.URL("http://app" + raw.decode("utf-8", "surrogateescape")).path
    except ValueError:
        return None


READERS = (nginx, tomcat, wsgi, rack, php, iis, twice, aiohttp)


def _unescape(raw: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), raw)


def _as_utf8(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _resolve(path: str) -> str | None:
    """RFC 3986 section 5.2.4; None where it would climb above the root."""
    kept: list[str] = []
    parts = path.split("/")[1:]
    for index, part in enumerate(parts):
        if part == ".." and not kept:
            return None
        if part == "..":
            kept.pop()
        elif part != ".":
            kept.append(part)
        if part in (".", "..") and index == len(parts) - 1:
            kept.append("")
    return "/" + "/".join(kept)

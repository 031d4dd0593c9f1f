"""What becomes of a value that is too long for a line, or that strict JSON has no way to write.

Of what is too long the beginning is kept, and behind it how long the whole was and its digest: whoever has the whole
can show that it is the one. All of that is one value. So where the value is sealed, the digest is sealed with it, and
goes with it.
"""

import hashlib
import json
import re
from typing import Any, Final

MAX_CHARACTERS: Final = 2048
"""The longest text value that is kept whole: a URL's practical limit, so only padding is ever cut."""
MAX_ITEMS: Final = 64
"""The longest list that is kept whole in a long record."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def mark_cut(whole: bytes, length: int, unit: str) -> str:
    """Return what stands at the end of a value that was cut: how long it was, and the SHA-256 of `whole`."""
    return f"…[cut, {length} {unit}, SHA-256 {hashlib.sha256(whole).hexdigest()}]"


def cut_text(text: str, longest: int = MAX_CHARACTERS) -> str:
    """Return a text as it is written: half characters as text, and no more than `longest` characters, and its mark.

    The digest is that of the whole text in UTF-8, as it was before anything was escaped; half a character stands there
    as the three bytes of its number.
    """
    written = _escape(text)
    if len(written) <= longest:
        return written
    half = _HALF if written is not text else ""
    return f"{written[:longest]}{half}{mark_cut(text.encode(errors='surrogatepass'), len(text), 'characters')}"


def cut_all(value: Any) -> Any:
    """Return a JSON value with all that is too long cut, and with no half characters.

    The digest of a list is that of its JSON with no blanks, in UTF-8.
    """
    match value:
        case str():
            return cut_text(value)
        case dict():
            return {key: cut_all(item) for key, item in value.items()}
        case tuple() | list():
            items = [cut_all(item) for item in value[:MAX_ITEMS]]
            return items if len(value) <= MAX_ITEMS else [*items, _mark_list(value)]
        case _:
            return value


def without_surrogates(value: Any) -> Any:
    """Return a JSON value of any length with no half characters."""
    match value:
        case str():
            return _escape(value)
        case dict():
            return {key: without_surrogates(item) for key, item in value.items()}
        case tuple() | list():
            return [without_surrogates(item) for item in value]
        case _:
            return value


_HALF = "…[escaped]"


def _escape(text: str) -> str:
    """Return the very same text, or one in which half characters stand as the text of their escapes, and say so."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return text.replace("\\", "\\\\").encode(errors="backslashreplace").decode() + _HALF


def _mark_list(items: tuple[Any, ...] | list[Any]) -> str:
    whole = json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    return mark_cut(whole, len(items), "items")

"""Words of strangers as people read them: nothing in them hides, steers or reorders what stands around them."""

import re
import unicodedata
from typing import Final

_HIDING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, marks without a glyph (bidi, zero-width, tags), halves of characters, and what breaks a line."""
_BLANK: Final = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters by their category, of which nothing is seen."""
_LAID_OUT: Final = "\t\n\r"
# Persian, Hindi and emoji are not spelled right without them; beside anything else they are only there to deceive.
_JOINED: Final = re.compile("(?<=[^\x00-\xa0])[\u200c\u200d](?=[^\x00-\xa0])")


def shown(text: str) -> str:
    r"""Return a text with whatever hides or steers written as `\uXXXX`, as JSON has it; lines stay lines."""
    if _is_plain(text):
        return text
    joins = {found.start() for found in _JOINED.finditer(text)}
    return "".join(
        _spelled(char) if at not in joins and char not in _LAID_OUT and _hides(char) else char
        for at, char in enumerate(text)
    )


def one_line(text: str, most: int) -> str:
    """Return a text on one line of so many characters at the most, without whatever hides or steers."""
    if not _is_plain(text):
        text = "".join(" " if char.isspace() else "" if _hides(char) else char for char in text)
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _is_plain(text: str) -> bool:
    return text.isprintable() and not any(char in text for char in _BLANK)


def _hides(char: str) -> bool:
    return char in _BLANK or unicodedata.category(char) in _HIDING


def _spelled(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

"""Words of strangers in a message: on one line, in order, and no longer than a person reads."""

import unicodedata
from typing import Final

MOST: Final = 400
"""Characters of one value."""


def clean(value: object) -> str:
    """Return a value as one line of text in which nothing steers, hides or reorders what stands around it."""
    text = str(value)
    shown = "".join(_shown(char) for char in text[: MOST + 1])
    line = " ".join(shown.split())
    return line if len(text) <= MOST else f"{line[:MOST]}…"


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    # White space of any kind is a space; controls, bidi marks, surrogates and what has no glyph go.
    return " " if char.isspace() or unicodedata.category(char) == "Cc" else ""

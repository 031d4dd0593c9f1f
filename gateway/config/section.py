"""What every section of the configuration is made of: tables that know their keys, and texts that hide."""

from hmac import compare_digest

import msgspec


class Secret:
    """A text that never shows in a log, an error or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; call it only where it is used."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Tell whether both hold the same text, as a reload asks."""
        return isinstance(other, Secret) and compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        """Go with equality."""
        return hash(self._text)

    def __repr__(self) -> str:
        """Hide the text."""
        return "Secret(…)"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""

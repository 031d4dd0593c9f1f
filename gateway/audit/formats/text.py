"""Texts and times of a record as other formats take them; nothing raises over an entry that somebody has changed."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from gateway.audit.segment import Entry
from gateway.audit.times import read_time

PRODUCT = "Locum"


@cache
def product_version() -> str:
    """Return our own version."""
    # It brings zip files, compression and e-mail along, and most commands say no version.
    from importlib.metadata import version  # noqa: PLC0415

    return version("locum")


def to_line(document: Mapping[str, Any] | list[Any]) -> bytes:
    r"""Return JSON in ASCII, on one line, keys sorted: what is beyond ASCII is written `\uXXXX`, as JSON has it.

    So nothing in it can break a line, steer a terminal or depend on what a collector takes for the encoding.
    """
    data = _encoder.encode(document)
    if data.isascii() and b"\x7f" not in data:
        return data
    return _BEYOND.sub(_escape, data.decode()).encode()


def printable(text: str) -> str:
    r"""Write whatever has no glyph of its own, or reorders its neighbours, as `\uXXXX`, as JSON has it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape_character(char) for char in text)


def visible(text: str) -> str:
    r"""Write whatever has no glyph of its own as `\uXXXX`, and a backslash as two, as JSON has it."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_show(char) for char in text)


def plain(value: Any) -> str:
    """Return any value of an entry as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    return to_line(value).decode()


def event_id(entry: Entry) -> str:
    """Return what tells a record from all others of this installation: its origin and its number."""
    return f"{plain(entry.get('origin', ''))}:{plain(entry.get('seq', ''))}"


def event_code(entry: Entry) -> str:
    """Return the kind of a record and what happened, in one word of ours."""
    kind = plain(entry.get("kind", "unknown"))
    what = entry.get("decision") if kind in ("decision", "token") else entry.get("reason") or entry.get("ended")
    return f"{kind}.{plain(what)}" if what is not None else kind


def milliseconds(at: Any) -> int:
    """Return a time in RFC 3339 as milliseconds since 1970; 0 if it is none."""
    return microseconds(at) // 1000


def microseconds(at: Any) -> int:
    """Return it in microseconds."""
    return (read_time(at) if isinstance(at, str) else None) or 0


def part(entry: Entry, name: str) -> Mapping[str, Any]:
    """Return the table that a field holds; an empty one if it holds something else."""
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def without_none(document: dict[str, Any]) -> dict[str, Any]:
    """Return a table without the keys for which there is nothing to say."""
    return {key: value for key, value in document.items() if value is not None}


_encoder = msgspec.json.Encoder(order="deterministic")
_BEYOND = re.compile("[\x7f-\U0010ffff]")


def _show(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else _escape_character(char)


def _escape(found: re.Match[str]) -> str:
    return _escape_character(found[0])


def _escape_character(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

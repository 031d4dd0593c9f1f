"""The strict reading of a compact JWS (RFC 7515 section 7.1), before anybody verifies a signature.

Whatever has two spellings is refused: padding, loose last bits, members that are there twice. So a token's text and
its meaning stay one to one, and no library's leniency decides what we accept.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 8192
_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class CompactError(ValueError):
    """The text is not a compact JWS in its one spelling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedToken:
    """A well-formed token of which nothing is proved yet."""

    text: str
    header: dict[str, Any]
    payload: dict[str, Any]

    def __repr__(self) -> str:
        """Hide the token."""
        return "UnverifiedToken(…)"


def read_compact(text: str) -> UnverifiedToken:
    """Return the token's parts, or raise CompactError."""
    if len(text) > MOST_BYTES:
        raise CompactError(f"it is longer than {MOST_BYTES} bytes")
    parts = _SHAPE.fullmatch(text)
    if parts is None:
        raise CompactError("it is not three base64url parts")
    _octets(parts[3])
    return UnverifiedToken(text=text, header=_object(parts[1]), payload=_object(parts[2]))


def names_issuer(text: str, issuer: str) -> bool:
    """Tell whether any part of a token says that `issuer` made it, however damaged the rest of it is.

    As lenient as `read_compact` is strict: this finds what has to be refused, and lets nothing in.
    """
    return any(_says_issuer(part, issuer) for part in text.split(".") if part.startswith(_OBJECT_BEGINNING))


_OBJECT_BEGINNING = "ey"  # {" and { followed by white space


def _says_issuer(part: str, issuer: str) -> bool:
    try:
        members = json.loads(base64.urlsafe_b64decode(part + "=="), object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, list) and ("iss", issuer) in members


def _object(part: str) -> dict[str, Any]:
    try:
        text = _octets(part).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if "\\u" in text:
            # An escape may be half a character, which no store and no journal could write down again.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as exc:
        raise CompactError("a part is not JSON with each member once") from exc
    if not isinstance(value, dict):
        raise CompactError("a part is not a JSON object")
    return value


def _octets(part: str) -> bytes:
    try:
        octets = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as exc:
        raise CompactError("a part is not base64url") from exc
    # The last character carries bits that decoders throw away: only one of its spellings is the real one.
    if base64.urlsafe_b64encode(octets).rstrip(b"=") != part.encode("ascii"):
        raise CompactError("a part is not in its canonical spelling")
    return octets


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a member is there twice")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

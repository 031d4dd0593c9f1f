"""JSON documents of others, read in one way or refused with the reason: pointers into them, and what stands there."""

import json
import re
from dataclasses import dataclass
from typing import Any

from policy.unique import unique

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A document that cannot be taken as it is, and why, in one line without a word of the document."""

    reason: str


class OddError(Exception):
    """The document is odd; whoever reads a whole document returns Odd in its place."""

    @property
    def odd(self) -> Odd:
        """What is returned in its place."""
        return Odd(reason=str(self))


def is_pointer(text: str) -> bool:
    """Tell whether a text is a JSON pointer to a member (RFC 6901 section 3)."""
    return _POINTER.fullmatch(text) is not None


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body is; raises OddError."""
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise OddError("it is not JSON that can be read in one way only") from exc
    if not isinstance(document, dict):
        raise OddError("it is not a JSON object")
    return document


def find(document: Any, pointer: str) -> Any:
    """Return what stands at a pointer (RFC 6901 section 4); raises OddError if nothing does."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and _INDEX.fullmatch(name) is not None and int(name) < len(document):
            document = document[int(name)]
        else:
            raise OddError(f"`{pointer}` is not there")
    return document


def read_name(value: Any, pointer: str, *, of: str) -> str:
    """Return a name that stands at a pointer, `of` what; apps that number things may do it in digits."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18):
        return str(value)
    raise OddError(f"`{pointer}` is not the name of {of}")


def _no_number(text: str) -> None:
    """Refuse what JSON has no number for (RFC 8259 section 6)."""
    raise ValueError(f"{text} is not JSON")

"""What is wrong with a configuration, in the words of somebody who writes one."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from gateway.config.section import Secret, Section

_UNKNOWN = re.compile("Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile("Object missing required field `(.*)`")
_KIND = re.compile("Expected `.*`, got `(.*)`")
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_TOLD: Mapping[Any, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "a text in quotes",
    Secret: "a text in quotes",
}
_GIVEN = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number with a fraction",
    "int": "a whole number",
    "object": "a table",
    "str": "a text",
}
# It resolves annotations each time.
fields_of = cache(msgspec.structs.fields)


def explain(fault: msgspec.ValidationError, root: type[Section]) -> str:
    """Return what does not fit into `root`, with the key's path first, and what would."""
    message, _, where = str(fault).partition(" - at `$.")
    path = where.rstrip("`")
    kind = _kind_at(path, root)
    if found := _UNKNOWN.fullmatch(message):
        return f"{_join(path, found[1])}: there is no such key{_guess(found[1], kind)}"
    if found := _MISSING.fullmatch(message):
        return f"{_join(path, found[1])}: is missing"
    told = " or ".join(_describe(kind))
    if not told:
        return f"{path or 'config'}: {message[:1].lower()}{message[1:]}"
    found = _KIND.fullmatch(message)
    given = f", and is {_GIVEN[found[1]]}" if found and found[1] in _GIVEN else ""
    return f"{path or 'config'}: must be {told}{given}"


def section_of(kind: Any) -> type[Section] | None:
    """Return which table a key holds, also one that may be left out, or an array of which; None for any other key."""
    kinds = (kind, *(get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is tuple else ()))
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Section)), None)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _guess(key: str, kind: Any) -> str:
    section = section_of(kind)
    known = [] if section is None else [field.name for field in fields_of(section)]
    near = get_close_matches(key, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _kind_at(path: str, root: type[Section]) -> Any:
    """Return the type of what stands at a path; None if that is not known."""
    kind: Any = root
    for step in _STEP.findall(path):
        if step.startswith("["):
            kinds = [one for one in _parts(kind) if get_origin(one) is not None]
            kind = next((get_args(one)[-1 if get_origin(one) is dict else 0] for one in kinds), None)
        else:
            section = section_of(kind)
            kinds = [] if section is None else [field.type for field in fields_of(section) if field.name == step]
            kind = next(iter(kinds), None)
    return kind


def _parts(kind: Any) -> Iterator[Any]:
    """Yield what a union is made of, or the type itself."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        for one in get_args(kind):
            yield from _parts(one)
    elif kind is not NoneType and kind is not None:
        yield getattr(kind, "__supertype__", kind)


def _describe(kind: Any) -> list[str]:
    """Return the words for each kind of value that fits; none if one of them has none."""
    words = []
    for one in _parts(kind):
        if get_origin(one) is Literal:
            words += [f'"{value}"' for value in get_args(one)]
        elif isinstance(one, type) and issubclass(one, Enum):
            words += [f'"{value.value}"' for value in one]
        elif (isinstance(one, type) and issubclass(one, Section | Mapping)) or get_origin(one) in (dict, Mapping):
            words.append("a table")
        elif get_origin(one) in (tuple, list, frozenset):
            words.append("a list")
        elif one in _TOLD:
            words.append(_TOLD[one])
        else:
            return []
    return words

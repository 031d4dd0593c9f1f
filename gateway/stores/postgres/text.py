"""Text that PostgreSQL cannot hold, and back: it knows every character but NUL.

NUL becomes U+0001 U+0001, and U+0001 itself U+0001 U+0002. All other text stays as it is, different texts stay
different, and their order byte by byte stays the same. Half of a surrogate pair is no text and raises ValueError.
"""

import re
from dataclasses import replace
from typing import Any

from msgspec import structs

from gateway.stores.rows import Row
from gateway.stores.store import Changes, StoreChange
from policy.model import ActorId

_SPECIAL = re.compile("[\x00\x01]")
_ESCAPED = re.compile("\x01(.?)", re.DOTALL)
_MEANING = {"\x01": "\x00", "\x02": "\x01"}


def write_values(values: Row) -> Row:
    """Return the values as they are stored; those that are no text are left alone."""
    return tuple(_write(value) if isinstance(value, str) else value for value in values)


def read_values(values: Row) -> Row:
    """Return what `write_values` was given."""
    return tuple(_read(value) if isinstance(value, str) else value for value in values)


def read_names(found: Changes) -> Changes:
    """Return the changes with the names that `write_values` was given."""
    if found.changes is None:
        return found
    return replace(found, changes=[_named(change) for change in found.changes])


def _named(change: StoreChange) -> StoreChange:
    names = (change.account, change.assumption, *(change.staff or ()))
    if not any(name is not None and "\x01" in name for name in names):
        return change
    account, assumption, *staff = read_values(names)
    actor = ActorId(*staff) if staff else None
    return structs.replace(change, account=account, assumption=assumption, staff=actor)


def _write(text: str) -> str:
    text.encode("utf-8")
    return _SPECIAL.sub(lambda found: "\x01\x01" if found[0] == "\x00" else "\x01\x02", text)


def _read(text: str) -> str:
    return _ESCAPED.sub(_mean, text) if "\x01" in text else text


def _mean(found: Any) -> str:
    meaning = _MEANING.get(found[1])
    if meaning is None:
        raise ValueError("a stored text holds a control character that no version has written")
    return meaning

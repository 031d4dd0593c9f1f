"""Times as tokens tell them: whole seconds since 1970 (NumericDate, RFC 7519 section 2), within the calendar."""

from datetime import timedelta
from typing import TypeGuard

_LATEST = 253402300799  # the last second of the year 9999, the last that `datetime` knows

LEEWAY = timedelta(seconds=5)
"""How far another clock may be ahead of ours."""


def is_time(value: object) -> TypeGuard[int]:
    """Tell whether a claim is such a time; a truth value, a text or a part of a second is none."""
    return type(value) is int and 0 <= value <= _LATEST

"""JSON that can be read in one way only."""

from typing import Any


def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object for `json.loads` as its `object_pairs_hook`.

    Raises ValueError for one that has a member twice, of which two readers may take two (RFC 8259 section 4).
    """
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is there twice")
    return found

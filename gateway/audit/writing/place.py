"""Where the newest checkpoint ends in the files, so that a start reads only what lies behind it.

It is a hint. Nothing in it is believed that the checkpoint does not confirm, and without it everything is read.
"""

from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.files import write_new
from policy.merkle import Frontier

_MOST_BYTES = 64 * 1024


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A tree, and where its last line ends."""

    size: int
    peaks: tuple[bytes, ...]
    """As in `policy.merkle.Frontier`."""
    segment: str
    offset: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.offset < 0:
            raise ValueError("there is no such place")
        _ = self.tree

    @property
    def tree(self) -> Frontier:
        """The tree."""
        return Frontier(self.size, self.peaks)


def write_place(directory: Path, place: Place, *, origin: str) -> None:
    """Put it beside the checkpoint; if that fails, or is undone by a loss of power, everything can be read."""
    with suppress(OSError):
        write_new(directory / f"{origin}.place", msgspec.json.encode(place) + b"\n", mode=0o600)


def read_place(directory: Path, *, origin: str) -> Place | None:
    """Return the origin's place, or None if there is none that can be read."""
    try:
        with (directory / f"{origin}.place").open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=Place)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None

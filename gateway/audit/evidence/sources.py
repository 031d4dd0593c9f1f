"""Where a journal's lines and checkpoints come from when it is judged: its directory, an export, a database."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.audit.evidence.checkpoint import find_origins, read_history, read_newest
from gateway.audit.segment import list_segments, read_lines

Lines = Iterator[tuple[int, bytes]]
"""Lines with their end of line, and the offset at which each begins in its segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSource:
    """What there is of one origin; its checkpoints were read before any of its lines is."""

    origin: str
    newest: bytes | None
    """Its newest checkpoint."""
    history: bytes
    """All of its checkpoints, for `gateway.audit.evidence.checkpoint.split_notes`."""
    segments: Iterator[tuple[str, Lines]]
    """The name and the lines of each segment, in the order of writing; to be read once and in turn."""


class Source(Protocol):
    """A journal, however it is kept."""

    def origins(self) -> Iterator[OriginSource]:
        """Yield every origin once, by name, each to be read before the next is asked for; raises OSError.

        It can be asked for again.
        """


class JournalFiles:
    """Implements Source for a journal's own directory, which may be written to meanwhile."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def origins(self) -> Iterator[OriginSource]:
        """See `Source.origins`."""
        directory = self._directory
        for origin in sorted({*list_segments(directory), *find_origins(directory)}):
            yield OriginSource(
                origin=origin,
                newest=read_newest(directory, origin=origin),
                history=read_history(directory, origin=origin),
                segments=self._read_segments(origin),
            )

    def _read_segments(self, origin: str) -> Iterator[tuple[str, Lines]]:
        # Listed behind the checkpoints, for these may speak of a segment that was begun a moment ago.
        for path in list_segments(self._directory).get(origin, []):
            yield path.name, read_lines(path)

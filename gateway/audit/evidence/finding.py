"""What is wrong with a journal, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that an honest journal does not show."""

    segment: str
    """The file's name; for what concerns a whole origin, the origin."""
    line: int
    """The first line concerned, from 1; 0 for the file as a whole."""
    through: int
    """The last line concerned."""
    offset: int
    """Where the first line begins, in bytes."""
    what: str


@dataclass(slots=True)
class Stretch:
    """From where to where in a segment the same thing is found."""

    line: int
    through: int
    offset: int
    count: int = 0

    def take(self, line: int) -> None:
        """Go on to a later line."""
        self.through = line
        self.count += 1

    def found(self, segment: str, what: str) -> Finding:
        """Return it as a finding."""
        return Finding(segment=segment, line=self.line, through=self.through, offset=self.offset, what=what)

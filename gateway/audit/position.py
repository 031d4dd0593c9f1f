"""How a place in a segment is known again: by the line that ends there.

Neither a name nor an inode tells one file from another for ever: numbers are given out again, and a file can be put
back from a backup or written over where it stands. What a line states as its leaf hash is its own, and stays so when
content is taken out of it, while its place moves.
"""

import os
import re
from hashlib import sha256
from pathlib import Path

_LEAF = re.compile(rb'\{"leaf":"([0-9a-f]{64})"')
_WINDOW = 16 * 1024


def mark_of(line: bytes) -> str:
    """Return what tells a line from all others: the leaf hash that it states, or one of its bytes."""
    found = _LEAF.match(line) if line.endswith(b"\n") else None
    return found[1].decode() if found is not None else sha256(line).hexdigest()


def is_at(file: int, end: int, mark: str) -> bool:
    """Tell whether the line of this mark ends at this byte of an open file; before the first line all files are alike.

    Raises OSError.
    """
    return end == 0 or mark_at(file, end) == mark


def is_in(path: Path, end: int, mark: str) -> bool:
    """Tell the same of a file by its name; raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return is_at(file, end, mark)
    finally:
        os.close(file)


def mark_at(file: int, end: int) -> str | None:
    """Return the mark of what stands between the line's beginning and this byte of an open file.

    None if the file is shorter. Raises OSError.
    """
    window = _WINDOW
    while True:
        start = max(0, end - window)
        data = os.pread(file, end - start, start)
        if len(data) < end - start:
            return None
        cut = data.rfind(b"\n", 0, -1)
        if cut >= 0 or start == 0:
            return mark_of(data[cut + 1 :])
        window *= 8


def first_mark(file: int) -> str | None:
    """Return the mark of an open file's first line, None if it has no whole line; raises OSError."""
    window = _WINDOW
    while True:
        data = os.pread(file, window, 0)
        if (end := data.find(b"\n")) >= 0:
            return mark_of(data[: end + 1])
        if len(data) < window:
            return None
        window *= 8


Stamp = tuple[int, int, int, int]


def stamp_of(found: os.stat_result) -> Stamp:
    """Return what changes with whatever is done to a file, for whoever has looked into it and looks again soon."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

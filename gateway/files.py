"""Files of our own in a directory that nobody else may write."""

import os
from collections.abc import Callable
from pathlib import Path


def write_new(path: Path, content: bytes, *, mode: int = 0o644, fsync: Callable[[int], None] | None = None) -> None:
    """Put a file in place whole; a link that stands there is replaced, never followed; raises OSError.

    With `fsync` the content is on the disk before its name is.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        file.write(content)
        if fsync is not None:
            file.flush()
            fsync(file.fileno())
    draft.replace(path)

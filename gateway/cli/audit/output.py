"""Where a command writes what leaves: a file that is there whole or not at all, and its owner's alone."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def opened(output: Path | None, *, new: bool = False) -> Iterator[BinaryIO]:
    """Give what to write to: standard output without a name; raises OSError.

    A file takes its name, and the place of one that had it, once the block has ended without an error; `new` is not to
    take anything's place. What is no file, such as a pipe, is written to as it is.
    """
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if new and os.path.lexists(output):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if output.exists() and not output.is_file():
        with output.open("wb") as file:
            yield file
        return
    draft = output.with_name(output.name + ".new")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(output)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise

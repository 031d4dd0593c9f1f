"""Disks that hang: what is asked of them comes back only once they are let go."""

import contextlib
import fcntl
import os
from pathlib import Path

from gateway.locks import claim


class StuckDisk:
    """Stands for `os.write`, `os.fsync` and `claim`; while it is stuck, each blocks in the kernel, on a pipe without a byte."""

    def __init__(self):
        self._stuck = {}
        self._pipes = []
        self.waiting = 0
        """How many calls have been held up so far."""
        self.fails_late = None
        """What comes of the next call that was held up; None if it succeeds."""

    def write(self, handle, data):
        self._hold("write")
        return os.write(handle, data)

    def fsync(self, handle):
        self._hold("fsync")
        os.fsync(handle)

    def claim(self, path):
        self._hold("claim")
        return claim(path)

    def hang(self, *calls):
        self._pipes.append(os.pipe())
        self._stuck = dict.fromkeys(calls, self._pipes[-1][0])

    def let_go(self):
        """Let what hangs go on, and what comes pass."""
        if self._stuck:
            self._stuck = {}
            os.close(self._pipes[-1][1])

    def close(self):
        self.let_go()
        for reader, _ in self._pipes:
            os.close(reader)

    def _hold(self, call):
        if call in self._stuck:
            self.waiting += 1
            os.read(self._stuck[call], 1)
            error, self.fails_late = self.fails_late, None
            if error is not None:
                raise error


@contextlib.contextmanager
def hanging_file(path: Path):
    """Put a full pipe in place of a file that this process has open: whoever writes to it waits in the kernel.

    Yields a function that lets them go on and puts the file back, with all that was written meanwhile.
    """
    (handle,) = (
        int(entry.name)
        for entry in Path("/proc/self/fd").iterdir()
        if entry.is_symlink() and os.path.realpath(entry) == str(path.resolve())
    )
    kept, (reader, writer) = os.dup(handle), os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"\0" * 4096)
    os.set_blocking(writer, True)
    os.dup2(writer, handle, inheritable=False)
    os.close(writer)
    is_hanging = True

    def let_go():
        nonlocal is_hanging
        if not is_hanging:
            return
        is_hanging = False
        # Whoever waits has the pipe itself, so it is read until the last of them is through.
        os.dup2(kept, handle, inheritable=False)
        with os.fdopen(reader, "rb") as rest, os.fdopen(kept, "ab") as file:
            file.write(rest.read().lstrip(b"\0"))

    try:
        yield let_go
    finally:
        let_go()

"""Locks among the processes of one machine: a file that one of them has locked, for as long as that one lives.

The system lets go of a lock when its process ends, however it ends; the file stays, and nothing stands in it.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

Claim = Callable[[Path], int | None]
"""See `claim`."""

_FLAGS = (
    os.O_RDWR
    # Whoever comes first makes it.
    | os.O_CREAT
    # A process that we start would go on keeping the lock when we have ended.
    | os.O_CLOEXEC
    # A link that somebody has put there would have us make and lock a file elsewhere.
    | os.O_NOFOLLOW
)
_MODE = 0o600
"""Whoever can open it can keep everybody else out."""


def claim(path: Path) -> int | None:
    """Return the handle that keeps a lock until it is closed; None while another one has it. Raises OSError.

    Nobody waits for the other one, but a disk that hangs is waited for: an event loop calls this on a
    `gateway.audit.hand.Hand`.
    """
    handle = os.open(path, _FLAGS, _MODE)
    try:
        if lock(handle):
            return handle
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def lock(handle: int) -> bool:
    """Lock an open file until it is closed, and return whether that worked or another one has it. Raises OSError."""
    try:
        # Not waited for in the kernel: nothing else could end the wait.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Lock:
    """One lock, taken and let go of; not for two threads at once."""

    def __init__(self, path: Path, *, claim: Claim = claim) -> None:
        """Take nothing yet."""
        self._path = path
        self._claim = claim
        self._handle: int | None = None

    def take(self) -> bool:
        """Return whether it is ours by now; raises OSError."""
        if self._handle is None:
            self._handle = self._claim(self._path)
        return self._handle is not None

    def release(self) -> None:
        """Let go of it, if it is ours."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

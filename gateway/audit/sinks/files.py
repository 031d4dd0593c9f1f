"""Sends to a file that may be renamed under it, or to the standard output."""

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.audit.sinks.outlet import Answered, Encoded, Sent, Unreachable

STDOUT_VARIABLE: Final = "LOCUM_WORKER_STDOUT"
"""Set by a supervisor for its workers, whose own standard output is the way to it: the descriptor of the real one."""
_STDOUT: Final = 1
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})  # what is no file on a disk

Fsync = Callable[[int], None]


class FileOutlet(Answered):
    """Implements Outlet over a file that only our user may read; a batch has arrived once it is on the disk.

    When the file has another name, as after a rotation, a new one is begun. A line that was torn by a crash is ended,
    so that the next one stands for itself.
    """

    def __init__(self, path: Path, *, header: bytes, fsync: Fsync = os.fsync) -> None:
        """Open nothing yet; `header` is the first line of each new file, if there is one."""
        super().__init__()
        self._path = path
        self._header = header
        self._fsync = fsync
        self._file: int | None = None

    def send(self, batch: list[Encoded]) -> Sent:
        lines = b"".join(one.line + b"\n" for one in batch)
        try:
            self._write(self._open(), lines)
        except OSError as error:
            self.close()
            raise Unreachable(f"the file cannot be written: {error.strerror}") from error
        self._arrived += 1
        return Sent(len(batch))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        if self._file is not None and not self._is_named(self._file):
            self.close()
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            self._begin(self._file)
        return self._file

    def _is_named(self, file: int) -> bool:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(file))

    def _begin(self, file: int) -> None:
        size = os.fstat(file).st_size
        if size == 0:
            if self._header:
                self._write(file, self._header + b"\n")
        elif os.pread(file, 1, size - 1) != b"\n":
            self._write(file, b"\n")

    def _write(self, file: int, data: bytes) -> None:
        before = os.fstat(file).st_size
        try:
            _write_all(file, data)
            self._sync(file)
        except OSError:
            # Nothing torn is left behind, where that can be helped; it is sent again.
            os.ftruncate(file, before)
            raise

    def _sync(self, file: int) -> None:
        try:
            self._fsync(file)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


class StdoutOutlet(Answered):
    """Implements Outlet over the standard output.

    Lines go in pieces that a pipe takes whole or not at all, so that a process that is killed leaves no torn line
    unless it is longer than that.
    """

    def __init__(self, file: int | None = None, *, header: bytes = b"") -> None:
        """Write to the process's own standard output, or to its supervisor's; `header` comes before the first line."""
        super().__init__()
        self._file = int(os.environ.get(STDOUT_VARIABLE, _STDOUT)) if file is None else file
        self._piece = header + b"\n" if header else b""

    def send(self, batch: list[Encoded]) -> Sent:
        piece = self._piece
        try:
            for one in batch:
                line = one.line + b"\n"
                if piece and len(piece) + len(line) > select.PIPE_BUF:
                    _write_all(self._file, piece)
                    piece = b""
                piece += line
            _write_all(self._file, piece)
        except OSError as error:
            raise Unreachable(f"the standard output cannot be written: {error.strerror}") from error
        self._piece = b""
        self._arrived += 1
        return Sent(len(batch))

    def close(self) -> None:
        """It is not ours to close."""


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]

"""The demo's folder: made anew for each run, and never one that is something else."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.locks import Lock

_MARK = ".locum-demo"
_MARK_TEXT = "A folder of `locum demo`, which empties it when it starts. Keep nothing of yours in here.\n"


class FolderError(Exception):
    """The caller's fault: the folder cannot be the demo's; the message says what to do."""


@contextmanager
def open_folder(path: Path) -> Iterator[Path]:
    """Empty the demo's folder, or make it, and keep other demos out until the block ends; raises FolderError.

    A folder without the mark of a demo is left as it is.
    """
    mark = path / _MARK
    # A link is never followed: what it leads to is not the demo's to write.
    if path.is_symlink() or mark.is_symlink() or (path.exists() and not path.is_dir()):
        raise FolderError(f"`{path}` is no folder: name another one with --directory")
    if path.is_dir() and any(path.iterdir()) and not mark.is_file():
        raise FolderError(f"`{path}` holds files that are no demo's: name another folder with --directory")
    lock = Lock(mark)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = lock.take()
    except OSError as exc:
        raise FolderError(f"`{path}` cannot be written: {exc.strerror}") from exc
    if not is_ours:
        raise FolderError(f"a demo is running in `{path}`: end it, or use --directory")
    try:
        _empty(path)
        mark.write_text(_MARK_TEXT, encoding="utf-8")
        yield path
    finally:
        lock.release()


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name == _MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
            continue
        with suppress(FileNotFoundError):
            entry.unlink()

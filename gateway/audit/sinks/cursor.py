"""How far a sink has got, in a small file that is there whole or not at all."""

import logging
import os
from pathlib import Path

import msgspec

from gateway.audit.segment import sync_directory
from gateway.audit.sinks.reading import Position
from gateway.files import write_new

log = logging.getLogger(__name__)

_MOST_BYTES = 4 * 1024 * 1024


class _Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The file: by origin, the position behind which nothing was sent for certain."""

    version: int = 1
    origins: dict[str, Position] = {}


def read_cursor(path: Path) -> dict[str, Position]:
    """Return the positions; none if there is no such file, or if it cannot be read, which the log says.

    Then everything is sent once more: what is sent twice does less harm than what is missing.
    """
    try:
        with path.open("rb") as file:
            return dict(msgspec.json.decode(file.read(_MOST_BYTES), type=_Cursor).origins)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        log.error("`%s` cannot be read, so all of the journal is sent again: %s", path, error)  # noqa: TRY400 - the disk's
        return {}


def write_cursor(path: Path, origins: dict[str, Position]) -> None:
    """Put it in place durably; raises OSError."""
    write_new(path, msgspec.json.encode(_Cursor(origins=origins)) + b"\n", mode=0o600, fsync=os.fsync)
    sync_directory(path.parent, fsync=os.fsync)

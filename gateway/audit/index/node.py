"""The name by which one machine's data directory is told from those of all others that ship to one database."""

import secrets
from contextlib import suppress
from pathlib import Path

from gateway.files import write_new

_NAME = "node-id"


def read_node(directory: Path) -> str:
    """Return the name, made when it is first asked for; raises OSError."""
    path = directory / _NAME
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    name = secrets.token_hex(8)
    draft = path.with_name(f"{_NAME}-{name}")
    write_new(draft, f"{name}\n".encode(), mode=0o600)
    # Workers ask at the same time: the first gives the name, and all have the same.
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
    return path.read_text(encoding="ascii").strip()

"""What the process that writes an export is told, and what stands in the folder of one: nothing else is shared."""

import os
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

ABOUT: Final = "about.json"
PROGRESS: Final = "progress.json"
DATA: Final = "data"
CANCEL: Final = "cancel"
"""The files of one export: whose it is, how far it is, what came of it, and that it is to end."""

State = Literal["running", "done", "capped", "failed", "cancelled"]
T = TypeVar("T")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written where; times are in microseconds since 1970."""

    folder: str
    form: str
    """One of `gateway.audit.formats.forms.FORMS`."""
    text: str
    since: int | None
    until: int
    ends: bool
    account: str | None
    journal: str
    index: str
    database: str = ""
    """If there is a URL, the database is asked and no index beside the journal."""
    total: int = 0
    """How many there will be, if that is known."""
    most_rows: int
    most_bytes: int
    settle_seconds: float = 30.0
    """For so long it waits for what is not in the index yet, and then it is not whole."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an export is, and what of."""

    owner: str
    form: str
    text: str
    link: str
    """Where the search is that it is of."""
    made_at: float
    """In seconds since 1970, by the wall clock."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is."""

    state: State
    rows: int = 0
    bytes: int = 0
    total: int = 0
    """How many there will be; 0 if that is not known."""
    said: str = ""
    """What went wrong, or why it is not whole, for people."""

    @property
    def percent(self) -> int | None:
        """How much of it is there; None if that is not known."""
        return min(100 * self.rows // self.total, 100) if self.total else None


def write_whole(path: Path, value: msgspec.Struct) -> None:
    """Put a file in place whole, for our user only; raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(value))
    draft.replace(path)


def read_whole(path: Path, kind: type[T]) -> T | None:
    """Return what stands in a file; None if there is none, or nothing of the kind."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None

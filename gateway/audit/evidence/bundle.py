"""A whole journal in one file, for somebody who judges it elsewhere: a tar archive, compressed with gzip.

It holds the journal's own files, byte for byte, so that anybody can unpack it: for each origin its checkpoints first,
which therefore speak of no record that is not there, then its segments. It can be written to a pipe and verified
without being unpacked.
"""

import gzip
import itertools
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway.audit.evidence.checkpoint import find_origins
from gateway.audit.evidence.sources import Lines, OriginSource
from gateway.audit.segment import ORIGIN, list_segments, parse_name

_LEVEL = 5
_CHUNK_BYTES = 1024 * 1024
_NEWEST, _HISTORY = ".checkpoint", ".checkpoints"
_MOST_NOTES_BYTES = 1024 * 1024 * 1024
_MOST_LINE_BYTES = 16 * 1024 * 1024
"""Far more than a record can have; a file of nothing but one line must not fill the memory."""


class EvidenceError(OSError):
    """The file's fault: it is not such an archive."""


def write_evidence(directory: Path, out: IO[bytes]) -> None:
    """Write the journal in `directory`, which may be written to meanwhile; raises OSError."""
    with (
        gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for origin in sorted({*list_segments(directory), *find_origins(directory)}):
            for suffix in (_NEWEST, _HISTORY):
                _add(archive, directory / f"{origin}{suffix}")
            for path in list_segments(directory).get(origin, []):
                _add(archive, path)


class EvidenceFile:
    """Implements `gateway.audit.evidence.sources.Source` for such a file; nothing of it is unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def origins(self) -> Iterator[OriginSource]:
        """See `Source.origins`; raises EvidenceError if this is no such file."""
        seen: set[str] = set()
        with _translated(), gzip.open(self._path) as packed:
            with tarfile.open(fileobj=packed, mode="r|") as archive:
                for origin, members in itertools.groupby(archive, _origin_of):
                    if origin in seen:
                        raise EvidenceError(f"the origin `{origin}` stands there twice")
                    seen.add(origin)
                    yield _read_origin(archive, origin, members)
            # To the end, where gzip has its check of the whole.
            while packed.read(_CHUNK_BYTES):
                pass


def _add(archive: tarfile.TarFile, path: Path) -> None:
    """Add a file as long as it is now."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        member = archive.gettarinfo(arcname=f"journal/{path.name}", fileobj=file)
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        archive.addfile(member, file)


def _origin_of(member: tarfile.TarInfo) -> str:
    """Return whose file it is; raises EvidenceError if it is none of a journal."""
    directory, _, name = member.name.rpartition("/")
    segment = parse_name(name)
    origin = segment.origin if segment is not None else name.removesuffix(_NEWEST).removesuffix(_HISTORY)
    is_ours = directory == "journal" and ORIGIN.fullmatch(origin) is not None and (segment or origin != name)
    if not is_ours or not member.isreg():
        raise EvidenceError(f"`{ascii(member.name)[1:-1]}` is no file of a journal")
    return origin


def _read_origin(archive: tarfile.TarFile, origin: str, members: Iterator[tarfile.TarInfo]) -> OriginSource:
    notes = {_NEWEST: b"", _HISTORY: b""}
    first: tarfile.TarInfo | None = None
    for member in members:
        suffix = member.name.removeprefix(f"journal/{origin}")
        if suffix not in notes:
            first = member
            break
        notes[suffix] = _content(archive, member, most=_MOST_NOTES_BYTES)

    def read_segments() -> Iterator[tuple[str, Lines]]:
        with _translated():
            for member in members if first is None else itertools.chain([first], members):
                if parse_name(name := member.name.removeprefix("journal/")) is None:
                    raise EvidenceError(f"`{name}` comes behind the records that it speaks of")
                yield name, _read_lines(_open(archive, member))

    return OriginSource(origin=origin, newest=notes[_NEWEST] or None, history=notes[_HISTORY], segments=read_segments())


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, *, most: int) -> bytes:
    if member.size > most:
        raise EvidenceError(f"`{member.name}` is longer than {most} bytes")
    return _open(archive, member).read()


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise EvidenceError(f"`{member.name}` is no file")
    return file


def _read_lines(file: IO[bytes]) -> Lines:
    offset = 0
    with _translated():
        while line := file.readline(_MOST_LINE_BYTES):
            if len(line) == _MOST_LINE_BYTES and not line.endswith(b"\n"):
                raise EvidenceError(f"a line is longer than {_MOST_LINE_BYTES} bytes: no journal has such a line")
            yield offset, line
            offset += len(line)


@contextmanager
def _translated() -> Iterator[None]:
    """Tell what the libraries say of a damaged file as ours; each generator needs it where it reads."""
    try:
        yield
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EvidenceError(f"this is damaged, or not made by `locum audit evidence`: {error}") from error

"""A store of this version with nothing in it, made once in a process: the migrations are most of what a new one takes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.stores.sqlite import open_sqlite

_made: list[bytes] = []


async def put_empty_store(path: Path) -> None:
    """Put one at `path`, as a gateway that was started and stopped there leaves it; what is there already stays."""
    if not _made:
        with TemporaryDirectory() as directory:
            store = await open_sqlite(Path(directory) / path.name)
            await store.close()
            _made.append((Path(directory) / path.name).read_bytes())
    _put(path, _made[0])


def _put(path: Path, content: bytes) -> None:
    if path.parent.is_dir() and not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(content)

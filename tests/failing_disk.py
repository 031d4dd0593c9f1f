"""Runs commands of `locum` one after the other with a disk that takes every line of the journal and makes none durable.

`python -m tests.failing_disk` reads a JSON list of lists of words and writes a JSON list of (code, output, what there is
afterwards: the database's rows and the names of the files beside the data). Up to the first list that is empty the disk
works.
"""

import errno
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

_real = os.fsync
_known: dict[str, int] = {}
_fails = [False]


def _fsync(handle: int) -> None:
    path = os.path.realpath(f"/proc/self/fd/{handle}")
    if _fails[0] and path.endswith(".jsonl") and os.fstat(handle).st_size > _known.get(path, 0):
        raise OSError(errno.EIO, "this disk keeps nothing")
    _real(handle)


# Before anything of ours has it.
os.fsync = _fsync


def _what_is_there() -> list[str]:
    with closing(sqlite3.connect("data/locum.sqlite3")) as database:
        return [*sorted(path.name for path in Path().iterdir()), *database.iterdump()]


def _main() -> None:
    from click.testing import CliRunner  # noqa: PLC0415 - see above

    from gateway.cli.root import cli  # noqa: PLC0415 - see above

    answers = []
    for words in json.load(sys.stdin):
        if not words:
            _fails[0] = True
            continue
        _known.update({str(path.resolve()): path.stat().st_size for path in Path("data/journal").glob("*.jsonl")})
        result = CliRunner().invoke(cli, words, prog_name="locum")
        answers.append((result.exit_code, result.output, _what_is_there()))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _main()

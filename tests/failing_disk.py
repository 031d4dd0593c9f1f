"""Runs commands of `locum` one after the other with a disk that takes every line of the journal and makes none durable.

`python -m tests.failing_disk` reads a JSON list of lists of words and writes a JSON list of (code, output). Up to the
first list that is empty the disk works.
"""

import errno
import json
import os
import sys
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
        answers.append((result.exit_code, result.output))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _main()

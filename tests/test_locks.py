"""Locks among processes: one has it, it ends with whoever has it, and nobody can have us lock something else."""

import os
import stat
import subprocess
import sys

import pytest

from gateway.locks import Lock, claim

_HOLDER = """
import sys
from pathlib import Path
from gateway.locks import claim
print(claim(Path(sys.argv[1])) is not None, flush=True)
sys.stdin.read()
"""


def test_one_has_it_until_it_lets_go(tmp_path):
    """Two of one process, too, keep each other out; to take what one has is no fault."""
    first, second = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")
    assert [True, True, False] == [first.take(), first.take(), second.take()]
    first.release()
    first.release()
    assert [True, False] == [second.take(), first.take()]
    second.release()
    assert 0o600 == stat.S_IMODE((tmp_path / "a.lock").stat().st_mode)


def test_it_ends_with_its_process(tmp_path):
    """Killed as well; and not later because of a child, which gets nothing of it."""
    path = tmp_path / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert b"True\n" == holder.stdout.readline()
        assert claim(path) is None
        holder.kill()
    handle = claim(path)
    assert not os.get_inheritable(handle)
    os.close(handle)


def test_a_link_that_stands_there_is_not_followed(tmp_path):
    """Neither to a file of somebody else's nor to one that would be made."""
    for name in ("there", "not-there"):
        (tmp_path / f"{name}.lock").symlink_to(tmp_path / name)
    (tmp_path / "there").touch()
    for name in ("there", "not-there"):
        with pytest.raises(OSError, match="symbolic"):
            claim(tmp_path / f"{name}.lock")
    assert not (tmp_path / "not-there").exists()

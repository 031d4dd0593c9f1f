"""Packages of npm that tests need, installed once into the user's cache, by their lock file."""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest

_FILES = ("package.json", "package-lock.json")
_INSTALL_SECONDS = 50


def installed(folder: Path) -> Path:
    """Return the directory with the packages in it; skips the test, in CI fails it, where they cannot be had."""
    say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    if shutil.which("node") is None or shutil.which("npm") is None:
        say("there is no node with npm: install Debian's `nodejs` and `npm`")
    digest = sha256(b"".join((folder / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "locum"
    place = cache / f"{folder.name.replace('_', '-')}-{digest}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as making:
            for name in _FILES:
                shutil.copy(folder / name, making)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(command, cwd=making, capture_output=True, timeout=_INSTALL_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                say(f"npm did not install {folder.name} within {_INSTALL_SECONDS} s")
            if done.returncode:
                say(f"npm cannot install {folder.name}: {done.stderr.decode(errors='replace')[-500:]}")
            # Whoever was first has made it for all.
            if not place.exists():
                Path(making).rename(place)
                Path(making).mkdir()
    return place

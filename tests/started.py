"""The environment of the processes that tests start."""

import os
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return ours, with this checkout's packages to import, and `more`.

    aiohttp reads the system's authorities when it is imported, a fifth of what it takes a process to start, and no test
    needs one of them.
    """
    ours = {"PYTHONPATH": str(Path(__file__).parent.parent), "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    return {**os.environ, **ours, **more}

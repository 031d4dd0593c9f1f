"""A certified OpenID provider (npm `oidc-provider`) in a process of its own, installed once into the user's cache."""

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

from tests.npm_packages import installed

HERE = Path(__file__).parent / "oidc_provider"
_PATIENCE_SECONDS = 20


class CertifiedProvider:
    """Runs while its context lasts; `stop` and `start` again are an outage, with another seed a rotation of keys."""

    def __init__(self, port: int, clients: list[dict]) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self._port = port
        self._clients = clients
        self._packages = installed(HERE)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self):
        await self.start("first")
        return self

    async def __aexit__(self, *_exc) -> None:
        await self.stop()

    async def start(self, seed: str) -> None:
        # Packages are looked for beside the script.
        script = self._packages / "server.mjs"
        if not script.exists() or script.read_bytes() != (HERE / "server.mjs").read_bytes():
            fresh = script.with_name(f"server-{os.getpid()}.mjs")
            shutil.copy(HERE / "server.mjs", fresh)
            fresh.rename(script)
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(script),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        )
        settings = {"port": self._port, "clients": self._clients, "seed": seed}
        self._process.stdin.write(json.dumps(settings).encode())
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            assert b"listening\n" == await self._process.stdout.readline()

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL)
        await process.wait()
        # Read to its end, so that the pipe is closed before the loop is.
        await process.stdout.read()

"""Owns one running django-helpdesk: its environment, its data and its process."""

import asyncio
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.locks import Lock

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
APP = HERE / "app"
# Beside us where we are installed, and where it is kept in a checkout.
VERIFIER = next((path for path in (HERE / "verifier",) if path.exists()), HERE.parents[2] / "verifier" / "python")
PASSWORD = "helpdesk-demo"
"""The password of every seeded agent: for the ordinary login of a demonstration on this machine."""

_START_SECONDS = 30
_STOP_SECONDS = 10
_LOCK_POLL_SECONDS = 0.2


class HelpdeskError(Exception):
    """The helpdesk could not be set up, started or asked; the message says what to do."""


class HelpdeskNotInstalledError(HelpdeskError):
    """The environment could not be made: no registry, no venv module, a full disk."""


class DjangoHelpdesk:
    """An async context in which django-helpdesk listens on a free port of 127.0.0.1.

    The first use on a machine installs the pinned packages into `cache` and seeds a database there (about half a
    minute, pip's registry is needed); later ones copy that database into `data` if none is there, and start at once.
    `jwks_url` may be a `file:` URL; it is read when the first assertion comes, not before.
    """

    def __init__(
        self,
        *,
        data: Path,
        jwks_url: str,
        issuer: str,
        audience: str,
        hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
        cache: Path | None = None,
    ) -> None:
        # The app runs in a folder of its own, so a path must mean the same from there.
        self._data = data.absolute()
        self._cache = (cache or default_cache()).absolute()
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(VERIFIER),
            "DJANGO_SETTINGS_MODULE": "settings",
            "HELPDESK_DATA": str(self._data),
            "HELPDESK_HOSTS": ",".join(hosts),
            "HELPDESK_PASSWORD": PASSWORD,
            "HELPDESK_SECRET_KEY": secrets.token_urlsafe(32),
            "LOCUM_AUDIENCE": audience,
            "LOCUM_ISSUER": issuer,
            "LOCUM_JWKS": jwks_url,
        }
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        """The address to reach it at, such as `http://127.0.0.1:40123`; empty until it answers."""

    async def __aenter__(self) -> Self:
        """Set up what is missing, start, and return once it answers; raises HelpdeskError."""
        seeded = await self._prepare()
        self._environment["HELPDESK_STATIC"] = str(seeded / "static")
        self._data.mkdir(parents=True, exist_ok=True)
        if not (self._data / "helpdesk.sqlite3").exists():
            shutil.copyfile(seeded / "helpdesk.sqlite3", self._data / "helpdesk.sqlite3")
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def counts(self) -> dict[str, int]:
        """Return the helpdesk's own counts: `users`, `sessions`, `logins`, `tickets`, `followups`."""
        counted: dict[str, int] = json.loads(await self.manage("counts"))
        return counted

    async def manage(self, *arguments: str) -> bytes:
        """Return what one of the helpdesk's own commands prints; raises HelpdeskError when it fails."""
        return await _run(self._python, APP / "manage.py", *arguments, environment=self._environment)

    @property
    def _python(self) -> Path:
        return self._cache / "venv" / "bin" / "python"

    async def _prepare(self) -> Path:
        """Return the folder of a seeded database, after making it and the environment if need be."""
        seeded = self._cache / f"seed-{_digest(*sorted(APP.glob('*.py')))}"
        self._cache.mkdir(parents=True, exist_ok=True)
        async with _locked(self._cache / "lock"):
            if not ((self._cache / "installed").exists() and self._python.exists()):
                await self._install()
            if not (seeded / "done").exists():
                await self._seed(seeded)
        return seeded

    async def _install(self) -> None:
        venv = (sys.executable, "-m", "venv", "--clear", self._cache / "venv")
        install = ("install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", REQUIREMENTS)
        # To give the environment a pip of its own takes longer than all that it installs.
        ours = importlib.util.find_spec("pip") is not None
        pip = (sys.executable, "-m", "pip", "--python", self._python) if ours else (self._python, "-m", "pip")
        try:
            await _run(*venv, *(("--without-pip",) if ours else ()), environment=os.environ)
            await _run(*pip, *install, environment=os.environ)
        except HelpdeskError as exc:
            raise HelpdeskNotInstalledError(
                f"django-helpdesk is not installed: see that pip reaches its registry, and try again: {exc}"
            ) from exc
        (self._cache / "installed").touch()

    async def _seed(self, seeded: Path) -> None:
        shutil.rmtree(seeded, ignore_errors=True)
        folders = {"HELPDESK_DATA": str(seeded), "HELPDESK_STATIC": str(seeded / "static")}
        await _run(self._python, APP / "manage.py", "seed", environment={**self._environment, **folders})
        (seeded / "done").touch()

    async def _start(self) -> None:
        # We open the port and hand it over: it cannot be lost to somebody else, and it queues from the start.
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("wb") as log:
            fd = listener.fileno()
            options = ["--bind", f"fd://{fd}", "--threads", "4", "--keep-alive", "75", "--chdir", str(APP)]
            # The list of tickets asks for its rows with a query of several kilobytes.
            options += ["--limit-request-line", "8190", "--graceful-timeout", "2", "--no-control-socket"]
            # No client may move the path that the app sees: gunicorn would let a peer on loopback do that.
            options += ["--forwarder-headers", ""]
            self._process = await asyncio.create_subprocess_exec(
                self._python,
                *["-m", "gunicorn", *options, "django.core.wsgi:get_wsgi_application()"],
                env=self._environment,
                pass_fds=(fd,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            port = listener.getsockname()[1]
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _answer(port)
        except (OSError, EOFError) as exc:
            raise HelpdeskError(f"django-helpdesk does not answer ({exc}): read `{self._log}`") from exc
        self.url = f"http://127.0.0.1:{port}"

    @property
    def _log(self) -> Path:
        return self._data / "gunicorn.log"

    async def _stop(self) -> None:
        process, self._process, self.url = self._process, None, ""
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def default_cache() -> Path:
    """Return the folder that every use on this machine shares, as long as the requirements are the same."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return root / "locum" / f"django-helpdesk-{_digest(REQUIREMENTS)}-py{version}"


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    lock = Lock(path)
    try:
        while not lock.take():  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        lock.release()


async def _answer(port: int) -> None:
    """Return once the login page has been served; raises OSError, or EOFError if it is something else or nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        status = await reader.readuntil(b"\r\n")
        if b" 200 " not in status:
            raise EOFError(status.decode("latin-1").strip())
    finally:
        writer.close()
        await writer.wait_closed()


async def _run(*command: str | Path, environment: Mapping[str, str]) -> bytes:
    """Return what the command printed; raises HelpdeskError with its last line when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),  # uvloop takes nothing else, `os.environ` included
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = (errors.strip() or output.strip()).decode("utf-8", "replace").splitlines()
        raise HelpdeskError(f"`{' '.join(map(str, command[:4]))}` failed: {lines[-1] if lines else 'it said nothing'}")
    return output

